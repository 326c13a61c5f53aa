//! Each check against a violation made by hand, and against what comes close but is none.

use crate::common::{history, violations};
use jepsen_lite::{Check, HistoryError, Model, Options, Verdict, check};

fn job(check: Check, operations: &str) -> Vec<String> {
    violations(Model::Job, check, operations)
}

const NONE: [&str; 0] = [];

#[test]
fn a_job_ends_once() {
    let check = Check::ExactlyOnceCompletion;
    let twice = r#"0 0..1 status k → {"status":"succeeded"}
        1 2..3 status k → {"status":"cancelled"}"#;
    assert_eq!(job(check, twice), ["key k ended twice: succeeded, then cancelled"]);
    let results = r#"0 0..1 fetch k → {"digest":"a"}
        1 2..3 query k → {"digest":"b"}"#;
    assert_eq!(job(check, results), ["key k ended twice: with the result a, then with the result b"]);
    let rows = r#"0 0..1 fetch k → {"digest":"a","rows":1}
        1 2..3 query k → {"digest":"a","rows":2}"#;
    assert_eq!(job(check, rows), ["key k ended twice: 1 rows, then 2 rows"]);
    let same = r#"0 0..1 status k → {"status":"succeeded"}
        1 2..3 fetch k → {"digest":"a"}
        1 4..5 query k → {"digest":"a"}
        1 6..7 status other → {"status":"failed"}"#;
    assert_eq!(job(check, same), NONE);
}

#[test]
fn a_key_has_one_job_and_a_job_one_key() {
    let check = Check::IdempotentSubmit;
    let two = r#"0 0..5 submit k → {"job":"a"}
        1 3..9 submit k → {"job":"b"}"#;
    assert_eq!(job(check, two), ["key k has two jobs, a and b"]);
    let shared = r#"0 0..5 submit k → {"job":"a"}
        1 3..9 submit l → {"job":"a"}"#;
    assert_eq!(job(check, shared), ["key k and key l were given the same job, a"]);
    let later = r#"0 0..5 submit k → {"job":"a"}
        1 3..9 status k → {"status":"running","job":"b"}"#;
    assert_eq!(job(check, later), ["key k has two jobs, a and b"]);
    let same = r#"0 0..5 submit k → {"job":"a"}
        1 3..9 submit k → {"job":"a"}
        1 10..19 submit l → {"job":"b"}
        2 0..? submit k"#;
    assert_eq!(job(check, same), NONE);
}

#[test]
fn an_acknowledged_job_is_not_forgotten() {
    let check = Check::DurableAcknowledgement;
    let lost = r#"0 0..5 submit k → {"job":"a"}
        1 6..9 status k → {"status":"unknown"}"#;
    assert_eq!(job(check, lost), ["key k was acknowledged and is unknown later"]);
    let beside = r#"0 0..5 submit k → {"job":"a"}
        1 5..9 status k → {"status":"unknown"}"#;
    assert_eq!(job(check, beside), NONE);
    let indeterminate = r#"0 0..? submit k
        1 6..9 status k → {"status":"unknown"}"#;
    assert_eq!(job(check, indeterminate), NONE);
    let released = r#"0 0..5 submit k → {"job":"a"}
        0 6..? release k
        1 7..9 status k → {"status":"unknown"}"#;
    assert_eq!(job(check, released), NONE);
}

#[test]
fn an_engine_may_be_allowed_to_forget_ended_jobs() {
    let ops = r#"0 0..5 submit k → {"job":"a"}
        1 6..9 status k → {"status":"succeeded"}
        0 10..19 status k → {"status":"unknown"}"#;
    let mut options = Options::new(Model::Job);
    assert_eq!(check(&history(ops), &options).expect("jobs").verdict, Verdict::Invalid);
    options.ended_may_be_forgotten = true;
    assert_eq!(check(&history(ops), &options).expect("jobs").verdict, Verdict::Valid);
    let running = ops.replace("succeeded", "running");
    assert_eq!(check(&history(&running), &options).expect("jobs").verdict, Verdict::Invalid);
}

