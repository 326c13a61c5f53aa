//! Histories whose verdict is known from the literature or by hand.

use crate::common::{history, judge, outcome, violations};
use jepsen_lite::{Budget, Check, History, Model, Options, Verdict, check};

fn linearizable(model: Model, operations: &str) -> Verdict {
    outcome(&judge(model, operations), Check::Linearizable).verdict
}

#[test]
fn a_read_beside_a_write_may_see_either_value() {
    for seen in ["null", "1"] {
        let ops = format!("0 0..10 write x 1\n1 5..8 read x → {seen}");
        assert_eq!(linearizable(Model::Register, &ops), Verdict::Valid, "{seen}");
    }
    assert_eq!(linearizable(Model::Register, "0 0..10 write x 1\n1 5..8 read x → 2"), Verdict::Invalid);
}

#[test]
fn a_new_value_is_not_old_again() {
    let ops = "0 0..100 write x 1\n1 10..20 read x → 1\n2 30..40 read x → null";
    assert_eq!(linearizable(Model::Register, ops), Verdict::Invalid);
    let beside = "0 0..100 write x 1\n1 10..35 read x → 1\n2 30..40 read x → null";
    assert_eq!(linearizable(Model::Register, beside), Verdict::Valid);
}

#[test]
fn equal_times_have_no_order() {
    let ops = "0 0..10 write x 1\n1 10..20 read x → null";
    assert_eq!(linearizable(Model::Register, ops), Verdict::Valid);
    let apart = "0 0..10 write x 1\n1 11..20 read x → null";
    assert_eq!(linearizable(Model::Register, apart), Verdict::Invalid);
}

#[test]
fn an_operation_without_an_end_may_happen_much_later_or_never_but_only_once() {
    let later = "0 0..? write x 1\n1 10..20 write x 2\n2 30..40 read x → 2\n3 900..910 read x → 1";
    assert_eq!(linearizable(Model::Register, later), Verdict::Valid);
    let never = "0 0..? write x 1\n1 10..20 write x 2\n2 30..40 read x → 2";
    assert_eq!(linearizable(Model::Register, never), Verdict::Valid);
    let before = "1 10..20 read x → 1\n0 30..? write x 1";
    assert_eq!(linearizable(Model::Register, before), Verdict::Invalid);
    let twice =
        "0 0..? write x 1\n1 10..20 read x → 1\n2 30..40 write x 2\n2 50..60 read x → 2\n1 70..80 read x → 1";
    assert_eq!(linearizable(Model::Register, twice), Verdict::Invalid);
}

#[test]
fn an_operation_that_failed_did_not_happen() {
    assert_eq!(linearizable(Model::Register, "0 0..5! write x 1\n1 10..20 read x → 1"), Verdict::Invalid);
    assert_eq!(linearizable(Model::Register, "0 0..5! write x 1\n1 10..20 read x → null"), Verdict::Valid);
}

#[test]
fn swaps_happen_only_on_the_old_value_and_a_refused_one_saw_another() {
    let both = "0 0..5 write x 1\n1 10..20 cas x [1,2]\n2 10..20 cas x [1,3]";
    assert_eq!(linearizable(Model::Register, both), Verdict::Invalid);
    let one = "0 0..5 write x 1\n1 10..20 cas x [1,2]\n2 10..20 cas x [1,3] → [1,3,false]";
    assert_eq!(linearizable(Model::Register, one), Verdict::Valid);
    let refused = "0 0..5 write x 1\n2 10..20 cas x [1,3] → [1,3,false]";
    assert_eq!(linearizable(Model::Register, refused), Verdict::Invalid);
}

#[test]
fn keys_are_judged_apart() {
    let report = judge(Model::Register, "0 0..5 write x 1\n0 6..9 read x → 1\n1 0..5 read y → 1");
    let violations = &outcome(&report, Check::Linearizable).violations;
    assert_eq!(violations.iter().map(|violation| violation.key.as_str()).collect::<Vec<_>>(), ["y"]);
    assert_eq!((report.keys, report.verdict), (2, Verdict::Invalid));
}

#[test]
fn a_lost_element_is_shown_alone() {
    let adds: String = (0..40).map(|n| format!("0 {}..{} add s {n}\n", n * 10, n * 10 + 5)).collect();
    let seen: Vec<String> = (0..40).filter(|n| *n != 17).map(|n| n.to_string()).collect();
    let report = judge(Model::Set, &format!("{adds}1 500..510 read s → [{}]", seen.join(",")));
    let violation = &outcome(&report, Check::Linearizable).violations[0];
    assert_eq!(violation.window.len(), 2, "{}", report.text());
    assert_eq!(violation.window[0].input, 17);
}

#[test]
fn two_hold_a_lock() {
    assert_eq!(linearizable(Model::Mutex, "0 0..5 acquire m\n1 10..20 acquire m"), Verdict::Invalid);
    assert_eq!(
        linearizable(Model::Mutex, "0 0..5 acquire m\n0 6..? release m\n1 10..20 acquire m"),
        Verdict::Valid
    );
}

