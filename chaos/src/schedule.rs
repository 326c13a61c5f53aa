//! All that one run does, spelled out: the cluster, and what goes wrong and when.
//!
//! The file is one that the simulator reads as well (`polybolos-sim replay schedule.toml`): `[[fault]]` are faults that both
//! have, by the same names and keys; what only real processes know is in `[chaos]`, which the simulator passes over. A
//! schedule of the simulator can be run here too; what only it can do is in [`Schedule::left_out`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use crate::{
    fault::{Fault, SIMULATED_ONLY},
    hostile::{IDLE, KINDS, SILENT},
    workload::NON_READER,
};

/// Parts of a schedule that mean something to the simulator alone, and are kept for it.
const SIMULATED: [&str; 3] = ["table", "op", "failpoint"];

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Everything that is not written here is drawn from it.
    pub seed: u64,
    /// What it was made from, for people.
    pub scenario: String,
    pub cluster: Cluster,
    pub phases: Phases,
    pub chaos: Chaos,
    /// In the order of time.
    pub faults: Vec<Planned>,
    /// What of the file means nothing here, a line each.
    pub left_out: Vec<String>,
    /// [`SIMULATED`].
    simulated: Table,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Scheduler replicas.
    pub schedulers: u64,
    /// Slots of each executor; as many executors as entries.
    pub slots: Vec<u32>,
    /// Memory of each executor, in MiB.
    pub memory_mib: u64,
}

/// Times since the cluster was ready, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// No fault begins after this, and all end then.
    pub heal_at_ms: u64,
    /// Within this time after healing everything has to be well again.
    pub liveness_ms: u64,
}

/// What only a run of real processes knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chaos {
    pub workload: Workload,
    /// Kinds of faults without which a run may pass. All others have to act at least once.
    pub optional: Vec<String>,
    /// No node may ever have more memory resident, in MiB.
    #[serde(rename = "max-rss-mib", skip_serializing_if = "Option::is_none")]
    pub max_rss_mib: Option<u64>,
}

/// How many clients do what. Each has connections of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// Small queries with idempotency keys: submit (often twice), status, fetch, give back.
    pub jobs: u32,
    /// TPC-H queries, compared with DataFusion's answers.
    pub tpch: u32,
    /// Views that are made, replaced, read and dropped.
    pub catalogue: u32,
    /// `INSERT` of numbered rows, counted.
    pub writes: u32,
    /// Queries that are cancelled.
    pub cancels: u32,
    /// Long results that are read slowly.
    pub streams: u32,
    /// Clients that share `crowd_queries` small queries, and go on until all are answered.
    pub crowd: u32,
    pub crowd_queries: u32,
    /// Those that ask for a long result and never read it.
    pub non_readers: u32,
    /// Connections that ask for nothing, to the nodes in turn. Every second one never says a word.
    pub idle_connections: u32,
    /// Clients that send what no server should take.
    pub hostile: u32,
    /// A client waits so long between two operations, on the average.
    pub pause_ms: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            jobs: 3,
            tpch: 1,
            catalogue: 1,
            writes: 1,
            cancels: 1,
            streams: 1,
            crowd: 0,
            crowd_queries: 0,
            non_readers: 0,
            idle_connections: 0,
            hostile: 0,
            pause_ms: 100,
        }
    }
}

impl Workload {
    /// The kinds of load and hostile input that have to act.
    fn presses(&self) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        if self.non_readers > 0 {
            kinds.push(NON_READER);
        }
        if self.idle_connections > 0 {
            kinds.extend([IDLE, SILENT]);
        }
        if self.hostile > 0 {
            kinds.extend(KINDS);
        }
        kinds
    }
}

/// A fault at its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Unique in the schedule.
    pub id: u32,
    pub at_ms: u64,
    /// How long it lasts; until the healing if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    #[serde(flatten)]
    pub fault: Fault,
}

impl Planned {
    /// From a table of a file; `None` if only the simulator has such a fault.
    ///
    /// # Errors
    /// What of it is wrong, a misspelt key too.
    pub fn read(mut table: Table) -> Result<Option<Self>, String> {
        let name = table.get("fault").and_then(Value::as_str).unwrap_or_default().to_owned();
        if SIMULATED_ONLY.contains(&name.as_str()) {
            return Ok(None);
        }
        let item = format!("fault `{name}`");
        let (when, until) = (table.remove("when"), table.remove("until"));
        let planned: Self = exactly(&item, table)?;
        // Progress of a query is not watched here, so that the time has to be told.
        match (when, until) {
            (None, None) => Ok(Some(planned)),
            _ => Err(format!("{item} goes by the progress of a query, which only the simulator can")),
        }
    }
}

/// Reads a table as what it has to be, and refuses keys that serde would pass over.
pub(crate) fn exactly<T: DeserializeOwned + Serialize>(item: &str, table: Table) -> Result<T, String> {
    let read: T = Value::Table(table.clone()).try_into().map_err(|error| format!("{item}: {error}"))?;
    if let Ok(Value::Table(known)) = Value::try_from(&read)
        && let Some(key) = table.keys().find(|key| !known.contains_key(*key))
    {
        return Err(format!("{item}: there is no `{key}` here"));
    }
    Ok(read)
}

/// The file as it is.
#[derive(Deserialize)]
struct File {
    seed: u64,
    #[serde(default)]
    scenario: String,
    cluster: Cluster,
    phases: Phases,
    #[serde(default, rename = "fault")]
    faults: Vec<Table>,
    #[serde(default)]
    chaos: Table,
}

