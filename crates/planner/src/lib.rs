//! From a DataFusion plan to a graph of stages, and from a stage's bytes to the plan of one task.
//!
//! ```text
//!   scheduler:  physical plan ─prepare─▶ ─cut─▶ stages ─encode─▶ StageGraph (opaque bytes)
//!   executor:   bytes ─decode_stage─▶ template ─task_plan─▶ one partition, fresh state ─▶ task_metrics
//! ```
//!
//! A stage is cut where rows must move. Task `p` runs partition `p` of its stage's plan, narrowed to a plan of exactly
//! one partition, so that operators that wait for all their partitions work and dynamic filters can be planted inside
//! the task.
//!
//! Deliberately absent: reading and writing shuffle data (`shuffle` puts its readers in place of [`StageInputExec`]),
//! statements, the catalogue, any decision at run time, and a wire format of its own for what `datafusion-proto` can
//! already encode.

mod codec;
mod error;
mod extensions;
mod input;
mod input_codec;
mod output;
mod wire;

pub use error::PlanError;
pub use extensions::Extensions;
pub use input::{Reads, StageInputExec};
pub use output::{StageOutputExec, TaskOutput, TaskPlan};
