//! The planning front: from a statement to a job, a change of the catalogue, or an answer at once.
//!
//! ```text
//!   SQL · logical plan ─▶ statements ─┬─▶ query ────▶ stage graph ──▶ Planned::Job        (or kept from before: plan_cache)
//!                            ▲        ├─▶ writes ───▶ the same, with files ▶ Planned::Job
//!                            │        ├─▶ local ────▶ rows ─────────▶ Planned::Inline   (SHOW, DESCRIBE, EXPLAIN)
//!        catalogue, session ─┘        └─▶ tables, views ────────────▶ Planned::Commit   (CREATE, DROP, SET)
//! ```
//!
//! It changes nothing: what must be kept is a command for the log. Deliberately absent: the log and executors.

mod catalogue;
mod explain;
mod ipc;
mod local;
mod nesting;
mod object_stores;
mod plan_cache;
mod query;
mod relations;
mod secrets;
mod session;
mod settings;
mod statements;
mod tables;
#[cfg(test)]
mod tests;
mod views;
mod writes;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;

use bytes::Bytes;
use datafusion::{
    catalog::information_schema::INFORMATION_SCHEMA, error::DataFusionError,
    execution::object_store::ObjectStoreRegistry,
};
use object_store::ObjectStore;
use polybolos_env::Env;
use polybolos_model::SessionId;
use polybolos_planner::Extensions;
use polybolos_proto::v1::PlannedAgainst;
use polybolos_state::{Catalogue as ReplicatedCatalogue, ClusterState, Command, ExecutorState, Supposed};
use tokio::sync::{Semaphore, oneshot};
use url::Url;

pub(crate) use catalogue::Catalogue;
pub(crate) use explain::profile;
pub(crate) use ipc::encode_schema;
pub(crate) use object_stores::StoreError;
pub(crate) use query::JobPlan;
pub(crate) use relations::Relations;
pub(crate) use session::Options;
pub(crate) use writes::{Destination, count_answer};

use crate::error::{PlanningError, StartError, describe};
use catalogue::Snapshot;
use object_stores::{ObjectStores, take_job_options};
use plan_cache::PlanCache;
use session::Sessions;
use writes::Warehouse;

/// Statements that are planned at once; others wait.
const MAX_CONCURRENT_PLANNING: usize = 8;
/// Statements that wait to be planned; further ones are refused.
const MAX_WAITING_TO_PLAN: usize = 4_096;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Statement {
    Sql(String),
    /// Encoded by datafusion-proto, with its tables inside.
    LogicalPlan(Bytes),
}

impl Statement {
    /// Whether it is a query by its first word: planning it leaves nothing behind in this replica.
    pub(crate) fn is_query(&self) -> bool {
        let Self::Sql(sql) = self else { return false };
        let first = after_comments(sql).split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty());
        first.is_some_and(|word| QUERY_WORDS.iter().any(|query| word.eq_ignore_ascii_case(query)))
    }

    /// Whether any replica may plan it. Others are for the leader alone, since planning them may leave something behind, as the
    /// options of a bucket.
    pub(crate) fn is_planned_anywhere(&self) -> bool {
        matches!(self, Self::LogicalPlan(_)) || self.is_query()
    }

    /// Whether it is a query that becomes a job, for sure: it names nothing that the replica answers itself.
    pub(crate) fn is_job(&self) -> bool {
        let Self::Sql(sql) = self else { return false };
        self.is_query() && !sql.to_ascii_lowercase().contains(INFORMATION_SCHEMA)
    }
}

/// What follows the comments that a statement begins with.
fn after_comments(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start();
        let rest = match sql.get(..2) {
            Some("--") => sql.split_once('\n'),
            Some("/*") => sql.split_once("*/"),
            _ => None,
        };
        let Some((_, rest)) = rest else { return sql };
        sql = rest;
    }
}

/// First words of queries.
const QUERY_WORDS: [&str; 3] = ["SELECT", "WITH", "VALUES"];

/// What a statement comes with.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) statement: Statement,
    pub(crate) session: Option<SessionId>,
    /// Of this statement alone, over the session's.
    pub(crate) options: Options,
}

/// What becomes of a statement.
#[allow(clippy::large_enum_variant, reason = "one is made for each statement")]
pub(crate) enum Planned {
    Job(Box<JobPlan>),
    /// A command whose success is the whole answer.
    Commit(Command),
    /// An Arrow IPC stream.
    Inline(Vec<u8>),
}

/// The part of the replicated state that planning looks at.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// Of executors that take tasks, all together.
    slots: usize,
    /// The least that one of them has for each of its slots.
    slot_memory_bytes: Option<u64>,
    /// For a look ahead.
    supposed: Supposed,
    session_options: Options,
    snapshot: Arc<Snapshot>,
    /// Of entries that is in use.
    version: u16,
}

impl Surroundings {
    /// Whether a plan that was made in the other ones is right in these.
    pub(crate) fn are_as(&self, other: &Self) -> bool {
        self.slots == other.slots
            && self.slot_memory_bytes == other.slot_memory_bytes
            && self.supposed == other.supposed
            && self.session_options == other.session_options
            && Arc::ptr_eq(&self.snapshot, &other.snapshot)
            && self.version == other.version
    }

    /// What of these goes into the plan of a job, for a replica that has surroundings of its own.
    pub(crate) fn facts(&self) -> PlannedAgainst {
        PlannedAgainst {
            catalogue_version: self.snapshot.version(),
            slots: u64::try_from(self.slots).unwrap_or(u64::MAX),
            slot_memory_bytes: self.slot_memory_bytes,
            session_options: self.session_options.clone().into_iter().collect(),
            version: self.version.into(),
        }
    }
}

