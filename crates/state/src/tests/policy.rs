//! What the leader decides.

use std::collections::BTreeSet;

use polybolos_model::{ExecutorId, Incarnation, ReplicaId, Term};

use crate::{
    Beat, Command, Entry, LoggedBeat,
    limits::{EXECUTOR_TIMEOUT_MS, RESULT_TTL_MS, STREAM_GRACE_MS},
    policy::{Event, decide, upgrade},
    transcript::Lab,
};

const TERM: Term = Term(1);

fn commands(entry: Option<Entry>) -> Vec<Command> {
    entry.map(|entry| entry.commands).unwrap_or_default()
}

fn request(lab: &Lab, line: &str) -> Event {
    Event::Request(lab.parse(line))
}

fn beat(lab: &Lab, name: &str) -> Event {
    match lab.parse(&format!("beat {name}")) {
        Command::Heartbeats { beats } => Event::Beat(counting(&beats[0], 0)),
        other => panic!("{other:?}"),
    }
}

/// What the executor said, with that count of refused commands.
fn counting(beat: &LoggedBeat, refused_commands: u64) -> Beat {
    Beat {
        executor: beat.executor.clone(),
        incarnation: beat.incarnation,
        memory_used_bytes: beat.memory_used_bytes,
        shuffle_bytes: beat.shuffle_bytes,
        running_tasks: beat.running_tasks,
        refused_commands,
    }
}

fn broken(name: &str, incarnation: u64) -> Event {
    Event::StreamBroken { executor: ExecutorId::new(name).unwrap(), incarnation: Incarnation(incarnation) }
}

/// Executors `a` and `b`, heard of at 1000 ms.
fn two() -> Lab {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "register b"]);
    lab
}

#[test]
fn nothing_gives_no_entry_but_a_new_term_does() {
    let lab = two();
    assert_eq!(decide(&lab.state, &[], TERM, 1_000), None);
    assert_eq!(decide(&lab.state, &[Event::Tick], TERM, 1_000), None);
    assert_eq!(decide(&lab.state, &[], Term(2), 1_500), Some(Entry::new(1, Term(2), 1_500, vec![])));
}

#[test]
fn requests_come_first_and_in_their_order() {
    let lab = two();
    let events = [
        beat(&lab, "b"),
        request(&lab, "submit 1 one"),
        broken("a", 1),
        request(&lab, "cancel 1 x"),
        Event::Tick,
        beat(&lab, "a"),
    ];
    let expected = ["submit 1 one", "cancel 1 x", "beat a b", "suspect a"].map(|line| lab.parse(line));
    assert_eq!(commands(decide(&lab.state, &events, TERM, 1_000)), expected);
}

#[test]
fn the_last_beat_of_the_newest_incarnation_counts() {
    let lab = two();
    let Event::Beat(mut old) = beat(&lab, "a") else { panic!() };
    let mut new = old.clone();
    new.incarnation = Incarnation(9);
    old.running_tasks = 77;
    let events = [Event::Beat(new.clone()), Event::Beat(old)];
    let expected = [Command::Heartbeats { beats: vec![new.into()] }];
    assert_eq!(commands(decide(&lab.state, &events, TERM, 1_000)), expected);
}

#[test]
fn a_silent_executor_is_lost_and_one_that_beats_now_is_not() {
    let lab = two();
    let late = 1_000 + EXECUTOR_TIMEOUT_MS;
    assert_eq!(decide(&lab.state, &[Event::Tick], TERM, late - 1), None);
    let found = commands(decide(&lab.state, &[Event::Tick, beat(&lab, "b")], TERM, late));
    let [Command::Heartbeats { .. }, Command::LoseExecutor { executor, reason, .. }] = found.as_slice()
    else {
        panic!("{found:?}")
    };
    assert_eq!((executor.as_str(), reason.as_str()), ("a", "no heartbeat for 3000 ms"));
    assert_eq!(
        commands(decide(&lab.state, &[beat(&lab, "b")], TERM, late)).len(),
        1,
        "only a tick finds silence"
    );
    let back = [Event::Tick, request(&lab, "register a"), beat(&lab, "b")];
    assert_eq!(commands(decide(&lab.state, &back, TERM, late)).len(), 2, "it registers in this very entry");
}

#[test]
fn a_new_leader_waits_a_whole_time_out() {
    let mut lab = two();
    let much_later = 1_000 + 10 * EXECUTOR_TIMEOUT_MS;
    assert_eq!(commands(decide(&lab.state, &[Event::Tick], Term(2), much_later)), []);
    lab.state.apply(&Entry::new(1, Term(2), much_later, vec![]));
    let listening = much_later + EXECUTOR_TIMEOUT_MS;
    assert_eq!(decide(&lab.state, &[Event::Tick], Term(2), listening - 1), None);
    assert_eq!(commands(decide(&lab.state, &[Event::Tick], Term(2), listening)).len(), 2);
}

