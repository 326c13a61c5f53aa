//! A broadcast side is read, and the hash table of it built, once an executor, for all tasks of a stage there.
//!
//! ```text
//!   SharedBuilds, of an executor
//!     StageBuilds, of a prepared stage whose inputs are fixed
//!       join 1 ─▶ Build: a table, once ◀── Use: task 3, from its plan until its end
//!       join 2 ─▶ …                    ◀── Use: task 7
//! ```
//!
//! What is shared is the future of a [`HashJoinExec`]'s left side, which its builder hands on: whoever lives polls it. All else
//! of a join is its task's own: keys, filter, probe side, dynamic filter. Only joins are shared that give no row of their left
//! side on its own, as DataFusion counts such rows over all partitions of one plan, and only where the left side is the
//! output of a stage and nothing else: it holds no expression, so no filter of one task is in it.
//!
//! A table stays while a task uses it, and for the next ones until memory is short ([`SharedBuilds::drop_idle`]), nobody has
//! come for it for a while ([`SharedBuilds::drop_unused`]) or the stage goes. One that failed is nobody's but of those that
//! waited for it: the next task builds anew.

mod exec;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use datafusion::{
    common::tree_node::{Transformed, TransformedResult, TreeNode},
    error::Result,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        coalesce_partitions::CoalescePartitionsExec,
        displayable,
        empty::EmptyExec,
        joins::{HashJoinExec, PartitionMode},
    },
};
use polybolos_model::ReadMode;

use self::exec::SharedJoinExec;
use crate::{input::StageInputExec, prepare::emits_build_rows};

/// Tasks that use one table. DataFusion keeps the metrics of all of them with it, so that it is built anew then.
const MAX_USES: usize = 1_024;

/// A table that nobody has used in so many rounds is dropped.
const UNUSED_ROUNDS: u32 = 2;

/// The tables of one executor. How many there are is bounded by its prepared stages and, as what they hold is reserved in the
/// memory pool, by that.
#[derive(Debug, Default)]
pub struct SharedBuilds {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// How many stages there have been.
    stages: u64,
    builds: BTreeMap<Key, Kept>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    stage: u64,
    /// In the order of a walk over the plan of a task, which is the same for all of them.
    join: usize,
}

#[derive(Debug)]
struct Kept {
    build: Arc<Build>,
    users: usize,
    unused_rounds: u32,
}

/// The tables of one stage: of one decoded plan over outputs of one set of attempts. They go when it goes and their last
/// user has ended.
#[derive(Debug)]
pub struct StageBuilds {
    stage: u64,
    all: Arc<SharedBuilds>,
}

#[derive(Debug)]
struct Build {
    /// Its join, in words. Another one at its place has a table of its own.
    words: String,
    /// Has the table or what will become it, and neither rows nor a plan below it.
    seed: HashJoinExec,
    begun: AtomicBool,
    uses: AtomicUsize,
    /// What the first that got anything of the join got. Empty while that is not known.
    outcome: OnceLock<Outcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Built,
    /// The table, or what the first of its users did with it; that does not show.
    Failed,
}

/// A task's hold on a table.
#[derive(Debug)]
struct Use {
    build: Arc<Build>,
    key: Key,
    all: Arc<SharedBuilds>,
    /// By which the metrics of its users are told apart.
    number: usize,
    /// It was the first to ask for the table.
    begins: AtomicBool,
}

impl SharedBuilds {
    /// Room for the tables of a stage. Its tasks must have the same template, bound to the same outputs.
    pub fn stage(self: &Arc<Self>) -> StageBuilds {
        let mut tables = self.lock();
        tables.stages += 1;
        let mixed_up = polybolos_model::mutant!("broadcast-tables-mixed-up");
        StageBuilds { stage: if mixed_up { 0 } else { tables.stages }, all: Arc::clone(self) }
    }

    /// Drops the tables that no task uses, for memory is short. Whether there were any.
    pub fn drop_idle(&self) -> bool {
        // They are dropped here, outside of the lock.
        !self.take(|_, kept| kept.users == 0).is_empty()
    }

    /// A round: to be called now and then. Drops the tables that were not used for two of them.
    pub fn drop_unused(&self) {
        if polybolos_model::mutant!("broadcast-tables-stay") {
            return;
        }
        self.take(|_, kept| {
            kept.unused_rounds = if kept.users == 0 { kept.unused_rounds + 1 } else { 0 };
            kept.unused_rounds > UNUSED_ROUNDS
        });
    }

