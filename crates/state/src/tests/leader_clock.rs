//! The leader's sense of time over changes of leaders, set clocks and pauses.

use polybolos_model::Term;
use proptest::prelude::*;

use crate::{
    Command, Entry, LeaderClock,
    limits::{EXECUTOR_TIMEOUT_MS, MAX_CLOCK_STEP_MS},
    policy::{Event, Patience, decide},
    transcript::Lab,
};

/// Executor `a`, heard of at 1,000,000 ms in term 1; then a leader whose wall clock shows `wall_ms`.
fn next_leader(wall_ms: u64) -> (Lab, LeaderClock) {
    let mut lab = Lab::new();
    lab.run_all(&["at 1000000", "register a"]);
    let mut clock = LeaderClock::begin(&lab.state, wall_ms, 50);
    lab.state.apply(&Entry::new(1, Term(2), clock.read(wall_ms, 50), vec![]));
    (lab, clock)
}

/// After how long, ticking every 100 ms, the silent executor is lost.
fn loss_after_ms(wall_ms: u64) -> u64 {
    let (lab, mut clock) = next_leader(wall_ms);
    let late = (1..1_000).map(|tick| tick * 100).find(|elapsed| {
        let now_ms = clock.read(wall_ms + elapsed, 50 + elapsed);
        decide(&lab.state, &[Event::Tick], Patience::default(), Term(2), now_ms).is_some()
    });
    late.unwrap()
}

#[test]
fn a_silent_executor_is_lost_after_the_same_time_whatever_the_next_leaders_clock_shows() {
    for wall_ms in [1_000_000, 900_000, 0, 1_100_000] {
        assert_eq!(loss_after_ms(wall_ms), EXECUTOR_TIMEOUT_MS, "at {wall_ms}");
    }
}

#[test]
fn a_clock_that_is_set_ahead_loses_nobody_and_is_followed_slowly() {
    let (lab, mut clock) = next_leader(1_000_000);
    let set_ms = 1_000_000 + 3_600_000;
    let now_ms = clock.read(set_ms, 150);
    assert_eq!(now_ms, 1_000_150);
    assert_eq!(decide(&lab.state, &[Event::Tick], Patience::default(), Term(2), now_ms), None);
    let now_ms = (1..=100_000).map(|tick| clock.read(set_ms + tick * 100, 150 + tick * 100)).last().unwrap();
    assert_eq!(now_ms, set_ms + 10_000_000, "it has found back");
}

#[test]
fn a_leader_that_stood_still_hears_first_what_came_meanwhile() {
    let (mut lab, mut clock) = next_leader(1_000_000);
    let now_ms = clock.read(1_060_000, 60_050);
    assert_eq!(now_ms, 1_000_000 + MAX_CLOCK_STEP_MS + MAX_CLOCK_STEP_MS / 2);
    assert_eq!(decide(&lab.state, &[Event::Tick], Patience::default(), Term(2), now_ms), None);
    lab.term = Term(2);
    lab.now_ms = now_ms;
    assert_eq!(lab.run("beat a"), "  1 beats, stale: nothing\n");
    let later_ms = clock.read(1_061_000, 61_050);
    let found = decide(&lab.state, &[Event::Tick], Patience::default(), Term(2), later_ms)
        .map(|entry| entry.commands);
    assert!(!matches!(found.as_deref(), Some([Command::LoseExecutor { .. }])), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn time_never_goes_back_and_never_leaps(steps in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..50)) {
        let mut clock = LeaderClock::begin(&Lab::new().state, steps[0].0 / 2, steps[0].1);
        let mut last_ms = clock.read(0, steps[0].1);
        for (wall_ms, monotonic_ms) in steps {
            let now_ms = clock.read(wall_ms, monotonic_ms);
            prop_assert!(now_ms >= last_ms && now_ms - last_ms <= MAX_CLOCK_STEP_MS * 3 / 2);
            last_ms = now_ms;
        }
    }
}
