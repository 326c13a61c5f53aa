//! The template with the chart in it. What comes from a trace is data everywhere, never markup or code.

use super::chart::{Chart, JobEnd};

const TEMPLATE: &str = include_str!("page/template.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they build on each other.
const SCRIPT: &str = concat!(
    include_str!("page/data.js"),
    include_str!("page/layout.js"),
    include_str!("page/paint.js"),
    include_str!("page/messages.js"),
    include_str!("page/lanes.js"),
    include_str!("page/draw.js"),
    include_str!("page/overview.js"),
    include_str!("page/describe.js"),
    include_str!("page/legend.js"),
    include_str!("page/list.js"),
    include_str!("page/interact.js"),
    include_str!("page/main.js"),
);

pub(super) fn fill(chart: &Chart) -> Result<String, serde_json::Error> {
    let json = script_safe(&serde_json::to_string(chart)?);
    let mut out = String::with_capacity(TEMPLATE.len() + STYLE.len() + SCRIPT.len() + json.len());
    let mut rest = TEMPLATE;
    // Each hole is filled once, in one pass, so that data that looks like a hole stays data.
    while let Some((before, (hole, after))) =
        rest.split_once("{{").and_then(|(a, b)| Some((a, b.split_once("}}")?)))
    {
        out.push_str(before);
        match hole {
            "TITLE" => out.push_str(&text(&title(chart))),
            "STYLE" => out.push_str(STYLE),
            "HEADLINE" => out.push_str(&headline(chart)),
            "VIOLATION" => out.push_str(&violation(chart)),
            "FIGURES" => out.push_str(&text(&figures(chart))),
            "CHART" => out.push_str(&json),
            _ => out.push_str(SCRIPT),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// JSON that can stand in a `<script>`: nothing in it closes the element, and no line ends where JavaScript sees one.
pub(super) fn script_safe(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Text for HTML, also within quotes.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn scenario(chart: &Chart) -> &str {
    if chart.meta.scenario.is_empty() { "a schedule of its own" } else { &chart.meta.scenario }
}

fn title(chart: &Chart) -> String {
    let verdict = chart.violation.as_ref().map_or("no violation", |broken| &broken.oracle);
    format!("Polybolos simulation: seed {}, {}: {verdict}", chart.meta.seed, scenario(chart))
}

fn headline(chart: &Chart) -> String {
    let (verdict, replay) = match chart.violation {
        Some(_) => (r#"<span class="verdict broken">✕ A promise was broken</span>"#, String::new()),
        None => (r#"<span class="verdict">✓ No violation</span>"#, replay(chart)),
    };
    let mutant = chart.meta.mutant.as_ref().map(|it| format!("<span>planted bug <b>{}</b></span>", text(it)));
    format!(
        "{verdict}<span>Polybolos simulation, seed <b>{}</b></span><span>scenario <b>{}</b></span>{}{replay}",
        text(&chart.meta.seed),
        text(scenario(chart)),
        mutant.unwrap_or_default()
    )
}

/// The promise, what broke it, when, and how to see it again.
fn violation(chart: &Chart) -> String {
    let Some(broken) = &chart.violation else { return String::new() };
    format!(
        r#"<div class="violation" role="alert"><p><b>{}</b> was broken at {}.{:03} s: {}</p>{}</div>"#,
        text(&broken.oracle),
        broken.at_us / 1_000_000,
        broken.at_us / 1000 % 1000,
        text(&broken.what),
        replay(chart)
    )
}

fn replay(chart: &Chart) -> String {
    let how =
        if chart.meta.replay.starts_with("run") { "Replay:" } else { "Save the schedule, then replay:" };
    format!(
        r#"<span class="replay"><span>{how}</span><code id="replay">cargo run --release -p polybolos-sim -- {}</code><button data-do="copy">Copy</button><button data-do="schedule" title="All that this run did, as TOML">Schedule</button></span>"#,
        text(&chart.meta.replay)
    )
}

fn figures(chart: &Chart) -> String {
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let of_role = |role: &str| count(chart.hosts.iter().filter(|host| host.role == role).count(), role);
    let ended = |end: JobEnd| chart.jobs.iter().filter(|job| job.end == end as u8).count();
    let (meta, jobs) = (&chart.meta, count(chart.jobs.len(), "job"));
    [
        [of_role("scheduler"), of_role("executor"), of_role("client")].join(", "),
        format!("{}.{:03} s simulated", meta.end_us / 1_000_000, meta.end_us / 1000 % 1000),
        format!(
            "{jobs}: {} succeeded, {} failed, {} cancelled, {} open",
            ended(JobEnd::Succeeded),
            ended(JobEnd::Failed),
            ended(JobEnd::Cancelled),
            ended(JobEnd::Open)
        ),
        count(chart.faults.len(), "fault"),
        count(chart.reigns.len(), "election"),
        count(chart.net.at.len(), "message"),
        count(meta.lines, "line"),
        format!("build {}", meta.build.get(..12).unwrap_or(&meta.build)),
    ]
    .join(" · ")
}
