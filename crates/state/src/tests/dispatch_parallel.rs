//! Jobs that may not have more than so many tasks running at once.

use polybolos_model::{StageId, Term};

use super::{
    dispatch::{attempt, id, reported, task, with},
    dispatch_alone::{complete, plan, with_v3},
};
use crate::{Dispatcher, Wait, transcript::Lab};

const NOTHING: [&str; 0] = [];

fn attach(lab: &Lab, d: &mut Dispatcher, name: &str, counters: &[u64]) -> usize {
    let incarnation = lab.state.executor(&id(name)).unwrap().incarnation;
    let told: Vec<_> = counters.iter().map(|n| reported(1, 0, u32::try_from(*n).unwrap() - 1, *n)).collect();
    d.attach(&lab.state, &id(name), incarnation, &told).adopted.len()
}

#[test]
fn a_job_at_its_limit_leaves_the_slots_to_others() {
    let lines = [
        "register a slots=6",
        "submit 1 hash(9,1) max_parallel=2 priority=high",
        "submit 2 hash(3,1) max_parallel=0",
        "submit 3 one",
    ];
    let (mut lab, mut d) = with_v3(&lines, &["a"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0", "a:1/0/1", "a:2/0/0", "a:3/0/0", "a:2/0/1", "a:2/0/2"]);
    complete(&mut lab, &mut d, 3, 0);
    assert_eq!(plan(&lab, &mut d, 0), NOTHING, "one slot is free, and only job 1 has tasks");
    assert_eq!(d.wakes_at(), None);
    complete(&mut lab, &mut d, 1, 1);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/2"]);
    assert_eq!(d.busy_with(task(1, 0, 0).job), 2);
}

#[test]
fn a_job_of_which_one_task_runs_at_a_time_comes_to_its_end() {
    let (mut lab, mut d) = with_v3(&["register a slots=4", "submit 1 hash(3,2) max_parallel=1"], &["a"]);
    for expected in ["a:1/0/0", "a:1/0/1", "a:1/0/2", "a:1/1/0", "a:1/1/1"] {
        assert_eq!(plan(&lab, &mut d, 0), [expected]);
        assert_eq!(plan(&lab, &mut d, 0), NOTHING);
        let (attempt, running) = d.attempt_of(d.running_of(task(1, 0, 0).job).next().unwrap().0).unwrap();
        let line = format!("complete a 1/{}/{} {attempt}", running.task.stage, running.task.partition);
        lab.run(&line);
        d.ended(attempt);
    }
    assert_eq!(lab.state.active_job_count(), 0);
}

#[test]
fn who_has_told_that_it_is_done_does_not_run() {
    let (lab, mut d) = with_v3(&["register a slots=4", "submit 1 hash(4,1) max_parallel=1"], &["a"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0"]);
    d.reported(attempt(1, 1));
    d.reported(attempt(1, 1));
    assert_eq!(d.busy_with(task(1, 0, 0).job), 0);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/1"], "its completion is on the way into the log");
    assert_eq!(plan(&lab, &mut d, 0), NOTHING);
    d.ended(attempt(1, 1));
    assert_eq!(d.busy_with(task(1, 0, 0).job), 1);
    assert_eq!(plan(&lab, &mut d, 0), NOTHING);
}

#[test]
fn a_look_ahead_keeps_the_limit_too() {
    let (lab, mut d) = with_v3(&["register a slots=4", "submit 1 hash(4,1) max_parallel=2"], &["a"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0", "a:1/0/1"]);
    d.reported(attempt(1, 1));
    let under_way = [lab.parse("complete a 1/0/0 1 epoch=0")];
    let ahead = lab.state.ahead(under_way.iter(), lab.term).unwrap();
    assert_eq!(d.plan_ahead(&ahead, 0).len(), 1);
    assert_eq!(d.plan_ahead(&ahead, 0), []);
    let coming = [lab.parse("submit 2 hash(4,1) max_parallel=3")];
    let (lab, mut d) = with_v3(&["register a slots=4"], &["a"]);
    let ahead = lab.state.ahead(coming.iter(), lab.term).unwrap();
    assert_eq!(d.plan_ahead(&ahead, 0).len(), 3);
}

#[test]
fn a_copy_counts_as_one_that_runs_at_once() {
    let fleet = ["register a slots=4", "register b slots=4"];
    for (most, copies) in [(2, 0), (3, 1)] {
        let submit = format!("submit 1 hash(4,1) max_parallel={most} min_ms=1000 quantile=0.5");
        let (mut lab, mut d) = with_v3(&[fleet[0], fleet[1], &submit], &["a", "b"]);
        plan(&lab, &mut d, 0);
        complete(&mut lab, &mut d, 1, 0);
        complete(&mut lab, &mut d, 1, 1);
        plan(&lab, &mut d, 0);
        assert_eq!(d.busy_with(task(1, 0, 0).job), 2);
        assert_eq!(plan(&lab, &mut d, 9_000).len(), copies, "{most}");
    }
}

#[test]
fn no_executor_is_kept_for_a_job_at_its_limit() {
    let lines = ["register a slots=2", "register b slots=2", "submit 1 hash(3,1) max_parallel=1"];
    let (mut lab, mut d) = with_v3(&lines, &["a", "b"]);
    lab.run("submit 2 hash(9,1)");
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0", "b:2/0/0", "a:2/0/1", "b:2/0/2"]);
    lab.run("fail a 1/0/1 91 resources");
    complete(&mut lab, &mut d, 2, 2);
    assert_eq!(plan(&lab, &mut d, 0), ["b:2/0/3"]);
    assert!(!d.is_kept_for_one(&id("b")), "it could not run there now");
    complete(&mut lab, &mut d, 1, 0);
    // Its other task takes its one place meanwhile, and then the executor is not kept any more.
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/2"]);
    assert_eq!(plan(&lab, &mut d, 0), NOTHING);
    complete(&mut lab, &mut d, 2, 0);
    assert_eq!(plan(&lab, &mut d, 0), ["b:2/0/4"]);
    complete(&mut lab, &mut d, 1, 2);
    for partition in [3, 4] {
        plan(&lab, &mut d, 0);
        assert!(d.is_kept_for_one(&id("b")), "there is nothing else of it");
        complete(&mut lab, &mut d, 2, partition);
    }
    assert_eq!(plan(&lab, &mut d, 0)[0], "b:1/0/1!");
}

#[test]
fn a_new_leader_adopts_no_more_than_may_run() {
    let lines = ["register a slots=4", "register b slots=4", "submit 1 hash(9,1) max_parallel=2"];
    let (lab, _) = with_v3(&lines, &[]);
    let mut d = Dispatcher::new(Term(2));
    assert_eq!(attach(&lab, &mut d, "a", &[1]), 1);
    // It did not wait for b, which comes late.
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/1"]);
    assert_eq!(attach(&lab, &mut d, "b", &[3, 4]), 0);
    assert_eq!(attach(&lab, &mut d, "a", &[1]), 1, "who comes again offers what it had");
}

#[test]
fn whoever_waits_for_the_limit_is_told_so() {
    let (lab, mut d) = with_v3(&["register a slots=4", "submit 1 hash(2,1) max_parallel=1"], &["a"]);
    let job = lab.state.job(task(1, 0, 0).job).unwrap();
    let wait = |d: &Dispatcher, partition| d.waits(&lab.state, job).unwrap().of(StageId(0), partition);
    assert_eq!(wait(&d, 1), Some(Wait::Nothing));
    plan(&lab, &mut d, 0);
    assert_eq!((wait(&d, 0), wait(&d, 1)), (None, Some(Wait::Parallel { most: 1 })));
    let words = "as many of the query's tasks run as may at once: 1 (polybolos.max_parallel_tasks)";
    assert_eq!(wait(&d, 1).unwrap().words(0), words);
}

#[test]
fn before_the_version_that_knows_settings_there_is_no_limit() {
    let (lab, mut d) = with(&["register a slots=4", "submit 1 hash(4,1) max_parallel=1"], &["a"]);
    assert_eq!(plan(&lab, &mut d, 0).len(), 4);
}
