//! All that one run does, spelled out: the hosts, the tables, what clients ask for and when, what goes wrong and when.
//!
//! A seed (with a scenario) is expanded to a schedule before the run begins, so a schedule alone replays the run, and an
//! item taken out of it doesn't shift the others: each host, table, fault and failpoint has a seed of its own, forked from
//! [`Schedule::seed`] by its name or `id`, never by its position.

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// The format of `*.toml` files that `run`, `replay` and `shrink` read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Everything that is not written here is drawn from it.
    pub seed: u64,
    /// What it was made from, for people.
    #[serde(default)]
    pub scenario: String,
    /// Besides liveness and equal replicas, the promises that the run is held to; all of them if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judge: Vec<String>,
    pub cluster: Cluster,
    pub phases: Phases,
    #[serde(default, rename = "table")]
    pub tables: Vec<Table>,
    #[serde(default, rename = "op")]
    pub ops: Vec<Op>,
    #[serde(default, rename = "fault")]
    pub faults: Vec<Planned>,
    #[serde(default, rename = "failpoint")]
    pub failpoints: Vec<Failpoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Scheduler replicas, 1 to 5.
    pub schedulers: u64,
    /// Slots of each executor; as many executors as entries.
    pub slots: Vec<u32>,
    /// Memory of each executor, in MiB.
    pub memory_mib: u64,
    /// 1 to 4.
    pub clients: u32,
    /// Bounds of the time that a message takes.
    pub min_latency_us: u64,
    pub max_latency_us: u64,
    /// Segments of one direction of a connection that may be under way.
    pub tcp_capacity: usize,
    /// Wall clocks start up to this far apart.
    pub clock_offset_ms: u64,
    /// What one disk operation takes.
    pub disk_latency_us: u64,
    /// CPU cost of a batch: this, and a nanosecond for so many of its bytes.
    pub batch_cost_us: u64,
    /// A snapshot replaces the log after so many entries, and a tenth of them stay.
    pub snapshot_every: u64,
    /// Whether outputs are copied to the object store, so that they outlive their executors.
    #[serde(default, skip_serializing_if = "DurableShuffle::is_off")]
    pub durable_shuffle: DurableShuffle,
}

/// When a copy is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DurableShuffle {
    #[default]
    Off,
    /// Once the task counts as completed.
    Background,
    /// Before it does.
    Before,
}

impl DurableShuffle {
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// Times since the cluster started, in simulated milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// No fault begins after this, and all that can be healed is healed then: a random quorum of schedulers, and at
    /// least one executor. What is not in it stays broken.
    pub heal_at_ms: u64,
    /// Within this time after healing, everything that is pending must end.
    pub liveness_ms: u64,
}

/// A table of generated rows, as one or several files in the object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    pub rows: u64,
    pub files: u32,
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
    /// Share of NULLs, in percent.
    #[serde(default)]
    pub nulls_percent: u8,
    /// The Arrow type that the values are cast to, as arrow-rs writes it: `Int32`, `Decimal128(15, 2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cast: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// 0, 1, 2 …: unique.
    Serial,
    /// `BIGINT` in `0..distinct`, all equally often.
    Uniform { distinct: u64 },
    /// `BIGINT` in `0..distinct`, half of the rows in one value.
    Skewed { distinct: u64 },
    /// `DECIMAL(12, 2)`.
    Amount,
    /// `VARCHAR` of so many bytes at most, out of `distinct` values.
    Text { distinct: u64, max_bytes: u32 },
    /// `DATE` within ten years.
    Date,
}

/// Something that a client does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// Unique in the schedule; survives shrinking.
    pub id: u32,
    pub at_ms: u64,
    /// 1 for `client-1`.
    pub client: u32,
    #[serde(flatten)]
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Submits, reads all rows and compares them. `key` makes the submit a repeat of others with the same one.
    Query {
        sql: String,
        /// Rows must come in the order of the answer, as the query has a total order.
        #[serde(default)]
        ordered: bool,
        #[serde(default)]
        key: Option<String>,
        /// DataFusion's options by full name.
        #[serde(default)]
        options: std::collections::BTreeMap<String, String>,
        /// Stop reading after so many batches and never come back to it.
        #[serde(default)]
        abandon_after: Option<u32>,
        /// Cancel it so long after it was accepted.
        #[serde(default)]
        cancel_after_ms: Option<u64>,
        /// Come to read the result only so long after it was accepted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_after_ms: Option<u64>,
    },
    /// Changes the catalogue: `CREATE VIEW …`, `DROP VIEW …`. The name is one that no other op uses.
    Ddl { sql: String },
    /// Reads the status of the cluster and of the client's jobs.
    Status,
}

/// A fault at its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Unique in the schedule; survives shrinking.
    pub id: u32,
    pub at_ms: u64,
    /// How long it lasts; until the healing if it is not given. With `until`, at least.
    #[serde(default)]
    pub for_ms: Option<u64>,
    #[serde(flatten)]
    pub fault: Fault,
    /// It begins once a query has come so far, not before `at_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// It ends once a query has come so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<When>,
}

impl Planned {
    /// A fault that goes by the clock alone.
    pub fn timed(id: u32, at_ms: u64, for_ms: Option<u64>, fault: Fault) -> Self {
        Self { id, at_ms, for_ms, fault, when: None, until: None }
    }
}

/// How far a query has come: all of what is said here holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The op whose query it is.
    pub op: u32,
    /// At least so many tasks of each stage are done. Stages that are not here may be at any place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<u32>,
    /// At least so many tasks of all stages together are done.
    #[serde(default)]
    pub total: u32,
    /// So many executors were lost since it was submitted.
    #[serde(default)]
    pub losses: u32,
    /// This executor runs a task of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_on: Option<String>,
}

/// What happens at the n-th time that any host reaches a failpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failpoint {
    /// Unique in the schedule; survives shrinking.
    pub id: u32,
    pub point: String,
    /// 1 is the first time.
    pub hit: u64,
    #[serde(flatten)]
    pub then: Then,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "kebab-case")]
pub enum Then {
    /// The host is held there for so long.
    Hold { ms: u64 },
    /// The host loses its power there, and comes back after so long.
    PowerLoss { down_ms: u64 },
}

impl Schedule {
    /// A seed for something by its name, independent of everything else in the schedule.
    pub fn fork(&self, name: &str) -> u64 {
        fork(self.seed, name)
    }

    /// From a file's text.
    ///
    /// # Errors
    /// What of it is not a schedule, with its line.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// As a file's text.
    ///
    /// # Errors
    /// None of its values is one that TOML lacks, so none in practice.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Mixes a seed with a name: FNV-1a over the name, then the finaliser of splitmix64.
pub fn fork(seed: u64, name: &str) -> u64 {
    let mut hash = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
