//! Plans that a cluster refuses, with an error that names the reason.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::datatypes::Schema,
    common::tree_node::TreeNodeRecursion,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    functions::string::expr_fn::{concat, upper},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
    },
    prelude::{SessionContext, col},
};
use polybolos_planner::{Extensions, PlanError, RuntimeFilters, decode_stage, stage_graph, task_plan};

use crate::{cluster::Cluster, data};

/// An operator that no codec knows.
#[derive(Debug)]
struct Stranger(Arc<PlanProperties>);

impl DisplayAs for Stranger {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stranger")
    }
}

impl ExecutionPlan for Stranger {
    fn name(&self) -> &'static str {
        "StrangerExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.0
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        unreachable!("it is only planned")
    }
}

fn stranger(boundedness: Boundedness) -> Arc<dyn ExecutionPlan> {
    let equivalences = EquivalenceProperties::new(Arc::new(Schema::empty()));
    let partitioning = Partitioning::UnknownPartitioning(1);
    Arc::new(Stranger(Arc::new(PlanProperties::new(
        equivalences,
        partitioning,
        EmissionType::Incremental,
        boundedness,
    ))))
}

#[test]
fn an_operator_without_a_codec_is_named() {
    let error =
        stage_graph(stranger(Boundedness::Bounded), &Extensions::default(), RuntimeFilters::OFF).unwrap_err();
    assert!(
        matches!(&error, PlanError::NotEncodable { operator, .. } if operator == "StrangerExec"),
        "{error}"
    );
}

#[test]
fn endless_input_is_refused() {
    let endless = Boundedness::Unbounded { requires_infinite_memory: false };
    let error = stage_graph(stranger(endless), &Extensions::default(), RuntimeFilters::OFF).unwrap_err();
    assert!(error.to_string().contains("never ends"), "{error}");
}

#[tokio::test]
async fn writes_and_nested_explains_are_refused() {
    let dir = data::generate();
    let cluster = Cluster::new(polybolos_planner::cluster_config(2), dir.path()).await;
    let out = dir.path().join("out.parquet");
    for sql in [format!("copy nation to '{}'", out.display()), "explain select 1".to_owned()] {
        let error = cluster.graph(&sql).await.unwrap_err();
        assert!(matches!(error, PlanError::Unsupported { .. }), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_plan_over_the_limit_is_refused() {
    let dir = data::generate();
    let cluster = Cluster::new(polybolos_planner::cluster_config(2), dir.path()).await;
    let literal = "x".repeat(polybolos_model::limits::MAX_PLAN_BYTES);
    let sql = format!("select * from nation where n_comment <> '{literal}'");
    let error = cluster.graph(&sql).await.unwrap_err();
    assert!(matches!(error, PlanError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_plan_that_nests_too_deeply_is_refused() {
    let dir = data::generate();
    let cluster = Cluster::new(polybolos_planner::cluster_config(2), dir.path()).await;
    let ctx = SessionContext::new_with_state(cluster.state.clone());
    let deep = (0..60).fold(col("n_name"), |inner, _| concat(vec![inner, col("n_comment")]));
    let deep = (0..60).fold(deep, |inner, _| upper(inner));
    let plan = ctx.table("nation").await.unwrap().select(vec![deep]).unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    let error = stage_graph(plan, &cluster.extensions, RuntimeFilters::OFF).unwrap_err();
    assert!(matches!(error, PlanError::TooDeep { .. }), "{error}");
}

#[tokio::test]
async fn damaged_bytes_and_missing_tasks_are_refused() {
    let dir = data::generate();
    let cluster = Cluster::new(polybolos_planner::cluster_config(2), dir.path()).await;
    let graph = cluster.graph("select n_name from nation").await.unwrap();
    let bytes = &graph.stages[0].plan;
    let decode = |bytes: &[u8]| decode_stage(bytes, &cluster.state, &cluster.extensions);
    assert!(matches!(decode(&bytes[..bytes.len() / 2]), Err(PlanError::Decode(_))));
    let template = decode(bytes).unwrap();
    assert!(matches!(task_plan(&template, 1), Err(PlanError::NoSuchTask { .. })));
    let scan = cluster.physical("select n_name from nation").await;
    let no_stage = datafusion_proto::bytes::physical_plan_to_bytes(scan).unwrap();
    assert!(matches!(decode(&no_stage), Err(PlanError::NotAStage { .. })));
}
