//! A run as one HTML page that needs nothing else: what clients saw, over bands of faults.

use std::fmt::Write;

use jepsen_lite::{Kind, Operation};

use crate::{
    journal::{Entry, What},
    judge::{Act, Result, Verdict},
    pressure::Pressure,
};

/// Of the drawing, in its own units.
const WIDTH: f64 = 1_100.0;
const LEFT: f64 = 60.0;
const CHART: f64 = 130.0;
const GAP: f64 = 26.0;
const LANE: f64 = 15.0;
/// Width of a letter of a label, rather more than less.
const LETTER: f64 = 6.5;
/// Up to so many faults have their names in the drawing.
const NAMED: usize = 30;
/// Latencies are drawn on a logarithmic scale between these.
const MIN_MS: f64 = 1.0;
const MAX_MS: f64 = 100_000.0;
/// At most so many columns; a longer run has wider ones.
const COLUMNS: u64 = 400;

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:24px;max-width:1180px;color:#1c2733;background:#fff}\
h1{font-size:20px}h2{font-size:16px;margin-top:28px}table{border-collapse:collapse;font-size:13px}\
td,th{border-bottom:1px solid #d9e0e6;padding:3px 10px;text-align:left;vertical-align:top}\
.pass{color:#12733a}.violation{color:#b3141e}.unknown{color:#9a5b00}.num{text-align:right}\
.not{color:#9a5b00}pre{background:#f4f6f8;padding:10px;overflow:auto;font-size:12px}svg text{font:11px system-ui,sans-serif;fill:#33424f}";

/// The whole page.
pub fn page(verdict: &Verdict, operations: &[Operation], entries: &[Entry]) -> String {
    let about = &verdict.about;
    let (class, word) = match verdict.result {
        Result::Pass => ("pass", "passed"),
        Result::Violation => ("violation", "a promise was broken"),
        Result::Unknown => ("unknown", "no pass: nothing was broken, but not all was shown"),
    };
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>chaos: {0}, seed {1}</title><style>{STYLE}</style>\
         <h1>{0}, seed {1}: <span class={class}>{word}</span></h1><p>Nodes connected by: {2}.{3}</p>",
        text(&about.scenario),
        about.seed,
        text(&about.links),
        about.mutant.as_ref().map(|name| format!(" Planted bug: {}.", text(name))).unwrap_or_default(),
    );
    list(&mut page, "Broken promises", "violation", &verdict.violations);
    list(&mut page, "What had to act and never did", "unknown", &verdict.missing);
    list(&mut page, "Undecided", "unknown", &verdict.undecided);
    list(&mut page, "Left out of the schedule", "unknown", &about.left_out);
    page.push_str("<h2>What clients saw</h2>");
    page.push_str(&drawing(verdict, operations, entries));
    faults(&mut page, &verdict.faults);
    figures(&mut page, verdict);
    pressure(&mut page, verdict);
    for report in &verdict.checks {
        let _infallible =
            write!(page, "<h2>Checks of {}</h2><pre>{}</pre>", report.model, text(&report.text()));
    }
    let _infallible =
        write!(page, "<h2>The machine</h2><pre>{}</pre></html>", text(&about.machine.join("\n")));
    page
}

fn text(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn list(page: &mut String, title: &str, class: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _infallible = write!(page, "<h2 class={class}>{title}</h2><ul>");
    for item in items {
        let _infallible = write!(page, "<li>{}</li>", text(item));
    }
    page.push_str("</ul>");
}

fn faults(page: &mut String, acts: &[Act]) {
    page.push_str(
        "<h2>Faults</h2><p>First answer: from the begin to the end of the first operation that began after it. Silence: the \
         longest time without an answer during the fault and the 15 s after it. Normal: from the end until 70 % of the \
         usual throughput.</p><table><tr><th>#<th>fault<th>target<th>from<th>to<th>first answer<th>silence<th>normal<th>evidence</tr>",
    );
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1_000.0);
    let maybe = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), seconds);
    for act in acts {
        let class = if act.acted { "" } else { " class=not" };
        let evidence =
            if act.acted { text(&act.evidence) } else { format!("could not act: {}", text(&act.evidence)) };
        let _infallible = write!(
            page,
            "<tr{class}><td>{}<td>{}<td>{}<td class=num>{}<td class=num>{}<td class=num>{}<td class=num>{}<td class=num>{}<td>{evidence}</tr>",
            act.id,
            text(&act.name),
            text(&act.target),
            seconds(act.begins_ms),
            maybe(act.ends_ms),
            maybe(act.recovery.first_ok_ms),
            maybe(act.recovery.gap_ms),
            maybe(act.recovery.normal_ms),
        );
    }
    page.push_str("</table>");
}

