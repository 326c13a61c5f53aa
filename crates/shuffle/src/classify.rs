//! From whatever a plan failed with to what the scheduler should do about it.

use std::{error::Error, io};

use arrow::error::ArrowError;
use datafusion::{error::DataFusionError, parquet::errors::ParquetError};
use polybolos_model::{ErrorClass, FetchFailure, TaskError};

use crate::{
    ShuffleError, WriteError,
    error::{FetchFailed, io_class},
};

/// How deep wrappers are opened; deeper ones count as they are.
const MAX_DEPTH: u32 = 32;

/// How the text of [`DataFusionError::ObjectStore`] begins.
const OBJECT_STORE_TEXT: &str = "Object Store error: ";

/// What was found inside an error.
struct Finding {
    class: ErrorClass,
    fetch: Option<FetchFailure>,
}

impl From<ErrorClass> for Finding {
    fn from(class: ErrorClass) -> Self {
        Self { class, fetch: None }
    }
}

/// The class of `error`, its text, and the lost upstream output if that is its cause.
pub fn task_error(error: DataFusionError) -> TaskError {
    let Finding { class, fetch } = in_datafusion(&error, MAX_DEPTH);
    TaskError { fetch, ..TaskError::new(class, error.strip_backtrace()) }
}

fn in_datafusion(error: &DataFusionError, depth: u32) -> Finding {
    if depth == 0 {
        return ErrorClass::Internal.into();
    }
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            in_datafusion(inner, depth - 1)
        }
        DataFusionError::Shared(inner) => in_datafusion(inner, depth - 1),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => in_datafusion(first, depth - 1),
            None => ErrorClass::Internal.into(),
        },
        DataFusionError::ArrowError(inner, _) => in_arrow(inner, depth - 1),
        DataFusionError::ParquetError(inner) => in_parquet(inner, depth - 1),
        DataFusionError::External(inner) => in_any(inner.as_ref(), depth - 1),
        DataFusionError::ObjectStore(_) => ErrorClass::Retryable.into(),
        DataFusionError::IoError(inner) => in_io(inner, depth - 1),
        DataFusionError::ResourcesExhausted(_) => ErrorClass::Resources.into(),
        DataFusionError::Internal(_) => ErrorClass::Internal.into(),
        // A panic inside an operator; a cancelled task of an operator only follows another error.
        DataFusionError::ExecutionJoin(_) => ErrorClass::Internal.into(),
        DataFusionError::SQL(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Plan(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Execution(_)
        | DataFusionError::Substrait(_)
        | DataFusionError::Ffi(_) => ErrorClass::User.into(),
    }
}

fn in_arrow(error: &ArrowError, depth: u32) -> Finding {
    match error {
        ArrowError::ExternalError(inner) => in_any(inner.as_ref(), depth),
        ArrowError::IoError(_, inner) => in_io(inner, depth),
        ArrowError::MemoryError(_) => ErrorClass::Resources.into(),
        // Values that a kernel refuses, and files that are not what they say.
        _ => ErrorClass::User.into(),
    }
}

fn in_parquet(error: &ParquetError, depth: u32) -> Finding {
    match error {
        ParquetError::External(inner) => in_any(inner.as_ref(), depth),
        // DataFusion makes a text of what its reader of a file's metadata met (datasource-parquet, `reader.rs`).
        ParquetError::General(text) if text.contains(OBJECT_STORE_TEXT) => ErrorClass::Retryable.into(),
        // A damaged file stays damaged.
        _ => ErrorClass::User.into(),
    }
}

fn in_io(error: &io::Error, depth: u32) -> Finding {
    match error.get_ref() {
        Some(inner) if known(inner) => in_any(inner, depth.saturating_sub(1)),
        _ => io_class(error).into(),
    }
}

