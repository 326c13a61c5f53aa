//! Cuts a prepared plan into stages, inputs before readers.
//!
//! ```text
//!   RepartitionExec(hash, round-robin)  ──▶ StageInput(partition)
//!   CoalescePartitionsExec              ──▶ CoalescePartitionsExec ─ StageInput(all)      single
//!   SortPreservingMergeExec             ──▶ SortPreservingMergeExec ─ StageInput(all)     merge
//!   build side of a join with tasks     ──▶ StageInput(all)                               broadcast
//!   scalar subquery                     ──▶ StageInput(all), in every stage that uses it  broadcast
//! ```

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    error::Result as DfResult,
    logical_expr::physical_planning_context::ScalarSubqueryResults,
    physical_expr::{Partitioning, PhysicalExpr, scalar_subquery::ScalarSubqueryExpr},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        coalesce_partitions::CoalescePartitionsExec,
        execution_plan::replace_children_if_necessary,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode},
        limit::LocalLimitExec,
        projection::ProjectionExec,
        recursive_query::RecursiveQueryExec,
        repartition::RepartitionExec,
        scalar_subquery::{ScalarSubqueryExec, ScalarSubqueryLink},
        sorts::sort_preserving_merge::SortPreservingMergeExec,
    },
};
use polybolos_model::{Exchange, ReadMode, StageId, limits::MAX_STAGES};

use crate::{
    cheap::is_cheap_build,
    error::PlanError,
    input::StageInputExec,
    output::{StageOutputExec, TaskOutput},
    prepare::any_expression,
    runtime_filter::{KeySummaryExec, PlannedFilter, RuntimeFilterExec, RuntimeFilters, keys_of},
};

/// A plan of more stages gets no more runtime filters: it would be over the limit before long.
const MOST_STAGES_WITH_FILTERS: usize = MAX_STAGES / 2;

/// A stage that is complete but not encoded.
pub(crate) struct Cut {
    pub(crate) root: StageOutputExec,
    pub(crate) tasks: usize,
    pub(crate) inputs: BTreeMap<StageId, ReadMode>,
}

/// Cuts `plan`; the last stage is the result.
pub(crate) fn cut(plan: Arc<dyn ExecutionPlan>, filters: RuntimeFilters) -> Result<Vec<Cut>, PlanError> {
    let mut cutter = Cutter { cuts: vec![], scopes: vec![], filters };
    let plan = cutter.cut(plan)?;
    cutter.close(plan, TaskOutput { exchange: Exchange::Result, hash: vec![], partitions: 1 })?;
    Ok(cutter.cuts)
}

/// The whole of `plan` as the one stage of a query.
pub(crate) fn whole(plan: Arc<dyn ExecutionPlan>) -> Result<Vec<Cut>, PlanError> {
    let mut cutter = Cutter { cuts: vec![], scopes: vec![], filters: RuntimeFilters::OFF };
    cutter.close(plan, TaskOutput { exchange: Exchange::Result, hash: vec![], partitions: 1 })?;
    Ok(cutter.cuts)
}

/// Scalar subqueries that the operators of the present subtree may refer to.
struct Scope {
    results: ScalarSubqueryResults,
    links: Vec<ScalarSubqueryLink>,
    /// A stage of the subtree reads them.
    is_read: bool,
}

struct Cutter {
    cuts: Vec<Cut>,
    scopes: Vec<Scope>,
    filters: RuntimeFilters,
}