fn figures(page: &mut String, verdict: &Verdict) {
    let figures = &verdict.figures;
    let _infallible = write!(
        page,
        "<h2>Figures</h2><p>{} operations: {} ok, {} failed, {} of unknown outcome; {} elections, {} executors lost; \
         usually {:.0} answers a second.</p><table><tr><th>operation<th>ok<th>median ms<th>99 % ms</tr>",
        figures.operations,
        figures.ok,
        figures.failed,
        figures.unknown,
        figures.elections,
        figures.executors_lost,
        figures.usual_per_second
    );
    for (f, (count, median, high)) in &figures.latencies {
        let f = text(f);
        let _infallible =
            write!(page, "<tr><td>{f}<td class=num>{count}<td class=num>{median}<td class=num>{high}</tr>");
    }
    page.push_str("</table>");
    if !figures.errors.is_empty() {
        page.push_str("<p></p><table><tr><th>error<th>operations</tr>");
        for (class, count) in &figures.errors {
            let _infallible = write!(page, "<tr><td>{class}<td class=num>{count}</tr>");
        }
        page.push_str("</table>");
    }
}

fn pressure(page: &mut String, verdict: &Verdict) {
    let Pressure { kinds, crowd, peak_mib } = &verdict.pressure;
    if let Some(crowd) = crowd {
        let errors: u32 = crowd.errors.values().sum();
        let _infallible = write!(
            page,
            "<h2>The crowd</h2><p>{} clients, {} queries: {} answered rightly, {} wrongly, {errors} tries that ended in an \
             error; {:.0} a second over {:.1} s. Median {} ms, 99 % {} ms, worst {} ms.</p>",
            crowd.clients,
            crowd.queries,
            crowd.right,
            crowd.wrong,
            crowd.per_second(),
            crowd.took_ms as f64 / 1_000.0,
            crowd.median_ms,
            crowd.high_ms,
            crowd.worst_ms
        );
    }
    if !kinds.is_empty() {
        page.push_str(
            "<h2>Load and hostile input</h2><table><tr><th>kind<th>tries<th>refused<th>hung<th>taken<th>ends</tr>",
        );
        for (kind, (acted, toll)) in kinds {
            let ends: Vec<String> = toll.ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
            let _infallible = write!(
                page,
                "<tr{}><td>{}<td class=num>{}<td class=num>{}<td class=num>{}<td class=num>{}<td>{}</tr>",
                if *acted { "" } else { " class=not" },
                text(kind),
                toll.sent,
                toll.refused,
                toll.hung,
                toll.taken,
                text(&ends.join(", "))
            );
        }
        page.push_str("</table>");
    }
    if !peak_mib.is_empty() {
        page.push_str("<h2>Memory</h2><table><tr><th>node<th>most, MiB</tr>");
        for (node, peak) in peak_mib {
            let _infallible = write!(page, "<tr><td>{}<td class=num>{peak}</tr>", text(node));
        }
        page.push_str("</table>");
    }
}

/// One column of the charts.
#[derive(Default, Clone)]
struct Column {
    ok: u32,
    failed: u32,
    unknown: u32,
    latencies_ms: Vec<u64>,
}

struct Drawing {
    svg: String,
    /// Length of the run and of a column.
    total_ms: u64,
    step_ms: u64,
    columns: Vec<Column>,
}

impl Drawing {
    fn x(&self, at_ms: u64) -> f64 {
        LEFT + (WIDTH - LEFT) * at_ms as f64 / self.total_ms.max(1) as f64
    }

    fn add(&mut self, piece: std::fmt::Arguments<'_>) {
        let _infallible = self.svg.write_fmt(piece);
    }
}

