//! Encodes this crate's operators, and three of DataFusion's that have no encoding of their own.

use std::sync::{Arc, Mutex};

use datafusion::{
    arrow::datatypes::{Schema, SchemaRef},
    common::{
        internal_datafusion_err, not_impl_datafusion_err,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    error::Result,
    execution::TaskContext,
    logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF},
    physical_expr::{LexOrdering, PhysicalExpr},
    physical_expr_common::physical_expr::{
        proto_decode::PhysicalExprDecodeCtx, proto_encode::PhysicalExprEncodeCtx,
    },
    physical_plan::{
        ExecutionPlan,
        recursive_query::RecursiveQueryExec,
        sorts::partitioned_topk::{PartitionedTopKExec, WindowFnKind},
        work_table::WorkTableExec,
    },
};
use datafusion_proto::{
    physical_plan::{
        DefaultPhysicalExtensionCodec, PhysicalExtensionCodec, PhysicalPlanDecodeContext,
        PhysicalProtoConverterExtension,
        from_proto::{parse_physical_exprs, parse_physical_sort_exprs},
        to_proto::{serialize_physical_exprs, serialize_physical_sort_exprs},
    },
    protobuf,
};
use polybolos_model::{Exchange, StageId};
use prost::Message;

use crate::{
    forget::{ForgetExec, Forgets},
    input::StageInputExec,
    input_codec::{decode_input, encode_input},
    output::{StageOutputExec, TaskOutput},
    runtime_filter::{KeySummaryExec, RuntimeFilterExec},
    wire::{self, Kind},
    write::{WriteExec, decode_write, encode_write},
};

/// This crate's codec over the embedding program's, which sees only what neither DataFusion nor this crate knows.
#[derive(Debug)]
pub(crate) struct PlannerCodec {
    foreign: Arc<dyn PhysicalExtensionCodec>,
    /// What nobody could encode, and why: DataFusion would report it as an internal error.
    refused: Mutex<Option<(String, String)>>,
}

impl PlannerCodec {
    pub(crate) fn new(foreign: Option<Arc<dyn PhysicalExtensionCodec>>) -> Self {
        let foreign = foreign.unwrap_or_else(|| Arc::new(DefaultPhysicalExtensionCodec {}));
        Self { foreign, refused: Mutex::new(None) }
    }

    /// The operator or expression that made the last encoding fail, and the reason.
    pub(crate) fn take_refused(&self) -> Option<(String, String)> {
        self.refused.lock().ok().and_then(|mut refused| refused.take())
    }

    fn refuse(&self, what: String, error: &datafusion::error::DataFusionError) {
        if let Ok(mut refused) = self.refused.lock() {
            *refused = Some((what, error.strip_backtrace()));
        }
    }