/// The front of one replica.
pub(crate) struct Front {
    extensions: Extensions,
    catalogue: Arc<Catalogue>,
    plans: Arc<PlanCache>,
    env: Env,
    permits: Semaphore,
    waiting: AtomicUsize,
    deadline: Duration,
    warehouse: Option<Url>,
}

impl Front {
    /// # Errors
    /// DataFusion can't be set up.
    pub(crate) fn new(
        extensions: Extensions,
        env: Env,
        deadline: Duration,
        warehouse: Option<Url>,
    ) -> Result<Self, StartError> {
        let stores = Arc::new(ObjectStores::new(&extensions.object_stores));
        let sessions = Sessions::new(&extensions, Arc::clone(&stores));
        let sessions = Arc::new(sessions.map_err(|error| StartError::Planning(describe(&error)))?);
        let catalogue = Arc::new(Catalogue::new(sessions, stores, &extensions.tables));
        let (permits, waiting) = (Semaphore::new(MAX_CONCURRENT_PLANNING), AtomicUsize::new(0));
        let plans = Arc::new(PlanCache::new());
        Ok(Self { extensions, catalogue, plans, env, permits, waiting, deadline, warehouse })
    }

    /// Reads what planning needs. Short, for it runs under the state's lock.
    pub(crate) fn surroundings(&self, state: &ClusterState, session: Option<&SessionId>) -> Surroundings {
        let live = || state.executors().filter(|executor| executor.state == ExecutorState::Live);
        let slots = live().map(|executor| executor.slots as usize).sum();
        let slot_memory_bytes =
            live().map(|executor| executor.memory_bytes / u64::from(executor.slots.max(1))).min();
        let session_options = session.and_then(|id| state.session_options(id)).cloned().unwrap_or_default();
        Surroundings {
            slots,
            slot_memory_bytes,
            supposed: Supposed::now(state),
            session_options,
            snapshot: self.catalogue.snapshot(state.catalogue()),
            version: state.version(),
        }
    }

    /// The store of a URL, reached as a job's `options` say.
    ///
    /// # Errors
    /// There is none, or the options are none of its.
    pub(crate) fn store(
        &self,
        url: &Url,
        options: &Options,
    ) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        let stores = &self.catalogue.stores;
        take_job_options(&mut options.clone(), stores)?;
        stores.get_store(url)
    }

    /// Names for completion in a prompt, ascending.
    pub(crate) fn relation_names(&self, replicated: &ReplicatedCatalogue) -> Vec<String> {
        let mut names: Vec<String> = replicated.relations.keys().map(|name| name.name.clone()).collect();
        names.extend(self.catalogue.provided_names().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Plans one statement, on the CPU threads, a bounded number at once.
    ///
    /// # Errors
    /// What is wrong with the statement, or [`PlanningError::Busy`], [`PlanningError::Deadline`].
    pub(crate) async fn plan(
        &self,
        request: Request,
        around: Surroundings,
    ) -> Result<Planned, PlanningError> {
        statements::check_size(&request.statement)?;
        let Request { statement, session, options } = request;
        let warehouse = self.warehouse.clone().map(|url| Warehouse { url, draw: self.env.random.next_u64() });
        let planner = statements::Planner {
            extensions: self.extensions.clone(),
            catalogue: Arc::clone(&self.catalogue),
            plans: Arc::clone(&self.plans),
            around,
            session,
            warehouse,
        };
        self.in_turn(planner.plan(statement, options)).await
    }

    /// Whether a statement that comes now has to wait for its turn.
    pub(crate) fn is_busy(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// What a job's statement reads, as the catalogue knows it now. In turn with the statements that are planned.
    ///
    /// # Errors
    /// As [`Front::plan`].
    pub(crate) async fn relations(
        &self,
        sql: String,
        job_options: Options,
        around: Surroundings,
    ) -> Result<Relations, PlanningError> {
        let catalogue = Arc::clone(&self.catalogue);
        self.in_turn(async move { relations::relations_of(&sql, &job_options, &catalogue, &around).await })
            .await
    }

    /// Of a job whose statement tells nothing: the secrets of its options are known all the same.
    pub(crate) fn no_relations(&self, job_options: &Options) -> Relations {
        let mut none = Relations::default();
        let secret = job_options.iter().filter(|(name, _)| object_stores::is_secret(name));
        none.secrets.add(secret.map(|(_, value)| value));
        none
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PlanningError>> + Send + 'static,
    ) -> Result<T, PlanningError> {
        let waiting = Waiting::enter(&self.waiting)?;
        let deadline = tokio::time::timeout(self.deadline, async {
            // Never closed, so an error can't happen.
            let _permit = self.permits.acquire().await.map_err(|_| PlanningError::Lost)?;
            drop(waiting);
            self.run(work).await
        });
        let ms = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
        deadline.await.unwrap_or(Err(PlanningError::Deadline { ms }))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PlanningError>> + Send + 'static,
    ) -> Result<T, PlanningError> {
        let (answer, done) = oneshot::channel();
        let work = async move {
            // An error means that nobody waits any more.
            let _ = answer.send(work.await);
        };
        // Dropping the task ends the planning of a statement that nobody waits for.
        let _task = self.env.cpu.spawn(Box::pin(work));
        done.await.unwrap_or(Err(PlanningError::Lost))
    }
}

/// Counts the statements that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(counter: &'a AtomicUsize) -> Result<Self, PlanningError> {
        let waiting = counter.fetch_add(1, Ordering::Relaxed);
        let entered = Self(counter);
        if waiting >= MAX_WAITING_TO_PLAN { Err(PlanningError::Busy { waiting }) } else { Ok(entered) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
