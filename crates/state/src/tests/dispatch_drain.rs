//! Executors that drain: where their outputs go, when their tasks move, and when they are let go.

use super::dispatch::{attempt, id, task, with};
use crate::{
    Command, Dispatcher, DrainSteps,
    dispatch::{
        drain::COPY_TIME_MS,
        moves::{MAX_PULLS_TO, PULL_AGAIN_MS, PULL_DEADLINE_MS},
    },
    limits::HANDOVER_GRACE_MS,
    transcript::Lab,
};

const VERSION_3: [&str; 2] = ["replica 1 version=3", "raise 3"];

/// Executors, all of them attached.
fn fleet(names: &[&str], lines: &[&str]) -> (Lab, Dispatcher) {
    let register: Vec<String> = names.iter().map(|name| format!("register {name}")).collect();
    let lines: Vec<&str> = VERSION_3
        .iter()
        .copied()
        .chain(register.iter().map(String::as_str))
        .chain(lines.iter().copied())
        .collect();
    with(&lines, names)
}

fn words(steps: &DrainSteps) -> String {
    let mut words: Vec<String> = steps
        .pulls
        .iter()
        .map(|pull| format!("{} pulls {} from {}", pull.executor, pull.attempt, pull.from))
        .collect();
    words.extend(steps.cancel.iter().map(|target| format!("{} stops {}", target.executor, target.attempt)));
    let leave = steps.leave.iter().map(|command| match command {
        Command::ExecutorLeft { executor, reason, .. } => format!("{executor} leaves: {reason}"),
        other => panic!("{other:?}"),
    });
    words.extend(leave);
    words.join("; ")
}

/// What is to be done at this time of the cluster.
fn at(lab: &Lab, d: &mut Dispatcher, now_ms: u64) -> String {
    words(&d.drain(&lab.state, now_ms))
}

#[test]
fn outputs_go_to_who_holds_least_and_then_the_executor_leaves() {
    let lines = ["submit 1 hash(3,1)", "complete a 1/0/0 1 epoch=0", "complete a 1/0/1 2 epoch=0"];
    let (mut lab, mut d) = fleet(&["a", "b", "c"], &lines);
    lab.run("beat b");
    assert_eq!(at(&lab, &mut d, 1_000), "", "nobody drains");
    lab.run("drain a 60000");
    assert_eq!(at(&lab, &mut d, 1_000), "c pulls 1.1 from a; b pulls 1.2 from a");
    assert_eq!(at(&lab, &mut d, 1_000), "", "both are on their way");
    lab.run("moved c 1/0/0 1 a");
    d.pull_ended(attempt(1, 1));
    d.pull_failed(attempt(1, 2), &id("c"), 1_100);
    assert_eq!(at(&lab, &mut d, 1_100), "", "c did not fetch it");
    d.pull_failed(attempt(1, 2), &id("b"), 1_200);
    assert_eq!(at(&lab, &mut d, 1_200), "c pulls 1.2 from a");
    lab.run("moved c 1/0/1 2 a");
    d.pull_ended(attempt(1, 2));
    assert_eq!(at(&lab, &mut d, 1_300), "a leaves: it was drained");
    lab.run("left a");
    assert_eq!(at(&lab, &mut d, 1_300), "");
}

#[test]
fn a_pull_that_does_not_come_back_is_ordered_again() {
    let lines = ["submit 1 hash(1,1)", "complete a 1/0/0 1 epoch=0", "drain a 600000"];
    let (mut lab, mut d) = fleet(&["a", "b"], &lines);
    assert_eq!(at(&lab, &mut d, 1_000), "b pulls 1.1 from a");
    d.pull_failed(attempt(1, 1), &id("b"), 1_000);
    assert_eq!(at(&lab, &mut d, 1_000 + PULL_AGAIN_MS - 1), "");
    let again = 1_000 + PULL_AGAIN_MS;
    assert_eq!(at(&lab, &mut d, again), "b pulls 1.1 from a");
    assert_eq!(at(&lab, &mut d, again + PULL_DEADLINE_MS), "");
    assert_eq!(at(&lab, &mut d, again + PULL_DEADLINE_MS + PULL_AGAIN_MS), "b pulls 1.1 from a");
    // One that died fetches nothing any more.
    lab.run_all(&["lose b", "register b process=2"]);
    d.executor_gone(&id("b"));
    let incarnation = lab.state.executor(&id("b")).unwrap().incarnation;
    d.attach(&lab.state, &id("b"), incarnation, &[]);
    assert_eq!(at(&lab, &mut d, again + PULL_DEADLINE_MS + PULL_AGAIN_MS), "b pulls 1.1 from a");
}

