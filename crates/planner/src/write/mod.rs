//! Statements that write files, so that a task may run again, twice at once, or be forgotten half-way.
//!
//! ```text
//!   DataSinkExec ─write_plan─▶ WriteExec ─cut, encode─▶ stage ─▶ each task ─▶ files in the folder of its attempt
//!                     └──────▶ WriteTarget ─▶ whoever publishes the files of the attempts that won
//! ```
//!
//! DataFusion plans the statement and turns rows into bytes. Which rows go to which file, and how the files are named, is
//! decided here. Deliberately absent: final names, and whose files get them.

mod codec;
mod exec;
mod file;
mod files;
mod partition;
mod plan;
mod sink;
mod staging;

pub(crate) use codec::{decode_write, encode_write};
pub use exec::{WriteExec, Writing};
pub use plan::{WritePlan, write_plan};
pub use staging::StagedFiles;