    fn take(&self, mut which: impl FnMut(&Key, &mut Kept) -> bool) -> Vec<Kept> {
        let mut tables = self.lock();
        let taken = tables.builds.iter_mut().filter_map(|(key, kept)| which(key, kept).then_some(*key));
        let taken: Vec<Key> = taken.collect();
        taken.iter().filter_map(|key| tables.builds.remove(key)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StageBuilds {
    /// The table for this join, the `number`-th of its plan, for one more task; `None` if that place is another join's.
    fn of(&self, number: usize, join: &HashJoinExec) -> Result<Option<Arc<Use>>> {
        let key = Key { stage: self.stage, join: number };
        let words = words(join);
        let mut tables = self.all.lock();
        let known = tables.builds.get_mut(&key).filter(|kept| kept.build.takes_more());
        let mut replaced = None;
        let build = match known {
            Some(kept)
                if kept.build.words == words || polybolos_model::mutant!("broadcast-tables-mixed-up") =>
            {
                (kept.users, kept.unused_rounds) = (kept.users + 1, 0);
                Arc::clone(&kept.build)
            }
            Some(_) => return Ok(None),
            None => {
                let build = Arc::new(Build::of(join, words)?);
                let kept = Kept { build: Arc::clone(&build), users: 1, unused_rounds: 0 };
                replaced = tables.builds.insert(key, kept);
                build
            }
        };
        drop(tables);
        drop(replaced);
        let number = build.uses.fetch_add(1, Relaxed);
        Ok(Some(Arc::new(Use {
            build,
            key,
            all: Arc::clone(&self.all),
            number,
            begins: AtomicBool::new(false),
        })))
    }
}

impl Drop for StageBuilds {
    fn drop(&mut self) {
        if !polybolos_model::mutant!("broadcast-tables-stay") {
            self.all.take(|key, _| key.stage == self.stage);
        }
    }
}

impl Build {
    fn of(join: &HashJoinExec, words: String) -> Result<Self> {
        let empty = |side: &Arc<dyn ExecutionPlan>| Arc::new(EmptyExec::new(side.schema())) as _;
        let seed = join
            .builder()
            .reset_state()
            .with_new_children(vec![empty(join.left()), empty(join.right())])?
            .with_filter(None)
            .build()?;
        Ok(Self {
            words,
            seed,
            begun: AtomicBool::new(false),
            uses: AtomicUsize::new(0),
            outcome: OnceLock::new(),
        })
    }

    fn takes_more(&self) -> bool {
        self.outcome.get() != Some(&Outcome::Failed) && self.uses.load(Relaxed) < MAX_USES
    }
}

impl Use {
    /// The join is about to run.
    fn begin(&self) {
        if !self.build.begun.swap(true, Relaxed) {
            self.begins.store(true, Relaxed);
        }
    }

    /// What the join gave first: rows or its end, or an error.
    fn got(&self, something: bool) {
        let outcome = if something { Outcome::Built } else { Outcome::Failed };
        // Only the first to know counts.
        let _ = self.build.outcome.set(outcome);
        let by_another = something && !self.begins.load(Relaxed);
        polybolos_model::sometimes!("a task used a table that another has built", by_another);
    }
}

impl Drop for Use {
    /// A table that failed is of no use, nor is one that was not built when its last user went: nobody would poll it.
    fn drop(&mut self) {
        let mut tables = self.all.lock();
        let mut left = None;
        if let Some(kept) = tables.builds.get_mut(&self.key)
            && Arc::ptr_eq(&kept.build, &self.build)
        {
            kept.users -= 1;
            let stays = match self.build.outcome.get() {
                Some(outcome) => *outcome == Outcome::Built,
                None => kept.users > 0,
            };
            if !stays {
                left = tables.builds.remove(&self.key);
            }
        }
        drop(tables);
        drop(left);
    }
}

/// `plan`, of one task, with the tables of its broadcast joins from `builds`.
pub(crate) fn sharing(plan: Arc<dyn ExecutionPlan>, builds: &StageBuilds) -> Result<Arc<dyn ExecutionPlan>> {
    let mut joins = 0;
    plan.transform_up(|node| {
        let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
        joins += 1;
        let used = if can_be_shared(join) { builds.of(joins, join)? } else { None };
        let Some(used) = used else { return Ok(Transformed::no(node)) };
        let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
        Ok(Transformed::yes(Arc::new(SharedJoinExec::try_new(join, left, right, used)?) as _))
    })
    .data()
}

fn can_be_shared(join: &HashJoinExec) -> bool {
    let partitions = join.right().output_partitioning().partition_count();
    *join.partition_mode() == PartitionMode::CollectLeft
        && !emits_build_rows(*join.join_type())
        && !join.null_aware
        && partitions == 1
        && reads_a_stage(join.left())
}

/// Whether `plan` is all rows of a stage, the same for every task.
fn reads_a_stage(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let gathered = plan.downcast_ref::<CoalescePartitionsExec>().map(CoalescePartitionsExec::input);
    let input = gathered.unwrap_or(plan).downcast_ref::<StageInputExec>();
    input.is_some_and(|input| input.read() == ReadMode::All)
}

fn words(join: &HashJoinExec) -> String {
    let left = displayable(join.left().as_ref()).indent(false).to_string();
    format!("{}{left}", displayable(join).one_line())
}
