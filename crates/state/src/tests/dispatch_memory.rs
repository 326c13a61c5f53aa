//! Tasks start where their estimates fit.

use polybolos_model::{JobId, TaskId, Term};
use proptest::prelude::*;

use super::{
    dispatch::{id, reported, task, with},
    dispatch_alone::plan,
};
use crate::{Dispatcher, Wait, transcript::Lab};

const MIB: u64 = 1 << 20;

/// In MiB.
fn register(name: &str, slots: u32, memory: u64) -> String {
    format!("register {name} slots={slots} memory={}", memory * MIB)
}

/// Nothing runs yet; the upstream stages of these jobs are done, as `lines` say.
fn cluster(executors: &[String], lines: &[&str]) -> (Lab, Dispatcher) {
    let all: Vec<&str> = executors.iter().map(String::as_str).chain(lines.iter().copied()).collect();
    let names: Vec<&str> = executors.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    with(&all, &names)
}

/// A job of so many tasks that join with what each reads whole: 4 MiB, and so needs 7 MiB.
fn broadcast(job: u64, tasks: u32) -> [String; 2] {
    let bytes = 4 * MIB;
    [
        format!("submit {job} broadcast(1,{tasks})"),
        format!("complete a {job}/0/0 {} bytes={bytes}", 900 + job),
    ]
}

fn complete(lab: &mut Lab, d: &mut Dispatcher, task: TaskId, rest: &str) {
    let (attempt, running) = d.attempt_of(task).unwrap();
    let (executor, TaskId { job, stage, partition }) = (running.executor.clone(), task);
    lab.run(&format!("complete {executor} {}/{stage}/{partition} {attempt} {rest}", job.0));
    d.ended(attempt);
}

/// As estimated: 6 MiB of 7, the rest streams.
fn used(mib: u64) -> String {
    format!("used={}", mib * MIB)
}

fn needs(d: &Dispatcher, task: TaskId) -> u64 {
    d.attempt_of(task).unwrap().1.needs_bytes
}

fn words(lab: &Lab, d: &Dispatcher, task: TaskId) -> String {
    let waits = d.waits(&lab.state, lab.state.job(task.job).unwrap()).unwrap();
    waits.of(task.stage, task.partition).map(|wait| wait.words(0)).unwrap_or_default()
}

#[test]
fn joins_hold_broadcast_inputs_and_all_but_the_largest_of_the_others() {
    let sizes = |stage: u32, at: u32, mib: u64| {
        format!("complete a 1/{stage}/{at} {} bytes={}", 90 + 10 * stage + at, mib * MIB)
    };
    for (shape, completed, last, expected) in [
        ("broadcast(2,2,2)", vec![(0, 0, 2), (0, 1, 2), (1, 0, 5), (1, 1, 5)], 2, 7),
        ("join(1,1,1)", vec![(0, 0, 8), (1, 0, 4)], 2, 7),
        ("join(2,1,1)", vec![(0, 0, 4), (0, 1, 4), (1, 0, 20)], 2, 13),
        ("join(1,1,1,1)", vec![(0, 0, 2), (1, 0, 8), (2, 0, 2)], 3, 7),
        ("hash(1,1)", vec![(0, 0, 50)], 1, 1),
    ] {
        let (mut lab, mut d) = cluster(&[register("a", 9, 0)], &[&format!("submit 1 {shape}")]);
        for (stage, at, mib) in completed {
            lab.run(&sizes(stage, at, mib));
        }
        d.plan(&lab.state, 0);
        assert_eq!(needs(&d, task(1, last, 0)), expected * MIB, "{shape}");
    }
    let (lab, mut d) = cluster(&[register("a", 9, 0)], &["submit 1 one"]);
    d.plan(&lab.state, 0);
    assert_eq!(needs(&d, task(1, 0, 0)), MIB, "a source");
}