#[test]
fn a_status_does_not_move_back() {
    let check = Check::MonotonicStatus;
    let back = r#"0 0..5 status k → {"status":"running"}
        1 6..9 status k → {"status":"queued"}"#;
    assert_eq!(job(check, back), ["key k moved back"]);
    assert_eq!(job(check, &back.replace("6..9", "5..9")), NONE);
    let again = r#"0 0..5 fetch k → {"digest":"d"}
        1 2..9 status k → {"status":"succeeded"}
        1 10..19 status k → {"status":"running"}
        1 20..29 submit k → {"job":"j"}"#;
    assert_eq!(job(check, again), ["key k moved back"]);
    let forward = r#"0 0..5 status k → {"status":"queued"}
        1 6..9 status k → {"status":"running"}
        0 10..19 status k → {"status":"failed"}"#;
    assert_eq!(job(check, forward), NONE);
}

#[test]
fn a_process_sees_what_it_did_to_a_job() {
    let check = Check::ReadYourWrites;
    let submitted = r#"0 0..5 submit k → {"job":"a"}
        0 6..9 status k → {"status":"unknown"}"#;
    assert_eq!(job(check, submitted), ["process 0 submitted key k, and then it is unknown"]);
    let cancelled = r#"0 0..5 cancel k
        0 6..9 status k → {"status":"running"}"#;
    assert_eq!(job(check, cancelled), ["process 0 cancelled key k, and then it is running"]);
    let others = r#"0 0..5 submit k → {"job":"a"}
        1 5..9 status k → {"status":"unknown"}
        0 10..19 status k → {"status":"running"}"#;
    assert_eq!(job(check, others), NONE);
}

#[test]
fn answers_are_those_of_the_oracle() {
    let check = Check::Answers;
    let wrong = r#"0 0..5 submit k {"expect":"a"} → {"job":"j"}
        1 6..9 fetch k → {"digest":"b"}"#;
    assert_eq!(job(check, wrong), ["key k has the result b, the oracle gave a"]);
    let own = r#"1 6..9 query k {"expect":7} → {"digest":"8"}"#;
    assert_eq!(job(check, own), ["key k has the result 8, the oracle gave 7"]);
    let right = r#"0 0..? submit k {"expect":"a"}
        1 6..9 fetch k → {"digest":"a"}
        1 10..19 fetch l → {"digest":"z"}"#;
    assert_eq!(job(check, right), NONE);
    let report = crate::common::judge(Model::Job, right);
    assert_eq!(crate::common::outcome(&report, check).judged, 1, "nobody said what l must give");
}

#[test]
fn reads_of_a_process_do_not_move_back() {
    let check = Check::MonotonicReads;
    let back = "0 0..5 write x 1\n0 6..9 write x 2\n1 10..19 read x → 2\n1 20..29 read x → 1";
    assert_eq!(violations(Model::Register, check, back), ["process 1 read 2, and then 1, which is older"]);
    let other_process = back.replace("1 20", "2 20");
    assert_eq!(violations(Model::Register, check, &other_process), NONE);
    let beside = "0 0..5 write x 1\n2 5..9 write x 2\n1 10..19 read x → 2\n1 20..29 read x → 1";
    assert_eq!(violations(Model::Register, check, beside), NONE);
    let initial = "0 0..5 write x 1\n1 10..19 read x → 1\n1 20..29 read x → null";
    assert_eq!(
        violations(Model::Register, check, initial),
        ["process 1 read 1, and then null, which is older"]
    );
    let set = "0 0..5 add s 1\n1 6..9 read s → [1]\n1 10..19 read s → []\n1 20..29 contains s 1 → [1,false]";
    assert_eq!(
        violations(Model::Set, check, set),
        ["process 1 saw 1 in key s, and later no more", "process 1 saw 1 in key s, and later no more"]
    );
    assert_eq!(violations(Model::Set, check, "1 6..9 read s → []\n1 10..19 contains s 1 → [1,true]"), NONE);
}

