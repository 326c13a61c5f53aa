//! What an embedding program adds to the engine, the same on each of its nodes.

use std::{fmt, iter, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    execution::{SessionState, SessionStateBuilder, runtime_env::RuntimeEnv},
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF},
    optimizer::{AnalyzerRule, OptimizerRule},
    physical_optimizer::{
        PhysicalOptimizerRule, filter_pushdown::FilterPushdown, optimizer::PhysicalOptimizer,
    },
    prelude::SessionConfig,
};
use datafusion_proto::{
    logical_plan::{DefaultLogicalExtensionCodec, LogicalExtensionCodec},
    physical_plan::PhysicalExtensionCodec,
};

use object_store::ObjectStore;
use url::Url;

use crate::{codec::PlannerCodec, forget::ForgetBeforeNulls, forward, held::Holding};

/// Functions, rules, codecs and tables of an embedding program. The default has none.
///
/// Schedulers, executors and the client side must be given equal ones: a plan names its functions and is decoded
/// by these codecs.
#[derive(Clone, Default)]
pub struct Extensions {
    pub scalar_udfs: Vec<Arc<ScalarUDF>>,
    pub aggregate_udfs: Vec<Arc<AggregateUDF>>,
    pub window_udfs: Vec<Arc<WindowUDF>>,
    /// For operators and expressions of the program's own.
    pub physical_codec: Option<Arc<dyn PhysicalExtensionCodec>>,
    /// For table providers and logical nodes of the program's own.
    pub logical_codec: Option<Arc<dyn LogicalExtensionCodec>>,
    pub optimizer_rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    pub analyzer_rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>>,
    pub physical_optimizer_rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    /// Registered in the default schema under these names.
    pub tables: Vec<(String, Arc<dyn TableProvider>)>,
    /// Object stores of the program's own, by the scheme and host of their URLs. They come before those that the
    /// engine knows by itself. A table on one is made as any other: `… LOCATION 'mine://host/folder/'`.
    pub object_stores: Vec<(Url, Arc<dyn ObjectStore>)>,
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions")
            .field("scalar_udfs", &self.scalar_udfs.len())
            .field("aggregate_udfs", &self.aggregate_udfs.len())
            .field("window_udfs", &self.window_udfs.len())
            .field("tables", &self.tables.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field(
                "object_stores",
                &self.object_stores.iter().map(|(url, _)| url.as_str()).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

/// DataFusion's rules for physical plans with what they get wrong mended: some don't see operators with which they go
/// wrong (`held.rs`), and nothing is believed of columns into which nulls were put (`forget.rs`).
pub fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let replacements: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 6] = [
        Arc::new(Holding::sort_limits()),
        Arc::new(Holding::distinct_limits()),
        Arc::new(Holding::top_groups()),
        Arc::new(Holding::projections()),
        Arc::new(Holding::filters(FilterPushdown::new())),
        Arc::new(Holding::filters(FilterPushdown::new_post_optimization())),
    ];
    let mended = |rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>| {
        let replacement = replacements.iter().find(|replacement| replacement.name() == rule.name());
        replacement.cloned().unwrap_or(rule)
    };
    let first: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(ForgetBeforeNulls);
    iter::once(first).chain(PhysicalOptimizer::new().rules.into_iter().map(mended)).collect()
}

impl Extensions {
    /// A session for planning on a scheduler and for decoding and running on an executor.
    ///
    /// It has DataFusion's default features with these extensions over them, and it leaves out the rule that plants
    /// dynamic filters: a filter must not span two stages, so [`crate::task_plan`] applies that rule inside each task.
    /// Its physical rules are those of [`physical_rules`].
    pub fn session_state(&self, config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionState {
        let planted_later = FilterPushdown::new_post_optimization();
        let mut physical = physical_rules();
        physical.retain(|rule| rule.name() != planted_later.name());
        let mut builder = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_physical_optimizer_rules(physical);
        builder.window_functions().get_or_insert_default().extend(forward::functions());
        // Last, so that they win over a built-in function of the same name.
        builder.scalar_functions().get_or_insert_default().extend(self.scalar_udfs.iter().cloned());
        builder.aggregate_functions().get_or_insert_default().extend(self.aggregate_udfs.iter().cloned());
        builder.window_functions().get_or_insert_default().extend(self.window_udfs.iter().cloned());
        for rule in &self.analyzer_rules {
            builder = builder.with_analyzer_rule(Arc::clone(rule));
        }
        for rule in &self.optimizer_rules {
            builder = builder.with_optimizer_rule(Arc::clone(rule));
        }
        for rule in &self.physical_optimizer_rules {
            builder = builder.with_physical_optimizer_rule(Arc::clone(rule));
        }
        let state = builder.build();
        self.register_tables(&state);
        state
    }

    fn register_tables(&self, state: &SessionState) {
        for (name, table) in &self.tables {
            let registered = state.schema_for_ref(name.as_str()).and_then(|schema| {
                schema.deregister_table(name)?;
                schema.register_table(name.clone(), Arc::clone(table))
            });
            if let Err(error) = registered {
                tracing::warn!(table = %name, %error, "the table of an extension can't be registered");
            }
        }
    }

    /// The codec of this crate's operators, over the program's own.
    pub fn codec(&self) -> Arc<dyn PhysicalExtensionCodec> {
        Arc::new(PlannerCodec::new(self.physical_codec.clone()))
    }

    /// The codec for logical plans: the program's own, or DataFusion's default.
    pub fn logical_codec(&self) -> Arc<dyn LogicalExtensionCodec> {
        self.logical_codec.clone().unwrap_or_else(|| Arc::new(DefaultLogicalExtensionCodec {}))
    }
}
