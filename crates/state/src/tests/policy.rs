//! What the leader decides.

use std::collections::BTreeSet;

use polybolos_model::{ErrorClass, ExecutorId, Incarnation, ReplicaId, Term};

use crate::{
    Beat, ClusterState, Command, ENTRY_VERSION, Entry, LoggedBeat,
    limits::{EXECUTOR_TIMEOUT_MS, NO_EXECUTOR_WAIT_MS, RESULT_TTL_MS, STREAM_GRACE_MS},
    policy::{self, Event, Patience, upgrade},
    transcript::Lab,
};

const TERM: Term = Term(1);

fn decide(state: &ClusterState, events: &[Event], term: Term, now_ms: u64) -> Option<Entry> {
    policy::decide(state, events, Patience::default(), term, now_ms)
}

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
fn what_a_leader_has_heard_itself_counts_from_then_and_not_from_the_log() {
    let lab = two();
    let silence = |name: &str, incarnation, silent_ms| Event::Silence {
        executor: ExecutorId::new(name).unwrap(),
        incarnation: Incarnation(incarnation),
        silent_ms,
    };
    let found_at = |now_ms, measured_ms| {
        let measured =
            [silence("a", 1, measured_ms), silence("b", 1, EXECUTOR_TIMEOUT_MS), silence("x", 1, 9_000)];
        let events: Vec<_> = measured.into_iter().chain([Event::Tick]).collect();
        lost(&commands(decide(&lab.state, &events, TERM, now_ms)))
            .iter()
            .map(|(name, _)| name.to_string())
            .collect::<Vec<_>>()
    };
    let early = 1_000 + EXECUTOR_TIMEOUT_MS - 400;
    assert_eq!(found_at(early, EXECUTOR_TIMEOUT_MS - 1), [""; 0]);
    assert_eq!(found_at(early, EXECUTOR_TIMEOUT_MS), ["a"], "b's was measured in another life");
    assert_eq!(found_at(early + 400, 0), ["a", "b"], "the log knows it as well");
    let back = [silence("a", 1, EXECUTOR_TIMEOUT_MS), Event::Tick, beat(&lab, "a")];
    assert_eq!(lost(&commands(decide(&lab.state, &back, TERM, early))), []);
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

fn probe_failed(name: &str, incarnation: u64) -> Event {
    let (executor, incarnation) = (ExecutorId::new(name).unwrap(), Incarnation(incarnation));
    Event::ProbeFailed { executor, incarnation, reason: "nothing listens".to_owned() }
}

/// Whom the commands lose, and why.
fn lost(commands: &[Command]) -> Vec<(&str, &str)> {
    let lost = commands.iter().filter_map(|command| match command {
        Command::LoseExecutor { executor, reason, .. } => Some((executor.as_str(), reason.as_str())),
        _ => None,
    });
    lost.collect()
}

#[test]
fn a_process_that_is_gone_is_lost_without_a_grace() {
    let mut lab = two();
    let both = commands(decide(&lab.state, &[broken("a", 1), probe_failed("a", 1)], TERM, 1_000));
    assert_eq!(
        (both.len(), lost(&both)),
        (1, vec![("a", "nothing listens")]),
        "no suspicion beside the loss"
    );
    lab.run("suspect a");
    let twice = [probe_failed("a", 1), Event::Tick, probe_failed("a", 1), probe_failed("b", 2)];
    let entry = decide(&lab.state, &twice, TERM, 1_000 + EXECUTOR_TIMEOUT_MS).unwrap();
    assert_eq!(lost(&entry.commands), [("a", "nothing listens"), ("b", "nothing listens")]);
    lab.state.apply(&entry);
    assert_eq!(decide(&lab.state, &[probe_failed("a", 1)], TERM, 1_000), None, "it is lost already");
}

#[test]
fn a_sign_of_life_beats_a_probe_and_a_new_life_is_not_judged_by_the_old_one() {
    let mut lab = two();
    lab.run("suspect a");
    for sign in [request(&lab, "register a"), beat(&lab, "a")] {
        for events in [[sign.clone(), probe_failed("a", 1)], [probe_failed("a", 1), sign.clone()]] {
            assert_eq!(lost(&commands(decide(&lab.state, &events, TERM, 1_000))), []);
        }
    }
    lab.run_all(&["lose a", "register a"]);
    assert_eq!(decide(&lab.state, &[probe_failed("a", 1), probe_failed("nobody", 1)], TERM, 1_000), None);
}

#[test]
fn a_new_leader_loses_who_died_with_the_old_one_without_a_time_out() {
    let lab = two();
    let entry = decide(&lab.state, &[probe_failed("b", 2), Event::Tick], Term(2), 9_000).unwrap();
    assert_eq!(lost(&entry.commands), [("b", "nothing listens")]);
}

#[test]
fn the_times_are_settings() {
    let mut lab = two();
    let patience = Patience { executor_timeout_ms: 2_000, stream_grace_ms: 200, ..Patience::default() };
    let lost_at = |lab: &Lab, now_ms| {
        let found = commands(policy::decide(&lab.state, &[Event::Tick], patience, TERM, now_ms));
        lost(&found).len()
    };
    assert_eq!((lost_at(&lab, 2_999), lost_at(&lab, 3_000)), (0, 2));
    lab.run("suspect a");
    assert_eq!((lost_at(&lab, 1_199), lost_at(&lab, 1_200)), (0, 1));
}

fn nobody_since(lab: &Lab, since_ms: u64, running: &[u64]) -> [Event; 2] {
    let job = |number: &u64| match lab.parse(&format!("cancel {number} x")) {
        Command::CancelJob { job, .. } => job,
        other => panic!("{other:?}"),
    };
    [Event::Tick, Event::NoExecutor { since_ms, running: running.iter().map(job).collect() }]
}

#[test]
fn a_job_without_executors_waits_and_then_fails_with_what_to_do() {
    let mut lab = two();
    lab.run_all(&["submit 1 one", "lose a", "drain b"]);
    lab.run_all(&["at 5000", "submit 2 one"]);
    let failed = |lab: &Lab, events: &[Event], now_ms| -> Vec<String> {
        let found = commands(decide(&lab.state, &[&[beat(lab, "b")], events].concat(), TERM, now_ms));
        let failed = found.into_iter().filter_map(|command| match command {
            Command::FailJob { job, error } => {
                assert_eq!(error.error.class, ErrorClass::Retryable);
                assert!(error.error.message.contains(&job.to_string()), "{error:?}");
                Some(error.error.message)
            }
            _ => None,
        });
        failed.collect()
    };
    let (since, due) = (2_000, 2_000 + NO_EXECUTOR_WAIT_MS);
    assert_eq!(failed(&lab, &nobody_since(&lab, since, &[]), due - 1), Vec::<String>::new());
    let first = failed(&lab, &nobody_since(&lab, since, &[]), due);
    assert_eq!(first.len(), 1, "the second has waited from its submit on: {first:?}");
    assert!(first[0].contains("waited 300 s") && first[0].contains("polybolos executor"), "{first:?}");
    assert_eq!(failed(&lab, &nobody_since(&lab, since, &[]), due + 3_000).len(), 2);
    assert_eq!(
        failed(&lab, &nobody_since(&lab, since, &[1]), due + 3_000).len(),
        1,
        "b still runs the first"
    );
    let comes = [&nobody_since(&lab, since, &[])[..], &[request(&lab, "register a")]].concat();
    assert_eq!(failed(&lab, &comes, due + 3_000).len(), 0);
    let for_ever = Patience { no_executor_wait_ms: 0, ..Patience::default() };
    let never = policy::decide(&lab.state, &nobody_since(&lab, since, &[])[1..], for_ever, TERM, due * 9);
    assert_eq!(never, None);
    lab.run("register a");
    assert_eq!(failed(&lab, &nobody_since(&lab, since, &[]), due + 3_000).len(), 0, "a takes tasks again");
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
    let newest = format!("raise {ENTRY_VERSION}");
    assert_eq!(raise(&lab, &[1, 2]), Some(lab.parse(&newest)), "this program knows no more");
    lab.run(&newest);
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