impl Schedule {
    pub fn new(
        seed: u64,
        scenario: &str,
        cluster: Cluster,
        phases: Phases,
        chaos: Chaos,
        simulated: Table,
    ) -> Self {
        Self {
            seed,
            scenario: scenario.to_owned(),
            cluster,
            phases,
            chaos,
            faults: Vec::new(),
            left_out: Vec::new(),
            simulated,
        }
    }

    /// From a file's text, of this crate or of the simulator.
    ///
    /// # Errors
    /// What of it is not a schedule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut simulated: Table = toml::from_str(text).map_err(|error| error.to_string())?;
        simulated.retain(|key, _| SIMULATED.contains(&key));
        let own = tables(&mut file.chaos, "fault")?;
        let chaos: Chaos = exactly("chaos", file.chaos)?;
        let mut schedule = Self::new(file.seed, &file.scenario, file.cluster, file.phases, chaos, simulated);
        for table in file.faults.into_iter().chain(own) {
            let name = table.get("fault").and_then(Value::as_str).unwrap_or_default().to_owned();
            match Planned::read(table) {
                Ok(Some(planned)) => schedule.faults.push(planned),
                Ok(None) => schedule.left_out.push(format!("fault `{name}` is one of the simulator alone")),
                Err(reason) if reason.contains("only the simulator") => schedule.left_out.push(reason),
                Err(reason) => return Err(reason),
            }
        }
        schedule.faults.sort_by_key(|planned| (planned.at_ms, planned.id));
        Ok(schedule)
    }

    /// As a file's text, for the simulator too.
    ///
    /// # Errors
    /// None of its values is one that TOML lacks, so none in practice.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut file = Table::new();
        file.insert("seed".to_owned(), Value::try_from(self.seed)?);
        file.insert("scenario".to_owned(), Value::from(self.scenario.as_str()));
        let mut cluster = simulated_cluster();
        cluster.extend(Table::try_from(&self.cluster)?);
        file.insert("cluster".to_owned(), Value::Table(cluster));
        file.insert("phases".to_owned(), Value::try_from(self.phases)?);
        let list = |own: bool| -> Result<Value, toml::ser::Error> {
            let faults = self.faults.iter().filter(|planned| planned.fault.is_only_here() == own);
            faults.map(Value::try_from).collect::<Result<Vec<_>, _>>().map(Value::Array)
        };
        file.insert("fault".to_owned(), list(false)?);
        let mut chaos = Table::try_from(&self.chaos)?;
        chaos.insert("fault".to_owned(), list(true)?);
        file.insert("chaos".to_owned(), Value::Table(chaos));
        file.extend(self.simulated.clone());
        toml::to_string(&file)
    }

    /// The kinds of faults, load and hostile input that have to act, each once.
    pub fn required(&self) -> Vec<&'static str> {
        let mut kinds: Vec<&'static str> = self.faults.iter().map(|planned| planned.fault.name()).collect();
        kinds.extend(self.chaos.workload.presses());
        kinds.retain(|kind| !self.chaos.optional.iter().any(|optional| optional == kind));
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    pub fn has(&self, is: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|planned| is(&planned.fault))
    }
}

/// Takes a list of tables out of a table.
pub(crate) fn tables(from: &mut Table, key: &str) -> Result<Vec<Table>, String> {
    let Some(value) = from.remove(key) else { return Ok(Vec::new()) };
    value.try_into().map_err(|error| format!("`{key}`: {error}"))
}

/// What the simulator wants to know besides.
fn simulated_cluster() -> Table {
    let values = [
        ("clients", 3),
        ("min_latency_us", 100),
        ("max_latency_us", 3_000),
        ("tcp_capacity", 65_536),
        ("clock_offset_ms", 0),
        ("disk_latency_us", 200),
        ("batch_cost_us", 50),
        ("snapshot_every", 2_000),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), Value::Integer(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for shipped in crate::scenario::all() {
            for seed in 1..=5 {
                let schedule = crate::scenario::expand(shipped.name, seed, Some(120_000)).unwrap();
                let text = schedule.to_toml().unwrap();
                let read = Schedule::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
                assert_eq!(read, schedule, "{text}");
            }
        }
    }

    #[test]
    fn what_only_the_simulator_can_do_is_told() {
        let text = "seed = 1\n[cluster]\nschedulers = 3\nslots = [1, 2]\nmemory_mib = 256\nclients = 2\n\
            [phases]\nheal_at_ms = 9000\nliveness_ms = 60000\n\
            [[fault]]\nid = 1\nat_ms = 5\nfault = 'slow-store'\nlatency_ms = 20\n\
            [[fault]]\nid = 2\nat_ms = 5\nfault = 'pause'\ntarget = 'leader'\nwhen = { op = 1 }\n\
            [[fault]]\nid = 3\nat_ms = 7\nfor_ms = 10\nfault = 'pause'\ntarget = 'leader'\n";
        let schedule = Schedule::parse(text).unwrap();
        assert_eq!((schedule.faults.len(), schedule.left_out.len()), (1, 2), "{:?}", schedule.left_out);
        assert_eq!(schedule.required(), ["pause"]);
        let misspelt = text.replace("for_ms = 10", "for = 10");
        assert!(Schedule::parse(&misspelt).unwrap_err().contains("no `for` here"));
        assert!(Schedule::parse(&text.replace("'slow-store'", "'slow-stove'")).is_err());
    }
}
