//! Who runs what, and where.

use expect_test::{Expect, expect};
use polybolos_model::{AttemptId, ExecutorId, JobId, StageId, TaskId, Term};

use crate::{Dispatcher, Launch, Reported, transcript::Lab};

pub(super) fn id(name: &str) -> ExecutorId {
    ExecutorId::new(name).unwrap()
}

pub(super) fn task(job: u64, stage: u32, partition: u32) -> TaskId {
    TaskId { job: JobId(job), stage: StageId(stage), partition }
}

pub(super) fn attempt(term: u64, counter: u64) -> AttemptId {
    AttemptId { term: Term(term), counter }
}

/// By an executor, of an attempt of term 1.
pub(super) fn reported(job: u64, stage: u32, partition: u32, counter: u64) -> Reported {
    Reported { task: task(job, stage, partition), attempt: attempt(1, counter), epoch: Some(0) }
}

fn attach(lab: &Lab, dispatcher: &mut Dispatcher, name: &str) {
    let incarnation = lab.state.executor(&id(name)).unwrap().incarnation;
    assert!(dispatcher.attach(&lab.state, &id(name), incarnation, &[]).cancel.is_empty());
}

/// Registered and attached.
pub(super) fn with(lines: &[&str], attached: &[&str]) -> (Lab, Dispatcher) {
    let mut lab = Lab::new();
    lab.run_all(lines);
    let mut dispatcher = Dispatcher::new(Term(1));
    for name in attached {
        attach(&lab, &mut dispatcher, name);
    }
    (lab, dispatcher)
}

fn words(launches: &[Launch]) -> String {
    let word = |launch: &Launch| {
        let (executor, task, epoch) = (&launch.executor, launch.task, launch.epoch);
        format!(
            "{} {}/{}/{} on {executor}#{} epoch {epoch}\n",
            launch.attempt, task.job.0, task.stage, task.partition, launch.incarnation
        )
    };
    launches.iter().map(word).collect()
}

fn check(lab: &Lab, dispatcher: &mut Dispatcher, expect: Expect) {
    expect.assert_eq(&words(&dispatcher.plan(&lab.state, 0)));
}

#[test]
fn tasks_spread_over_executors_and_slots_are_kept() {
    let (lab, mut d) = with(&["register a", "register b slots=1", "submit 1 hash(5,1)"], &["a", "b"]);
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.1 1/0/0 on a#1 epoch 0
        1.2 1/0/1 on b#2 epoch 0
        1.3 1/0/2 on a#1 epoch 0
    "#]],
    );
    assert_eq!(d.plan(&lab.state, 0), []);
    d.ended(attempt(1, 2)).unwrap();
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.4 1/0/1 on b#2 epoch 0
    "#]],
    );
}

#[test]
fn jobs_take_turns() {
    let lines = ["register a slots=5", "submit 1 hash(9,1)", "submit 2 hash(9,1)", "submit 3 one"];
    let (lab, mut d) = with(&lines, &["a"]);
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.1 1/0/0 on a#1 epoch 0
        1.2 2/0/0 on a#1 epoch 0
        1.3 3/0/0 on a#1 epoch 0
        1.4 1/0/1 on a#1 epoch 0
        1.5 2/0/1 on a#1 epoch 0
    "#]],
    );
    d.ended(attempt(1, 1));
    d.ended(attempt(1, 4));
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.6 1/0/0 on a#1 epoch 0
        1.7 1/0/1 on a#1 epoch 0
    "#]],
    );
}

#[test]
fn a_stage_waits_for_all_of_its_inputs() {
    let (mut lab, mut d) = with(&["register a", "submit 1 join(1,1,1)"], &["a"]);
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.1 1/0/0 on a#1 epoch 0
        1.2 1/1/0 on a#1 epoch 0
    "#]],
    );
    lab.run("complete a 1/0/0 1");
    d.ended(attempt(1, 1));
    assert_eq!(d.plan(&lab.state, 0), []);
    lab.run("complete a 1/1/0 2");
    d.ended(attempt(1, 2));
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.3 1/2/0 on a#1 epoch 0
    "#]],
    );
}