#[test]
fn a_broken_stream_is_a_suspicion_and_then_a_loss() {
    let mut lab = two();
    assert_eq!(decide(&lab.state, &[broken("a", 7), broken("nobody", 1)], TERM, 1_000), None);
    let back = [request(&lab, "register a"), broken("a", 1)];
    assert_eq!(
        commands(decide(&lab.state, &back, TERM, 1_000)).len(),
        1,
        "it came back before this was decided"
    );
    let entry = decide(&lab.state, &[broken("a", 1), broken("a", 1)], TERM, 1_000).unwrap();
    assert_eq!(entry.commands, [lab.parse("suspect a")]);
    lab.state.apply(&entry);
    assert_eq!(decide(&lab.state, &[broken("a", 1)], TERM, 1_000), None, "it is suspected already");
    let grace = 1_000 + STREAM_GRACE_MS;
    assert_eq!(decide(&lab.state, &[Event::Tick], TERM, grace - 1), None);
    let found = commands(decide(&lab.state, &[Event::Tick], TERM, grace));
    let [Command::LoseExecutor { executor, reason, .. }] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(executor.as_str(), "a");
    assert_eq!(reason, "its stream broke and it did not come back for 1000 ms");
    lab.run("register a");
    assert_eq!(decide(&lab.state, &[Event::Tick], TERM, grace), None);
}

#[test]
fn results_that_nobody_fetched_expire() {
    let mut lab = two();
    lab.run_all(&["submit 1 one", "complete a 1/0/0 1"]);
    let late = 1_000 + RESULT_TTL_MS;
    let events = [beat(&lab, "a"), beat(&lab, "b"), Event::Tick];
    assert_eq!(commands(decide(&lab.state, &events, TERM, late - 1)).len(), 1);
    assert_eq!(commands(decide(&lab.state, &events, TERM, late)).last(), Some(&Command::ExpireJobs));
}

#[test]
fn a_clock_that_went_back_loses_nobody() {
    let lab = two();
    assert_eq!(decide(&lab.state, &[Event::Tick], TERM, 0), None);
}

fn with_count(lab: &Lab, name: &str, refused_commands: u64) -> Event {
    match beat(lab, name) {
        Event::Beat(beat) => Event::Beat(Beat { refused_commands, ..beat }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refused_commands_are_logged_from_version_2_on_and_only_when_they_are_news() {
    let mut lab = two();
    let events = |lab: &Lab| [with_count(lab, "a", 3), with_count(lab, "b", 0)];
    let both = lab.parse("beat a b");
    assert_eq!(commands(decide(&lab.state, &events(&lab), TERM, 1_000)), std::slice::from_ref(&both));
    lab.run_all(&["replica 1", "raise 2"]);
    let entry = decide(&lab.state, &events(&lab), TERM, 1_000).unwrap();
    assert_eq!((entry.version, &entry.commands), (2, &vec![both.clone(), lab.parse("refused a=3")]));
    lab.state.apply(&entry);
    assert_eq!(commands(decide(&lab.state, &events(&lab), TERM, 1_000)), [both]);
    lab.run("lose a");
    let of_the_dead = [with_count(&lab, "a", 9)];
    assert_eq!(commands(decide(&lab.state, &of_the_dead, TERM, 1_000)), [lab.parse("beat a")]);
}

#[test]
fn the_version_is_raised_once_every_member_knows_the_newer_one() {
    let mut lab = two();
    let members = |ids: &[u64]| ids.iter().copied().map(ReplicaId).collect::<BTreeSet<_>>();
    let raise = |lab: &Lab, ids: &[u64]| upgrade(&lab.state, &members(ids));
    assert_eq!(raise(&lab, &[]), None);
    lab.run_all(&["replica 1 version=2", "replica 2 version=1"]);
    assert_eq!(raise(&lab, &[1, 2]), None, "replica 2 can't follow");
    assert_eq!(raise(&lab, &[1]), None, "replica 2 is known and may still be there");
    lab.run("replica 2 version=7");
    assert_eq!(raise(&lab, &[1, 2, 3]), None, "replica 3 has not told");
    assert_eq!(raise(&lab, &[1, 2]), Some(lab.parse("raise 2")));
    lab.run("replica 1 version=7");
    assert_eq!(raise(&lab, &[1, 2]), Some(lab.parse("raise 2")), "this program knows no more");
    lab.run("raise 2");
    assert_eq!(raise(&lab, &[1, 2]), None);
}

#[test]
fn what_is_of_the_past_counts_as_fenced() {
    let mut lab = two();
    lab.run_all(&["submit 1 one", "lose a"]);
    let fenced = |lab: &mut Lab, line: &str| {
        let commands = vec![lab.parse(line)];
        lab.apply(commands).outcomes.remove(0).unwrap_err().is_fencing()
    };
    assert!(fenced(&mut lab, "complete a 1/0/0 1"));
    assert!(fenced(&mut lab, "complete b#7 1/0/0 1"));
    assert!(fenced(&mut lab, "complete z 1/0/0 1"));
    assert!(!fenced(&mut lab, "complete b 1/0/7 1"));
    lab.run_all(&["term 2", "beat b", "term 1"]);
    assert!(fenced(&mut lab, "complete b 1/0/0 1"));
}