#[test]
fn estimates_are_corrected_by_what_tasks_of_the_stage_used() {
    for (rest, expected) in [(used(6), 7), (used(1), 2), (used(9), 10), ("spilled=5".to_owned(), 7)] {
        let [submit, build] = broadcast(1, 4);
        let (mut lab, mut d) = cluster(&[register("a", 4, 12)], &[&submit, &build]);
        assert_eq!(plan(&lab, &mut d, 0), ["a:1/1/0"]);
        complete(&mut lab, &mut d, task(1, 1, 0), &rest);
        let launched = plan(&lab, &mut d, 0);
        assert_eq!(launched.len(), if expected == 2 { 3 } else { 1 }, "{rest}: {launched:?}");
        assert_eq!(needs(&d, task(1, 1, 1)), expected * MIB, "{rest}");
    }
}

#[test]
fn a_task_that_does_not_fit_goes_elsewhere_or_waits_and_others_pass_it() {
    let [submit, build] = broadcast(1, 3);
    let executors = [register("a", 4, 10), register("b", 4, 10)];
    let (mut lab, mut d) = cluster(&executors, &[&submit, &build, "submit 2 one"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/1/0", "b:2/0/0", "b:1/1/1"]);
    let waits = "waits for memory: needs about 7.0 MiB, a has 3.0 MiB free";
    assert_eq!(words(&lab, &d, task(1, 1, 2)), waits);
    lab.run("submit 3 hash(2,1)");
    assert_eq!(plan(&lab, &mut d, 0), ["a:3/0/0", "b:3/0/1"]);
    complete(&mut lab, &mut d, task(1, 1, 0), &used(6));
    assert_eq!(words(&lab, &d, task(1, 1, 2)), "starts next");
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/1/2"]);
}

#[test]
fn an_idle_executor_takes_what_fits_nowhere_the_roomiest_first_and_one_without_a_limit_everything() {
    let [submit, build] = broadcast(1, 3);
    let executors = [register("a", 2, 2), register("b", 2, 4)];
    let (mut lab, mut d) = cluster(&executors, &[&submit, &build]);
    assert_eq!(plan(&lab, &mut d, 0), ["b:1/1/0", "a:1/1/1"]);
    assert_eq!(plan(&lab, &mut d, 0), Vec::<String>::new());
    complete(&mut lab, &mut d, task(1, 1, 1), &used(6));
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/1/2"]);
    let (lab, mut d) = cluster(&[register("a", 3, 0)], &[&submit, &build]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/1/0", "a:1/1/1", "a:1/1/2"]);
}

#[test]
fn an_executor_is_emptied_for_a_task_that_has_waited_for_long_until_it_fits() {
    let (mut lab, mut d) = cluster(&[register("a", 3, 8)], &["submit 1 hash(9,1)"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0", "a:1/0/1", "a:1/0/2"]);
    broadcast(2, 1).iter().for_each(|line| drop(lab.run(line)));
    let big = task(2, 1, 0);
    complete(&mut lab, &mut d, task(1, 0, 0), "");
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/3"], "it is passed");
    assert_eq!(d.wakes_at(), Some(2_000));
    complete(&mut lab, &mut d, task(1, 0, 1), "");
    assert_eq!(plan(&lab, &mut d, 1_999), ["a:1/0/4"]);
    complete(&mut lab, &mut d, task(1, 0, 2), "");
    assert_eq!(plan(&lab, &mut d, 2_000), Vec::<String>::new());
    assert!(d.is_kept_for_one(&id("a")));
    let waits = "waits for memory: needs about 7.0 MiB; a is being emptied";
    assert_eq!(words(&lab, &d, big), waits);
    complete(&mut lab, &mut d, task(1, 0, 3), "");
    assert_eq!(plan(&lab, &mut d, 2_000), ["a:2/1/0"], "beside what is left");
    assert!(!d.is_kept_for_one(&id("a")));
    assert!(matches!(wait_of(&lab, &d, task(1, 0, 5)), Some(Wait::Memory { held: None, .. })));
    complete(&mut lab, &mut d, big, "");
    assert_eq!(plan(&lab, &mut d, 2_000), ["a:1/0/5", "a:1/0/6"]);
}

fn wait_of(lab: &Lab, d: &Dispatcher, task: TaskId) -> Option<Wait> {
    d.waits(&lab.state, lab.state.job(task.job).unwrap()).unwrap().of(task.stage, task.partition)
}

#[test]
fn a_class_that_waits_for_memory_takes_no_executor_from_an_earlier_one() {
    let lines = ["replica 1 version=3", "raise 3", "submit 1 hash(9,1) priority=high max_parallel=3"];
    let (mut lab, mut d) = cluster(&[register("a", 4, 9)], &lines);
    assert_eq!(plan(&lab, &mut d, 0).len(), 3);
    broadcast(2, 1).iter().for_each(|line| drop(lab.run(line)));
    for (at, now_ms) in [(0, 0), (1, 2_500), (2, 5_000)] {
        complete(&mut lab, &mut d, task(1, 0, at), "");
        assert_eq!(plan(&lab, &mut d, now_ms), [format!("a:1/0/{}", at + 3)]);
        assert_eq!(d.is_kept_for_one(&id("a")), now_ms > 0);
    }
}

#[test]
fn a_new_leader_estimates_what_it_adopts() {
    let [submit, build] = broadcast(1, 2);
    let (lab, _) = cluster(&[register("a", 2, 10)], &[&submit, &build]);
    let mut d = Dispatcher::new(Term(2));
    let incarnation = lab.state.executor(&id("a")).unwrap().incarnation;
    d.attach(&lab.state, &id("a"), incarnation, &[reported(1, 1, 0, 5)]);
    assert_eq!((needs(&d, task(1, 1, 0)), d.needed_bytes(&id("a"))), (7 * MIB, 7 * MIB));
    assert_eq!(plan(&lab, &mut d, 0), Vec::<String>::new());
}

/// Beside one that runs alone, all that run fit.
fn check_memory(lab: &Lab, d: &Dispatcher) {
    for executor in lab.state.executors() {
        let (running, needed) = (d.running_on(&executor.id), d.needed_bytes(&executor.id));
        let fits = executor.memory_bytes == 0 || running <= 1 || needed <= executor.memory_bytes;
        assert!(fits, "{running} attempts on {} need {needed}", executor.id);
        assert!(running <= executor.slots as usize);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_kept_and_every_task_gets_its_turn(
        memory in proptest::collection::vec(0..24u64, 3),
        steps in proptest::collection::vec((any::<usize>(), 0..12u64, 0..24u64, 0..1_500u64), 1..200),
    ) {
        let executors: Vec<String> =
            ["a", "b", "c"].iter().zip([1, 2, 4]).zip(&memory).map(|((n, s), m)| register(n, s, *m)).collect();
        let jobs = ["broadcast(2,3)", "join(2,3,4)", "hash(6,2)", "broadcast(1,2,3)", "chain(2,2,2)", "join(1,1,9)"];
        let submits = (1u64..).zip(jobs).map(|(job, shape)| format!("submit {job} {shape}"));
        let submits: Vec<String> = submits.collect();
        let lines: Vec<&str> = submits.iter().map(String::as_str).collect();
        let (mut lab, mut d) = cluster(&executors, &lines);
        let mut now_ms = 0;
        let last = std::iter::repeat_n((0, 3, 5, 700), 1_000);
        for (seed, bytes, used, ms) in steps.into_iter().chain(last) {
            if lab.state.active_job_count() == 0 {
                break;
            }
            now_ms += ms;
            d.cancel_targets(&lab.state);
            d.plan(&lab.state, now_ms);
            check_memory(&lab, &d);
            let running: Vec<TaskId> =
                (1..=6).flat_map(|job| d.running_of(JobId(job)).map(|(task, _)| task).collect::<Vec<_>>()).collect();
            assert!(!running.is_empty(), "nothing runs, and nothing starts");
            complete(
                &mut lab,
                &mut d,
                running[seed % running.len()],
                &format!("bytes={} used={} ms=100", bytes * MIB, used * MIB),
            );
        }
        assert_eq!(lab.state.active_job_count(), 0);
    }
}

#[test]
fn many_that_do_not_fit_cost_a_plan_little_and_keep_no_later_job_away() {
    let [submit, build] = broadcast(1, 300);
    let (mut lab, mut d) = cluster(&[register("a", 9, 9)], &[&submit, &build]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/1/0"]);
    lab.run("submit 2 hash(2,1)");
    assert_eq!(plan(&lab, &mut d, 0), ["a:2/0/0", "a:2/0/1"]);
}
