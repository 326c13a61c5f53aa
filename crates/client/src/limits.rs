//! Every wait and buffer of the client, by name. Sizes of messages are in [`polybolos_model::limits`].

use std::time::Duration;

/// How long a client looks for a leader before it says that none can be reached.
pub const REACH_DEADLINE: Duration = Duration::from_secs(15);

/// A whole submit with its retries: planning may list many files of an object store.
pub const SUBMIT_DEADLINE: Duration = Duration::from_secs(120);
/// One try of a submit.
pub const SUBMIT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// A submit that a full cluster refuses is tried again for this long.
pub const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// Every other call with its retries.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// One try of it, and of opening a watch.
pub const CALL_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A watch that has told nothing for this long is opened anew: an update comes at once if its replica is well.
pub const WATCH_SILENCE: Duration = Duration::from_secs(30);
/// A watch that breaks again and again without an update in between ends with an error.
pub const WATCH_PATIENCE: Duration = Duration::from_secs(60);

/// From asking an executor for a partition to its answer.
pub const FETCH_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the next message of a partition.
pub const FETCH_SILENCE: Duration = Duration::from_secs(30);
/// Most tries to read one partition, of which no batch was handed out before.
pub const FETCH_ATTEMPTS: u32 = 6;
/// How long to wait for a lost partition to be made anew.
pub const PLACE_PATIENCE: Duration = Duration::from_secs(60);
/// Partitions that are read at once.
pub const FETCH_CONCURRENCY: usize = 8;
/// The same for an ordered result: those behind the first one wait for it with their read-ahead in hand.
pub const ORDERED_FETCH_CONCURRENCY: usize = 4;
/// Batches that a partition of an ordered result holds before its turn has come.
pub const READ_AHEAD_BATCHES: usize = 4;
/// Batches that wait for the reader of a result; beyond it the executors are held back.
pub const BUFFERED_BATCHES: usize = 8;

/// First and longest pause between tries; each pause is drawn between half of the step and the step.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Open connections of one client; beyond it those that are not in use are closed.
pub const MAX_CHANNELS: usize = 1_024;
/// Releases and cancels under way at once. One beyond it is left out: the scheduler expires what nobody reads.
pub const MAX_BACKGROUND_CALLS: usize = 1_024;
