//! The query planned over the made-up tables as a scheduler would, to see whether it can be and into which stages.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{execution::runtime_env::RuntimeEnv, logical_expr::LogicalPlan, prelude::SessionContext};
use object_store::{ObjectStoreExt, memory::InMemory};
use polybolos_model::StageGraph;
use polybolos_planner::{
    Extensions, RuntimeFilters, cluster_config, plan_fits_one_task, single_task_config, stage_graph,
};
use url::Url;

use super::RecordedError;
use crate::{
    schedule::{Action, Schedule},
    workload::{create_statements, write_tables},
};

const TARGET_PARTITIONS: &str = "datafusion.execution.target_partitions";

pub(super) struct Planner {
    context: SessionContext,
    schedule: Schedule,
    /// Why the tables are not there, if they are not.
    wrong: Option<String>,
}

/// What came of it.
pub(super) struct Planning {
    pub(super) graph: StageGraph,
    /// Those that this program knows.
    pub(super) options: BTreeMap<String, String>,
}

/// Why it can't be planned.
pub(super) enum Unplanned {
    NoQuery(String),
    Reason(String),
}

impl Unplanned {
    pub(super) fn explained(self, notes: &[String]) -> RecordedError {
        match self {
            Self::NoQuery(sql) => RecordedError::NoQuery { sql },
            Self::Reason(reason) => RecordedError::Plan { reason, notes: notes.to_vec() },
        }
    }
}

impl Planner {
    /// With the tables of the schedule.
    pub(super) async fn new(schedule: &Schedule) -> Self {
        let store = InMemory::new();
        let mut wrong = None;
        for (path, bytes) in write_tables(schedule) {
            if let Err(error) = store.put(&path.into(), bytes.into()).await {
                wrong = Some(error.to_string());
            }
        }
        let runtime = Arc::new(RuntimeEnv::default());
        match Url::parse("sim://tables") {
            Ok(url) => drop(runtime.register_object_store(&url, Arc::new(store))),
            Err(error) => wrong = Some(error.to_string()),
        }
        let slots: u32 = schedule.cluster.slots.iter().sum();
        let state = Extensions::default().session_state(cluster_config(slots.max(1) as usize), runtime);
        let context = SessionContext::new_with_state(state);
        Self { context, schedule: schedule.clone(), wrong }
    }

    /// Options that are not known are left out.
    pub(super) async fn plan(
        self,
        sql: &str,
        given: BTreeMap<String, String>,
    ) -> Result<Planning, Unplanned> {
        if let Some(reason) = self.wrong {
            return Err(Unplanned::Reason(reason));
        }
        let views = self.schedule.ops.iter().filter_map(|op| match &op.action {
            Action::Ddl { sql } => Some(sql.clone()),
            Action::Query { .. } | Action::Status => None,
        });
        for statement in create_statements(&self.schedule).into_iter().chain(views) {
            self.context.sql(&statement).await.map_err(|error| reason(&error))?;
        }
        let mut state = self.context.state();
        let mut options = BTreeMap::new();
        for (name, value) in given {
            // The program's own settings are none of DataFusion's.
            let is_own = polybolos_model::settings::is_ours(&name);
            if is_own || state.config_mut().options_mut().set(&name, &value).is_ok() {
                options.insert(name, value);
            }
        }
        let plan = state.create_logical_plan(sql).await.map_err(|error| reason(&error))?;
        if matches!(
            plan,
            LogicalPlan::Ddl(_)
                | LogicalPlan::Dml(_)
                | LogicalPlan::Copy(_)
                | LogicalPlan::Statement(_)
                | LogicalPlan::Explain(_)
                | LogicalPlan::Analyze(_)
                | LogicalPlan::DescribeTable(_)
        ) {
            return Err(Unplanned::NoQuery(sql.chars().take(200).collect()));
        }
        let mut physical = state.create_physical_plan(&plan).await.map_err(|error| reason(&error))?;
        if !options.contains_key(TARGET_PARTITIONS) && plan_fits_one_task(&physical) {
            *state.config_mut() = single_task_config(state.config());
            physical = state.create_physical_plan(&plan).await.map_err(|error| reason(&error))?;
        }
        let graph = stage_graph(physical, &Extensions::default(), RuntimeFilters::read(&options));
        Ok(Planning { graph: graph.map_err(|error| Unplanned::Reason(error.to_string()))?, options })
    }
}

fn reason(error: &datafusion::error::DataFusionError) -> Unplanned {
    Unplanned::Reason(error.strip_backtrace())
}
