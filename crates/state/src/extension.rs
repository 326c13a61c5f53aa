//! The parts of the state that came after its first stored format, each from the version on that brought it.
//!
//! A replica that knows only version 1 must be able to read every snapshot until the cluster has moved on. So what is
//! newer stands behind the body, in a section of its own, and is empty until its version is in use.

use std::collections::BTreeMap;

use polybolos_model::ExecutorId;
use serde::{Deserialize, Serialize};

/// What version 2 added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extension {
    /// By executors in the state; no zeros.
    pub(crate) refused_commands: BTreeMap<ExecutorId, u64>,
}