#[test]
fn few_outputs_are_under_way_at_once() {
    let (mut lab, mut d) = fleet(&["a", "b"], &["submit 1 hash(9,1)"]);
    (0..9).for_each(|n| drop(lab.run(&format!("complete a 1/0/{n} {} epoch=0", n + 1))));
    lab.run("drain a 60000");
    assert_eq!(d.drain(&lab.state, 1_000).pulls.len(), MAX_PULLS_TO);
    lab.run("moved b 1/0/0 1 a");
    d.pull_ended(attempt(1, 1));
    assert_eq!(at(&lab, &mut d, 1_000), "b pulls 1.5 from a");
}

#[test]
fn tasks_run_to_their_end_until_the_deadline_and_then_elsewhere() {
    let (mut lab, mut d) = fleet(&["a", "b"], &["submit 1 hash(1,1)"]);
    d.plan(&lab.state, 0);
    assert_eq!(d.attempt_of(task(1, 0, 0)).unwrap().1.executor, id("a"));
    lab.run("drain a 5000");
    assert_eq!(at(&lab, &mut d, 5_999), "");
    assert_eq!(
        at(&lab, &mut d, 6_000),
        "a stops 1.1; a leaves: the time of its drain was over, and 0 outputs were not handed over"
    );
    let launches = d.plan(&lab.state, 6_000);
    assert_eq!((launches.len(), &launches[0].executor), (1, &id("b")));
    assert_eq!(
        lab.state
            .job(polybolos_model::JobId(1))
            .unwrap()
            .task(polybolos_model::StageId(0), 0)
            .unwrap()
            .failures,
        0
    );
    // Its end came after all, before it was stopped: then nothing runs there any more.
    lab.run("complete a 1/0/0 1 epoch=0");
    d.ended(attempt(1, 1));
    assert_eq!(at(&lab, &mut d, 6_000), "b pulls 1.1 from a");
    assert_eq!(at(&lab, &mut d, 6_000 + HANDOVER_GRACE_MS - 1), "");
    let over = "a leaves: the time of its drain was over, and 1 outputs were not handed over";
    assert_eq!(at(&lab, &mut d, 6_000 + HANDOVER_GRACE_MS), over);
}

#[test]
fn the_last_executor_waits_for_another_and_goes_at_its_deadline() {
    let lines = ["submit 1 hash(1,1)", "complete a 1/0/0 1 epoch=0", "drain a 5000", "drain b 5000"];
    let (mut lab, mut d) = fleet(&["a", "b"], &lines);
    assert_eq!(at(&lab, &mut d, 1_000), "b leaves: it was drained");
    lab.run("left b");
    assert_eq!(at(&lab, &mut d, 5_999), "");
    assert_eq!(
        at(&lab, &mut d.clone(), 6_000),
        "a leaves: the time of its drain was over, and 1 outputs were not handed over"
    );
    lab.run("register c");
    let incarnation = lab.state.executor(&id("c")).unwrap().incarnation;
    d.attach(&lab.state, &id("c"), incarnation, &[]);
    assert_eq!(at(&lab, &mut d, 5_999), "c pulls 1.1 from a");
}

#[test]
fn outputs_that_are_copied_to_the_durable_store_get_time_for_it() {
    let lines =
        ["register a store=s3://b", "submit 1 hash(1,1)", "complete a 1/0/0 1 epoch=0", "drain a 60000"];
    let (mut lab, mut d) = fleet(&["a", "b"], &lines);
    assert_eq!(at(&lab, &mut d, 1_000 + COPY_TIME_MS - 1), "");
    assert_eq!(at(&lab, &mut d.clone(), 1_000 + COPY_TIME_MS), "b pulls 1.1 from a");
    lab.run("durable a 1/0/0 1");
    assert_eq!(at(&lab, &mut d, 1_000), "a leaves: it was drained");
}

#[test]
fn a_new_leader_goes_on_with_a_drain_once_it_knows_what_runs() {
    let lines = ["submit 1 hash(2,1)", "complete a 1/0/0 1 epoch=0", "drain a 60000"];
    let (lab, _) = fleet(&["a", "b"], &lines);
    let mut d = Dispatcher::new(polybolos_model::Term(2));
    d.await_executors(&lab.state);
    let incarnation = |name: &str| lab.state.executor(&id(name)).unwrap().incarnation;
    let runs = super::dispatch::reported(1, 0, 1, 9);
    d.attach(&lab.state, &id("a"), incarnation("a"), &[runs]);
    assert_eq!(at(&lab, &mut d, 1_000), "", "b has not told yet");
    d.attach(&lab.state, &id("b"), incarnation("b"), &[]);
    assert_eq!(at(&lab, &mut d, 1_000), "b pulls 1.1 from a");
    d.detach(&id("a"));
    assert_eq!(at(&lab, &mut d, 99_000), "", "a comes back or is lost");
}