    fn encode_known(
        &self,
        node: &Arc<dyn ExecutionPlan>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Option<Kind>> {
        if let Some(input) = node.downcast_ref::<StageInputExec>() {
            return Ok(Some(Kind::Input(encode_input(input, self, converter)?)));
        }
        if let Some(output) = node.downcast_ref::<StageOutputExec>() {
            return Ok(Some(Kind::Output(wire::Output {
                stage: output.stage().0,
                exchange: exchange_number(output.output().exchange),
                partitions: output.output().partitions,
                hash: serialize_physical_exprs(&output.output().hash, self, converter)?,
            })));
        }
        if let Some(forget) = node.downcast_ref::<ForgetExec>() {
            let constants_only = forget.forgets() == Forgets::Constants;
            return Ok(Some(Kind::Forget(wire::Forget { constants_only })));
        }
        if let Some(write) = node.downcast_ref::<WriteExec>() {
            return Ok(Some(Kind::Write(encode_write(write)?)));
        }
        if let Some(summary) = node.downcast_ref::<KeySummaryExec>() {
            let limit = u64::try_from(summary.limit()).ok();
            return Ok(Some(Kind::KeySummary(wire::Keys { limit, ..encode_keys(summary.columns()) })));
        }
        if let Some(filter) = node.downcast_ref::<RuntimeFilterExec>() {
            return Ok(Some(Kind::RuntimeFilter(encode_keys(filter.columns()))));
        }
        if let Some(query) = node.downcast_ref::<RecursiveQueryExec>() {
            return Ok(Some(Kind::Recursive(wire::Recursive {
                name: query.name().to_owned(),
                is_distinct: query.is_distinct(),
                schema: Some(encode_schema(&ExecutionPlan::schema(query))?),
            })));
        }
        if let Some(table) = node.downcast_ref::<WorkTableExec>() {
            return Ok(Some(Kind::WorkTable(wire::WorkTable {
                name: table.name().to_owned(),
                schema: Some(encode_schema(&table.schema())?),
            })));
        }
        if let Some(topk) = node.downcast_ref::<PartitionedTopKExec>() {
            return Ok(Some(Kind::PartitionedTopK(wire::PartitionedTopK {
                keys: serialize_physical_sort_exprs(topk.expr().iter().cloned(), self, converter)?,
                partition_keys: topk.partition_prefix_len() as u64,
                fetch: topk.fetch() as u64,
                rank: topk.fn_kind() == WindowFnKind::Rank,
            })));
        }
        Ok(None)
    }
}

impl PhysicalExtensionCodec for PlannerCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let kind = match self.encode_known(&node, converter)? {
            Some(kind) => kind,
            None => {
                let mut foreign = vec![];
                let name = node.name().to_owned();
                self.foreign
                    .try_encode(node, &mut foreign, converter)
                    .inspect_err(|error| self.refuse(name, error))?;
                Kind::Foreign(foreign)
            }
        };
        wire::Node { kind: Some(kind) }
            .encode(buf)
            .map_err(|error| internal_datafusion_err!("an operator can't be written: {error}"))
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = wire::Node::decode(buf)
            .map_err(|error| internal_datafusion_err!("an operator can't be read: {error}"))?;
        let decode = PhysicalPlanDecodeContext::new(ctx, self);
        match node.kind {
            Some(Kind::Input(input)) => Ok(Arc::new(decode_input(&input, &decode, converter)?)),
            Some(Kind::Output(output)) => decode_output(&output, inputs, &decode, converter),
            Some(Kind::Recursive(query)) => decode_recursive(&query, inputs),
            Some(Kind::WorkTable(table)) => {
                let schema = decode_schema(table.schema.as_ref())?;
                Ok(Arc::new(WorkTableExec::new(table.name, schema, None)?))
            }
            Some(Kind::PartitionedTopK(topk)) => decode_topk(&topk, inputs, &decode, converter),
            Some(Kind::Forget(forget)) => {
                let forgets = if forget.constants_only { Forgets::Constants } else { Forgets::Everything };
                Ok(Arc::new(ForgetExec::new(one_input(inputs)?, forgets)))
            }
            Some(Kind::Write(write)) => decode_write(write, one_input(inputs)?),
            Some(Kind::KeySummary(keys)) => {
                let limit = keys.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
                Ok(Arc::new(KeySummaryExec::try_new(one_input(inputs)?, decode_keys(&keys), limit)?))
            }
            Some(Kind::RuntimeFilter(keys)) => decode_filter(&keys, inputs),
            Some(Kind::Foreign(bytes)) => self.foreign.try_decode(&bytes, inputs, ctx, converter),
            None => Err(not_impl_datafusion_err!("an operator of a newer version of this engine")),
        }
    }

    fn try_encode_expr(
        &self,
        node: &Arc<dyn PhysicalExpr>,
        buf: &mut Vec<u8>,
        ctx: &PhysicalExprEncodeCtx<'_>,
    ) -> Result<()> {
        self.foreign
            .try_encode_expr(node, buf, ctx)
            .inspect_err(|error| self.refuse(format!("expression {node}"), error))
    }

    fn try_decode_expr(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn PhysicalExpr>],
        ctx: &PhysicalExprDecodeCtx<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        self.foreign.try_decode_expr(buf, inputs, ctx)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.foreign.try_encode_udf(node, buf)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.foreign.try_decode_udf(name, buf)
    }

    fn try_encode_higher_order_function(&self, node: &HigherOrderUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.foreign.try_encode_higher_order_function(node, buf)
    }

    fn try_decode_higher_order_function(&self, name: &str, buf: &[u8]) -> Result<Arc<HigherOrderUDF>> {
        self.foreign.try_decode_higher_order_function(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.foreign.try_encode_udaf(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.foreign.try_decode_udaf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.foreign.try_encode_udwf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.foreign.try_decode_udwf(name, buf)
    }
}

pub(crate) fn encode_schema(schema: &SchemaRef) -> Result<protobuf::Schema> {
    Ok(schema.as_ref().try_into()?)
}

pub(crate) fn decode_schema(schema: Option<&protobuf::Schema>) -> Result<SchemaRef> {
    let schema = schema.ok_or_else(|| internal_datafusion_err!("an operator without its schema"))?;
    Ok(Arc::new(Schema::try_from(schema)?))
}

fn one_input(inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
    match inputs {
        [input] => Ok(Arc::clone(input)),
        _ => Err(internal_datafusion_err!("an operator with {} inputs instead of one", inputs.len())),
    }
}

fn encode_keys(columns: &[usize]) -> wire::Keys {
    let columns = columns.iter().map(|&at| u32::try_from(at).unwrap_or(u32::MAX)).collect();
    wire::Keys { columns, limit: None }
}

fn decode_keys(keys: &wire::Keys) -> Vec<usize> {
    keys.columns.iter().map(|&at| at as usize).collect()
}

fn decode_filter(keys: &wire::Keys, inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
    let [input, told] = inputs else {
        return Err(internal_datafusion_err!("a runtime filter with {} inputs instead of two", inputs.len()));
    };
    let filter = RuntimeFilterExec::try_new(Arc::clone(input), Arc::clone(told), decode_keys(keys))?;
    Ok(Arc::new(filter))
}

fn decode_output(
    output: &wire::Output,
    inputs: &[Arc<dyn ExecutionPlan>],
    decode: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Arc<dyn ExecutionPlan>> {
    let input = one_input(inputs)?;
    let output_of = TaskOutput {
        exchange: exchange_of(output.exchange)?,
        hash: parse_physical_exprs(&output.hash, decode, &input.schema(), converter)?,
        partitions: output.partitions,
    };
    Ok(Arc::new(StageOutputExec::new(StageId(output.stage), output_of, input)))
}

fn decode_topk(
    topk: &wire::PartitionedTopK,
    inputs: &[Arc<dyn ExecutionPlan>],
    decode: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Arc<dyn ExecutionPlan>> {
    let input = one_input(inputs)?;
    let keys = parse_physical_sort_exprs(&topk.keys, decode, &input.schema(), converter)?;
    let keys = LexOrdering::new(keys).ok_or_else(|| internal_datafusion_err!("a top-k without an order"))?;
    let kind = if topk.rank { WindowFnKind::Rank } else { WindowFnKind::RowNumber };
    let (partition_keys, fetch) = (topk.partition_keys as usize, topk.fetch as usize);
    Ok(Arc::new(PartitionedTopKExec::try_new(input, keys, partition_keys, fetch, kind)?))
}

/// Gives the work tables of the recursive term their columns again, now that the whole row is known.
fn decode_recursive(
    query: &wire::Recursive,
    inputs: &[Arc<dyn ExecutionPlan>],
) -> Result<Arc<dyn ExecutionPlan>> {
    let [fixed, recursive] = inputs else {
        return Err(internal_datafusion_err!("a recursive query with {} terms instead of two", inputs.len()));
    };
    let row = decode_schema(query.schema.as_ref())?;
    let recursive = Arc::clone(recursive)
        .transform_up(|node| {
            let Some(table) = node.downcast_ref::<WorkTableExec>().filter(|table| table.name() == query.name)
            else {
                return Ok(Transformed::no(node));
            };
            let columns = table
                .schema()
                .fields()
                .iter()
                .map(|field| row.index_of(field.name()))
                .collect::<Result<Vec<_>, _>>()?;
            let table = WorkTableExec::new(query.name.clone(), Arc::clone(&row), Some(columns))?;
            Ok(Transformed::yes(Arc::new(table) as Arc<dyn ExecutionPlan>))
        })
        .data()?;
    let name = query.name.clone();
    Ok(Arc::new(RecursiveQueryExec::try_new(name, row, Arc::clone(fixed), recursive, query.is_distinct)?))
}

fn exchange_number(exchange: Exchange) -> u32 {
    match exchange {
        Exchange::Hash => 1,
        Exchange::RoundRobin => 2,
        Exchange::Single => 3,
        Exchange::Merge => 4,
        Exchange::Broadcast => 5,
        Exchange::Result => 6,
    }
}

fn exchange_of(number: u32) -> Result<Exchange> {
    match number {
        1 => Ok(Exchange::Hash),
        2 => Ok(Exchange::RoundRobin),
        3 => Ok(Exchange::Single),
        4 => Ok(Exchange::Merge),
        5 => Ok(Exchange::Broadcast),
        6 => Ok(Exchange::Result),
        _ => Err(not_impl_datafusion_err!("the exchange {number} of a newer version of this engine")),
    }
}
