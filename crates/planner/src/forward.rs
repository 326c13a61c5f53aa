//! Window functions that are never turned round.
//!
//! To spare a sort DataFusion computes a window over rows in the opposite order, with functions that are told so. Its
//! plan codec (datafusion-proto 55.2) does not carry what they are told: on an executor a `lead` that was turned round
//! is a `lag` of the wrong sign. So these functions say that they can't be turned round, which costs a sort now and then.
//! To be dropped with the version whose codec carries it. Found by the simulator.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DataType, FieldRef},
    error::Result,
    functions_window::{
        lead_lag::{lag_udwf, lead_udwf},
        nth_value::nth_value_udwf,
    },
    logical_expr::{
        Documentation, LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF, WindowUDFImpl,
        function::{
            ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
        },
    },
    physical_expr::PhysicalExpr,
};

/// The functions of DataFusion whose evaluators ask whether they are turned round, to be registered in their place.
pub(crate) fn functions() -> [Arc<WindowUDF>; 3] {
    [lag_udwf(), lead_udwf(), nth_value_udwf()].map(|function| Arc::new(Forward(function).into()))
}

/// Its function, in the order of the rows only.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Forward(Arc<WindowUDF>);

impl WindowUDFImpl for Forward {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.0.inner().expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        self.0.inner().partition_evaluator(args)
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        self.0.inner().simplify()
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        self.0.inner().field(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.inner().coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        ReversedUDWF::NotSupported
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.inner().documentation()
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.0.inner().limit_effect(args)
    }
}
