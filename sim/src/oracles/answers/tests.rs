//! Answers and errors by hand, with and without a cause.

use super::{super::testing::*, *};

fn lab() -> Lab<Answers> {
    let mut lab = Lab::with_job(Answers::new(&schedule()));
    for op in 1..=4 {
        lab.client(invoked(op)).unwrap();
    }
    lab.client(accepted(1, JOB, None)).unwrap();
    lab
}

fn failed(op: u32, error: &str, outcome: Outcome) -> ClientEvent {
    ClientEvent::Failed { op, error: error.to_owned(), outcome }
}

fn answered(op: u32, mismatch: Option<&str>) -> ClientEvent {
    ClientEvent::Answered { op, job: JOB, rows: 1, mismatch: mismatch.map(str::to_owned) }
}

#[test]
fn wrong_and_early_answers_are_found() {
    let mut lab = lab();
    assert!(lab.client(answered(1, None)).is_err());
    lab.commit(complete_all()).unwrap();
    lab.client(answered(1, None)).unwrap();
    assert!(lab.client(answered(1, Some("row 3"))).is_err());
}

#[test]
fn a_time_out_needs_a_fault() {
    let mut lab = lab();
    assert!(lab.client(failed(1, "no answer", Outcome::Unknown)).is_err());
    lab.fault(1, "client-gone", "client-2").unwrap();
    assert!(lab.client(failed(1, "no answer", Outcome::Unknown)).is_err());
    lab.fault(2, "isolate", "scheduler-1").unwrap();
    lab.client(failed(1, "no answer", Outcome::Unknown)).unwrap();
}

#[test]
fn a_failure_after_retries_needs_a_fault_and_others_are_never_right() {
    for (class, with_fault) in
        [(ErrorClass::Retryable, true), (ErrorClass::User, false), (ErrorClass::Internal, false)]
    {
        let mut lab = lab();
        for counter in 1..=4 {
            lab.commit(vec![fail(1, task(0, 0), counter, class)]).unwrap();
        }
        let end = failed(1, "query failed", Outcome::Failed);
        assert!(lab.client(end.clone()).is_err());
        lab.fault(1, "store-errors", "world").unwrap();
        assert_eq!(lab.client(end).is_ok(), with_fault, "{class}");
    }
}

#[test]
fn a_lost_result_is_a_reason() {
    let mut lab = lab();
    lab.commit(complete_all()).unwrap();
    let end =
        failed(1, "partition 0 of the result of query 1 could not be read from executor-1", Outcome::Failed);
    assert!(lab.client(end.clone()).is_err());
    lab.commit(vec![lose(1, 1)]).unwrap();
    lab.client(end).unwrap();
}

#[test]
fn only_who_asked_for_it_is_cancelled() {
    let cancel = polybolos_state::Command::CancelJob { job: JOB, reason: "asked".to_owned() };
    let mut lab = lab();
    lab.commit(vec![cancel]).unwrap();
    assert!(lab.client(failed(1, "cancelled", Outcome::Cancelled)).is_err());
    let mut other = lab_with_sharer();
    other.client(failed(1, "cancelled", Outcome::Cancelled)).unwrap();
}

fn lab_with_sharer() -> Lab<Answers> {
    let mut lab = lab();
    lab.client(accepted(2, JOB, None)).unwrap();
    lab.commit(vec![polybolos_state::Command::CancelJob { job: JOB, reason: "asked".to_owned() }]).unwrap();
    lab
}

#[test]
fn a_statement_may_be_refused_for_a_view_that_is_not_sure() {
    let mut lab = lab();
    assert!(lab.client(failed(1, "table 'nothing' not found", Outcome::Failed)).is_err());
    lab.client(failed(3, "table 'seen' not found", Outcome::Failed)).unwrap();
    lab.client(ClientEvent::Done { op: 4 }).unwrap();
    assert!(lab.client(failed(3, "table 'seen' not found", Outcome::Failed)).is_err());
    lab.client(failed(4, "view 'seen' already exists", Outcome::Failed)).unwrap();
    assert!(lab.client(failed(4, "no", Outcome::Failed)).is_err());
}
