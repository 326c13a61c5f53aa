//! Histories of correct objects always pass; the same ones with one lie in them do not.

use jepsen_lite::{
    Budget, Check, Event, History, Kind, Model, Options, Report, Verdict, check,
    generate::{Shape, history},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn judge(model: Model, events: Vec<Event>) -> Report {
    let history = History::from_events(events).expect("a history");
    check(&history, &Options::new(model)).expect("operations of the model")
}

fn shape() -> impl Strategy<Value = Shape> {
    (prop::sample::select(Model::ALL.to_vec()), 1..400usize, 1..12u64, 1..6usize, 0..300u64).prop_map(
        |(model, operations, clients, keys, lost_per_mille)| Shape {
            model,
            operations,
            clients,
            keys,
            lost_per_mille,
        },
    )
}

/// Events with the index of the invoke of each.
fn ends<'a>(events: &'a [Event], f: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    events.iter().enumerate().filter(move |(_, end)| end.kind == Kind::Ok && end.f == f).map(
        |(index, end)| {
            let begin =
                events[..index].iter().rposition(|event| event.process == end.process).expect("an invoke");
            (begin, index)
        },
    )
}

/// Whether the lie was found, and by which checks.
fn found(report: &Report) -> Vec<Check> {
    assert_ne!(report.verdict, Verdict::Unknown, "{}", report.text());
    report
        .checks
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Invalid)
        .map(|outcome| outcome.check)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_correct_object_passes(shape in shape(), seed in any::<u64>()) {
        let mut options = Options::new(shape.model);
        // A small part of what there is by default.
        options.budget = Budget { steps: 10_000_000, cached: 400_000, ..options.budget };
        let history = History::from_events(history(&shape, seed)).expect("a history");
        let report = check(&history, &options).expect("operations of the model");
        let unscanned = shape.model == Model::Rows && report.verdict == Verdict::Unknown;
        prop_assert!(report.verdict == Verdict::Valid || unscanned, "{}", report.text());
        prop_assert_eq!(report.operations, shape.operations);
    }

    /// Without answers there is less to contradict, never more.
    #[test]
    fn answers_that_were_not_heard_make_nothing_wrong(shape in shape(), seed in any::<u64>(), deaf in any::<u64>()) {
        let mut events = history(&shape, seed);
        for (index, event) in events.iter_mut().enumerate() {
            if event.kind == Kind::Ok && (deaf >> (index % 64)) & 1 == 1 {
                *event = Event::info(event.process, event.time, event.f.clone());
            }
        }
        let history = History::from_events(events).expect("a history");
        let mut options = Options::new(shape.model);
        // So little is known here that a search may be long.
        options.budget.steps = 100_000;
        let report = check(&history, &options).expect("operations of the model");
        prop_assert_ne!(report.verdict, Verdict::Invalid, "{}", report.text());
    }

    /// A read of a value that was overwritten before it began. Each write has a value of its own, so this is wrong for sure.
    #[test]
    fn a_stale_read_is_found(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let shape = Shape { model: Model::Register, operations: 300, clients: 6, keys: 2, lost_per_mille: 30 };
        let mut events = history(&shape, seed);
        let writes: Vec<(usize, usize)> = ends(&events, "write").collect();
        // The value of one write, after another of that key which began when the first had ended.
        let stale: Vec<(usize, usize)> = ends(&events, "read").filter_map(|(begin, end)| {
            let of_key = |w: &&(usize, usize)| events[w.0].key == events[begin].key;
            let over = writes.iter().filter(of_key).rfind(|w| w.1 < begin)?;
            let old = writes.iter().filter(of_key).rfind(|w| w.1 < over.0)?;
            Some((end, old.0))
        }).collect();
        prop_assume!(!stale.is_empty());
        let (read, old) = stale[pick.index(stale.len())];
        events[read].value = events[old].value.clone();
        prop_assert!(found(&judge(Model::Register, events)).contains(&Check::Linearizable));
    }

    /// An acknowledged element is missing from a later read.
    #[test]
    fn a_lost_element_is_found(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let shape = Shape { model: Model::Set, operations: 300, clients: 6, keys: 2, lost_per_mille: 30 };
        let mut events = history(&shape, seed);
        let adds: Vec<(usize, usize)> = ends(&events, "add").collect();
        let lost: Vec<(usize, Value)> = ends(&events, "read").flat_map(|(begin, end)| {
            let before = adds.iter().filter(move |add| add.1 < begin);
            before.filter(|add| events[add.0].key == events[begin].key).map(|add| (end, events[add.0].value.clone())).collect::<Vec<_>>()
        }).collect();
        prop_assume!(!lost.is_empty());
        let (read, element) = &lost[pick.index(lost.len())];
        let seen = events[*read].value.as_array_mut().expect("elements");
        seen.retain(|other| other != element);
        prop_assert!(found(&judge(Model::Set, events)).contains(&Check::Linearizable));
    }

    /// A value that nobody wrote.
    #[test]
    fn a_value_from_nowhere_is_found(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let shape = Shape { model: Model::Register, operations: 200, clients: 6, keys: 3, lost_per_mille: 30 };
        let mut events = history(&shape, seed);
        let reads: Vec<usize> = ends(&events, "read").map(|(_, end)| end).collect();
        prop_assume!(!reads.is_empty());
        events[reads[pick.index(reads.len())]].value = json!("nowhere");
        prop_assert!(found(&judge(Model::Register, events)).contains(&Check::Linearizable));
    }

    /// Each lie about a job is found by the check that is there for it.
    #[test]
    fn lies_about_jobs_are_found(seed in any::<u64>(), pick in any::<prop::sample::Index>(), lie in 0..3usize) {
        let shape = Shape { model: Model::Job, operations: 300, clients: 6, keys: 20, lost_per_mille: 30 };
        let mut events = history(&shape, seed);
        let (f, answer, check) = [
            ("submit", json!({ "job": "another" }), Check::IdempotentSubmit),
            ("fetch", json!({ "digest": "another" }), Check::Answers),
            ("status", json!({ "status": "unknown" }), Check::DurableAcknowledgement),
        ][lie].clone();
        // Only after somebody was told the truth.
        let later: Vec<usize> = ends(&events, f).filter(|(begin, _)| {
            ends(&events, "submit").any(|(other, end)| end < *begin && events[other].key == events[*begin].key)
        }).map(|(_, end)| end).collect();
        prop_assume!(!later.is_empty());
        events[later[pick.index(later.len())]].value = answer;
        let found = found(&judge(Model::Job, events));
        prop_assert!(found.contains(&check), "{found:?}");
    }

    #[test]
    fn doubles_and_gaps_are_found(seed in any::<u64>(), pick in any::<prop::sample::Index>(), found_rows in prop::sample::select(vec![99u64, 101, 200])) {
        let shape = Shape { model: Model::Rows, operations: 200, clients: 6, keys: 2, lost_per_mille: 30 };
        let mut events = history(&shape, seed);
        let inserts: Vec<(usize, usize)> = ends(&events, "insert").collect();
        let acknowledged: Vec<(usize, usize)> = ends(&events, "scan").flat_map(|(begin, end)| {
            let before = inserts.iter().filter(move |insert| insert.1 < begin);
            before.filter(|insert| events[insert.0].key == events[begin].key).map(|insert| (end, insert.0)).collect::<Vec<_>>()
        }).collect();
        prop_assume!(!acknowledged.is_empty());
        let (scan, insert) = acknowledged[pick.index(acknowledged.len())];
        let statement = events[insert].value["statement"].as_str().expect("a name").to_owned();
        events[scan].value[statement.as_str()] = json!([found_rows, found_rows.min(100)]);
        prop_assert_eq!(found(&judge(Model::Rows, events)), [Check::RowsOnce]);
    }
}