fn known(error: &(dyn Error + 'static)) -> bool {
    error.is::<DataFusionError>()
        || error.is::<FetchFailed>()
        || error.is::<ShuffleError>()
        || error.is::<ArrowError>()
}

/// An error of no type that we know is foreign code's (a table provider's, an object store's): trying again is safe,
/// because the number of attempts is limited.
fn in_any(error: &(dyn Error + 'static), depth: u32) -> Finding {
    let mut next = Some(error);
    for depth in (0..depth).rev() {
        let Some(error) = next else { break };
        if let Some(error) = error.downcast_ref::<FetchFailed>() {
            return Finding { class: ErrorClass::Retryable, fetch: Some(error.lost.clone()) };
        } else if let Some(error) = error.downcast_ref::<DataFusionError>() {
            return in_datafusion(error, depth);
        } else if let Some(WriteError::Query(error)) = error.downcast_ref::<WriteError>() {
            return in_datafusion(error, depth);
        } else if let Some(error) = error.downcast_ref::<ShuffleError>() {
            return error.class().into();
        } else if let Some(error) = error.downcast_ref::<ArrowError>() {
            return in_arrow(error, depth);
        } else if let Some(error) = error.downcast_ref::<ParquetError>() {
            return in_parquet(error, depth);
        } else if let Some(error) = error.downcast_ref::<io::Error>() {
            return in_io(error, depth);
        }
        next = error.source();
    }
    ErrorClass::Retryable.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use polybolos_model::{AttemptId, ExecutorId, StageId, Term};

    use super::*;
    use crate::FetchError;

    fn lost() -> FetchFailure {
        FetchFailure {
            executor: ExecutorId::new("e1").unwrap(),
            stage: StageId(3),
            map_partition: 4,
            attempt: AttemptId { term: Term(1), counter: 9 },
        }
    }

    fn failed() -> DataFusionError {
        FetchFailed { lost: lost(), partition: 2, cause: FetchError::Rows { rows: 1, expected: 2 } }.into()
    }

    fn class(error: DataFusionError) -> ErrorClass {
        task_error(error).class
    }

    #[test]
    fn a_lost_output_is_found_through_every_wrapper() {
        let wrapped = [
            failed(),
            failed().context("while joining"),
            DataFusionError::Shared(Arc::new(failed())),
            DataFusionError::Collection(vec![failed(), DataFusionError::Internal("later".into())]),
            DataFusionError::from(ArrowError::ExternalError(Box::new(failed()))),
            DataFusionError::ParquetError(Box::new(ParquetError::External(Box::new(failed())))),
            DataFusionError::External(Box::new(DataFusionError::Shared(Arc::new(failed().context("deep"))))),
            DataFusionError::IoError(io::Error::other(failed())),
        ];
        for error in wrapped {
            let task = task_error(error);
            assert_eq!((task.class, task.fetch), (ErrorClass::Retryable, Some(lost())), "{}", task.message);
        }
    }

    #[test]
    fn a_store_that_does_not_answer_is_found_in_a_text_too() {
        let store = datafusion::object_store::Error::Generic { store: "S3", source: "503".into() };
        let text = DataFusionError::ObjectStore(Box::new(store)).to_string();
        let metadata = ParquetError::General(format!("Failed to fetch metadata for file t.parquet: {text}"));
        assert_eq!(class(DataFusionError::ParquetError(Box::new(metadata))), ErrorClass::Retryable);
        let damaged = ParquetError::General("Invalid Parquet file. Corrupt footer".to_owned());
        assert_eq!(class(DataFusionError::ParquetError(Box::new(damaged))), ErrorClass::User);
    }

    #[test]
    fn errors_fall_into_their_class() {
        assert_eq!(class(DataFusionError::Execution("bad value".into())), ErrorClass::User);
        assert_eq!(class(DataFusionError::from(ArrowError::DivideByZero)), ErrorClass::User);
        assert_eq!(
            class(DataFusionError::from(ArrowError::CastError("x".into())).context("in")),
            ErrorClass::User
        );
        assert_eq!(
            class(DataFusionError::ParquetError(Box::new(ParquetError::EOF("cut".into())))),
            ErrorClass::User
        );
        assert_eq!(class(DataFusionError::ResourcesExhausted("memory".into())), ErrorClass::Resources);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(
            class(DataFusionError::from(ArrowError::IoError("w".into(), full))),
            ErrorClass::Resources
        );
        assert_eq!(class(io::Error::from(io::ErrorKind::ConnectionReset).into()), ErrorClass::Retryable);
        assert_eq!(class(DataFusionError::External("a provider's own".into())), ErrorClass::Retryable);
        assert_eq!(class(DataFusionError::Internal("bug".into())), ErrorClass::Internal);
    }
}
