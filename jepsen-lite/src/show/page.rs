//! A report as one HTML page that needs nothing else. What comes from a history is text everywhere, never markup.

use super::{
    lanes::Ranks,
    words::{self, count, duration},
};
use crate::{Kind, Operation, Outcome, Report, Violation};

const STYLE: &str = include_str!("page.css");

/// Pixels.
const LANE_HEIGHT: usize = 38;
const BOX_HEIGHT: usize = 26;
const LABEL_WIDTH: usize = 96;
const LETTER_WIDTH: usize = 8;
const GAP: usize = 34;
const TOP: usize = 34;
/// Longer labels are cut; the whole stands in the tooltip.
const LABEL: usize = 30;
/// Operations that one picture shows.
const SHOWN: usize = 60;
/// Operations of an order that are listed.
const ORDERED: usize = 40;

pub(crate) fn page(report: &Report) -> String {
    let mut body = format!(
        "<h1>jepsen-lite: <span class=\"{0}\">{0}</span></h1>\n<p class=\"facts\">model {1} · {2} of {3} processes on {4} · \
         {5} without a known end · {6} failed</p>\n",
        report.verdict,
        report.model,
        count(report.operations, "operation"),
        report.processes,
        count(report.keys, "key"),
        report.indeterminate,
        report.failed,
    );
    body.push_str(&checks(&report.checks));
    for outcome in &report.checks {
        for (number, violation) in outcome.violations.iter().enumerate() {
            body.push_str(&section(outcome, number, violation));
        }
        let hidden = outcome.violation_count - outcome.violations.len();
        if hidden > 0 {
            body.push_str(&format!("<p>{hidden} more of {} are not shown.</p>\n", outcome.check));
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>jepsen-lite: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         {body}</body>\n</html>\n",
        report.verdict
    )
}

fn checks(outcomes: &[Outcome]) -> String {
    let mut out = String::from(
        "<table class=\"checks\">\n<tr><th>check</th><th>verdict</th><th>judged</th><th>violations</th><th></th></tr>\n",
    );
    for outcome in outcomes {
        let link = match outcome.violation_count {
            0 => String::from("0"),
            number => format!("<a href=\"#{}-0\">{number}</a>", outcome.check),
        };
        out.push_str(&format!(
            "<tr><td>{0}</td><td class=\"{1}\">{1}</td><td class=\"n\">{2}</td><td class=\"n\">{link}</td><td>{3}</td></tr>\n",
            outcome.check,
            outcome.verdict,
            outcome.judged,
            text(&outcome.reasons.join("; ")),
        ));
    }
    out.push_str("</table>\n");
    out
}

fn section(outcome: &Outcome, number: usize, violation: &Violation) -> String {
    let mut out = format!(
        "<section id=\"{0}-{number}\">\n<h2>{0} · {1}</h2>\n<p class=\"what\">{2}</p>\n",
        outcome.check,
        text(&words::key(&violation.key)),
        text(&violation.what),
    );
    if violation.anything_before {
        out.push_str("<p>Whatever came before: these contradict each other from any state.</p>\n");
    }
    out.push_str("<div class=\"picture\">\n");
    out.push_str(&Picture::of(violation).svg());
    out.push_str("</div>\n");
    out.push_str(legend(violation.state.is_some()));
    if let Some(state) = &violation.state {
        out.push_str(&order(violation, state));
    }
    out.push_str(&operations(violation));
    out.push_str("</section>\n");
    out
}

fn legend(searched: bool) -> &'static str {
    if searched {
        "<p class=\"legend\"><span class=\"key ordered\">1</span> place in the order that comes furthest \
         <span class=\"key stuck\"></span> can't come next <span class=\"key\"></span> not reached \
         <span class=\"key open\"></span> may have happened at any time, or never. \
         Distances are not to scale; each line is a moment.</p>\n"
    } else {
        "<p class=\"legend\"><span class=\"key stuck\"></span> contradict each other <span class=\"key open\"></span> may \
         have happened at any time, or never. Distances are not to scale; each line is a moment.</p>\n"
    }
}

