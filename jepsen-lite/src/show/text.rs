//! A report for a terminal.

use super::{
    lanes::Ranks,
    words::{self, count, duration},
};
use crate::{Kind, Outcome, Report, Verdict, Violation};

/// Operations of a violation that are shown.
const SHOWN: usize = 40;

pub(crate) fn report(report: &Report) -> String {
    let mut out = format!(
        "{}: {} of {} on {}, {} without a known end, {} failed\n",
        report.verdict,
        count(report.operations, "operation"),
        count(report.processes, "process").replace("processs", "processes"),
        count(report.keys, "key"),
        report.indeterminate,
        report.failed,
    );
    if report.operations == 0 {
        out.push_str(&format!("There is nothing for the model {} to judge.\n", report.model));
    }
    let width = report.checks.iter().map(|outcome| outcome.check.to_string().len()).max().unwrap_or(0);
    for outcome in &report.checks {
        out.push_str(&line(outcome, width));
    }
    for outcome in &report.checks {
        for violation in &outcome.violations {
            out.push_str(&self::violation(outcome, violation));
        }
        let hidden = outcome.violation_count - outcome.violations.len();
        if hidden > 0 {
            out.push_str(&format!("\n{hidden} more of {} are not shown.\n", outcome.check));
        }
    }
    out
}

fn line(outcome: &Outcome, width: usize) -> String {
    let judged = match outcome.judged {
        0 => "nothing to judge".to_owned(),
        judged => format!("{} judged", count(judged, "operation")),
    };
    let violations = match outcome.violation_count {
        0 => String::new(),
        number => format!(", {}", count(number, "violation")),
    };
    let mut line = format!("  {:width$}  {:7}  {judged}{violations}\n", outcome.check, outcome.verdict);
    for reason in &outcome.reasons {
        line.push_str(&format!("  {:width$}           {reason}\n", ""));
    }
    line
}

fn violation(outcome: &Outcome, violation: &Violation) -> String {
    let mut out = format!("\n{} · {}\n  {}\n\n", outcome.check, words::key(&violation.key), violation.what);
    out.push_str(&time_line(violation));
    if outcome.verdict == Verdict::Invalid
        && let Some(state) = &violation.state
    {
        out.push_str(&order(violation, state));
    }
    out
}

fn time_line(violation: &Violation) -> String {
    // What can't be explained is at the end.
    let hidden = violation.window.len().saturating_sub(SHOWN);
    let ranks = Ranks::of(&violation.window[hidden..]);
    let first_ns = ranks.moments().first().copied().unwrap_or(0);
    let mut rows = vec![["line", "process", "from", "took", "operation", ""].map(str::to_owned)];
    for (index, op) in violation.window.iter().enumerate().skip(hidden) {
        let took = op.end_ns.map_or_else(|| "?".to_owned(), |end| duration(end.saturating_sub(op.start_ns)));
        let mark = if violation.stuck.contains(&index) && violation.state.is_some() { "  ✗" } else { "" };
        rows.push([
            op.line.to_string(),
            op.process.to_string(),
            duration(op.start_ns - first_ns),
            took,
            words::call(op),
            format!("{}{mark}", bar(&ranks, ranks.place(op))),
        ]);
    }
    let before = if hidden > 0 { format!("  {hidden} more before\n") } else { String::new() };
    before + &table(&rows)
}

fn table(rows: &[[String; 6]]) -> String {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            // Numbers to the right, words to the left.
            let cell = if column < 4 { format!("{gap}{cell}") } else { format!("{cell}{gap}") };
            line.push_str(&format!(" {cell} "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `├──┤` from begin to end; an operation that stays open goes on to the right.
fn bar(ranks: &Ranks, (begin, end): (usize, Option<usize>)) -> String {
    let last = ranks.moments().len();
    let step = match last {
        0..=16 => 3,
        17..=64 => 1,
        // No terminal is so wide.
        _ => return String::new(),
    };
    let mut bar = " ".repeat(begin * step);
    match end {
        Some(end) if end <= begin => bar.push('┼'),
        Some(end) => bar.push_str(&format!("├{}┤", "─".repeat((end - begin) * step - 1))),
        None => bar.push_str(&format!("├{}▷", "╌".repeat((last - begin) * step))),
    }
    bar
}

fn order(violation: &Violation, state: &str) -> String {
    let mut out = String::from("\n");
    if violation.anything_before {
        out.push_str("  Whatever came before: these contradict each other from any state.\n");
    }
    if violation.linearized.is_empty() {
        out.push_str(&format!("  None of them can come first: {state}.\n"));
        return out;
    }
    out.push_str("  The order that comes furthest:\n");
    let skipped = violation.linearized.len().saturating_sub(SHOWN);
    if skipped > 0 {
        out.push_str(&format!("  {:>4}  … {skipped} more\n", ""));
    }
    for (number, index) in violation.linearized.iter().enumerate().skip(skipped) {
        let Some(op) = violation.window.get(*index) else { continue };
        let open = if op.kind == Kind::Info { ", which may have happened" } else { "" };
        out.push_str(&format!("  {:>4}  {}{open}\n", number + 1, words::operation(op)));
    }
    let stuck = violation.stuck.iter().filter_map(|index| violation.window.get(*index));
    let stuck: Vec<String> = stuck.map(words::operation).collect();
    out.push_str(&format!("  Then {state}, and next had to come {}.\n", stuck.join(", ")));
    out
}
