//! A query of the cluster as a leaf of a local plan.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::{
    common::{DataFusionError, Result, internal_err, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use polybolos_client::{Answer, Client, ClientError, Statement, SubmitOptions, conform};

/// Submits its plan when it is executed, and streams the rows. Each execution is a job of its own; dropping its
/// stream cancels the job.
pub struct RemoteQueryExec {
    client: Client,
    plan: Bytes,
    options: BTreeMap<String, String>,
    /// The logical plan, for people.
    display: String,
    properties: Arc<PlanProperties>,
}

impl RemoteQueryExec {
    /// `plan` is encoded, `schema` that of its rows.
    pub(crate) fn new(
        client: Client,
        plan: Bytes,
        options: BTreeMap<String, String>,
        display: String,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { client, plan, options, display, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for RemoteQueryExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteQueryExec").field("plan", &self.display).finish_non_exhaustive()
    }
}

impl DisplayAs for RemoteQueryExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteQueryExec: {}", self.display)
    }
}

impl ExecutionPlan for RemoteQueryExec {
    fn name(&self) -> &str {
        "RemoteQueryExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("RemoteQueryExec has no children") }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("RemoteQueryExec has one partition, not {partition}");
        }
        let (client, schema) = (self.client.clone(), self.schema());
        let statement = Statement::LogicalPlan(self.plan.clone());
        let options = SubmitOptions { options: self.options.clone(), ..Default::default() };
        let batches = async move {
            Ok::<_, ClientError>(match client.submit(statement, options).await? {
                Answer::Job(job) => job.stream().left_stream(),
                Answer::Inline(result) => stream::iter(result.batches.into_iter().map(Ok)).right_stream(),
            })
        };
        let announced = Arc::clone(&schema);
        let batches = stream::once(batches)
            .try_flatten()
            .and_then(move |batch| std::future::ready(conform(batch, &announced)))
            .map_err(|error| DataFusionError::External(Box::new(error)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