fn drawing(verdict: &Verdict, operations: &[Operation], entries: &[Entry]) -> String {
    let last = operations.iter().filter_map(|operation| operation.end_ns).max().unwrap_or(0) / 1_000_000;
    let total_ms = entries.iter().map(|entry| entry.at_ms).max().unwrap_or(0).max(last).max(1_000);
    let step_ms = (total_ms / COLUMNS).max(1_000);
    let count = usize::try_from(total_ms / step_ms + 1).unwrap_or(1);
    let mut columns = vec![Column::default(); count];
    for operation in operations {
        let at = operation.end_ns.unwrap_or(operation.start_ns) / 1_000_000;
        let Some(column) = columns.get_mut(usize::try_from(at / step_ms).unwrap_or(usize::MAX)) else {
            continue;
        };
        match operation.kind {
            Kind::Ok => {
                column.ok += 1;
                column.latencies_ms.push(at.saturating_sub(operation.start_ns / 1_000_000));
            }
            Kind::Fail => column.failed += 1,
            Kind::Invoke | Kind::Info => column.unknown += 1,
        }
    }
    let mut drawing = Drawing { svg: String::new(), total_ms, step_ms, columns };
    let labels = labels(&verdict.faults);
    let lanes = lanes(&verdict.faults, &labels, total_ms);
    let faults_top = 2.0 * (CHART + GAP) + 10.0;
    let lane_count = lanes.iter().max().map_or(0, |lane| lane + 1);
    let bottom = faults_top + LANE * lane_count as f64 + 8.0;
    bands(&mut drawing, verdict.faults.iter().zip(labels).zip(lanes), faults_top, bottom);
    throughput(&mut drawing);
    latency(&mut drawing);
    marks(&mut drawing, entries, bottom);
    let height = bottom + 34.0;
    for second in ticks(total_ms) {
        let x = drawing.x(second * 1_000);
        drawing
            .add(format_args!("<text x={x:.1} y={:.1} text-anchor=middle>{second} s</text>", bottom + 14.0));
    }
    format!(
        "<svg viewBox=\"0 0 {} {height}\" width=\"100%\" role=img aria-label=\"What clients saw over time\">{}</svg>\
         <p>Green: answers a second; amber: failed; red: unknown. Below: latency of answers, median (dark) and worst (light). \
         Grey bands: faults. Blue lines: a new leader; purple dashes: an executor was lost.</p>",
        WIDTH + 10.0,
        drawing.svg
    )
}

/// About ten of them, at round seconds.
fn ticks(total_ms: u64) -> impl Iterator<Item = u64> {
    let total = total_ms / 1_000;
    let step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800].into_iter().find(|step| total / step <= 12);
    (0..=total).step_by(usize::try_from(step.unwrap_or(3_600)).unwrap_or(1))
}

/// What is written at each fault: many of them have room for their numbers in the table only.
fn labels(acts: &[Act]) -> Vec<String> {
    let label = |act: &Act| match acts.len() {
        0..=NAMED => format!("{} {}", act.name, act.target),
        _ => act.id.to_string(),
    };
    acts.iter().map(label).collect()
}

/// A lane for each fault such that none meets another, nor its label.
fn lanes(acts: &[Act], labels: &[String], total_ms: u64) -> Vec<usize> {
    let mut free_from: Vec<u64> = Vec::new();
    let mut lanes = Vec::new();
    for (act, label) in acts.iter().zip(labels) {
        let lane = free_from.iter().position(|from| *from <= act.begins_ms).unwrap_or(free_from.len());
        if lane == free_from.len() {
            free_from.push(0);
        }
        let label_ms = LETTER * (label.len() + 1) as f64 * total_ms as f64 / (WIDTH - LEFT);
        if let Some(from) = free_from.get_mut(lane) {
            *from = act.ends_ms.unwrap_or(u64::MAX).max(act.begins_ms.saturating_add(label_ms as u64));
        }
        lanes.push(lane);
    }
    lanes
}

