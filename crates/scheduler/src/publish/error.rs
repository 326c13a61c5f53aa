//! Why files are not published or deleted.

use std::{error::Error as StdError, io};

use datafusion::error::DataFusionError;
use object_store::Error as StoreError;

use crate::error::describe;

#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error("'{url}' is no place for files: {reason}")]
    Url { url: String, reason: String },
    #[error("there is no store for '{url}': {reason}")]
    NoStore { url: String, reason: String },
    #[error("{what} '{path}': {source}")]
    Store { what: &'static str, path: String, source: StoreError },
    #[error("{what} '{path}': {source}")]
    Disk { what: &'static str, path: String, source: io::Error },
    #[error("'{path}' has {found} bytes instead of {expected}: it is not what this statement has published")]
    InTheWay { path: String, found: u64, expected: u64 },
    #[error("{what} '{path}' took longer than {s} s")]
    Deadline { what: &'static str, path: String, s: u64 },
    #[error(
        "of partition {partition} {expected} bytes were written, and {found} are there: somebody has deleted or changed \
         files below '{folder}'"
    )]
    Incomplete { partition: u32, folder: String, expected: u64, found: u64 },
}

/// What the operating system says when it will say so again.
const PERMANENT: [io::ErrorKind; 6] = [
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::ReadOnlyFilesystem,
    io::ErrorKind::NotADirectory,
    io::ErrorKind::IsADirectory,
    io::ErrorKind::InvalidFilename,
    io::ErrorKind::Unsupported,
];

impl PublishError {
    pub(super) fn no_store(url: &str, error: &DataFusionError) -> Self {
        Self::NoStore { url: url.to_owned(), reason: describe(error) }
    }

    /// Whether another try would end so, too.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Url { .. } | Self::NoStore { .. } | Self::Incomplete { .. } | Self::InTheWay { .. } => true,
            Self::Deadline { .. } => false,
            Self::Disk { source, .. } => PERMANENT.contains(&source.kind()),
            Self::Store { source, .. } => match source {
                StoreError::PermissionDenied { .. }
                | StoreError::Unauthenticated { .. }
                | StoreError::NotSupported { .. }
                | StoreError::NotImplemented { .. }
                | StoreError::InvalidPath { .. } => true,
                other => io_error(other).is_some_and(|error| PERMANENT.contains(&error.kind())),
            },
        }
    }
}

/// The operating system's part in it, if it has one.
pub(super) fn io_error(error: &StoreError) -> Option<&io::Error> {
    let mut at: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        at = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(kind: io::ErrorKind) -> PublishError {
        let source =
            StoreError::Generic { store: "LocalFileSystem", source: Box::new(io::Error::from(kind)) };
        PublishError::Store { what: "can't copy", path: "x".to_owned(), source }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        assert!(store(io::ErrorKind::PermissionDenied).is_permanent());
        assert!(!store(io::ErrorKind::StorageFull).is_permanent());
        assert!(!store(io::ErrorKind::TimedOut).is_permanent());
        let gone = PublishError::Incomplete { partition: 1, folder: "s3://b/".into(), expected: 2, found: 1 };
        assert!(gone.is_permanent());
        assert!(!PublishError::Deadline { what: "listing", path: "x".into(), s: 1 }.is_permanent());
    }
}
