//! Failures spread over time and place: tasks wait before they are tried again, bad executors are set aside.

use polybolos_model::{ErrorClass, TaskId};

use super::dispatch::{attempt, id, task, with};
use crate::{Dispatcher, transcript::Lab};

const CLASS: ErrorClass = ErrorClass::Retryable;

/// The running attempt of the task fails, and its leader hears of it.
fn fail(lab: &mut Lab, d: &mut Dispatcher, task: TaskId, class: ErrorClass, now_ms: u64) {
    let (attempt, running) = d.attempt_of(task).unwrap();
    let (executor, name) = (running.executor.clone(), class_name(class));
    let at = format!("{}/{}/{}", task.job.0, task.stage, task.partition);
    lab.run(&format!("fail {executor} {at} {attempt} {name}"));
    d.failed(&lab.state, task, attempt, class, now_ms);
    d.ended(attempt);
}

fn class_name(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::User => "user",
        ErrorClass::Retryable => "retryable",
        ErrorClass::Resources => "resources",
        ErrorClass::Internal => "internal",
    }
}

/// Where the task runs after this plan, if it does.
fn place(lab: &Lab, d: &mut Dispatcher, task: TaskId, now_ms: u64) -> Option<String> {
    d.plan(&lab.state, now_ms);
    d.attempt_of(task).map(|(_, running)| running.executor.to_string())
}

#[test]
fn a_task_waits_twice_as_long_after_each_failure_of_its_own() {
    let lines = ["replica 1 version=3", "raise 3", "register a", "submit 1 one attempts=10"];
    let (mut lab, mut d) = with(&lines, &["a"]);
    let mut now_ms = 1_000;
    for wait_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        assert_eq!(d.plan(&lab.state, now_ms).len(), 1, "{wait_ms}: {}", lab.run("show job 1"));
        assert_eq!(d.wakes_at(), None);
        fail(&mut lab, &mut d, task(1, 0, 0), CLASS, now_ms);
        assert_eq!(d.plan(&lab.state, now_ms), []);
        assert_eq!(d.wakes_at(), Some(now_ms + wait_ms));
        assert_eq!(d.plan(&lab.state, now_ms + wait_ms - 1), []);
        now_ms += wait_ms;
    }
}

#[test]
fn others_go_on_while_a_task_waits() {
    let (mut lab, mut d) = with(&["register a slots=1", "submit 1 hash(2,1)"], &["a"]);
    d.plan(&lab.state, 0);
    fail(&mut lab, &mut d, task(1, 0, 0), CLASS, 10);
    assert_eq!(place(&lab, &mut d, task(1, 0, 1), 10).as_deref(), Some("a"));
}

#[test]
fn lost_executors_and_lost_inputs_wait_for_nothing() {
    let (mut lab, mut d) = with(&["register a", "register b", "submit 1 hash(1,2)"], &["a", "b"]);
    d.plan(&lab.state, 0);
    lab.run("lose a");
    d.executor_gone(&id("a"));
    assert_eq!(place(&lab, &mut d, task(1, 0, 0), 1).as_deref(), Some("b"));
    lab.run("complete b 1/0/0 2");
    d.ended(attempt(1, 2));
    d.plan(&lab.state, 2);
    let (reader, _) = d.attempt_of(task(1, 1, 0)).unwrap();
    lab.run(&format!("fail b 1/1/0 {reader} retryable lost=b/0/0/2"));
    d.failed(&lab.state, task(1, 1, 0), reader, CLASS, 3);
    d.ended(reader);
    assert_eq!(place(&lab, &mut d, task(1, 0, 0), 3).as_deref(), Some("b"), "what was lost is made again");
    assert_eq!(d.wakes_at(), None);
}

/// Three executors; so many different tasks fail on each of the first two, which ends with one more on `a`.
fn bad(on_a: u64, on_b: u64) -> (Lab, Dispatcher) {
    let lines = ["register a slots=9", "register b slots=9", "register c slots=9"];
    let (mut lab, mut d) = with(&lines, &["a", "b", "c"]);
    let mut job = 0;
    for (name, count) in [("b", on_b), ("a", on_a)] {
        for _ in 0..count {
            job += 1;
            lab.run(&format!("submit {job} one"));
            lab.run(&format!("fail {name} {job}/0/0 {job} retryable"));
            d.failed(&lab.state, task(job, 0, 0), attempt(1, job), CLASS, 1_000 * job);
        }
    }
    (lab, d)
}

#[test]
fn an_executor_on_which_three_tasks_failed_is_set_aside_for_a_while() {
    let (mut lab, mut d) = bad(2, 0);
    lab.run("submit 50 hash(20,1)");
    d.plan(&lab.state, 60_000);
    assert_eq!(d.busy_slots(&id("a")), 7, "two are not enough");
    let (mut lab, mut d) = bad(3, 0);
    lab.run("submit 50 hash(20,1)");
    let until = 3_000 + 30_000;
    d.plan(&lab.state, 4_000);
    assert_eq!((d.busy_slots(&id("a")), d.busy_slots(&id("b"))), (0, 9));
    assert!(d.is_set_aside(&id("a"), lab.state.executor(&id("a")).unwrap().incarnation));
    assert_eq!(d.wakes_at(), Some(until));
    d.plan(&lab.state, until);
    assert!(d.busy_slots(&id("a")) > 0);
}

#[test]
fn failures_long_ago_or_of_one_task_or_of_everywhere_set_nobody_aside() {
    let (mut lab, mut d) = with(&["register a slots=9", "register b slots=9"], &["a", "b"]);
    for job in 1..=9 {
        lab.run(&format!("submit {job} one attempts=9"));
    }
    for (attempt_number, job) in [(1, 1), (2, 1), (3, 1)] {
        lab.run(&format!("fail a {job}/0/0 {attempt_number} retryable"));
        d.failed(&lab.state, task(job, 0, 0), attempt(1, attempt_number), CLASS, 0);
    }
    d.plan(&lab.state, 10);
    assert!(!d.is_set_aside(&id("a"), polybolos_model::Incarnation(1)), "one task only");
    for (at_ms, job) in [(100_000, 2), (161_000, 3), (221_500, 4)] {
        lab.run(&format!("fail a {job}/0/0 {job}0 retryable"));
        d.failed(&lab.state, task(job, 0, 0), attempt(1, job * 10), CLASS, at_ms);
        d.plan(&lab.state, at_ms);
        assert!(!d.is_set_aside(&id("a"), polybolos_model::Incarnation(1)), "a minute apart");
    }
}

#[test]
fn the_only_executor_is_never_set_aside_and_neither_are_all() {
    let (mut lab, mut d) = bad(3, 0);
    lab.run_all(&["lose b", "lose c", "submit 50 one"]);
    d.executor_gone(&id("b"));
    d.executor_gone(&id("c"));
    assert_eq!(place(&lab, &mut d, task(50, 0, 0), 5_000).as_deref(), Some("a"));
}

#[test]
fn a_new_process_starts_with_a_clean_slate() {
    let (mut lab, mut d) = bad(3, 0);
    lab.run("register a slots=9 process=2");
    let incarnation = lab.state.executor(&id("a")).unwrap().incarnation;
    d.attach(&lab.state, &id("a"), incarnation, &[]);
    d.plan(&lab.state, 5_000);
    assert!(!d.is_set_aside(&id("a"), incarnation));
}
