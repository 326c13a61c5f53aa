//! Finished plans of queries, for the case that the same statement comes again.
//!
//! ```text
//!   statement, options ─▶ find ─▶ fleet, catalogue as before? ─▶ the stores answer as before? ─▶ the JobPlan of then
//!                          │ none           │ no                           │ no
//!                          └────────────────┴──────────────────────────────┴─▶ plan, noting what stores answer ─▶ keep
//! ```
//!
//! A plan is kept with everything that went into it: the statement and its options are its key, [`Conditions`] are of the
//! fleet and the catalogue, and [`Listings`] are what object stores said of files. A plan that anything else may have gone
//! into, as the time or a table of the embedding program, is not kept ([`scans`], [`is_own`]). What a file holds goes in
//! by its size, time and tag, as everywhere in DataFusion.
//!
//! Deliberately absent: waiting for a plan that is being made. Two statements at once are both planned.

mod keepable;
mod listen;
mod listings;
mod recent;

#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use polybolos_model::settings::PLAN_CACHE;
use polybolos_planner::Extensions;

use super::{
    Statement, Surroundings, catalogue::Snapshot, object_stores::ObjectStores, query::JobPlan,
    session::Options,
};
pub(super) use keepable::scans;
pub(super) use listen::{Notes, listening};
use listings::Listings;
use recent::Recent;

const MAX_PLANS: usize = 1_024;
/// Of plans, their statements and what is known of their files.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a statement says itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    statement: Statement,
    /// The session's, with those of the statement over them; without those of object stores, which [`Listings`] hold.
    options: Options,
}

impl Key {
    /// `None` if the statement's plan is neither looked for nor kept.
    pub(super) fn of(statement: &Statement, options: &Options, extensions: &Extensions) -> Option<Self> {
        let is_on = PLAN_CACHE.switch_in(options) && is_own(statement, extensions);
        is_on.then(|| Self { statement: statement.clone(), options: options.clone() })
    }

    /// Without the message that the statement came in.
    fn alone(self) -> Self {
        let statement = match self.statement {
            Statement::LogicalPlan(plan) => Statement::LogicalPlan(Bytes::copy_from_slice(&plan)),
            sql @ Statement::Sql(_) => sql,
        };
        Self { statement, ..self }
    }

    fn bytes(&self) -> usize {
        let statement = match &self.statement {
            Statement::Sql(sql) => sql.len(),
            Statement::LogicalPlan(plan) => plan.len(),
        };
        statement + self.options.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// Whether the embedding program has no part in planning the statement: its rules and its codec may read anything.
fn is_own(statement: &Statement, extensions: &Extensions) -> bool {
    let has_rules = !extensions.analyzer_rules.is_empty()
        || !extensions.optimizer_rules.is_empty()
        || !extensions.physical_optimizer_rules.is_empty();
    let is_decoded = matches!(statement, Statement::LogicalPlan(_)) && extensions.logical_codec.is_some();
    !has_rules && !is_decoded
}

/// What planning reads of its [`Surroundings`], beside the options.
struct Conditions {
    slots: usize,
    slot_memory_bytes: Option<u64>,
    version: u16,
    /// Weak, for an old catalogue is of no use; its place is not given to another one as long as this is here.
    snapshot: Weak<Snapshot>,
}

impl Conditions {
    fn of(around: &Surroundings) -> Self {
        Self {
            slots: around.slots,
            slot_memory_bytes: around.slot_memory_bytes,
            version: around.version,
            snapshot: Arc::downgrade(&around.snapshot),
        }
    }

    fn hold_in(&self, around: &Surroundings) -> bool {
        self.slots == around.slots
            && self.slot_memory_bytes == around.slot_memory_bytes
            && self.version == around.version
            && std::ptr::eq(self.snapshot.as_ptr(), Arc::as_ptr(&around.snapshot))
    }
}

struct Kept {
    conditions: Conditions,
    listings: Listings,
    plan: JobPlan,
}

/// The plans of one replica.
pub(super) struct PlanCache {
    plans: Mutex<Recent<Key, Arc<Kept>>>,
    #[cfg(test)]
    hits: AtomicUsize,
}

impl PlanCache {
    pub(super) fn new() -> Self {
        Self {
            plans: Mutex::new(Recent::new(MAX_PLANS, MAX_BYTES)),
            #[cfg(test)]
            hits: AtomicUsize::new(0),
        }
    }

    fn plans(&self) -> MutexGuard<'_, Recent<Key, Arc<Kept>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan that planning would make again.
    pub(super) async fn find(
        &self,
        key: &Key,
        around: &Surroundings,
        stores: &ObjectStores,
    ) -> Option<JobPlan> {
        let kept = self.plans().get(key)?;
        if !kept.conditions.hold_in(around) || !kept.listings.still_hold(stores).await {
            return None;
        }
        polybolos_model::sometimes!("a plan was taken from the cache");
        #[cfg(test)]
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(kept.plan.clone())
    }

    /// Keeps a plan that was made in `around`, if what was noted meanwhile can be asked again.
    pub(super) fn keep(
        &self,
        key: Key,
        around: &Surroundings,
        notes: &Notes,
        plan: &JobPlan,
        stores: &ObjectStores,
    ) {
        // With the store's options of before, it may not be the store that was asked.
        let Some(listings) = notes.take().filter(|listings| listings.options_hold(stores)) else { return };
        let bytes = key.bytes() + listings.bytes() + plan.bytes();
        let kept = Kept { conditions: Conditions::of(around), listings, plan: plan.clone() };
        self.plans().put(key.alone(), Arc::new(kept), bytes);
    }

    #[cfg(test)]
    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.plans().len()
    }
}
