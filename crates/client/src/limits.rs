//! Every wait and buffer of the client, by name. Sizes of messages are in [`polybolos_model::limits`].

use std::time::Duration;

/// How long a client looks for a leader before it says that none can be reached.
pub const REACH_DEADLINE: Duration = Duration::from_secs(15);

/// A whole submit with its retries: planning may list many files of an object store.
pub const SUBMIT_DEADLINE: Duration = Duration::from_secs(120);
/// One try of a submit.
pub const SUBMIT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// A replica through which a submit did not get is passed over for this long.
pub const PASSED_OVER: Duration = Duration::from_secs(5);
/// A submit that a full cluster refuses is tried again for this long, at pauses that grow up to [`BACKOFF_MAX`].
pub const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// Operating the set of replicas: a call with its retries, and one try of it.
pub const REPLICAS_DEADLINE: Duration = Duration::from_secs(60);
pub const REPLICAS_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for what moves the whole state: a new replica that catches up, a backup.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(600);
/// Largest backup that is received; it is held in memory.
pub const MAX_BACKUP_BYTES: usize = 2 * 1024 * 1024 * 1024;

/// Every other call with its retries.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// One try of it, and of opening a watch.
pub const CALL_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A watch that has told nothing for this long is opened anew: an update comes at once if its replica is well.
pub const WATCH_SILENCE: Duration = Duration::from_secs(30);
/// A watch that breaks again and again without an update in between ends with an error, and so does one that can't be
/// opened for this long: a query goes on while its cluster has no quorum.
pub const WATCH_PATIENCE: Duration = Duration::from_secs(120);

/// How often one who waits for an answer asks the other replicas who leads, and how long each may take.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
/// What the replicas said is used for this long, by all who wait.
pub const PROBE_SHARED: Duration = Duration::from_millis(200);
/// A stale read asks one more replica whenever none has answered for this long.
pub const STALE_STAGGER: Duration = Duration::from_millis(50);

/// From asking an executor for a partition to its answer.
pub const FETCH_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the next message of a partition.
pub const FETCH_SILENCE: Duration = Duration::from_secs(30);
/// An executor that says nothing for this long may be lost, and hang: whoever waits for it asks the leader.
pub const FETCH_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A partition of which no batch was handed out is tried this often and this long: the loss of its executor is noticed
/// in seconds, and by a new leader in some more.
pub const FETCH_ATTEMPTS: u32 = 6;
pub const FETCH_PATIENCE: Duration = Duration::from_secs(10);
/// How long a scheduler may take to say where a partition is whose stream broke.
pub const PLACE_TIMEOUT: Duration = Duration::from_secs(3);
/// Partitions that are read at once. One that is lost and made anew is waited for as long as its query is followed.
pub const FETCH_CONCURRENCY: usize = 8;
/// The same for an ordered result: those behind the first one wait for it with their read-ahead in hand.
pub const ORDERED_FETCH_CONCURRENCY: usize = 4;
/// Partitions that are read at once while their tasks run, beside those that are complete.
pub const EARLY_FETCH_CONCURRENCY: usize = 4;
/// A task that is done within this time is not read before: most are, and small results come with their completion.
pub const EARLY_FETCH_DELAY: Duration = Duration::from_millis(200);
/// Batches that a partition of an ordered result holds before its turn has come.
pub const READ_AHEAD_BATCHES: usize = 4;
/// Batches that wait for the reader of a result; beyond it the executors are held back.
pub const BUFFERED_BATCHES: usize = 8;

/// First and longest pause between tries; each pause is drawn between half of the step and the step.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// For this long after a leader was lost no pause is longer than that: a new one is elected within a second.
pub const FAILOVER_WINDOW: Duration = Duration::from_secs(2);
pub const FAILOVER_BACKOFF_MAX: Duration = Duration::from_millis(100);

/// Open connections of one client; beyond it those that are not in use are closed.
pub const MAX_CHANNELS: usize = 1_024;
/// Releases and cancels under way at once. One beyond it is left out: the scheduler expires what nobody reads.
pub const MAX_BACKGROUND_CALLS: usize = 1_024;
