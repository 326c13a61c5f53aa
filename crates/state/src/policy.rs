//! Turns what has happened into one entry. Pure, and run by the leader only: a policy may change between versions
//! without two replicas ever computing different states.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{ExecutorId, Incarnation, ReplicaId, Term};

use crate::{
    Beat, ClusterState, Command, ENTRY_VERSION, Entry, Executor,
    limits::{EXECUTOR_TIMEOUT_MS, RESULT_TTL_MS, STREAM_GRACE_MS},
};

/// What the leader's shell has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Asked by a client or reported by an executor (submit, cancel, release, completion, failure, registration,
    /// drain, catalogue and session commands). It goes into the entry as it is.
    Request(Command),
    /// Coalesced with all others into one command.
    Beat(Beat),
    /// An executor's stream ended without good-bye: a suspicion, confirmed by time or cleared by a sign of life.
    StreamBroken { executor: ExecutorId, incarnation: Incarnation },
    /// Time has passed: finds silent executors and results that nobody fetched. A few times a second is enough.
    Tick,
}

/// The entry that answers `events`, or `None` when there is nothing to record.
///
/// The commands of `Request`s come first, in the order given: **the n-th `Request` of `events` has outcome n** of the
/// entry's [`crate::Applied`]. What the policy adds comes after them. The first call in a new term always gives an
/// entry, perhaps without commands, from which the term's time counts.
pub fn decide(state: &ClusterState, events: &[Event], term: Term, now_ms: u64) -> Option<Entry> {
    let requests = events.iter().filter_map(|event| match event {
        Event::Request(command) => Some(command.clone()),
        Event::Beat(_) | Event::StreamBroken { .. } | Event::Tick => None,
    });
    let mut commands: Vec<Command> = requests.collect();
    let registered = registered(&commands);
    let beats = latest_beats(events);
    let losses = if events.contains(&Event::Tick) {
        let heard = |id: &ExecutorId| registered.contains(id) || beats.contains_key(id);
        losses(state, heard, term, now_ms)
    } else {
        Vec::new()
    };
    let suspicions = suspicions(state, events, &registered);
    let refused = refused_commands(state, &beats);
    // A beat clears a suspicion; one of this batch came over the stream before it broke.
    if !beats.is_empty() {
        commands.push(Command::Heartbeats { beats: beats.into_values().map(Into::into).collect() });
    }
    commands.extend(refused);
    commands.extend(suspicions);
    commands.extend(losses);
    if events.contains(&Event::Tick) {
        commands.extend(expiry(state, now_ms));
    }
    (!commands.is_empty() || state.term() < term).then(|| Entry::new(state.version(), term, now_ms, commands))
}

/// The change to the newest version that every replica knows, if a newer one than the present can come into use:
/// each of `members` (voters and learners) must have registered. Run by the leader whenever a replica has.
pub fn upgrade(state: &ClusterState, members: &BTreeSet<ReplicaId>) -> Option<Command> {
    if members.is_empty() || !members.iter().all(|id| state.replica(*id).is_some()) {
        return None;
    }
    let lowest = state.replicas().map(|(_, record)| record.version).min()?;
    let to = lowest.min(ENTRY_VERSION);
    (to > state.version()).then_some(Command::RaiseVersion { to })
}

/// The counts that are news. Before version 2 they are known to nobody but their executor.
fn refused_commands(state: &ClusterState, beats: &BTreeMap<ExecutorId, Beat>) -> Option<Command> {
    let is_news = |beat: &&Beat| {
        state.present(&beat.executor, beat.incarnation).is_some()
            && state.refused_commands(&beat.executor) != beat.refused_commands
    };
    let counts: Vec<(ExecutorId, u64)> =
        beats.values().filter(is_news).map(|beat| (beat.executor.clone(), beat.refused_commands)).collect();
    (state.version() >= 2 && !counts.is_empty()).then_some(Command::RefusedCommands { counts })
}

/// The last beat of each executor.
fn latest_beats(events: &[Event]) -> BTreeMap<ExecutorId, Beat> {
    let mut beats: BTreeMap<ExecutorId, Beat> = BTreeMap::new();
    for event in events {
        if let Event::Beat(beat) = event {
            let newer = beats.get(&beat.executor).is_none_or(|known| known.incarnation <= beat.incarnation);
            if newer {
                beats.insert(beat.executor.clone(), beat.clone());
            }
        }
    }
    beats
}

/// Executors that have just come (back).
fn registered(commands: &[Command]) -> BTreeSet<ExecutorId> {
    let mut registered = BTreeSet::new();
    for command in commands {
        if let Command::RegisterExecutor { executor, .. } = command {
            registered.insert(executor.clone());
        }
    }
    registered
}

/// One command for each executor whose stream broke and that has not come back in this very batch.
fn suspicions(state: &ClusterState, events: &[Event], registered: &BTreeSet<ExecutorId>) -> Vec<Command> {
    let mut broken = BTreeMap::new();
    for event in events {
        if let Event::StreamBroken { executor, incarnation } = event
            && state.present(executor, *incarnation).is_some_and(|e| e.suspect_since_ms.is_none())
            && !registered.contains(executor)
        {
            broken.insert(executor.clone(), *incarnation);
        }
    }
    let suspect = |(executor, incarnation)| Command::SuspectExecutor { executor, incarnation };
    broken.into_iter().map(suspect).collect()
}

/// One command for each executor that is silent for too long, ascending by id.
fn losses(
    state: &ClusterState,
    heard: impl Fn(&ExecutorId) -> bool,
    term: Term,
    now_ms: u64,
) -> Vec<Command> {
    if polybolos_model::mutant!("executor-never-lost") {
        return Vec::new();
    }
    // A new leader heard nothing before its term began, and blames nobody for it.
    let listening_since_ms = if state.term() == term { state.term_since_ms() } else { now_ms };
    let silent = state.executors().filter(|e| e.is_present() && !heard(&e.id)).filter_map(|executor| {
        let reason = silence(executor, listening_since_ms, now_ms)?;
        let (executor, incarnation) = (executor.id.clone(), executor.incarnation);
        Some(Command::LoseExecutor { executor, incarnation, reason })
    });
    silent.collect()
}

/// Why the executor counts as lost, if it does.
fn silence(executor: &Executor, listening_since_ms: u64, now_ms: u64) -> Option<String> {
    let silent_ms = now_ms.saturating_sub(executor.last_beat_ms.max(listening_since_ms));
    if silent_ms >= EXECUTOR_TIMEOUT_MS {
        return Some(format!("no heartbeat for {silent_ms} ms"));
    }
    let broken_ms = now_ms.saturating_sub(executor.suspect_since_ms?.max(listening_since_ms));
    (broken_ms >= STREAM_GRACE_MS)
        .then(|| format!("its stream broke and it did not come back for {broken_ms} ms"))
}

fn expiry(state: &ClusterState, now_ms: u64) -> Option<Command> {
    let due = |ended_at_ms: u64| ended_at_ms.saturating_add(RESULT_TTL_MS) <= now_ms;
    state.unfetched_jobs().any(|job| job.ended_at_ms.is_some_and(due)).then_some(Command::ExpireJobs)
}
