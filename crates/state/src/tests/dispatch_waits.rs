//! What a task that does not run waits for.

use polybolos_model::{ErrorClass, JobId, StageId, Term};

use super::dispatch::{attempt, id, task, with};
use crate::{Command, Dispatcher, Wait, policy::started, transcript::Lab};

const VERSION: [&str; 2] = ["replica 1 version=3", "raise 3"];

fn wait(lab: &Lab, d: &Dispatcher, stage: u32, partition: u32) -> Option<Wait> {
    let job = lab.state.job(task(1, 0, 0).job).unwrap();
    d.waits(&lab.state, job)?.of(StageId(stage), partition)
}

fn words(lab: &Lab, d: &Dispatcher, stage: u32, partition: u32, now_ms: u64) -> String {
    wait(lab, d, stage, partition).map(|wait| wait.words(now_ms)).unwrap_or_default()
}

/// Committed, and the leader heard of it.
fn fail(lab: &mut Lab, d: &mut Dispatcher, line: &str, counter: u64, class: ErrorClass, now_ms: u64) {
    let task = d.running(attempt(1, counter)).unwrap().task;
    lab.run(line);
    d.failed(&lab.state, task, attempt(1, counter), class, now_ms);
    d.ended(attempt(1, counter));
}

#[test]
fn jobs_that_run_are_told_to_the_log_once_it_knows_the_word() {
    let (mut lab, mut d) =
        with(&["register a slots=2", "submit 1 one", "submit 2 one", "submit 3 one"], &["a"]);
    assert_eq!(d.plan(&lab.state, 0).len(), 2);
    assert_eq!(started(&lab.state, &d), None, "version 1 does not know it");
    lab.run_all(&VERSION);
    let command = started(&lab.state, &d).unwrap();
    assert_eq!(command, Command::JobsStarted { jobs: vec![JobId(1), JobId(2)] });
    lab.run("started 1 2");
    assert_eq!(started(&lab.state, &d), None);
}

#[test]
fn a_task_that_runs_or_is_done_waits_for_nothing_and_others_for_inputs_or_slots() {
    let (mut lab, mut d) = with(&["register a slots=1", "submit 1 hash(2,1)"], &["a"]);
    assert_eq!(wait(&lab, &d, 0, 0), Some(Wait::Nothing));
    d.plan(&lab.state, 0);
    assert_eq!(wait(&lab, &d, 0, 0), None);
    assert_eq!(words(&lab, &d, 0, 1, 0), "no slot is free");
    assert_eq!(words(&lab, &d, 1, 0, 0), "reads stage 0, not complete");
    assert_eq!(wait(&lab, &d, 7, 0), None);
    lab.run("complete a 1/0/0 1");
    d.ended(attempt(1, 1));
    assert_eq!((wait(&lab, &d, 0, 0), words(&lab, &d, 0, 1, 0).as_str()), (None, "starts next"));
    lab.run("cancel 1 enough");
    assert_eq!(wait(&lab, &d, 0, 1), None, "its job has ended");
}

#[test]
fn a_task_that_failed_waits_until_it_is_tried_again_and_for_an_executor_where_it_has_not_failed() {
    let lines = ["register a slots=1", "register b slots=1", "submit 1 hash(2,1)"];
    let (mut lab, mut d) = with(&lines, &["a", "b"]);
    d.plan(&lab.state, 1_000);
    fail(&mut lab, &mut d, "fail a 1/0/0 1 retryable", 1, ErrorClass::Retryable, 1_000);
    assert_eq!(wait(&lab, &d, 0, 0), Some(Wait::Backoff { until_ms: 1_100 }));
    assert_eq!(words(&lab, &d, 0, 0, 1_030), "failed, and is tried again in 0.1 s");
    d.plan(&lab.state, 1_100);
    assert_eq!(words(&lab, &d, 0, 0, 1_100), "failed on a; no other executor has a free slot");
}

#[test]
fn a_task_may_wait_for_executors() {
    let (mut lab, mut d) = with(&["register a", "submit 1 one"], &[]);
    assert_eq!(words(&lab, &d, 0, 0, 0), "no executor takes tasks");
    d.await_executors(&lab.state);
    assert_eq!(words(&lab, &d, 0, 0, 0), "a new leader waits to hear what runs on a");
    lab.run("lose a");
    d = Dispatcher::new(Term(1));
    assert_eq!(wait(&lab, &d, 0, 0), Some(Wait::Executor));
}

#[test]
fn a_task_that_runs_alone_waits_until_one_is_empty() {
    let lines = [&VERSION[..], &["register a slots=2", "submit 1 hash(2,1)"]].concat();
    let (mut lab, mut d) = with(&lines, &["a"]);
    d.plan(&lab.state, 0);
    fail(&mut lab, &mut d, "fail a 1/0/0 1 resources", 1, ErrorClass::Resources, 0);
    d.plan(&lab.state, 5_000);
    assert_eq!(
        words(&lab, &d, 0, 0, 5_000),
        "needs an executor to itself, as it ran out of memory or another resource; a is being emptied"
    );
}

#[test]
fn executors_that_are_set_aside_or_kept_are_named() {
    let lines =
        [&VERSION[..], &["register a slots=3", "register b slots=1", "submit 1 hash(5,1) attempts=9"]];
    let (mut lab, mut d) = with(&lines.concat(), &["a", "b"]);
    d.plan(&lab.state, 0);
    let on_a: Vec<_> = (1..=4).filter(|n| d.running(attempt(1, *n)).unwrap().executor == id("a")).collect();
    assert_eq!(on_a.len(), 3);
    for counter in on_a {
        let partition = d.running(attempt(1, counter)).unwrap().task.partition;
        let line = format!("fail a 1/0/{partition} {counter} retryable");
        fail(&mut lab, &mut d, &line, counter, ErrorClass::Retryable, 0);
    }
    d.plan(&lab.state, 0);
    let waits = wait(&lab, &d, 0, 4).unwrap();
    assert_eq!(waits, Wait::Slot { set_aside: vec![(id("a"), 30_000)], kept: vec![] });
    assert_eq!(waits.words(10_000), "no slot is free; set aside, as tasks fail there: a for 20.0 s");
}
