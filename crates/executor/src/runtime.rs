//! One memory pool, one spill folder and one set of caches for all tasks, and session states by their options.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::{
    error::Result,
    execution::{
        SessionState,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
};
use polybolos_model::settings;
use polybolos_planner::{Extensions, SharedBuilds, cluster_config};

use crate::{
    memory::YieldingPool,
    object_stores::{LazyObjectStores, OBJECT_STORE_OPTIONS},
};

/// Sets of options whose session states are kept: sessions mostly share one. One more replaces them all.
const MAX_SESSION_STATES: usize = 32;

/// Consumers that an out-of-memory error names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

/// What tasks share.
pub(crate) struct Runtime {
    env: Arc<RuntimeEnv>,
    extensions: Extensions,
    builds: Arc<SharedBuilds>,
    slots: usize,
    states: Mutex<BTreeMap<BTreeMap<String, String>, Arc<SessionState>>>,
}

impl Runtime {
    /// Without a `pool` of its own spillable operators share `memory_bytes` evenly, so that one of them can't starve
    /// those that can't spill.
    pub(crate) fn new(
        memory_bytes: u64,
        pool: Option<Arc<dyn MemoryPool>>,
        spill: DiskManagerMode,
        slots: u32,
        extensions: Extensions,
    ) -> Result<Self> {
        let size = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        let fair = || Arc::new(TrackConsumersPool::new(FairSpillPool::new(size), NAMED_CONSUMERS)) as _;
        let builds = Arc::new(SharedBuilds::default());
        let pool = YieldingPool::new(pool.unwrap_or_else(fair), &builds);
        let env = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
            .with_object_store_registry(Arc::new(
                LazyObjectStores::default().with_own(&extensions.object_stores),
            ))
            .build_arc()?;
        Ok(Self { env, extensions, builds, slots: slots as usize, states: Mutex::default() })
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Tables of broadcast joins, which the tasks of a stage share.
    pub(crate) fn builds(&self) -> &Arc<SharedBuilds> {
        &self.builds
    }

    /// Bytes that operators hold now, and tables that are kept for tasks to come.
    pub(crate) fn memory_used_bytes(&self) -> u64 {
        self.env.memory_pool.reserved() as u64
    }

    /// The session state for a job with `options`. Making one registers some hundred functions; so it is kept.
    ///
    /// # Errors
    /// An option isn't known or its value doesn't fit.
    pub(crate) fn session_state(&self, options: &BTreeMap<String, String>) -> Result<Arc<SessionState>> {
        if let Some(state) = self.lock().get(options) {
            return Ok(Arc::clone(state));
        }
        let mut config = cluster_config(self.slots);
        let mut stores = false;
        for (key, value) in options {
            if key.starts_with(OBJECT_STORE_OPTIONS) {
                stores = true;
            } else if !settings::is_ours(key) {
                config.options_mut().set(key, value)?;
            }
        }
        // A scan whose files can be stolen gives, when it runs a second time, only those that were not read yet. A task could
        // steal from itself only.
        config.options_mut().execution.enable_file_stream_work_stealing = false;
        let mut env = Arc::clone(&self.env);
        if stores {
            // Pool, spill folder and caches stay shared; only this job's stores are its own.
            let own = LazyObjectStores::with_options(options)?.with_own(&self.extensions.object_stores);
            let builder = RuntimeEnvBuilder::from_runtime_env(&env);
            env = builder.with_object_store_registry(Arc::new(own)).build_arc()?;
        }
        let state = Arc::new(self.extensions.session_state(config, env));
        let mut states = self.lock();
        if states.len() >= MAX_SESSION_STATES {
            states.clear();
        }
        states.insert(options.clone(), Arc::clone(&state));
        Ok(state)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<BTreeMap<String, String>, Arc<SessionState>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the test writes a file to read")]

    use datafusion::{
        physical_plan::collect,
        prelude::{CsvReadOptions, SessionContext},
    };

    use super::*;

    #[tokio::test]
    async fn a_scan_that_runs_again_gives_all_its_rows_again() {
        let spill = DiskManagerMode::default();
        let runtime = Runtime::new(1 << 26, None, spill, 1, Extensions::default()).unwrap();
        let asked = BTreeMap::from([(
            "datafusion.execution.enable_file_stream_work_stealing".to_owned(),
            "true".to_owned(),
        )]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.csv");
        std::fs::write(&file, "a\n1\n2\n3\n").unwrap();
        let state = runtime.session_state(&asked).unwrap();
        let context = SessionContext::new_with_state(SessionState::clone(&state));
        context.register_csv("t", file.to_str().unwrap(), CsvReadOptions::default()).await.unwrap();
        let plan = context.sql("SELECT a FROM t").await.unwrap().create_physical_plan().await.unwrap();
        for _ in 0..2 {
            let batches = collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
            assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 3);
        }
    }
}