#[test]
fn among_equals_a_task_goes_to_most_of_its_input() {
    let lines = ["register a", "register b", "register c", "submit 1 hash(3,1)"];
    let (mut lab, mut d) = with(&lines, &["a", "b", "c"]);
    lab.run_all(&[
        "complete a 1/0/0 1 bytes=10",
        "complete c 1/0/1 2 bytes=15",
        "complete b 1/0/2 3 bytes=12",
    ]);
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.1 1/1/0 on c#3 epoch 0
    "#]],
    );
}

#[test]
fn a_failed_task_goes_elsewhere_or_waits_for_elsewhere() {
    let (mut lab, mut d) =
        with(&["register a", "register b slots=1", "submit 1 one", "submit 2 one"], &["a", "b"]);
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.1 1/0/0 on a#1 epoch 0
        1.2 2/0/0 on a#1 epoch 0
    "#]],
    );
    lab.run("fail a 1/0/0 1 retryable");
    d.ended(attempt(1, 1));
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.3 1/0/0 on b#2 epoch 0
    "#]],
    );
    lab.run("complete b 2/0/0 2");
    d.ended(attempt(1, 2));
    assert_eq!(d.plan(&lab.state, 0), []);
    lab.run("fail b 1/0/0 3 retryable");
    d.ended(attempt(1, 3));
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.4 1/0/0 on a#1 epoch 0
    "#]],
    );
}

#[test]
fn a_reader_that_could_not_read_its_input_goes_elsewhere_if_it_can() {
    let lines = [
        "register a slots=4",
        "register b slots=1",
        "submit 1 hash(1,1)",
        "complete b 1/0/0 11",
        "fail a 1/1/0 12 retryable lost=b/0/0/11",
        "complete b 1/0/0 13",
    ];
    let (lab, mut d) = with(&lines, &["a", "b"]);
    // It would be `a`, which has more free slots.
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.1 1/1/0 on b#2 epoch 1
    "#]],
    );
    d.executor_gone(&id("b"));
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.2 1/1/0 on a#1 epoch 1
    "#]],
    );
}

#[test]
fn draining_suspected_lost_and_detached_executors_get_nothing() {
    let lines = [
        "register a",
        "register b",
        "register c",
        "register d",
        "submit 1 hash(9,1)",
        "drain a",
        "suspect b",
    ];
    let (mut lab, mut d) = with(&lines, &["a", "b", "c"]);
    lab.run("lose c");
    assert_eq!(d.plan(&lab.state, 0), []);
    attach(&lab, &mut d, "d");
    d.detach(&id("d"));
    assert_eq!(d.plan(&lab.state, 0), []);
    lab.run("beat b");
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.1 1/0/0 on b#2 epoch 0
        1.2 1/0/1 on b#2 epoch 0
    "#]],
    );
}

#[test]
fn a_lost_executors_tasks_are_launched_again() {
    let (mut lab, mut d) = with(&["register a", "register b", "submit 1 hash(4,1)"], &["a", "b"]);
    assert_eq!(d.plan(&lab.state, 0).len(), 4);
    lab.run("complete a 1/0/0 1");
    d.ended(attempt(1, 1));
    lab.run("lose a");
    assert_eq!(d.executor_gone(&id("a")), [attempt(1, 3)]);
    assert_eq!(d.busy_slots(&id("b")), 2);
    d.ended(attempt(1, 2));
    d.ended(attempt(1, 4));
    lab.run("complete b 1/0/1 2; complete b 1/0/3 4");
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.5 1/0/0 on b#2 epoch 0
        1.6 1/0/2 on b#2 epoch 0
    "#]],
    );
}

#[test]
fn what_a_new_life_did_not_start_is_forgotten() {
    let (mut lab, mut d) = with(&["register a", "submit 1 hash(2,1)"], &["a"]);
    assert_eq!(d.plan(&lab.state, 0).len(), 2);
    lab.run("register a process=2");
    assert_eq!(d.plan(&lab.state, 0), []);
    attach(&lab, &mut d, "a");
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.3 1/0/0 on a#2 epoch 0
        1.4 1/0/1 on a#2 epoch 0
    "#]],
    );
}