fn order(violation: &Violation, state: &str) -> String {
    let named = |index: &usize| violation.window.get(*index).map(words::operation);
    let stuck: Vec<String> = violation.stuck.iter().filter_map(named).collect();
    if violation.linearized.is_empty() {
        return format!(
            "<p>None of them can come first: <b>{}</b>, and {} had to come.</p>\n",
            text(state),
            text(&stuck.join(", "))
        );
    }
    let hidden = violation.linearized.len().saturating_sub(ORDERED);
    let mut out = format!("<p>The order that comes furthest:</p>\n<ol start=\"{}\">\n", hidden + 1);
    for op in violation.linearized.iter().skip(hidden).filter_map(named) {
        out.push_str(&format!("<li>{}</li>\n", text(&op)));
    }
    out.push_str(&format!(
        "</ol>\n<p>Then <b>{}</b>, and next had to come <b>{}</b>.</p>\n",
        text(state),
        text(&stuck.join(", "))
    ));
    out
}

fn operations(violation: &Violation) -> String {
    let first_ns = violation.window.first().map_or(0, |op| op.start_ns);
    let mut out = String::from(
        "<details><summary>The operations as recorded</summary>\n<table>\n<tr><th>line</th><th>process</th><th>node</th>\
         <th>from</th><th>took</th><th>function</th><th>key</th><th>arguments</th><th>end</th><th>answer</th><th>error</th>\
         </tr>\n",
    );
    for op in &violation.window {
        let end = match op.kind {
            Kind::Ok => "ok",
            Kind::Fail => "fail",
            Kind::Info | Kind::Invoke => "info",
        };
        let took = op.end_ns.map_or_else(|| "?".to_owned(), |end| duration(end.saturating_sub(op.start_ns)));
        out.push_str(&format!(
            "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{took}</td>\
             <td>{}</td><td>{}</td><td><code>{}</code></td><td>{end}</td><td><code>{}</code></td><td>{}</td></tr>\n",
            op.line,
            op.process,
            text(op.node.as_deref().unwrap_or_default()),
            duration(op.start_ns - first_ns),
            text(&op.f),
            text(&op.key),
            text(&words::shorten(&op.input.to_string(), 400)),
            text(&words::shorten(&op.output.to_string(), 400)),
            text(op.error.as_deref().unwrap_or_default()),
        ));
    }
    out.push_str("</table>\n</details>\n");
    out
}

/// A lane a process, with as many rows as overlap in it.
struct Picture<'a> {
    violation: &'a Violation,
    ranks: Ranks,
    /// Pixels of each moment, and of the right edge.
    x: Vec<usize>,
    /// Process and height of each row; several rows of one process follow each other.
    rows: Vec<u64>,
    /// Row of each operation that is shown, and how many before them are not.
    row_of: Vec<usize>,
    hidden: usize,
}

impl<'a> Picture<'a> {
    fn of(violation: &'a Violation) -> Self {
        // What can't be explained is at the end.
        let hidden = violation.window.len().saturating_sub(SHOWN);
        let window = &violation.window[hidden..];
        let ranks = Ranks::of(window);
        let x = positions(window, &ranks);
        let mut processes: Vec<u64> = window.iter().map(|op| op.process).collect();
        processes.sort_unstable();
        processes.dedup();
        let (mut rows, mut row_of) = (Vec::new(), vec![0; window.len()]);
        for process in processes {
            // Where each row of this process is free again.
            let mut free: Vec<usize> = Vec::new();
            let first_row = rows.len();
            for (index, op) in window.iter().enumerate().filter(|(_, op)| op.process == process) {
                let (begin, end) = ranks.place(op);
                let end = end.unwrap_or(usize::MAX);
                let row = free.iter().position(|free| *free <= begin).unwrap_or_else(|| {
                    free.push(0);
                    rows.push(process);
                    free.len() - 1
                });
                free[row] = end;
                row_of[index] = first_row + row;
            }
        }
        Self { violation, ranks, x, rows, row_of, hidden }
    }

