//! Second attempts of slow tasks.

use super::dispatch::{attempt, id, reported, task, with};
use crate::{Dispatcher, Launch, transcript::Lab};

/// Four tasks on two executors; the first three have completed in 2 s each, the last runs since 0 on `b`.
fn slow(options: &str) -> (Lab, Dispatcher) {
    let submit = format!("submit 1 hash(4,1) {options}");
    let lines = ["replica 1 version=3", "raise 3", "register a", "register b", &submit];
    let (mut lab, mut d) = with(&lines, &["a", "b"]);
    assert_eq!(d.plan(&lab.state, 0).len(), 4);
    for (counter, name) in [(1, "a"), (2, "b"), (3, "a")] {
        lab.run(&format!("complete {name} 1/0/{} {counter} ms=2000", counter - 1));
        d.ended(attempt(1, counter));
    }
    (lab, d)
}

fn words(launches: &[Launch]) -> Vec<String> {
    launches
        .iter()
        .map(|l| format!("{} {}/{} on {}", l.attempt, l.task.stage, l.task.partition, l.executor))
        .collect()
}

#[test]
fn a_task_that_takes_twice_the_median_gets_a_copy_elsewhere_and_no_third() {
    let (lab, mut d) = slow("");
    assert_eq!(d.plan(&lab.state, 3_999), []);
    assert_eq!(d.wakes_at(), Some(4_000));
    assert_eq!(words(&d.plan(&lab.state, 4_000)), ["1.5 0/3 on a"]);
    assert_eq!(d.plan(&lab.state, 90_000), []);
    assert_eq!(d.attempts_of(task(1, 0, 3)).count(), 2);
    assert_eq!(d.running_of(task(1, 0, 3).job).count(), 1, "a task counts once");
}

#[test]
fn settings_decide_what_is_slow() {
    let (lab, mut d) = slow("speculation=false");
    assert_eq!((d.plan(&lab.state, 1_000_000), d.wakes_at()), (vec![], None));
    let (lab, mut d) = slow("multiplier=3.5");
    assert_eq!(d.plan(&lab.state, 6_999), []);
    assert_eq!(d.plan(&lab.state, 7_000).len(), 1);
    let (lab, mut d) = slow("min_ms=60000");
    assert_eq!(d.plan(&lab.state, 59_999), []);
    assert_eq!(d.plan(&lab.state, 60_000).len(), 1);
    let (lab, mut d) = slow("quantile=0.8");
    assert_eq!(d.plan(&lab.state, 1_000_000), []);
}

#[test]
fn a_copy_takes_only_a_slot_that_nothing_else_wants() {
    let (mut lab, mut d) = slow("");
    lab.run("submit 2 hash(9,1)");
    let launches = d.plan(&lab.state, 10_000);
    assert_eq!(launches.len(), 3);
    assert!(launches.iter().all(|launch| launch.task.job.0 == 2));
}

#[test]
fn the_second_to_complete_is_called_off() {
    for (winner, loser) in [(4, 5), (5, 4)] {
        let (mut lab, mut d) = slow("");
        d.plan(&lab.state, 4_000);
        let on = d.running(attempt(1, winner)).unwrap().executor.clone();
        lab.run(&format!("complete {on} 1/0/3 {winner}"));
        d.ended(attempt(1, winner));
        let called_off: Vec<_> =
            d.cancel_targets(&lab.state).into_iter().map(|target| target.attempt).collect();
        assert_eq!(called_off, [attempt(1, loser)]);
    }
}

#[test]
fn a_failure_of_either_leaves_the_other_and_starts_no_third() {
    for (failed, left) in [(4, 5), (5, 4)] {
        let (mut lab, mut d) = slow("");
        d.plan(&lab.state, 4_000);
        let on = d.running(attempt(1, failed)).unwrap().executor.clone();
        lab.run(&format!("fail {on} 1/0/3 {failed} retryable"));
        d.failed(
            &lab.state,
            task(1, 0, 3),
            attempt(1, failed),
            polybolos_model::ErrorClass::Retryable,
            5_000,
        );
        d.ended(attempt(1, failed));
        assert_eq!(d.plan(&lab.state, 5_050), []);
        assert_eq!(d.plan(&lab.state, 90_000), []);
        assert_eq!(d.attempt_of(task(1, 0, 3)).unwrap().0, attempt(1, left));
    }
}

#[test]
fn a_copy_whose_executor_is_lost_may_be_made_again() {
    let (mut lab, mut d) = slow("");
    lab.run("register c slots=9");
    d.attach(&lab.state, &id("c"), lab.state.executor(&id("c")).unwrap().incarnation, &[]);
    let copy = d.plan(&lab.state, 4_000).remove(0);
    lab.run(&format!("lose {}", copy.executor));
    d.executor_gone(&copy.executor);
    assert!(d.plan(&lab.state, 4_100).iter().any(|launch| launch.task == copy.task));
}

#[test]
fn a_new_leader_adopts_both_unless_the_job_wants_none() {
    for (options, adopted) in [("", 1), ("speculation=off", 0)] {
        let (lab, _) = slow(options);
        let mut d = Dispatcher::new(polybolos_model::Term(2));
        let life = |name: &str| lab.state.executor(&id(name)).unwrap().incarnation;
        let first = d.attach(&lab.state, &id("b"), life("b"), &[reported(1, 0, 3, 4), reported(1, 0, 3, 6)]);
        assert_eq!((first.adopted.len(), first.cancel.len()), (1, 1), "never two on one executor");
        let second = d.attach(&lab.state, &id("a"), life("a"), &[reported(1, 0, 3, 5)]);
        assert_eq!(second.adopted.len(), adopted);
    }
}

#[test]
fn a_reconnect_does_not_make_an_attempt_younger() {
    let (lab, mut d) = slow("");
    d.detach(&id("b"));
    d.plan(&lab.state, 3_000);
    d.attach(
        &lab.state,
        &id("b"),
        lab.state.executor(&id("b")).unwrap().incarnation,
        &[reported(1, 0, 3, 4)],
    );
    assert_eq!(words(&d.plan(&lab.state, 4_000)), ["1.5 0/3 on a"]);
}
