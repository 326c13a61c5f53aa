//! From a DataFusion plan to a graph of stages, and from a stage's bytes to the plan of one task.
//!
//! ```text
//!   scheduler:  physical plan ─prepare─▶ ─cut─▶ stages ─encode─▶ StageGraph (opaque bytes)
//!   executor:   bytes ─decode_stage─▶ template ─task_plan─▶ one partition, fresh state ─▶ task_metrics
//!                                              └─sharing_task_plan─▶ but for the tables of broadcast joins
//! ```
//!
//! A stage is cut where rows must move. Task `p` runs partition `p` of its stage's plan, narrowed to a plan of exactly
//! one partition, so that operators that wait for all their partitions work and dynamic filters can be planted inside
//! the task.
//!
//! A statement that writes has a [`WriteExec`] at its root, which [`write_plan`] puts there.
//!
//! Deliberately absent: reading and writing shuffle data (`shuffle` puts its readers in place of [`StageInputExec`]),
//! statements, the catalogue, any decision at run time, and a wire format of its own for what `datafusion-proto` can
//! already encode.

mod adaptive;
mod balance;
mod cheap;
mod claims;
mod codec;
mod config;
mod cut;
mod error;
mod extensions;
mod forget;
mod forward;
mod graph;
mod held;
mod indeterminate;
mod input;
mod input_codec;
mod metrics;
mod narrow;
mod output;
mod pick;
mod prepare;
mod repeatable;
mod resume;
mod runtime_filter;
mod settings;
mod shared_build;
mod spilling;
mod task;
mod tpch;
mod width;
mod wire;
mod write;

pub use claims::{TABLES_ROOM, check_claims, check_stream};
pub use config::{
    BROADCAST_BYTES, BROADCAST_ROWS, SINGLE_TASK_BYTES, cluster_config, plan_fits_one_task,
    single_task_config,
};
pub use error::PlanError;
pub use extensions::{Extensions, physical_rules};
pub use graph::{single_task_graph, stage_graph};
pub use input::{Maps, Reads, StageInputExec};
pub use metrics::{StageProfile, explain, explain_analyze, task_metrics};
pub use output::{StageOutputExec, TaskOutput, TaskPlan};
pub use pick::PickExec;
pub use repeatable::is_repeatable;
pub use runtime_filter::RuntimeFilters;
pub use settings::Settings;
pub use shared_build::{SharedBuilds, StageBuilds};
pub use task::{
    StageTemplate, decode_stage, share_plan, sharing_task_plan, spilling_share_plan, spilling_task_plan,
    task_plan,
};
pub use tpch::tpch_query;
pub use width::partitions_for_memory;
pub use write::{StagedFiles, WriteExec, WritePlan, Writing, write_plan};
