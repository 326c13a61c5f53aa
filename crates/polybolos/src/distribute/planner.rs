//! From an optimised logical plan to a query of the cluster.

use std::{fmt, hash::Hash, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{Session, information_schema::INFORMATION_SCHEMA},
    common::{DFSchemaRef, Result, internal_err, tree_node::TreeNodeRecursion},
    execution::context::QueryPlanner,
    logical_expr::{
        DmlStatement, Explain, Expr, Extension, LogicalPlan, UserDefinedLogicalNode,
        UserDefinedLogicalNodeCore, WriteOp, dml::CopyTo, physical_planning_context::PhysicalPlanningContext,
    },
    physical_plan::ExecutionPlan,
    physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner},
};
use datafusion_proto::{
    bytes::logical_plan_to_bytes_with_extension_codec, logical_plan::LogicalExtensionCodec,
};
use polybolos_client::Client;

use super::{exec::RemoteQueryExec, options};

/// Plans whole queries as one [`RemoteQueryExec`]. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RemotePlanner {
    client: Client,
    codec: Arc<dyn LogicalExtensionCodec>,
}

impl fmt::Debug for RemotePlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotePlanner").field("client", &self.client).finish_non_exhaustive()
    }
}

impl RemotePlanner {
    pub(crate) fn new(client: Client, codec: Arc<dyn LogicalExtensionCodec>) -> Self {
        Self { client, codec }
    }

    fn remote(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let bytes = logical_plan_to_bytes_with_extension_codec(plan, self.codec.as_ref())?;
        let schema = Arc::clone(plan.schema().inner());
        let options = options::changed(session.config());
        let display = plan.display_indent().to_string().replace('\n', "; ");
        Ok(Arc::new(RemoteQueryExec::new(self.client.clone(), bytes, options, display, schema)))
    }

    /// Plans `plan` here, whose [`RemoteNode`]s become queries of the cluster.
    async fn local(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(self.clone())]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl QueryPlanner for RemotePlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(write) = local_write(plan)? {
            return self.local(&write, session).await;
        }
        if let LogicalPlan::Explain(explain) = plan
            && let Some(write) = local_write(&explain.plan)?
        {
            let explain = Explain { plan: Arc::new(write), ..explain.clone() };
            return self.local(&LogicalPlan::Explain(explain), session).await;
        }
        match plan {
            // Other writes change the table of this session; these two only describe.
            LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::DescribeTable(_) => self.local(plan, session).await,
            query => match Reads::of(query)? {
                Reads { catalogue: 1.., others: 0 } => self.local(query, session).await,
                Reads { .. } => self.remote(query, session),
            },
        }
    }
}

#[async_trait]
impl ExtensionPlanner for RemotePlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match node.as_any().downcast_ref::<RemoteNode>() {
            Some(node) => self.remote(&node.query, session).map(Some),
            None => Ok(None),
        }
    }
}

/// What a plan reads.
struct Reads {
    /// Tables of `information_schema`, which tell about this session.
    catalogue: usize,
    others: usize,
}

impl Reads {
    fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut reads = Self { catalogue: 0, others: 0 };
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let ours = scan.table_name.schema() == Some(INFORMATION_SCHEMA);
                *(if ours { &mut reads.catalogue } else { &mut reads.others }) += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(reads)
    }
}

/// A statement that writes here, over a query of the cluster; `None` for others.
fn local_write(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Dml(dml) if matches!(dml.op, WriteOp::Insert(_)) => {
            let input = Arc::new(remote_node(&dml.input)?);
            let (name, target, op) = (dml.table_name.clone(), Arc::clone(&dml.target), dml.op.clone());
            Some(LogicalPlan::Dml(DmlStatement::new(name, target, op, input)))
        }
        LogicalPlan::Copy(copy) => {
            let input = Arc::new(remote_node(&copy.input)?);
            Some(LogicalPlan::Copy(CopyTo { input, ..copy.clone() }))
        }
        _ => None,
    })
}

/// The query below a write: for the cluster if it reads any table.
fn remote_node(query: &LogicalPlan) -> Result<LogicalPlan> {
    if Reads::of(query)?.others == 0 {
        return Ok(query.clone());
    }
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(RemoteNode { query: query.clone() }) }))
}

/// A query for the cluster below a write that happens here. Hides its query, so that nothing of it is planned here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
struct RemoteNode {
    query: LogicalPlan,
}

impl UserDefinedLogicalNodeCore for RemoteNode {
    fn name(&self) -> &str {
        "RemoteQuery"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.query.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteQuery")
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if exprs.is_empty() && inputs.is_empty() {
            return Ok(self.clone());
        }
        internal_err!("RemoteQuery has no inputs")
    }
}
