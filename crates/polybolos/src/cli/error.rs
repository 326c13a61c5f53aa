//! Why the program ends with an error, and with which exit code.

use std::{io, path::PathBuf, time::Duration};

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use polybolos_client::ClientError;
use polybolos_consensus::{Fatal, OfflineError};
use polybolos_model::{ExecutorId, JobId, ReplicaId, Term};

use super::config::ConfigError;

pub(crate) const EXIT_FAILED: u8 = 1;
pub(crate) const EXIT_USAGE: u8 = 2;
pub(crate) const EXIT_UNREACHABLE: u8 = 3;

/// Each variant says what happened, to what, and where it isn't obvious what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{flag}: {reason}")]
    Flag { flag: &'static str, reason: String },
    #[error("the file {path} can't be read: {source}", path = path.display())]
    Script { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}", path = path.display())]
    Table { path: PathBuf, reason: String },
    #[error("threads can't be started: {0}")]
    Threads(io::Error),
    #[error("signals can't be received: {0}")]
    Signals(io::Error),
    #[error("the scheduler can't start: {0}")]
    Scheduler(#[from] polybolos_scheduler::StartError),
    #[error("the scheduler stopped: {0}")]
    Replica(#[from] Fatal),
    #[error("the executor can't start: {0}")]
    Executor(#[from] polybolos_executor::StartError),
    #[error(transparent)]
    Refused(#[from] polybolos_executor::ExecutorFailure),
    #[error("the cluster can't start: {0}")]
    Embedded(#[from] polybolos::StartError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}; `--stale` shows what a single replica knows")]
    NoFreshAnswer(ClientError),
    #[error("{backup} can't be restored to {data_dir}: {source}", backup = backup.display(), data_dir = data_dir.display())]
    Restore { backup: PathBuf, data_dir: PathBuf, source: Box<OfflineError> },
    #[error("{data_dir} can't be recovered: {source}", data_dir = data_dir.display())]
    Recover { data_dir: PathBuf, source: Box<OfflineError> },
    /// A process that this one has started.
    #[error("{name} {what}{}", end_of_log(log))]
    Node { name: String, what: String, log: String },
    #[error("{what} within {} s", waited.as_secs())]
    NotInTime { what: String, waited: Duration },
    #[error("replicas that applied entry {index} hold different states: {hashes}")]
    StatesDiffer { index: u64, hashes: String },
    #[error("statement {number} at line {line}: {source}")]
    Statement { number: usize, line: usize, source: Box<CliError> },
    #[error("interrupted; query {job} is cancelled")]
    Interrupted { job: JobId },
    #[error("interrupted")]
    InterruptedEarly,
    /// Standard output is gone or full.
    #[error("the result can't be written: {0}")]
    Output(io::Error),
    #[error("the rows can't be shown: {0}")]
    Show(#[from] ArrowError),
    #[error("the prompt failed: {0}")]
    Prompt(#[from] rustyline::error::ReadlineError),
    #[error("{action} {path}: {source}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("writing {path}: {source}", path = path.display())]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
    #[error("the work was stopped before its end")]
    Stopped,
    /// Query 0 is none of TPC-H.
    #[error("query {query} fails in DataFusion itself: {source}")]
    Baseline { query: u32, source: Box<DataFusionError> },
    #[error("the in-process DataFusion can't be set up: {0}")]
    BaselineSetup(Box<DataFusionError>),
    #[error("the shuffle failed: {0}")]
    Shuffle(Box<DataFusionError>),
    #[error("query {query}: {source}")]
    Query { query: u32, source: Box<CliError> },
    #[error("{count} of the queries gave another answer than DataFusion: {queries}")]
    Mismatch { count: usize, queries: String },
    #[error("{count} runs with a killed executor failed; queries {queries}")]
    NotRecovered { count: usize, queries: String },
    #[error("there is no TPC-H query {0}")]
    NoSuchQuery(u32),
    #[error("executor {executor} was lost before it had left: {why}")]
    DrainLost { executor: ExecutorId, why: String },
    #[error("replica {leader} was elected, in term {term}, before replica {to} was: try again")]
    OtherLeads { to: u64, leader: ReplicaId, term: Term },
    #[error("the cluster has no live executor; start one with `polybolos executor`")]
    NoExecutors,
    #[error("the cluster answered {got} where {expected} is right, for: {sql}")]
    WrongAnswer { sql: String, expected: String, got: String },
}

fn end_of_log(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; the end of its log:\n{log}") }
}

impl CliError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(ConfigError::Clap { error, .. }) => {
                u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE)
            }
            Self::Config(_)
            | Self::Flag { .. }
            | Self::Script { .. }
            | Self::Table { .. }
            | Self::Threads(_)
            | Self::Signals(_)
            | Self::Scheduler(_)
            | Self::Executor(_)
            | Self::Refused(_)
            | Self::Embedded(_)
            | Self::Restore { .. }
            | Self::Recover { .. }
            | Self::Replica(Fatal { refused: true, .. })
            | Self::File { .. } => EXIT_USAGE,
            Self::Client(
                ClientError::Unreachable { .. }
                | ClientError::NoQuorum { .. }
                | ClientError::Unfollowed { .. },
            )
            | Self::NoFreshAnswer(_) => EXIT_UNREACHABLE,
            Self::Statement { source, .. } | Self::Query { source, .. } => source.exit_code(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Client(_)
            | Self::Interrupted { .. }
            | Self::InterruptedEarly
            | Self::Output(_)
            | Self::Show(_)
            | Self::Prompt(_)
            | Self::Parquet { .. }
            | Self::Stopped
            | Self::Replica(Fatal { refused: false, .. })
            | Self::Node { .. }
            | Self::NotInTime { .. }
            | Self::StatesDiffer { .. }
            | Self::Baseline { .. }
            | Self::BaselineSetup(_)
            | Self::Shuffle(_)
            | Self::Mismatch { .. }
            | Self::NotRecovered { .. }
            | Self::NoSuchQuery(_)
            | Self::NoExecutors
            | Self::OtherLeads { .. }
            | Self::DrainLost { .. }
            | Self::WrongAnswer { .. } => EXIT_FAILED,
        }
    }

    /// The reader of standard output has gone: nobody is left to tell.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Statement { source, .. } | Self::Query { source, .. } => source.is_quiet(),
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_can_tell_what_it_must_change_from_what_it_may_repeat() {
        let code = |error: CliError| error.exit_code();
        let (what, waited, states) = ("the submit", Duration::from_secs(3), String::new());
        let no_quorum = || ClientError::NoQuorum { what, waited, states: states.clone(), may_be_done: false };
        assert_eq!(code(no_quorum().into()), EXIT_UNREACHABLE);
        assert_eq!(code(CliError::NoFreshAnswer(no_quorum())), EXIT_UNREACHABLE);
        let in_a_script = CliError::Statement { number: 1, line: 1, source: Box::new(no_quorum().into()) };
        assert_eq!(code(in_a_script), EXIT_UNREACHABLE);
        let fatal = |refused| CliError::from(Fatal { reason: "of this".into(), refused });
        assert_eq!((code(fatal(true)), code(fatal(false))), (EXIT_USAGE, EXIT_FAILED));
        let refused = ClientError::Refused { message: "not a member".to_owned() };
        assert_eq!(code(refused.into()), EXIT_FAILED);
    }
}