/// 10,000 operations from 20 clients are decided within the default budget, whether they are right or have one lie in them,
/// and a lie is shown in a few operations.
#[test]
fn ten_thousand_operations_of_twenty_clients_are_decided() {
    for (model, keys) in [
        (Model::Register, 1),
        (Model::Register, 20),
        (Model::Set, 20),
        (Model::Mutex, 1),
        (Model::Job, 500),
        (Model::Rows, 20),
    ] {
        let shape = Shape { model, operations: 10_000, clients: 20, keys, lost_per_mille: 10 };
        let events = history(&shape, 1);
        let report = judge(model, events.clone());
        assert_eq!(
            (report.verdict, report.operations),
            (Verdict::Valid, 10_000),
            "{model}: {}",
            report.text()
        );
        let (f, lie) = match model {
            Model::Register => ("read", json!("nowhere")),
            Model::Set => ("read", json!(["nowhere"])),
            Model::Job => ("fetch", json!({ "digest": "another", "job": "another" })),
            Model::Rows => ("scan", json!({ "nowhere": [1, 1] })),
            Model::Mutex => continue,
        };
        let mut wrong = events;
        let (_, middle) = ends(&wrong, f).find(|(begin, _)| *begin > 10_000).expect("one in the middle");
        wrong[middle].value = lie;
        let report = judge(model, wrong);
        assert_eq!(report.verdict, Verdict::Invalid, "{model}");
        for violation in report.checks.iter().flat_map(|outcome| &outcome.violations) {
            assert!(violation.window.len() <= 20, "{model}: {}", report.text());
        }
    }
}
