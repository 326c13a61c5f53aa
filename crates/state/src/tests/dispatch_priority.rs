//! Classes of jobs, and other orders than the default one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use polybolos_model::{JobId, Term};

use super::{
    dispatch::{attempt, id, task, with},
    dispatch_alone::{complete, plan, with_v3},
};
use crate::{
    Dispatcher, Job,
    policy::{FairShare, Rank, SchedulingPolicy},
    transcript::Lab,
};

const NOTHING: [&str; 0] = [];

/// One executor `a`, and the jobs.
fn on_a(slots: u32, jobs: &[&str]) -> (Lab, Dispatcher) {
    let register = format!("register a slots={slots}");
    let lines: Vec<&str> = std::iter::once(register.as_str()).chain(jobs.iter().copied()).collect();
    with_v3(&lines, &["a"])
}

#[test]
fn a_slot_goes_to_the_highest_class_and_within_it_to_who_has_fewest() {
    let jobs = [
        "submit 1 hash(3,1) priority=low",
        "submit 2 hash(2,1)",
        "submit 3 hash(2,1) priority=high",
        "submit 4 hash(2,1) priority=normal",
        "submit 5 hash(2,1) priority=high",
    ];
    let (lab, mut d) = on_a(10, &jobs);
    let high = ["a:3/0/0", "a:5/0/0", "a:3/0/1", "a:5/0/1"];
    let normal = ["a:2/0/0", "a:4/0/0", "a:2/0/1", "a:4/0/1"];
    let low = ["a:1/0/0", "a:1/0/1"];
    assert_eq!(plan(&lab, &mut d, 0), [&high[..], &normal, &low].concat());
}