#[test]
fn a_long_history_before_the_violation_is_left_out() {
    let mut ops: String = (0..300)
        .map(|n| {
            format!(
                "0 {0}..{1} cas x [{2},{3}]\n",
                n * 10,
                n * 10 + 5,
                if n == 0 { "null".into() } else { n.to_string() },
                n + 1
            )
        })
        .collect();
    ops.push_str("1 4000..4010 write x 7\n2 4020..4030 read x → 300\n1 4040..4050 read x → 7\n");
    let report = judge(Model::Register, &ops);
    let violation = &outcome(&report, Check::Linearizable).violations[0];
    let shown: Vec<&str> = violation.window.iter().map(|op| op.f.as_str()).collect();
    // Nobody wrote between these two, whatever was there before.
    assert_eq!(shown, ["read", "read"], "{}", report.text());
    assert!(violation.anything_before);
}

#[test]
fn a_search_without_steps_or_room_is_unknown_and_says_why() {
    let history = history("0 0..5 write x 1\n1 10..20 read x → 1");
    for (budget, why) in [
        (
            Budget { steps: 0, ..Budget::default() },
            "key x: the search used up its steps; --steps allows more",
        ),
        (
            Budget { cached: 0, ..Budget::default() },
            "key x: the search would keep more than 0 configurations",
        ),
    ] {
        let report = check(
            &history,
            &Options { budget, checks: vec![Check::Linearizable], ..Options::new(Model::Register) },
        )
        .expect("operations of the model");
        assert_eq!((report.verdict, report.exit_code()), (Verdict::Unknown, 3));
        assert_eq!(report.checks[0].reasons, [why]);
    }
}

#[test]
fn nothing_is_no_pass() {
    let report = check(&History::default(), &Options::new(Model::Job)).expect("nothing is of any model");
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(report.text().contains("There is nothing for the model job to judge."));
}

#[test]
fn events_of_other_models_are_passed_over() {
    let lines = r#"
        {"type":"invoke","process":0,"time":1,"f":"write","key":"x","value":1,"model":"register"}
        {"type":"ok","process":0,"time":2,"f":"write"}
        {"type":"invoke","process":0,"time":3,"f":"acquire","key":"x","model":"mutex"}
        {"type":"ok","process":0,"time":4,"f":"acquire"}"#;
    let history = crate::common::read(lines).expect("a history");
    for (model, operations) in [(Model::Register, 1), (Model::Mutex, 1), (Model::Set, 0)] {
        let report = check(&history, &Options::new(model)).expect("operations of the model");
        assert_eq!(report.operations, operations, "{model}");
    }
}

#[test]
fn the_life_of_a_job() {
    let good = r#"
        0 0..10 submit k {} → {"job":"j"}
        1 5..20 submit k {} → {"job":"j"}
        1 21..30 status k → {"status":"queued","job":"j"}
        0 25..40 status k → {"status":"running"}
        0 50..60 status k → {"status":"succeeded"}
        1 70..80 cancel k
        0 90..95 fetch k → {"digest":"d"}"#;
    assert_eq!(judge(Model::Job, good).verdict, Verdict::Valid, "{}", judge(Model::Job, good).text());
    for (bad, why) in [
        (r#"0 50..60 status k → {"status":"running"}"#, "no job was submitted"),
        (
            r#"0 0..9 submit k {} → {"job":"j"}
            1 10..19 status k → {"status":"cancelled"}"#,
            "nobody cancelled it",
        ),
        (
            r#"0 0..9 submit k {} → {"job":"j"}
            1 10..19 cancel k
            1 20..29 status k → {"status":"running"}"#,
            "it was cancelled",
        ),
        (
            r#"0 0..9 query k {} → {"status":"failed"}
            1 10..19 fetch k → {"digest":"d"}"#,
            "it has no result",
        ),
    ] {
        assert_eq!(linearizable(Model::Job, bad), Verdict::Invalid, "{why}");
    }
}

#[test]
fn violations_beyond_ten_are_counted() {
    let ops: String = (0..14).map(|n| format!("0 {}..{} read k{n} → 1\n", n * 10, n * 10 + 5)).collect();
    let report = judge(Model::Register, &ops);
    let outcome = outcome(&report, Check::Linearizable);
    assert_eq!((outcome.violations.len(), outcome.violation_count), (10, 14));
    assert!(report.text().contains("4 more of linearizable are not shown."));
    assert_eq!(violations(Model::Register, Check::MonotonicReads, &ops), [""; 0]);
}

/// Without the submit a single status would do, but that would show another mistake than the one that was made.
#[test]
fn what_others_depend_on_stays_in_the_window() {
    let ops = r#"
        0 0..10 submit k {} → {"job":"j"}
        2 11..12 submit k {} → {"job":"j"}
        1 15..16 status k → {"status":"queued"}
        1 20..30 status k → {"status":"running"}
        1 40..50 status k → {"status":"queued"}"#;
    let report = judge(Model::Job, ops);
    let window = &outcome(&report, Check::Linearizable).violations[0].window;
    let shown: Vec<(&str, u64)> = window.iter().map(|op| (op.f.as_str(), op.start_ns)).collect();
    assert_eq!(shown, [("submit", 0), ("submit", 11), ("status", 20), ("status", 40)], "{}", report.text());
}