    fn svg(&self) -> String {
        let right = self.x.last().copied().unwrap_or(LABEL_WIDTH);
        let height = TOP + self.rows.len() * LANE_HEIGHT + 8;
        let mut out = match self.hidden {
            0 => String::new(),
            hidden => format!("<p>{hidden} more before</p>\n"),
        };
        out.push_str(&format!(
            "<svg width=\"{0}\" height=\"{height}\" viewBox=\"0 0 {0} {height}\" role=\"img\">\n",
            right + 24
        ));
        let first_ns = self.ranks.moments().first().copied().unwrap_or(0);
        for (moment, x) in self.ranks.moments().iter().zip(&self.x) {
            let label = duration(moment - first_ns);
            out.push_str(&format!(
                "<line class=\"moment\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{height}\"><title>{label} after the first \
                 moment shown</title></line>\n"
            ));
        }
        out.push_str(&self.ticks(first_ns));
        for (row, process) in self.rows.iter().enumerate() {
            let y = TOP + row * LANE_HEIGHT;
            if row > 0 && self.rows[row - 1] == *process {
                continue;
            }
            out.push_str(&format!(
                "<line class=\"lane\" x1=\"0\" y1=\"{y}\" x2=\"{0}\" y2=\"{y}\"/>\n<text class=\"process\" x=\"4\" \
                 y=\"{1}\">process {process}</text>\n",
                right + 24,
                y + 24
            ));
        }
        for (index, op) in self.violation.window.iter().enumerate().skip(self.hidden) {
            out.push_str(&self.operation(index, op));
        }
        out.push_str("</svg>\n");
        out
    }

    /// Times of the moments, as many as have room.
    fn ticks(&self, first_ns: u64) -> String {
        let mut out = String::new();
        let mut free = 0;
        for (moment, x) in self.ranks.moments().iter().zip(&self.x) {
            let label = duration(moment - first_ns);
            let half = label.chars().count() * 7 / 2;
            if x.saturating_sub(half) < free {
                continue;
            }
            free = x + half + 10;
            out.push_str(&format!("<text class=\"tick\" x=\"{x}\" y=\"{}\">{label}</text>\n", TOP - 10));
        }
        out
    }

    fn operation(&self, index: usize, op: &Operation) -> String {
        let (begin, end) = self.ranks.place(op);
        let x = self.x[begin];
        let right = end.map_or_else(|| self.x.last().copied().unwrap_or(x), |end| self.x[end]);
        let y = TOP + self.row_of[index - self.hidden] * LANE_HEIGHT + (LANE_HEIGHT - BOX_HEIGHT) / 2;
        let place = self.violation.linearized.iter().position(|ordered| *ordered == index);
        let class = match (op.kind, place) {
            _ if self.violation.stuck.contains(&index) => "op stuck",
            (Kind::Info, _) => "op open",
            (_, Some(_)) => "op ordered",
            (_, None) => "op",
        };
        let label = words::shorten(&words::call(op), LABEL);
        let mut title = format!("line {}: {}", op.line, words::operation(op));
        let end = op
            .end_ns
            .map_or_else(|| "no known end".to_owned(), |end| duration(end.saturating_sub(op.start_ns)));
        title.push_str(&format!("\n{end}"));
        for (name, more) in [("node", &op.node), ("error", &op.error)] {
            if let Some(more) = more {
                title.push_str(&format!("\n{name}: {more}"));
            }
        }
        let number = place.map_or_else(String::new, |place| {
            format!(
                "<circle class=\"place\" cx=\"{right}\" cy=\"{y}\" r=\"9\"/><text class=\"place\" x=\"{right}\" \
                 y=\"{}\">{}</text>",
                y + 4,
                place + 1
            )
        });
        format!(
            "<g class=\"{class}\"><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{BOX_HEIGHT}\" \
             rx=\"4\"/><text x=\"{}\" y=\"{}\">{}</text>{number}</g>\n",
            text(&title),
            (right - x).max(4),
            x + 7,
            y + 18,
            text(&label),
        )
    }
}

/// Places each moment so far to the right that every label fits its box.
fn positions(window: &[Operation], ranks: &Ranks) -> Vec<usize> {
    let room = |op: &Operation| words::shorten(&words::call(op), LABEL).chars().count() * LETTER_WIDTH + 22;
    let last = ranks.moments().len();
    let mut x = vec![LABEL_WIDTH; last + 1];
    for moment in 1..=last {
        let ends = window.iter().filter_map(|op| {
            let (begin, end) = ranks.place(op);
            (end.unwrap_or(last) == moment && begin < moment).then(|| x[begin] + room(op))
        });
        x[moment] = ends.max().unwrap_or(0).max(x[moment - 1] + GAP);
    }
    x
}

/// Text for HTML, also within quotes.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in HTML, and of no use to a reader.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