impl Cutter {
    /// What is left of `plan` in the stage that it belongs to.
    fn cut(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        // Its terms run again and again over a table in memory: it stays whole.
        if plan.is::<RecursiveQueryExec>() {
            return Ok(plan);
        }
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
            return self.cut_repartition(repartition);
        }
        if let Some(gather) = plan.downcast_ref::<CoalescePartitionsExec>()
            && partitions(gather.input()) > 1
        {
            let input = Arc::clone(gather.input());
            return self.cut_gather(plan, input, Exchange::Single);
        }
        if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>()
            && partitions(merge.input()) > 1
        {
            let input = Arc::clone(merge.input());
            if polybolos_model::mutant!("merge-unsorted") {
                let gather = Arc::new(CoalescePartitionsExec::new(Arc::clone(&input)));
                return self.cut_gather(gather, input, Exchange::Merge);
            }
            return self.cut_gather(plan, input, Exchange::Merge);
        }
        if let Some(subqueries) = plan.downcast_ref::<ScalarSubqueryExec>() {
            return self.cut_subqueries(subqueries);
        }
        let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
        if plan.is::<RuntimeFilterExec>() {
            // What it reads of the keys is a stage already.
            children[0] = self.cut(Arc::clone(&children[0]))?;
        } else if let [build, probe] = children.as_slice() {
            let filter = PlannedFilter::of(&plan, self.filters);
            let (build, mut probe) = (Arc::clone(build), Arc::clone(probe));
            let broadcasts = shares_build_side(&plan) && !is_cheap_build(&build)?;
            let build = if broadcasts { self.broadcast(build)? } else { self.cut(build)? };
            if let Some(filter) = filter {
                probe = self.filtered(probe, &build, &filter)?;
            }
            children = vec![build, self.cut(probe)?];
        } else {
            children = children.into_iter().map(|child| self.cut(child)).collect::<Result<_, _>>()?;
        }
        replace(plan, children)
    }

    /// The probe side of a join whose build side has become `build`, filtered by the keys of that: these are a stage of their own.
    fn filtered(
        &mut self,
        probe: Arc<dyn ExecutionPlan>,
        build: &Arc<dyn ExecutionPlan>,
        filter: &PlannedFilter,
    ) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        let failed = PlanError::datafusion("a runtime filter");
        let Some(rows) = keys_of(build).filter(|_| self.cuts.len() < MOST_STAGES_WITH_FILTERS) else {
            return Ok(probe);
        };
        let limit = filter.limit_of_each(partitions(rows));
        let keys = KeySummaryExec::try_new(Arc::clone(rows), filter.build_keys.clone(), limit);
        let keys: Arc<dyn ExecutionPlan> = Arc::new(keys.map_err(&failed)?);
        let tasks = partitions(&keys);
        let mut told = self.read_all(keys, Exchange::Broadcast)?;
        if tasks > 1 {
            told = Arc::new(CoalescePartitionsExec::new(told));
        }
        filter.landing.plant(&probe, &told).map_err(failed)
    }

    fn cut_repartition(
        &mut self,
        repartition: &RepartitionExec,
    ) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        let (exchange, hash) = match repartition.partitioning() {
            Partitioning::Hash(keys, _) => (Exchange::Hash, keys.clone()),
            Partitioning::RoundRobinBatch(_) => (Exchange::RoundRobin, vec![]),
            other @ (Partitioning::Range(_) | Partitioning::UnknownPartitioning(_)) => {
                return Err(PlanError::Unsupported {
                    operator: format!("RepartitionExec to {other}"),
                    reason: "only hash and round-robin exchanges exist".to_owned(),
                });
            }
        };
        // The keys of an exchange are evaluated by its writer, outside of the plan that knows the subquery.
        if hash.iter().any(|key| key.exists(|part| Ok(part.is::<ScalarSubqueryExpr>())).unwrap_or(false)) {
            return Err(PlanError::Unsupported {
                operator: "RepartitionExec".to_owned(),
                reason: "a key of the exchange is a scalar subquery".to_owned(),
            });
        }
        let input = self.cut(Arc::clone(repartition.input()))?;
        let count = repartition.partitioning().partition_count();
        if partitions(&input) == 1 && count == 1 {
            return Ok(input);
        }
        let spread = u32::try_from(count).unwrap_or(u32::MAX);
        let stage = self.close(input, TaskOutput { exchange, hash, partitions: spread })?;
        let properties = repartition.properties();
        Ok(Arc::new(StageInputExec::new(
            stage,
            ReadMode::Partition,
            properties.partitioning.clone(),
            properties.eq_properties.clone(),
        )))
    }

    /// `gather` over `input` becomes `gather` over the outputs of a stage of `input`.
    fn cut_gather(
        &mut self,
        gather: Arc<dyn ExecutionPlan>,
        input: Arc<dyn ExecutionPlan>,
        exchange: Exchange,
    ) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        let mut input = self.cut(input)?;
        // No more rows than that can be wanted of any task.
        if let Some(fetch) =
            gather.fetch().filter(|&fetch| limit_of(&input).is_none_or(|limit| limit > fetch))
        {
            input = Arc::new(LocalLimitExec::new(input, fetch));
        }
        let read = self.read_all(input, exchange)?;
        replace(gather, vec![read])
    }

    /// Makes `plan` a stage whose readers take all its rows; the result has one partition.
    fn broadcast(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        if let Some(gather) = plan.downcast_ref::<CoalescePartitionsExec>()
            && partitions(gather.input()) > 1
        {
            let input = Arc::clone(gather.input());
            return self.cut_gather(plan, input, Exchange::Broadcast);
        }
        let plan = self.cut(plan)?;
        if partitions(&plan) > 1 {
            let gather = Arc::new(CoalescePartitionsExec::new(Arc::clone(&plan)));
            let read = self.read_all(plan, Exchange::Broadcast)?;
            return replace(gather, vec![read]);
        }
        self.read_all(plan, Exchange::Broadcast)
    }

    fn read_all(
        &mut self,
        input: Arc<dyn ExecutionPlan>,
        exchange: Exchange,
    ) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        let properties = Arc::clone(input.properties());
        let stage = self.close(input, TaskOutput { exchange, hash: vec![], partitions: 1 })?;
        Ok(Arc::new(StageInputExec::new(
            stage,
            ReadMode::All,
            properties.partitioning.clone(),
            properties.eq_properties.clone(),
        )))
    }

    /// Subqueries of a plan that is one task run inside it. Otherwise each is a stage, and every stage that uses its
    /// value reads it: `close` adds a [`ScalarSubqueryExec`] there.
    fn cut_subqueries(&mut self, plan: &ScalarSubqueryExec) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        let input = Arc::clone(plan.input());
        let whole = partitions(&input) == 1 && !has_exchange(&input)?;
        let mut links = vec![];
        for link in plan.subqueries() {
            let mut subquery = Arc::clone(&link.plan);
            if whole {
                if partitions(&subquery) > 1 {
                    subquery = Arc::new(CoalescePartitionsExec::new(subquery));
                }
                subquery = self.cut(subquery)?;
            } else {
                subquery = self.broadcast(subquery)?;
            }
            links.push(ScalarSubqueryLink { plan: subquery, index: link.index });
        }
        if whole {
            return Ok(Arc::new(ScalarSubqueryExec::new(input, links, plan.results().clone())));
        }
        self.scopes.push(Scope { results: plan.results().clone(), links: links.clone(), is_read: false });
        let input = self.cut(input);
        let is_read = self.scopes.pop().is_some_and(|scope| scope.is_read);
        let input = input?;
        let used = used_results(&input).map_err(PlanError::datafusion("a scalar subquery"))?;
        if is_read && !used.contains(plan.results()) {
            return Ok(input);
        }
        Ok(Arc::new(ScalarSubqueryExec::new(input, links, plan.results().clone())))
    }

    /// Ends a stage at `plan`.
    fn close(&mut self, plan: Arc<dyn ExecutionPlan>, output: TaskOutput) -> Result<StageId, PlanError> {
        let plan = self.with_subqueries(plan)?;
        let stage = StageId(u32::try_from(self.cuts.len()).unwrap_or(u32::MAX));
        let mut inputs = BTreeMap::new();
        let collected = plan.apply(|node| {
            if let Some(input) = node.downcast_ref::<StageInputExec>() {
                inputs.insert(input.stage(), input.read());
            }
            Ok(TreeNodeRecursion::Continue)
        });
        collected.map_err(PlanError::datafusion("a stage"))?;
        let tasks = partitions(&plan);
        self.cuts.push(Cut { root: StageOutputExec::new(stage, output, plan), tasks, inputs });
        Ok(stage)
    }

    fn with_subqueries(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        let used = used_results(&plan).map_err(PlanError::datafusion("a scalar subquery"))?;
        let mut used = self.scopes.iter_mut().filter(|scope| used.contains(&scope.results));
        let Some(scope) = used.next() else { return Ok(plan) };
        if used.next().is_some() {
            return Err(PlanError::Unsupported {
                operator: "ScalarSubqueryExec".to_owned(),
                reason: "one stage uses scalar subqueries of two levels of the query".to_owned(),
            });
        }
        scope.is_read = true;
        Ok(Arc::new(ScalarSubqueryExec::new(plan, scope.links.clone(), scope.results.clone())))
    }
}

