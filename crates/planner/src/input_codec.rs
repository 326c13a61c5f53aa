//! Encodes a stage input with all that its readers may rely on: how rows are partitioned, ordered, equal, constant.
//!
//! Equalities and constants are hints, so one that can't be encoded is left out; partitioning and schema are not.

use std::sync::Arc;

use datafusion::{
    common::{internal_datafusion_err, tree_node::TreeNode},
    error::Result,
    physical_expr::{
        AcrossPartitions, ConstExpr, EquivalenceProperties, PhysicalExpr, PhysicalSortExpr,
        scalar_subquery::ScalarSubqueryExpr,
    },
    physical_plan::ExecutionPlan,
};
use datafusion_proto::{
    physical_plan::{
        PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
        from_proto::{parse_physical_exprs, parse_physical_sort_exprs, parse_protobuf_partitioning},
        to_proto::{serialize_partitioning, serialize_physical_sort_exprs},
    },
    protobuf,
};
use polybolos_model::{ReadMode, StageId};

use crate::{
    codec::{PlannerCodec, decode_schema, encode_schema},
    input::StageInputExec,
    wire,
};

pub(crate) fn encode_input(
    input: &StageInputExec,
    codec: &PlannerCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<wire::Input> {
    let properties = input.properties();
    let equivalences = &properties.eq_properties;
    let encode = |expr: &Arc<dyn PhysicalExpr>| {
        if is_portable(expr) { converter.physical_expr_to_proto(expr, codec).ok() } else { None }
    };
    let mut orderings = vec![];
    for ordering in equivalences.oeq_class().iter() {
        let portable: Vec<PhysicalSortExpr> =
            ordering.iter().take_while(|key| is_portable(&key.expr)).cloned().collect();
        let keys = serialize_physical_sort_exprs(portable, codec, converter)?;
        orderings.push(wire::Ordering { keys });
    }
    let classes = equivalences.eq_group().iter().filter_map(|class| {
        let exprs: Vec<_> = class.iter().filter_map(&encode).collect();
        (exprs.len() > 1).then_some(wire::Exprs { exprs })
    });
    let constants = |everywhere: bool| {
        let exprs: Vec<_> = equivalences
            .constants()
            .iter()
            .filter(|constant| (constant.across_partitions != AcrossPartitions::Heterogeneous) == everywhere)
            .filter_map(|constant| encode(&constant.expr))
            .collect();
        (!exprs.is_empty()).then_some(wire::Exprs { exprs })
    };
    let encoded = wire::Input {
        stage: input.stage().0,
        all: input.read() == ReadMode::All,
        schema: Some(encode_schema(&input.schema())?),
        partitioning: Some(serialize_partitioning(&properties.partitioning, codec, converter)?),
        orderings,
        classes: classes.collect(),
        constant_everywhere: constants(true),
        constant_per_partition: constants(false),
    };
    // What was left out is no failure.
    codec.take_refused();
    Ok(encoded)
}

pub(crate) fn decode_input(
    input: &wire::Input,
    decode: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<StageInputExec> {
    let schema = decode_schema(input.schema.as_ref())?;
    let partitioning = parse_protobuf_partitioning(input.partitioning.as_ref(), decode, &schema, converter)?
        .ok_or_else(|| internal_datafusion_err!("a stage input without its partitioning"))?;
    let parse =
        |exprs: &[protobuf::PhysicalExprNode]| parse_physical_exprs(exprs, decode, &schema, converter);
    let mut equivalences = EquivalenceProperties::new(Arc::clone(&schema));
    for class in &input.classes {
        let mut exprs = parse(&class.exprs)?.into_iter();
        if let Some(first) = exprs.next() {
            for other in exprs {
                equivalences.add_equal_conditions(Arc::clone(&first), other)?;
            }
        }
    }
    let scopes = [
        (&input.constant_everywhere, AcrossPartitions::Uniform(None)),
        (&input.constant_per_partition, AcrossPartitions::Heterogeneous),
    ];
    for (constants, scope) in scopes {
        let exprs = parse(constants.as_ref().map_or(&[], |constants| &constants.exprs))?;
        equivalences.add_constants(exprs.into_iter().map(|expr| ConstExpr::new(expr, scope.clone())))?;
    }
    for ordering in &input.orderings {
        equivalences.add_ordering(parse_physical_sort_exprs(&ordering.keys, decode, &schema, converter)?);
    }
    let read = if input.all { ReadMode::All } else { ReadMode::Partition };
    Ok(StageInputExec::new(StageId(input.stage), read, partitioning, equivalences))
}

/// Whether an expression means the same outside of the plan that it was made for.
fn is_portable(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let local = expr.exists(|node| Ok(node.is::<ScalarSubqueryExpr>() || node.expression_id().is_some()));
    matches!(local, Ok(false))
}
