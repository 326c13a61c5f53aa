//! Between the wire's messages and the model.

use polybolos_model as model;

use crate::v1;

/// A message lacks a field or holds a value that the model doesn't allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    #[error("the message lacks '{0}'")]
    Missing(&'static str),
    #[error(transparent)]
    Id(#[from] model::IdParseError),
    #[error("error class {0} is not known")]
    ErrorClass(i32),
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<model::AttemptId> for v1::AttemptId {
    fn from(id: model::AttemptId) -> Self {
        Self { term: id.term.0, counter: id.counter }
    }
}

impl From<v1::AttemptId> for model::AttemptId {
    fn from(id: v1::AttemptId) -> Self {
        Self { term: model::Term(id.term), counter: id.counter }
    }
}

/// The attempt of a message that must have one.
///
/// # Errors
/// [`ConvertError::Missing`] without one.
pub fn attempt(id: Option<v1::AttemptId>) -> Result<model::AttemptId, ConvertError> {
    id.map(Into::into).ok_or(ConvertError::Missing("attempt"))
}

impl From<model::PartitionStats> for v1::PartitionStats {
    fn from(stats: model::PartitionStats) -> Self {
        Self { rows: stats.rows, bytes: stats.bytes }
    }
}

impl From<v1::PartitionStats> for model::PartitionStats {
    fn from(stats: v1::PartitionStats) -> Self {
        Self { rows: stats.rows, bytes: stats.bytes }
    }
}

impl From<model::Share> for v1::TaskShare {
    fn from(share: model::Share) -> Self {
        let (first_map, end_map) = share.split.map_or((0, 0), |split| (split.first_map, split.end_map));
        Self {
            first: share.first,
            end: share.end,
            split_stage_id: share.split.map(|split| split.input.0),
            first_map,
            end_map,
        }
    }
}

impl From<v1::TaskShare> for model::Share {
    fn from(share: v1::TaskShare) -> Self {
        let v1::TaskShare { first, end, split_stage_id, first_map, end_map } = share;
        let split = |input| model::Split { input: model::StageId(input), first_map, end_map };
        Self { first, end, split: split_stage_id.map(split) }
    }
}

impl From<model::ErrorClass> for v1::ErrorClass {
    fn from(class: model::ErrorClass) -> Self {
        match class {
            model::ErrorClass::User => Self::User,
            model::ErrorClass::Retryable => Self::Retryable,
            model::ErrorClass::Resources => Self::Resources,
            model::ErrorClass::Internal => Self::Internal,
        }
    }
}

/// The class behind the wire's number.
///
/// # Errors
/// [`ConvertError::ErrorClass`] for a number that this version doesn't know.
pub fn error_class(number: i32) -> Result<model::ErrorClass, ConvertError> {
    match v1::ErrorClass::try_from(number) {
        Ok(v1::ErrorClass::User) => Ok(model::ErrorClass::User),
        Ok(v1::ErrorClass::Retryable) => Ok(model::ErrorClass::Retryable),
        Ok(v1::ErrorClass::Resources) => Ok(model::ErrorClass::Resources),
        Ok(v1::ErrorClass::Internal) => Ok(model::ErrorClass::Internal),
        Ok(v1::ErrorClass::Unspecified) | Err(_) => Err(ConvertError::ErrorClass(number)),
    }
}

impl From<model::TaskMetrics> for v1::TaskMetrics {
    fn from(metrics: model::TaskMetrics) -> Self {
        Self {
            rows_in: metrics.rows_in,
            bytes_in: metrics.bytes_in,
            rows_out: metrics.rows_out,
            bytes_out: metrics.bytes_out,
            spilled_bytes: metrics.spilled_bytes,
            elapsed_us: metrics.elapsed_us,
            operators: metrics.operators.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::TaskMetrics> for model::TaskMetrics {
    fn from(metrics: v1::TaskMetrics) -> Self {
        Self {
            rows_in: metrics.rows_in,
            bytes_in: metrics.bytes_in,
            rows_out: metrics.rows_out,
            bytes_out: metrics.bytes_out,
            spilled_bytes: metrics.spilled_bytes,
            elapsed_us: metrics.elapsed_us,
            operators: metrics.operators.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<model::OperatorMetrics> for v1::OperatorMetrics {
    fn from(metrics: model::OperatorMetrics) -> Self {
        let values = metrics.values.into_iter().map(|(name, value)| v1::MetricValue { name, value });
        Self { node: metrics.node, values: values.collect() }
    }
}

impl From<v1::OperatorMetrics> for model::OperatorMetrics {
    fn from(metrics: v1::OperatorMetrics) -> Self {
        Self { node: metrics.node, values: metrics.values.into_iter().map(|v| (v.name, v.value)).collect() }
    }
}

impl From<model::FetchFailure> for v1::FetchFailure {
    fn from(lost: model::FetchFailure) -> Self {
        Self {
            executor_id: lost.executor.to_string(),
            stage_id: lost.stage.0,
            map_partition: lost.map_partition,
            attempt: Some(lost.attempt.into()),
        }
    }
}

impl TryFrom<v1::FetchFailure> for model::FetchFailure {
    type Error = ConvertError;

    fn try_from(lost: v1::FetchFailure) -> Result<Self, Self::Error> {
        Ok(Self {
            executor: model::ExecutorId::new(lost.executor_id)?,
            stage: model::StageId(lost.stage_id),
            map_partition: lost.map_partition,
            attempt: attempt(lost.attempt)?,
        })
    }
}

impl From<model::TaskError> for v1::TaskFailed {
    fn from(error: model::TaskError) -> Self {
        let class = v1::ErrorClass::from(error.class).into();
        Self { class, message: error.message, fetch: error.fetch.map(Into::into) }
    }
}

impl TryFrom<v1::TaskFailed> for model::TaskError {
    type Error = ConvertError;

    fn try_from(failed: v1::TaskFailed) -> Result<Self, Self::Error> {
        let fetch = failed.fetch.map(TryInto::try_into).transpose()?;
        Ok(Self { fetch, ..Self::new(error_class(failed.class)?, failed.message) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_error_round_trips() -> Result<(), ConvertError> {
        let fetch = model::FetchFailure {
            executor: model::ExecutorId::new("executor-1")?,
            stage: model::StageId(2),
            map_partition: 3,
            attempt: model::AttemptId { term: model::Term(4), counter: 5 },
        };
        let mut error = model::TaskError::new(model::ErrorClass::Retryable, "connection reset");
        error.fetch = Some(fetch);
        assert_eq!(model::TaskError::try_from(v1::TaskFailed::from(error.clone()))?, error);
        Ok(())
    }

    #[test]
    fn an_unknown_class_is_refused() {
        assert_eq!(error_class(99), Err(ConvertError::ErrorClass(99)));
        assert_eq!(error_class(0), Err(ConvertError::ErrorClass(0)));
    }
}
