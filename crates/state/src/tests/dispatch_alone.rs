//! Tasks that have an executor to themselves.

use super::dispatch::{attempt, id, task, with};
use crate::{Dispatcher, transcript::Lab};

/// At version 3.
pub(super) fn with_v3(lines: &[&str], attached: &[&str]) -> (Lab, Dispatcher) {
    let lines: Vec<&str> = ["replica 1 version=3", "raise 3"].iter().chain(lines).copied().collect();
    with(&lines, attached)
}

/// Executor and task of each launch, `!` for alone.
pub(super) fn plan(lab: &Lab, d: &mut Dispatcher, now_ms: u64) -> Vec<String> {
    let launches = d.plan(&lab.state, now_ms);
    let word = |launch: &crate::Launch| {
        let alone = if d.running(launch.attempt).unwrap().alone { "!" } else { "" };
        let task = launch.task;
        format!("{}:{}/{}/{}{alone}", launch.executor, task.job.0, task.stage, task.partition)
    };
    launches.iter().map(word).collect()
}

pub(super) fn complete(lab: &mut Lab, d: &mut Dispatcher, job: u64, partition: u32) {
    let (attempt, running) = d.attempt_of(task(job, 0, partition)).unwrap();
    let executor = running.executor.clone();
    lab.run(&format!("complete {executor} {job}/0/{partition} {attempt}"));
    d.ended(attempt);
}

#[test]
fn a_starved_task_waits_for_the_roomiest_executor_to_be_empty_and_has_it_for_itself() {
    let lines = [
        "register a memory=10000000",
        "register b memory=80000000",
        "register c memory=20000000",
        "submit 1 hash(9,1)",
    ];
    let (mut lab, mut d) = with_v3(&lines, &["a", "b", "c"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0", "b:1/0/1", "c:1/0/2", "a:1/0/3", "b:1/0/4", "c:1/0/5"],);
    lab.run("fail a 1/0/0 1 resources");
    d.ended(attempt(1, 1));
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/6"], "the others go on where nothing is reserved");
    assert!(d.is_kept_for_one(&id("b")));
    complete(&mut lab, &mut d, 1, 1);
    assert_eq!(plan(&lab, &mut d, 0), Vec::<String>::new(), "b is being emptied");
    complete(&mut lab, &mut d, 1, 4);
    assert_eq!(plan(&lab, &mut d, 0), ["b:1/0/0!"]);
    assert_eq!(plan(&lab, &mut d, 0), Vec::<String>::new());
    complete(&mut lab, &mut d, 1, 0);
    assert_eq!(plan(&lab, &mut d, 0), ["b:1/0/7", "b:1/0/8"]);
}

#[test]
fn others_have_their_turn_between_two_tasks_that_run_alone() {
    let (mut lab, mut d) = with_v3(&["register a", "submit 1 hash(2,1)", "submit 2 hash(9,1)"], &["a"]);
    plan(&lab, &mut d, 0);
    lab.run("fail a 1/0/0 1 resources; fail a 1/0/1 77 resources");
    d.ended(attempt(1, 1));
    assert_eq!(plan(&lab, &mut d, 0), Vec::<String>::new(), "it is being emptied");
    complete(&mut lab, &mut d, 2, 0);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0!"]);
    complete(&mut lab, &mut d, 1, 0);
    assert_eq!(plan(&lab, &mut d, 0), ["a:2/0/1", "a:2/0/2"]);
    complete(&mut lab, &mut d, 2, 1);
    assert_eq!(plan(&lab, &mut d, 0), Vec::<String>::new());
    complete(&mut lab, &mut d, 2, 2);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/1!"]);
}

#[test]
fn where_nothing_else_waits_many_run_alone_at_once() {
    let (mut lab, mut d) =
        with_v3(&["register a", "register b", "register c", "submit 1 hash(3,1)"], &["a", "b", "c"]);
    lab.run("fail a 1/0/0 91 resources; fail a 1/0/1 92 resources; fail a 1/0/2 93 resources");
    assert_eq!(plan(&lab, &mut d, 0), ["b:1/0/0!", "c:1/0/1!"], "not where they failed");
}

#[test]
fn a_suspect_runs_alone_and_its_executor_is_told_dead_once() {
    let lines = ["register a", "register b", "register c", "submit 1 one"];
    let (mut lab, mut d) = with_v3(&lines, &["a", "b", "c"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0"]);
    for (name, next) in [("a", "b:1/0/0"), ("b", "c:1/0/0!")] {
        let lose = lab.parse(&format!("lose {name}"));
        let mut commands = d.deaths(&lab.state, std::slice::from_ref(&lose));
        assert_eq!(commands.len(), 1);
        commands.push(lose);
        lab.apply(commands);
        d.executor_gone(&id(name));
        assert_eq!(plan(&lab, &mut d, 0), [next]);
    }
}

#[test]
fn what_a_leader_knows_of_deaths() {
    let lines = ["register a process=1", "register b process=1", "submit 1 hash(3,1)"];
    let (mut lab, mut d) = with_v3(&lines, &["a", "b"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0", "b:1/0/1", "a:1/0/2"]);
    let deaths = |lab: &Lab, line: &str| d.deaths(&lab.state, &[lab.parse(line)]).len();
    assert_eq!(deaths(&lab, "register a process=1"), 0, "the stream broke, the process lives");
    assert_eq!(deaths(&lab, "register a process=2"), 1, "it was started again");
    assert_eq!(deaths(&lab, "register a process=2 address=elsewhere:1"), 0, "refused: the id is in use");
    assert_eq!(deaths(&lab, "register c process=2"), 0);
    assert_eq!(deaths(&lab, "lose a#99"), 0);
    assert_eq!(deaths(&lab, "lose b"), 1);
    lab.run("drain b; suspect a");
    assert_eq!(deaths(&lab, "lose b"), 0, "it was asked to leave");
    assert_eq!(deaths(&lab, "register a process=2 address=elsewhere:1"), 1);
    let (lab, d) = with(&["register a", "submit 1 one"], &["a"]);
    assert_eq!(d.deaths(&lab.state, &[lab.parse("lose a")]), [], "not before version 3");
}

#[test]
fn an_adopted_attempt_of_such_a_task_keeps_others_away() {
    let (mut lab, _) = with_v3(&["register a", "register b", "submit 1 hash(2,1)"], &[]);
    lab.run("fail b 1/0/0 91 resources");
    let mut d = Dispatcher::new(polybolos_model::Term(2));
    let (a, b) = (
        lab.state.executor(&id("a")).unwrap().incarnation,
        lab.state.executor(&id("b")).unwrap().incarnation,
    );
    d.attach(&lab.state, &id("a"), a, &[super::dispatch::reported(1, 0, 0, 5)]);
    assert_eq!(plan(&lab, &mut d, 0), Vec::<String>::new());
    d.attach(&lab.state, &id("b"), b, &[]);
    assert_eq!(plan(&lab, &mut d, 0), ["b:1/0/1"]);
}