#[test]
fn a_new_leader_waits_and_adopts() {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "register b", "submit 1 hash(4,1)", "submit 2 one", "cancel 2 x"]);
    lab.run("complete a 1/0/3 9");
    let mut d = Dispatcher::new(Term(2));
    d.await_executors(&lab.state);
    let a = lab.state.executor(&id("a")).unwrap().incarnation;
    let b = lab.state.executor(&id("b")).unwrap().incarnation;
    let told = [reported(1, 0, 0, 5), reported(2, 0, 0, 6), reported(1, 0, 3, 8)];
    let adoption = d.attach(&lab.state, &id("a"), a, &told);
    assert_eq!(adoption.adopted, [attempt(1, 5)]);
    assert_eq!(adoption.cancel, [attempt(1, 6), attempt(1, 8)]);
    assert_eq!(d.plan(&lab.state, 0), []);
    let again = d.attach(&lab.state, &id("b"), b, &[reported(1, 0, 0, 7)]);
    assert_eq!(again.adopted, [attempt(1, 7)], "it runs on a, too: one of them is a copy");
    check(
        &lab,
        &mut d,
        expect![[r#"
            2.1 1/0/1 on a#1 epoch 0
            2.2 1/0/2 on b#2 epoch 0
        "#]],
    );
    assert_eq!(d.attempt_of(task(1, 0, 0)).unwrap().0, attempt(1, 5));
    assert_eq!(d.running_of(JobId(1)).count(), 3);
}

#[test]
fn a_wait_ends_by_loss_or_by_will() {
    let (mut lab, mut d) = with(&["register a", "register b", "submit 1 one"], &["a"]);
    d.await_executors(&lab.state);
    assert_eq!(d.plan(&lab.state, 0), []);
    lab.run("lose b");
    assert_eq!(d.plan(&lab.state, 0).len(), 1);
    let (lab, mut d) = with(&["register a", "register b", "submit 1 one"], &["a"]);
    d.await_executors(&lab.state);
    d.stop_waiting();
    assert_eq!(d.plan(&lab.state, 0).len(), 1);
}

#[test]
fn a_reconnect_keeps_what_still_runs_and_launches_the_rest_again() {
    let (lab, mut d) = with(&["register a", "submit 1 hash(2,1)"], &["a"]);
    let launches = d.plan(&lab.state, 0);
    d.detach(&id("a"));
    assert_eq!(d.busy_slots(&id("a")), 2);
    let Launch { task, attempt, epoch, .. } = launches[1].clone();
    let kept = Reported { task, attempt, epoch: Some(epoch) };
    let incarnation = launches[0].incarnation;
    assert_eq!(d.attach(&lab.state, &id("a"), incarnation, &[kept]).adopted, [kept.attempt]);
    check(
        &lab,
        &mut d,
        expect![[r#"
        1.3 1/0/0 on a#1 epoch 0
    "#]],
    );
}

#[test]
fn what_nobody_needs_is_cancelled_once() {
    let (mut lab, mut d) =
        with(&["register a", "register b", "submit 1 hash(2,1)", "submit 2 one"], &["a", "b"]);
    assert_eq!(d.plan(&lab.state, 0).len(), 3);
    assert_eq!(d.cancel_targets(&lab.state), []);
    lab.run_all(&["cancel 2 x", "complete b 1/0/0 77"]);
    let targets: Vec<String> =
        d.cancel_targets(&lab.state).iter().map(|t| format!("{} on {}", t.attempt, t.executor)).collect();
    expect![[r#"
        1.1 on a
        1.2 on b"#]]
    .assert_eq(&targets.join("\n"));
    assert_eq!(d.cancel_targets(&lab.state), []);
    assert_eq!(d.busy_slots(&id("a")) + d.busy_slots(&id("b")), 1);
}

#[test]
fn thousands_of_waiting_jobs_cost_little() {
    let mut lab = Lab::new();
    lab.run_all(&["register a slots=4"]);
    for job in 0..5_000 {
        let command = lab.parse(&format!("submit {job} hash(4,1)"));
        lab.state.apply(&crate::Entry::new(1, Term(1), 1, vec![command]));
    }
    let mut d = Dispatcher::new(Term(1));
    attach(&lab, &mut d, "a");
    let jobs: Vec<u64> = d.plan(&lab.state, 0).iter().map(|launch| launch.task.job.0).collect();
    assert_eq!(jobs, [0, 1, 2, 3]);
}
