//! The page holds what the trace says, and nothing in a trace can become markup or code.

use serde_json::Value;

use super::{
    collect, page,
    sample::{self, HOSTILE},
};
use crate::trace::{Line, Seen};

fn chart(page: &str) -> Value {
    let (_, rest) = page.split_once(r#"<script type="application/json" id="chart">"#).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// The rows of `table` as objects.
fn rows(chart: &Value, table: &str) -> Vec<serde_json::Map<String, Value>> {
    let columns: Vec<String> = serde_json::from_value(chart["columns"][table].clone()).unwrap();
    let rows = chart[table].as_array().unwrap().iter();
    rows.map(|row| columns.iter().cloned().zip(row.as_array().unwrap().iter().cloned()).collect()).collect()
}

fn page_of(broken: bool) -> (String, Value) {
    let page = super::page_of(&sample::trace(40, broken)).unwrap();
    let chart = chart(&page);
    (page, chart)
}

#[test]
fn hostile_text_stays_data() {
    let (page, chart) = page_of(true);
    assert_eq!(page.matches("<script").count(), 2, "the data and the code");
    assert_eq!(page.matches("</script").count(), 2);
    assert!(
        !page.split_once("<main>").unwrap().1.contains('\u{2028}'),
        "some read it as the end of a line of code"
    );
    assert!(!page.contains("alert('x')</"));
    let texts: Vec<String> = serde_json::from_value(chart["texts"].clone()).unwrap();
    assert!(texts.iter().any(|text| text.contains(HOSTILE)), "nothing of it is lost");
    assert!(chart["violation"]["what"].as_str().unwrap().ends_with(HOSTILE));
}

#[test]
fn holes_of_the_template_are_all_filled() {
    let (page, _) = page_of(true);
    for hole in ["TITLE", "STYLE", "HEADLINE", "VIOLATION", "FIGURES", "SCRIPT"] {
        assert!(!page.contains(&format!("{{{{{hole}}}}}")), "{hole}");
    }
    assert_eq!(page::text(r#"<a b="c">&'"#), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
}

#[test]
fn the_verdict_and_how_to_replay_are_at_the_top() {
    let (page, _) = page_of(true);
    let head = page.split_once("<main>").unwrap().0;
    assert!(head.contains("A promise was broken"));
    assert!(head.contains("<b>slots-never-exceeded</b> was broken at 9.200 s: executor-1 runs 3 attempts"));
    assert!(
        head.contains("-- replay seed-18446744073709551615.toml"),
        "no shipped scenario makes this schedule"
    );
    let (page, chart) = page_of(false);
    assert!(page.contains("No violation") && chart["violation"].is_null());
    assert_eq!(
        chart["meta"]["seed"], "18446744073709551615",
        "as text, since numbers of JavaScript are shorter"
    );
    assert!(chart["meta"]["schedule"].as_str().unwrap().contains("pause"));
}

#[test]
fn a_seed_replays_what_it_made() {
    let mut trace = sample::trace(1, false);
    (trace.header.seed, trace.header.scenario) = (4, "swarm".into());
    trace.header.schedule = crate::scenario::expand("swarm", 4).unwrap();
    assert_eq!(collect::chart(&trace).meta.replay, "run --seed 4 --scenario swarm");
    trace.header.schedule.faults.clear();
    trace.header.schedule.cluster.clients += 1;
    assert_eq!(collect::chart(&trace).meta.replay, "replay seed-4.toml", "it was changed since");
}

#[test]
fn nothing_is_fetched_from_elsewhere() {
    let (page, _) = page_of(false);
    for outside in ["http://", "https://", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn lanes_are_in_order() {
    let (_, chart) = page_of(false);
    let names: Vec<Value> = rows(&chart, "hosts").iter().map(|host| host["name"].clone()).collect();
    let order = [
        "scheduler-1",
        "scheduler-2",
        "scheduler-3",
        "executor-1",
        "executor-2",
        "executor-3",
        "client-1",
        "client-2",
    ];
    assert_eq!(names, order);
}

#[test]
fn what_began_meets_what_ended() {
    let (_, chart) = page_of(false);
    let lives = rows(&chart, "lives");
    let ends = |host: i32| {
        lives.iter().filter(|life| life["host"] == host).map(|life| life["end"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(ends(0), [Some(2), Some(0)], "power lost, then up until the end");
    assert_eq!(ends(4), [Some(1), Some(0)], "crashed");
    assert_eq!(ends(7), [Some(3)], "exited");
    let reigns = rows(&chart, "reigns");
    assert_eq!(reigns.len(), 2);
    assert_eq!(reigns[0]["until"], "its process ended");
    assert_eq!(reigns[1]["until"], "the end of the trace");
    let faults = rows(&chart, "faults");
    assert_eq!(faults.len(), 4);
    assert_eq!((&faults[0]["open"], faults[0]["hosts"].to_string()), (&Value::Bool(false), "[5]".into()));
    assert_eq!(faults[3]["hosts"].to_string(), "[]", "everywhere");
    assert_eq!(faults[1]["open"], true, "it never ended");
    assert_eq!(rows(&chart, "phases").len(), 3);
}

#[test]
fn work_is_complete() {
    let (_, chart) = page_of(false);
    assert_eq!(rows(&chart, "jobs").len(), 40);
    assert_eq!(rows(&chart, "stages").len(), 120);
    let attempts = rows(&chart, "attempts");
    assert_eq!(attempts.len(), 40 * 7);
    let ends: std::collections::BTreeSet<u64> = attempts.iter().filter_map(|it| it["end"].as_u64()).collect();
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4], "one was lost with its host");
    assert!(attempts.iter().all(|it| it["launched"].as_i64() < it["from"].as_i64()));
    let ops = rows(&chart, "ops");
    assert_eq!(ops.len(), 40);
    let ends: std::collections::BTreeSet<u64> = ops.iter().filter_map(|it| it["end"].as_u64()).collect();
    assert!(ends.is_superset(&[1, 3, 4, 5, 6].into()), "{ends:?}");
    let net = chart["net"]["at"].as_array().unwrap().len();
    assert!(net > 500 && net == chart["net"]["bytes"].as_array().unwrap().len());
}

#[test]
fn each_other_moment_is_an_event_in_order() {
    let trace = sample::trace(40, true);
    let chart = collect::chart(&trace);
    let told = |line: &&Line| !matches!(line.seen, Seen::Net { .. } | Seen::End(_));
    assert_eq!(chart.events.len(), trace.lines.iter().filter(told).count());
    let last: u64 = chart.events.iter().map(|event| event.since).sum();
    assert_eq!(last, 9_200_000);
}

/// Writes a page to look at, and says how large it is: `cargo test … a_page_to_look_at -- --ignored --nocapture`.
#[test]
#[ignore = "writes a file"]
#[allow(clippy::disallowed_methods, reason = "a test that leaves a file to look at")]
fn a_page_to_look_at() {
    for (jobs, name) in [(60, "sample.html"), (500, "large.html")] {
        let trace = sample::trace(jobs, true);
        let page = super::page_of(&trace).unwrap();
        println!("{name}: {} lines, {} bytes", trace.lines.len(), page.len());
        std::fs::write(std::env::temp_dir().join(name), page).unwrap();
    }
}
