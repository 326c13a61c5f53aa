//! A program that runs statements for this one: a line of JSON asks, a line answers, a file has the rows.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use arrow::ipc::reader::StreamReader;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    super::{error::CliError, files, tpch::Answer},
    memory::Digest,
    peak,
};

/// The engine in a process of this program.
pub(super) const DATAFUSION: &str = "datafusion";
/// For engines with a library for Python.
pub(super) const SCRIPT: &str = include_str!("../../../engines/driver.py");
/// Longest wait for an engine to start, and for one to end.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// Longest statement.
const DEADLINE: Duration = Duration::from_secs(1_800);
/// Lines of its log that an error shows.
const TAIL_LINES: usize = 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) sql: String,
    /// Where the rows are to be, as an Arrow stream. Without it a [`Digest`] is the answer.
    pub(super) answer: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    /// It is ready.
    Version(String),
    /// It is not installed.
    Missing(String),
    Ms(f64),
    /// Rows that were not kept.
    Digest {
        digest: Digest,
        ms: f64,
    },
    Error(String),
}

/// What came of a start.
pub(super) enum Start<T> {
    Ready(T),
    Missing { name: String, why: String },
}

/// It ends with its standard input, and ends what it has started.
pub(super) struct Driver {
    pub(super) name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    answer: PathBuf,
}

impl Driver {
    pub(super) async fn start(
        name: &str,
        program: &Path,
        args: &[&str],
        folder: &Path,
    ) -> Result<Start<Self>, CliError> {
        let (log, answer) = (folder.join(format!("{name}.log")), folder.join(format!("{name}.arrow")));
        let failed = |source| CliError::File { action: "starting", path: program.to_owned(), source };
        let errors = files::append(&log).map_err(failed)?;
        let mut command = Command::new(program);
        // A Ctrl-C is for this process: the other one notices the end of its standard input.
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let why = format!("there is no {}", program.display());
                return Ok(Start::Missing { name: name.to_owned(), why });
            }
            Err(error) => return Err(failed(error)),
        };
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        let lines = BufReader::new(stdout).lines();
        let mut driver = Self { name: name.to_owned(), child, stdin, lines, log, answer };
        match driver.reply(START_DEADLINE).await? {
            Reply::Version(version) => {
                eprintln!("{name}: {version}");
                Ok(Start::Ready(driver))
            }
            Reply::Missing(why) => Ok(Start::Missing { name: driver.name, why }),
            other => Err(driver.broken(&format!("began with {other:?}"))),
        }
    }

    /// DataFusion, by `bench engine` with `args`.
    pub(super) async fn datafusion(args: &[&str], folder: &Path) -> Result<Start<Self>, CliError> {
        let starting = |source| CliError::File { action: "starting", path: DATAFUSION.into(), source };
        let program = std::env::current_exe().map_err(starting)?;
        Self::start(DATAFUSION, &program, &[&["bench", "engine"], args].concat(), folder).await
    }

    /// # Errors
    /// The program is gone or says what it should not. What it says of the statement is in the inner result.
    pub(super) async fn run(&mut self, sql: &str) -> Result<Result<Answer, String>, CliError> {
        let ms = match self.ask(sql, Some(self.answer.clone())).await? {
            Reply::Ms(ms) => ms,
            Reply::Error(error) => return Ok(Err(error)),
            other => return Err(self.broken(&format!("answered {other:?}"))),
        };
        let reading = |source| CliError::File { action: "reading", path: self.answer.clone(), source };
        let bytes = files::read(&self.answer).map_err(reading)?;
        let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
        let schema = reader.schema();
        Ok(Ok(Answer { schema, batches: reader.collect::<Result<_, _>>()?, elapsed: elapsed(ms) }))
    }

    /// The same without keeping the rows: a program of this crate only.
    pub(super) async fn digest(&mut self, sql: &str) -> Result<Result<(Digest, Duration), String>, CliError> {
        match self.ask(sql, None).await? {
            Reply::Digest { digest, ms } => Ok(Ok((digest, elapsed(ms)))),
            Reply::Error(error) => Ok(Err(error)),
            other => Err(self.broken(&format!("answered {other:?}"))),
        }
    }

    async fn ask(&mut self, sql: &str, answer: Option<PathBuf>) -> Result<Reply, CliError> {
        let request = Request { sql: sql.to_owned(), answer };
        let line = serde_json::to_string(&request).map_err(|error| self.broken(&error.to_string()))? + "\n";
        let asked = self.stdin.write_all(line.as_bytes()).await;
        asked.map_err(|error| self.broken(&format!("does not listen: {error}")))?;
        self.reply(DEADLINE).await
    }

    async fn reply(&mut self, deadline: Duration) -> Result<Reply, CliError> {
        let what = || format!("{} did not answer", self.name);
        let line = timeout(deadline, self.lines.next_line()).await;
        let line = line.map_err(|_| CliError::NotInTime { what: what(), waited: deadline })?;
        let line = line.ok().flatten().ok_or_else(|| self.broken("ended by itself"))?;
        serde_json::from_str(&line).map_err(|error| self.broken(&format!("answered {line:?}: {error}")))
    }

    fn broken(&self, what: &str) -> CliError {
        let log = files::tail(&self.log, TAIL_LINES);
        CliError::Node { name: self.name.clone(), what: what.to_owned(), log }
    }

    /// The most memory that its processes have had, in bytes.
    pub(super) async fn end(mut self) -> Result<u64, CliError> {
        let peak = peak::of_all(&self.child.id().into_iter().collect::<Vec<_>>())?;
        drop(self.stdin);
        let waited = START_DEADLINE;
        let ended = timeout(waited, self.child.wait()).await;
        ended.map_err(|_| CliError::NotInTime { what: format!("{} did not end", self.name), waited })?.ok();
        Ok(peak)
    }
}

fn elapsed(ms: f64) -> Duration {
    Duration::from_secs_f64(ms.max(0.0) / 1_000.0)
}
