//! Turns what has happened into one entry. Pure, and run by the leader only: a policy may change between versions
//! without two replicas ever computing different states.

mod adapt;
pub mod drain;
mod losses;
mod overrun;
mod patience;
mod queue;
mod results;
mod scheduling;
mod shares;
mod started;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

pub use adapt::adaptations;
pub(crate) use losses::REPLACED;
pub use losses::{nothing_listens, noticed};
pub use overrun::{Overrun, overruns};
pub use patience::{Patience, PatienceError};
use polybolos_model::{ExecutorId, Incarnation, JobId, ReplicaId, Term};
pub use queue::{Coming, QueueFull, no_place, queue_full};
pub use results::ResultTooLarge;
pub use scheduling::{FairShare, Rank, SchedulingPolicy};
pub use shares::{Measured, ShareLimits, shares};
pub use started::started;
pub use waiting::{takes_tasks, waits_since_ms};

use crate::{Beat, ClusterState, Command, ENTRY_VERSION, Entry, Job};

/// What the leader's shell has seen.
#[allow(clippy::large_enum_variant, reason = "most are requests, and few wait at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Asked by a client or reported by an executor (submit, cancel, release, completion, failure, registration,
    /// drain, catalogue and session commands). It goes into the entry as it is.
    Request(Command),
    /// Coalesced with all others into one command.
    Beat(Beat),
    /// An executor's stream ended without good-bye: a suspicion, confirmed by time or cleared by a sign of life.
    StreamBroken { executor: ExecutorId, incarnation: Incarnation },
    /// Nothing listens any more where an executor without a stream served: its process is gone.
    ProbeFailed { executor: ExecutorId, incarnation: Incarnation, reason: String },
    /// So long nothing came by the open stream of an executor, as this leader itself has measured. Comes with a tick:
    /// the log knows of beats up to an interval later, as they are coalesced.
    Silence { executor: ExecutorId, incarnation: Incarnation, silent_ms: u64 },
    /// No executor has taken tasks since then. Comes with a tick; `running` are the jobs of which attempts run all the
    /// same, on executors that drain.
    NoExecutor { since_ms: u64, running: BTreeSet<JobId> },
    /// Time has passed: finds silent executors and results that nobody fetched. A few times a second is enough.
    Tick,
}

/// The entry that answers `events`, or `None` when there is nothing to record.
///
/// The commands of `Request`s come first, in the order given: **the n-th `Request` of `events` has outcome n** of the
/// entry's [`crate::Applied`]. A completion that makes a result larger than its job allows has given its place to the job's
/// failure. What the policy adds comes after them. The first call in a new term always gives an
/// entry, perhaps without commands, from which the term's time counts.
pub fn decide(
    state: &ClusterState,
    events: &[Event],
    patience: Patience,
    term: Term,
    now_ms: u64,
) -> Option<Entry> {
    let requests = events.iter().filter_map(|event| match event {
        Event::Request(command) => Some(command.clone()),
        Event::Beat(_)
        | Event::StreamBroken { .. }
        | Event::ProbeFailed { .. }
        | Event::Silence { .. }
        | Event::NoExecutor { .. }
        | Event::Tick => None,
    });
    let mut commands: Vec<Command> = requests.collect();
    results::cap(state, &mut commands, term, now_ms);
    let registered = losses::registered(&commands);
    let beats = latest_beats(events);
    let heard = |id: &ExecutorId| registered.contains(id) || beats.contains_key(id);
    let gone = losses::gone(state, events, heard);
    let silent = if events.contains(&Event::Tick) {
        losses::silent(state, events, |id| heard(id) || gone.contains_key(id), patience, term, now_ms)
    } else {
        Vec::new()
    };
    let suspicions = losses::suspicions(state, events, |id| registered.contains(id) || gone.contains_key(id));
    let refused = refused_commands(state, &beats);
    // A beat clears a suspicion; one of this batch came over the stream before it broke.
    if !beats.is_empty() {
        commands.push(Command::Heartbeats { beats: beats.into_values().map(Into::into).collect() });
    }
    commands.extend(refused);
    commands.extend(suspicions);
    commands.extend(gone.into_values());
    commands.extend(silent);
    if events.contains(&Event::Tick) {
        commands.extend(waiting::given_up(state, events, !registered.is_empty(), patience, now_ms));
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

fn expiry(state: &ClusterState, now_ms: u64) -> Option<Command> {
    let is_due = |job: &Job| state.kept_until_ms(job).is_some_and(|until_ms| until_ms <= now_ms);
    state.unfetched_jobs().any(is_due).then_some(Command::ExpireJobs)
}