#[test]
fn what_runs_goes_on_and_the_next_slot_goes_to_the_class_that_came_meanwhile() {
    let (mut lab, mut d) = on_a(2, &["submit 1 hash(9,1) priority=low"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0", "a:1/0/1"]);
    lab.run("submit 2 hash(3,1) priority=high");
    assert_eq!(plan(&lab, &mut d, 0), NOTHING);
    assert_eq!(d.cancel_targets(&lab.state), []);
    complete(&mut lab, &mut d, 1, 0);
    assert_eq!(plan(&lab, &mut d, 0), ["a:2/0/0"]);
    complete(&mut lab, &mut d, 1, 1);
    assert_eq!(plan(&lab, &mut d, 0), ["a:2/0/1"]);
    complete(&mut lab, &mut d, 2, 0);
    complete(&mut lab, &mut d, 2, 1);
    assert_eq!(plan(&lab, &mut d, 0), ["a:2/0/2", "a:1/0/2"], "its next stage is not ready");
    complete(&mut lab, &mut d, 2, 2);
    assert_eq!(plan(&lab, &mut d, 0), ["a:2/1/0"]);
}

#[test]
fn what_must_wait_leaves_its_slot_to_a_lower_class() {
    let (mut lab, mut d) =
        with_v3(&["register a slots=1", "register b slots=1", "submit 1 one priority=high"], &["a", "b"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0"]);
    lab.run("fail a 1/0/0 1 retryable; submit 2 hash(9,1) priority=low");
    d.failed(&lab.state, task(1, 0, 0), attempt(1, 1), polybolos_model::ErrorClass::Retryable, 0);
    d.ended(attempt(1, 1));
    assert_eq!(plan(&lab, &mut d, 50), ["a:2/0/0", "b:2/0/1"], "it is tried again after 100 ms");
    complete(&mut lab, &mut d, 2, 0);
    assert_eq!(plan(&lab, &mut d, 100), ["a:2/0/2"], "it has failed there");
    complete(&mut lab, &mut d, 2, 1);
    assert_eq!(plan(&lab, &mut d, 100), ["b:1/0/0"]);
}

#[test]
fn a_task_that_runs_alone_comes_before_lower_classes_and_after_higher_ones() {
    let jobs = ["submit 1 hash(2,1)", "submit 2 hash(9,1) priority=low"];
    let (mut lab, mut d) = on_a(2, &jobs);
    lab.run("fail a 1/0/0 91 resources");
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0!"]);
    lab.run("submit 3 hash(2,1) priority=high; fail a 1/0/1 92 resources");
    complete(&mut lab, &mut d, 1, 0);
    assert_eq!(plan(&lab, &mut d, 0), ["a:3/0/0", "a:3/0/1"]);
    complete(&mut lab, &mut d, 3, 0);
    assert_eq!(plan(&lab, &mut d, 0), NOTHING, "a is being emptied for the second, and not for job 2");
    assert!(d.is_kept_for_one(&id("a")));
    lab.run("submit 4 one priority=high");
    assert_eq!(plan(&lab, &mut d, 0), ["a:4/0/0"], "a higher class gets slots there all the same");
    complete(&mut lab, &mut d, 4, 0);
    complete(&mut lab, &mut d, 3, 1);
    assert_eq!(plan(&lab, &mut d, 0), ["a:3/1/0"]);
    lab.run("complete a 3/1/0 7");
    d.ended(d.attempt_of(task(3, 1, 0)).unwrap().0);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/1!"]);
}

#[test]
fn a_higher_class_does_not_wait_until_a_lower_one_has_run_alone() {
    let jobs = ["register b", "submit 1 hash(2,1) priority=low", "submit 2 hash(9,1)"];
    let (mut lab, mut d) = on_a(2, &jobs);
    d.attach(&lab.state, &id("b"), lab.state.executor(&id("b")).unwrap().incarnation, &[]);
    lab.run("cancel 2 x; fail b 1/0/0 91 resources; fail b 1/0/1 92 resources");
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0!"], "the other one has failed on b");
    lab.run("submit 3 hash(9,1) priority=high; submit 4 one priority=high; submit 5 hash(9,1)");
    lab.run("fail a 4/0/0 93 resources");
    assert_eq!(plan(&lab, &mut d, 0), ["b:4/0/0!"], "though one runs alone on a");
}

#[test]
fn a_copy_is_made_of_any_class_but_for_a_slot_that_nobody_wants() {
    let (mut lab, mut d) =
        with_v3(&["register a", "register b", "submit 1 hash(4,1) priority=low min_ms=0"], &["a", "b"]);
    plan(&lab, &mut d, 0);
    for partition in 0..3 {
        complete(&mut lab, &mut d, 1, partition);
    }
    lab.run("submit 2 one priority=high");
    assert_eq!(plan(&lab, &mut d, 9_000), ["a:2/0/0", "a:1/0/3"]);
}

/// In the order of submission, whatever runs.
#[derive(Debug)]
struct OneAfterTheOther;

impl SchedulingPolicy for OneAfterTheOther {
    fn rank(&self, _: &Job, _: u32) -> Rank {
        Rank { class: 0, turn: 0 }
    }
}

/// Two slots for each job before any has a third.
#[derive(Debug)]
struct TwoForEach;

impl SchedulingPolicy for TwoForEach {
    fn rank(&self, job: &Job, running: u32) -> Rank {
        Rank { class: u32::from(running >= 2), turn: job.number }
    }
}

#[test]
fn a_program_may_have_its_own_order() {
    let lines = ["register a slots=6", "submit 1 hash(3,1)", "submit 2 hash(4,1) priority=high"];
    let with_policy = |policy: Arc<dyn SchedulingPolicy>| {
        let (lab, _) = with(&lines, &[]);
        let mut d = Dispatcher::with_policy(Term(1), policy);
        // It outlives an entry of unknown fate.
        d.restart();
        d.attach(&lab.state, &id("a"), lab.state.executor(&id("a")).unwrap().incarnation, &[]);
        plan(&lab, &mut d, 0).iter().map(|launch| launch.replace("a:", "")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(with_policy(Arc::new(FairShare)), "2/0/0 2/0/1 2/0/2 2/0/3 1/0/0 1/0/1");
    assert_eq!(with_policy(Arc::new(OneAfterTheOther)), "1/0/0 1/0/1 1/0/2 2/0/0 2/0/1 2/0/2");
    assert_eq!(with_policy(Arc::new(TwoForEach)), "1/0/0 1/0/1 2/0/0 2/0/1 1/0/2 2/0/2");
}

/// Counts how often it is asked.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl SchedulingPolicy for Counting {
    fn rank(&self, job: &Job, running: u32) -> Rank {
        self.0.fetch_add(1, Ordering::Relaxed);
        FairShare.rank(job, running)
    }
}

#[test]
fn ten_thousand_waiting_jobs_of_all_classes_are_looked_at_once() {
    let (mut lab, _) = with(&["register a slots=4"], &[]);
    for job in 1..=10_000 {
        let class = ["low", "normal", "high"][job % 3];
        let submit = lab.parse(&format!("submit {job} hash(2,1) priority={class}"));
        lab.state.apply(&lab.entry(vec![submit]));
    }
    let asked = Arc::new(Counting::default());
    let mut d = Dispatcher::with_policy(Term(1), Arc::<Counting>::clone(&asked));
    d.attach(&lab.state, &id("a"), lab.state.executor(&id("a")).unwrap().incarnation, &[]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:2/0/0", "a:5/0/0", "a:8/0/0", "a:11/0/0"]);
    assert_eq!(asked.0.swap(0, Ordering::Relaxed), 10_000 + 4, "each once, and each launched one again");
    for counter in 1..=1_000 {
        // Its completion is refused, say.
        d.ended(attempt(1, counter)).unwrap();
        assert_eq!(d.plan(&lab.state, 0).len(), 1);
    }
    assert!(asked.0.load(Ordering::Relaxed) <= 5_000, "only those that run are ranked anew");
}

#[test]
fn jobs_that_end_and_results_that_are_made_again_are_followed() {
    let (mut lab, mut d) =
        with_v3(&["register a slots=1", "register b slots=1", "submit 1 one priority=low"], &["a", "b"]);
    assert_eq!(plan(&lab, &mut d, 0), ["a:1/0/0"]);
    complete(&mut lab, &mut d, 1, 0);
    assert_eq!(plan(&lab, &mut d, 0), NOTHING);
    lab.run("submit 2 hash(2,1) priority=high");
    assert_eq!(plan(&lab, &mut d, 0).len(), 2);
    lab.run("lose a; submit 3 one");
    d.executor_gone(&id("a"));
    lab.run("reopen 1");
    complete(&mut lab, &mut d, 2, 1);
    assert_eq!(plan(&lab, &mut d, 0), ["b:2/0/0"]);
    complete(&mut lab, &mut d, 2, 0);
    lab.run("cancel 2 x");
    assert_eq!(plan(&lab, &mut d, 0), ["b:3/0/0"]);
    complete(&mut lab, &mut d, 3, 0);
    assert_eq!(plan(&lab, &mut d, 0), ["b:1/0/0"]);
    assert!(lab.state.job(JobId(1)).unwrap().status.is_ended());
}