fn bands<'a>(
    drawing: &mut Drawing,
    acts: impl Iterator<Item = ((&'a Act, String), usize)>,
    top: f64,
    bottom: f64,
) {
    for ((act, label), lane) in acts {
        let (from, to) = (drawing.x(act.begins_ms), drawing.x(act.ends_ms.unwrap_or(drawing.total_ms)));
        let width = (to - from).max(1.5);
        let y = top + LANE * lane as f64;
        let fill = if act.acted { "#c4472d" } else { "#c9a14a" };
        if act.acted {
            drawing.add(format_args!(
                "<rect x={from:.1} y=0 width={width:.1} height={bottom:.1} fill=#5c6b78 opacity=.11 />"
            ));
        }
        drawing.add(format_args!(
            "<rect x={from:.1} y={y:.1} width={width:.1} height={:.1} fill={fill} opacity=.75><title>{}: {}</title></rect>\
             <text x={:.1} y={:.1}>{}</text>",
            LANE - 4.0,
            text(&format!("{} {}", act.name, act.target)),
            text(&act.evidence),
            from + 3.0,
            y + LANE - 6.0,
            text(&label)
        ));
    }
}

fn throughput(drawing: &mut Drawing) {
    let per_second = |count: u32, step_ms: u64| f64::from(count) * 1_000.0 / step_ms as f64;
    let step = drawing.step_ms;
    let most =
        drawing.columns.iter().map(|c| per_second(c.ok + c.failed + c.unknown, step)).fold(1.0, f64::max);
    axis(drawing, 0.0, &format!("{most:.0}/s"), "0");
    let width = (drawing.x(step) - LEFT).max(0.6);
    for (index, column) in drawing.columns.clone().iter().enumerate() {
        let x = drawing.x(index as u64 * step);
        let mut y = CHART;
        for (count, fill) in [(column.ok, "#2f9e5b"), (column.failed, "#d99a1c"), (column.unknown, "#c4251d")]
        {
            let height = CHART * per_second(count, step) / most;
            y -= height;
            if count > 0 {
                drawing.add(format_args!(
                    "<rect x={x:.1} y={y:.1} width={width:.1} height={height:.1} fill={fill} />"
                ));
            }
        }
    }
}

fn latency(drawing: &mut Drawing) {
    let top = CHART + GAP;
    axis(drawing, top, "100 s", "1 ms");
    let y = |ms: u64| {
        let share = ((ms as f64).clamp(MIN_MS, MAX_MS) / MIN_MS).ln() / (MAX_MS / MIN_MS).ln();
        top + CHART * (1.0 - share)
    };
    for (ms, label) in [(10, "10 ms"), (100, "100 ms"), (1_000, "1 s"), (10_000, "10 s")] {
        let at = y(ms);
        drawing.add(format_args!(
            "<line x1={LEFT} x2={WIDTH} y1={at:.1} y2={at:.1} stroke=#e3e8ec /><text x={:.1} y={:.1} text-anchor=end>{label}</text>",
            LEFT - 6.0,
            at + 4.0
        ));
    }
    let step = drawing.step_ms;
    for (index, column) in drawing.columns.clone().iter_mut().enumerate() {
        column.latencies_ms.sort_unstable();
        let all = &column.latencies_ms;
        let (Some(median), Some(worst)) = (all.get(all.len() / 2), all.last()) else { continue };
        let x = (drawing.x(index as u64 * step) + drawing.x((index as u64 + 1) * step)) / 2.0;
        for (ms, fill) in [(*worst, "#8fb3d9"), (*median, "#1d4f8b")] {
            drawing.add(format_args!("<circle cx={x:.1} cy={:.1} r=2 fill={fill} />", y(ms)));
        }
    }
}

fn axis(drawing: &mut Drawing, top: f64, high: &str, low: &str) {
    let (x, bottom) = (LEFT - 6.0, top + CHART);
    drawing.add(format_args!(
        "<line x1={LEFT} x2={WIDTH} y1={bottom:.1} y2={bottom:.1} stroke=#8a98a5 />\
         <text x={x:.1} y={:.1} text-anchor=end>{high}</text><text x={x:.1} y={bottom:.1} text-anchor=end>{low}</text>",
        top + 10.0
    ));
}

fn marks(drawing: &mut Drawing, entries: &[Entry], bottom: f64) {
    for entry in entries {
        let (stroke, dashes, label) = match &entry.what {
            What::Leads { .. } => ("#2a6fd6", "", entry.what.line()),
            What::Executor { state, .. } if state == "lost" => ("#8a3fb5", "4 3", entry.what.line()),
            What::Healed => ("#12733a", "", entry.what.line()),
            What::Violation { .. } => ("#b3141e", "", entry.what.line()),
            _ => continue,
        };
        let x = drawing.x(entry.at_ms);
        drawing.add(format_args!(
            "<line x1={x:.1} x2={x:.1} y1=0 y2={bottom:.1} stroke={stroke} stroke-dasharray=\"{dashes}\" opacity=.8><title>{}</title></line>",
            text(&label)
        ));
    }
}
