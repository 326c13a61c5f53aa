//! The planning context of one statement: functions and rules, options of the session and the statement, the catalogue.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use datafusion::{
    catalog::CatalogProviderList,
    config::ConfigOptions,
    error::Result,
    execution::{
        SessionState,
        cache::cache_manager::CacheManagerConfig,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::registry::FunctionRegistry,
    prelude::SessionConfig,
};
use polybolos_model::limits::MAX_TASKS_PER_STAGE;
use polybolos_planner::{Extensions, Settings, cluster_config};

use super::{nesting::MAX_RECURSION_LIMIT, object_stores::ObjectStores};
use crate::error::PlanningError;

/// Memory of the statements that a replica runs itself, all together.
const INLINE_MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// Options under this prefix belong to a process, not to a session.
const RUNTIME_PREFIX: &str = "datafusion.runtime.";

/// Options by full name, as `SET` gives them.
pub(crate) type Options = BTreeMap<String, String>;

/// Makes a [`SessionState`] for each statement out of one that is set up once.
pub(crate) struct Sessions {
    base: SessionState,
}

impl Sessions {
    /// # Errors
    /// DataFusion's runtime can't be made.
    pub(crate) fn new(extensions: &Extensions, stores: Arc<ObjectStores>) -> Result<Self> {
        let runtime = runtime(stores)?;
        Ok(Self { base: extensions.session_state(planning_config(1), runtime) })
    }

    /// A state for one statement that is planned now, on a fleet of `slots` slots (at least one is assumed).
    ///
    /// # Errors
    /// An option that doesn't exist, or a value it doesn't take.
    pub(crate) fn state(
        &self,
        slots: usize,
        options: &Options,
        catalogs: Arc<dyn CatalogProviderList>,
    ) -> Result<SessionState, PlanningError> {
        let mut state = self.base.clone();
        let mut config = planning_config(slots);
        for (option, value) in options {
            set_option(config.options_mut(), option, value)?;
        }
        *state.config_mut() = config;
        if !options.is_empty() {
            adapt_to_options(&mut state)?;
        }
        state.register_catalog_list(catalogs);
        // Fixes `now()` for the whole statement; the optimizer writes it into the plan as a constant.
        state.mark_start_execution();
        Ok(state)
    }
}

fn planning_config(slots: usize) -> SessionConfig {
    let mut config = cluster_config(slots.clamp(1, MAX_TASKS_PER_STAGE as usize));
    config.options_mut().extensions.insert(Settings::default());
    config
}

/// Listings are never cached, so that a query sees the files that are there; what was read of a file is cached
/// by path, time and size.
fn runtime(stores: Arc<ObjectStores>) -> Result<Arc<RuntimeEnv>> {
    let no_spilling = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    RuntimeEnvBuilder::new()
        .with_object_store_registry(stores)
        .with_cache_manager(CacheManagerConfig::default().with_list_files_cache_limit(0))
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(INLINE_MEMORY_BYTES)))
        .with_disk_manager_builder(no_spilling)
        .build_arc()
}

/// What DataFusion derives from options when it builds a state: table options, and functions that keep some.
fn adapt_to_options(state: &mut SessionState) -> Result<()> {
    let options = Arc::clone(state.config_options());
    let tables = state.table_options().combine_with_session_config(&options);
    *state.table_options_mut() = tables;
    let functions = state.scalar_functions().values();
    let changed: Vec<_> = functions.filter_map(|udf| udf.inner().with_updated_config(&options)).collect();
    for function in changed {
        state.register_udf(Arc::new(function))?;
    }
    Ok(())
}

/// Sets one option by its full name.
///
/// # Errors
/// It doesn't exist, doesn't take the value, or isn't one of a session.
pub(crate) fn set_option(
    options: &mut ConfigOptions,
    option: &str,
    value: &str,
) -> Result<(), PlanningError> {
    if option.starts_with(RUNTIME_PREFIX) {
        return Err(PlanningError::RuntimeOption { option: option.to_owned() });
    }
    let wrong =
        |reason: String| PlanningError::Option { option: option.to_owned(), value: value.to_owned(), reason };
    options.set(option, value).map_err(|error| wrong(error.find_root().message().into_owned()))?;
    if options.sql_parser.recursion_limit.get() > MAX_RECURSION_LIMIT {
        return Err(wrong(format!("the most is {MAX_RECURSION_LIMIT}")));
    }
    Ok(())
}

/// Options whose value isn't DataFusion's default, which an executor must set to run the plan as it was planned; and this
/// program's own that are set.
pub(crate) fn changed_options(state: &SessionState) -> Options {
    static DEFAULTS: LazyLock<Options> = LazyLock::new(|| entries(&ConfigOptions::new()).collect());
    let changed = |(key, value): &(String, String)| {
        !polybolos_model::settings::is_ours(key) && DEFAULTS.get(key) != Some(value)
    };
    let own = Settings::given(state.config_options());
    entries(state.config_options()).filter(changed).chain(own).collect()
}

fn entries(options: &ConfigOptions) -> impl Iterator<Item = (String, String)> + use<> {
    options.entries().into_iter().filter_map(|entry| entry.value.map(|value| (entry.key, value)))
}