#[test]
fn a_process_sees_its_writes() {
    let check = Check::ReadYourWrites;
    let lost = "1 0..5 write x 1\n0 6..9 write x 2\n0 10..19 read x → 1";
    assert_eq!(
        violations(Model::Register, check, lost),
        ["process 0 wrote 2, and then read 1, which is older"]
    );
    let overwritten = "1 0..50 write x 1\n0 6..9 write x 2\n0 10..19 read x → 1";
    assert_eq!(violations(Model::Register, check, overwritten), NONE);
    let indeterminate = "1 0..? write x 1\n0 6..9 write x 2\n0 10..19 read x → 1";
    assert_eq!(violations(Model::Register, check, indeterminate), NONE);
    let set = "0 0..5 add s 1\n0 6..9 contains s 1 → [1,false]\n1 6..9 read s → []";
    assert_eq!(violations(Model::Set, check, set), ["process 0 added 1, and later it is not there"]);
}

fn rows(operations: &str) -> Vec<String> {
    violations(Model::Rows, Check::RowsOnce, operations)
}

#[test]
fn rows_are_there_once() {
    let insert = r#"0 0..5 insert t {"statement":"a","rows":10}"#;
    let scan = |found: &str| rows(&format!("{insert}\n1 6..9 scan t → {found}"));
    assert_eq!(scan(r#"{"a":[10,10]}"#), NONE);
    assert_eq!(scan(r#"{"a":[9,9]}"#), ["statement a was acknowledged with 10 rows, and 9 are there"]);
    assert_eq!(scan("{}"), ["statement a was acknowledged with 10 rows, and 0 are there"]);
    assert_eq!(scan(r#"{"a":[11,10]}"#), ["1 rows of statement a are there twice"]);
    assert_eq!(
        scan(r#"{"a":[10,9]}"#),
        ["1 rows of statement a are there twice"],
        "a gap hidden by a double"
    );
    assert_eq!(scan(r#"{"a":[12,12]}"#), ["statement a wrote 10 rows, and 12 are there"]);
    assert_eq!(scan(r#"{"a":[10,10],"b":[1,1]}"#), ["1 rows are there of b, which nobody wrote"]);
}

#[test]
fn rows_of_an_indeterminate_statement_are_there_at_most_once() {
    let insert = r#"0 0..? insert t {"statement":"a","rows":10}"#;
    let scan = |found: &str| rows(&format!("{insert}\n1 6..9 scan t → {found}"));
    for found in ["{}", r#"{"a":[4,4]}"#, r#"{"a":[10,10]}"#] {
        assert_eq!(scan(found), NONE, "{found}");
    }
    assert_eq!(scan(r#"{"a":[5,4]}"#), ["1 rows of statement a are there twice"]);
    let later = format!("{insert}\n1 6..9 scan t → {{\"a\":[4,4]}}\n1 10..19 scan t → {{}}");
    assert_eq!(rows(&later), ["4 rows of statement a were there, and later only 0"]);
}

#[test]
fn rows_of_a_failed_or_a_coming_statement_are_not_there() {
    let failed = r#"0 0..5! insert t {"statement":"a","rows":10}
        1 6..9 scan t → {"a":[10,10]}"#;
    assert_eq!(rows(failed), ["statement a failed, and 10 of its rows are there"]);
    let coming = r#"1 6..9 scan t → {"a":[10,10]}
        0 10..15 insert t {"statement":"a","rows":10}"#;
    assert_eq!(rows(coming), ["10 rows of statement a are there before it was written"]);
}

#[test]
fn a_table_that_nobody_scanned_is_unknown_and_a_statement_has_one_name() {
    let report = crate::common::judge(Model::Rows, r#"0 0..5 insert t {"statement":"a","rows":10}"#);
    assert_eq!((report.verdict, report.checks[0].reasons.len()), (Verdict::Unknown, 1));
    let twice = history(
        r#"0 0..5 insert t {"statement":"a","rows":10}
           0 6..9 insert t {"statement":"a","rows":10}"#,
    );
    let error = check(&twice, &Options::new(Model::Rows)).expect_err("two of one name");
    assert!(matches!(error, HistoryError::StatementTwice { line: 3, first: 1, .. }), "{error}");
}