fn partitions(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.output_partitioning().partition_count()
}

/// Most rows of a partition of `plan`, if an operator near its root limits them.
fn limit_of(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let below = plan.downcast_ref::<ProjectionExec>().and_then(|projection| limit_of(projection.input()));
    plan.fetch().or(below)
}

fn replace(
    plan: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
    replace_children_if_necessary(plan, children)
        .map_err(PlanError::datafusion("an operator over a stage input"))
}

/// Whether every partition of a join reads the whole of its first child.
fn shares_build_side(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let shares = match plan.downcast_ref::<HashJoinExec>() {
        Some(join) => *join.partition_mode() == PartitionMode::CollectLeft,
        None => plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>(),
    };
    let probe = plan.children().get(1).map_or(0, |probe| partitions(probe));
    shares && probe > 1
}

/// Whether rows move between partitions anywhere in `plan`.
fn has_exchange(plan: &Arc<dyn ExecutionPlan>) -> Result<bool, PlanError> {
    let moves = plan.exists(|node| {
        let gathers = node.is::<CoalescePartitionsExec>() || node.is::<SortPreservingMergeExec>();
        let many = node.children().iter().any(|child| partitions(child) > 1);
        Ok(node.is::<RepartitionExec>() || (gathers && many) || shares_build_side(node))
    });
    moves.map_err(PlanError::datafusion("a plan"))
}

/// The scalar subqueries whose values the expressions of `plan` read, save those that it computes itself.
fn used_results(plan: &Arc<dyn ExecutionPlan>) -> DfResult<Vec<ScalarSubqueryResults>> {
    let mut used: Vec<ScalarSubqueryResults> = vec![];
    any_expression(plan, &mut |expr: &Arc<dyn PhysicalExpr>| {
        if let Some(subquery) = expr.downcast_ref::<ScalarSubqueryExpr>()
            && !used.contains(subquery.results())
        {
            used.push(subquery.results().clone());
        }
        false
    })?;
    plan.apply(|node| {
        if let Some(own) = node.downcast_ref::<ScalarSubqueryExec>() {
            used.retain(|results| results != own.results());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(used)
}
