//! How many jobs may wait.

use polybolos_model::limits::MAX_ACTIVE_JOBS;

use super::{
    dispatch::{attempt, id, with},
    dispatch_alone::{plan, with_v3},
};
use crate::{
    Command, Dispatcher,
    policy::{Coming, QueueFull, no_place, queue_full},
    transcript::Lab,
};

/// What a leader says to the line that lets `most` wait, while the others are on their way into the log.
fn ask(lab: &Lab, d: &Dispatcher, line: &str, under_way: &[&str], most: u32) -> Option<QueueFull> {
    let under_way: Vec<Command> = under_way.iter().map(|line| lab.parse(line)).collect();
    let coming: Vec<Coming> = under_way.iter().filter_map(Coming::of).collect();
    queue_full(&lab.state, d, &lab.parse(line), coming.iter(), most)
}

fn full(waiting: usize, most: u32) -> Option<QueueFull> {
    Some(QueueFull { waiting, most })
}

#[test]
fn a_queue_takes_as_many_as_may_wait_and_no_more() {
    let (mut lab, d) = with(&["submit 1 one"], &[]);
    assert_eq!(ask(&lab, &d, "submit 3 one", &[], 2), None);
    lab.run("submit 2 one");
    let refused = ask(&lab, &d, "submit 3 one", &[], 2);
    assert_eq!(refused, full(2, 2));
    assert_eq!(
        refused.unwrap().to_string(),
        "2 queries wait to be run, and no more than 2 may (`polybolos scheduler --max-queued-jobs`): the query was not \
         accepted, and nothing was done; submit it again later"
    );
    assert_eq!(ask(&lab, &d, "write 3 one", &[], 2), full(2, 2));
    assert_eq!(ask(&lab, &d, "submit 3 one", &[], 0), None, "there is no limit");
    assert_eq!(ask(&lab, &d, "submit 3 one", &[], 3), None);
    for other in ["cancel 1 x", "view s.v", "release 1", "register a"] {
        assert_eq!(ask(&lab, &d, other, &[], 1), None, "{other}");
    }
    lab.run("cancel 1 x");
    assert_eq!(ask(&lab, &d, "submit 3 one", &[], 2), None);
}

#[test]
fn what_is_on_its_way_into_the_log_has_its_place() {
    let (lab, d) = with(&["submit 1 one"], &[]);
    assert_eq!(ask(&lab, &d, "submit 3 one", &["submit 2 one", "expire"], 2), full(2, 2));
    assert_eq!(ask(&lab, &d, "submit 3 one", &["write 2 one"], 2), full(2, 2));
    assert_eq!(ask(&lab, &d, "submit 3 one", &["cancel 1 x"], 2), None);
}

#[test]
fn a_repeated_submit_is_always_answered() {
    let (mut lab, d) = with(&["submit 1 one key=old"], &[]);
    assert_eq!(ask(&lab, &d, "submit 2 one key=old", &[], 1), None);
    assert_eq!(ask(&lab, &d, "submit 2 one key=new", &[], 1), full(1, 1));
    assert_eq!(ask(&lab, &d, "submit 3 one key=new", &["submit 2 one key=new"], 1), None);
    assert_eq!(ask(&lab, &d, "submit 3 one", &["submit 2 one"], 1), full(2, 1), "no key is like no other");
    lab.run("cancel 1 x; submit 2 one");
    assert_eq!(ask(&lab, &d, "submit 3 one key=old", &[], 1), None, "its job has ended");
}

#[test]
fn jobs_that_run_or_have_run_do_not_wait_and_free_slots_are_no_queue() {
    let (mut lab, mut d) = with_v3(&["register a slots=2"], &["a"]);
    // Two will run, and one waits.
    assert_eq!(ask(&lab, &d, "submit 9 one", &["submit 1 one", "submit 2 one"], 1), None);
    assert_eq!(
        ask(&lab, &d, "submit 9 one", &["submit 1 one", "submit 2 one", "submit 3 one"], 1),
        full(3, 1)
    );
    lab.run_all(&["submit 1 hash(2,1)", "submit 2 one", "submit 3 one"]);
    assert_eq!(plan(&lab, &mut d, 0).len(), 2);
    assert_eq!(ask(&lab, &d, "submit 9 one", &[], 1), full(1, 1));
    assert_eq!(ask(&lab, &d, "submit 9 one", &[], 2), None);
    // The log knows that job 1 has begun: it does not count as one that waits, though nothing of it runs.
    lab.run("complete a 1/0/0 1 epoch=0; cancel 3 x");
    d.executor_gone(&id("a"));
    assert_eq!(ask(&lab, &d, "submit 9 one", &[], 1), full(1, 1), "job 2 does");
    assert_eq!(ask(&lab, &d, "submit 9 one", &[], 2), None);
}

#[test]
fn one_that_is_launched_ahead_of_the_log_does_not_wait() {
    let (lab, mut d) = with_v3(&["register a slots=1"], &["a"]);
    let coming = [lab.parse("submit 1 one")];
    let ahead = lab.state.ahead(coming.iter(), lab.term).unwrap();
    assert_eq!(d.plan_ahead(&ahead, 0)[0].attempt, attempt(1, 1));
    assert_eq!(ask(&lab, &d, "submit 2 one", &["submit 1 one"], 1), None);
    assert_eq!(ask(&lab, &d, "submit 3 one", &["submit 1 one", "submit 2 one"], 1), full(1, 1));
}

#[test]
fn no_more_are_counted_than_it_takes() {
    let (mut lab, d) = with(&[], &[]);
    let submits = (1..=1_000).map(|job| lab.parse(&format!("submit {job} one"))).collect();
    lab.state.apply(&lab.entry(submits));
    let none = std::iter::empty::<&Coming>;
    assert_eq!(no_place(&lab.state, &d, none(), 10), full(10, 10));
    assert_eq!(no_place(&lab.state, &d, none(), 1_001), None);
    assert_eq!(no_place(&lab.state, &d, none(), u32::try_from(MAX_ACTIVE_JOBS).unwrap()), None);
}
