//! Runs statements on a cluster and prints what they answer.

use std::{
    io::{BufWriter, Write},
    pin::pin,
    time::Duration,
};

use futures::StreamExt;
use polybolos_client::{Answer, Client, JobHandle, SubmitOptions};
use polybolos_env::Env;
use polybolos_model::SessionId;

use super::{
    args::Format,
    error::CliError,
    output::{Printed, Printer},
    progress::{self, Progress},
    split::split,
};

/// A query whose program has gone away (killed, or cut off) is cancelled after this long.
const UNWATCHED: Duration = Duration::from_secs(30);
/// Longest wait, at the end, for the cluster to hear that its rows aren't needed any more.
const SETTLE: Duration = Duration::from_secs(2);

/// What came of one statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) printed: Printed,
    pub(crate) elapsed: Duration,
}

/// A client with `SET` options of its own.
pub(crate) struct Session {
    pub(crate) client: Client,
    env: Env,
    id: Option<SessionId>,
    format: Format,
    /// How long a statement may wait to be accepted; the client's default if `None`.
    deadline: Option<Duration>,
}

impl Session {
    pub(crate) fn new(client: Client, env: Env, format: Format, deadline: Option<Duration>) -> Self {
        let id = SessionId::new(format!("cli-{:016x}", env.random.next_u64())).ok();
        Self { client, env, id, format, deadline }
    }

    /// Runs the statements of `script` one after the other and stops at the first that fails.
    pub(crate) async fn run_script(&self, script: &str) -> Result<(), CliError> {
        let statements = split(script).all();
        let several = statements.len() > 1;
        for (at, statement) in statements.iter().enumerate() {
            if let Err(source) = self.run(&statement.text).await {
                if !several {
                    return Err(source);
                }
                return Err(CliError::Statement {
                    number: at + 1,
                    line: statement.line,
                    source: Box::new(source),
                });
            }
        }
        Ok(())
    }

    /// Runs one statement. Ctrl-C cancels it on the cluster.
    pub(crate) async fn run(&self, sql: &str) -> Result<Done, CliError> {
        let started = self.env.clock.now();
        let options = SubmitOptions {
            session: self.id.clone(),
            cancel_when_unwatched: Some(UNWATCHED),
            deadline: self.deadline,
            ..SubmitOptions::default()
        };
        let answer = tokio::select! {
            biased;
            signal = tokio::signal::ctrl_c() => {
                signal.map_err(CliError::Signals)?;
                return Err(CliError::InterruptedEarly);
            }
            answer = self.client.submit(sql, options) => answer?,
        };
        let printed = match answer {
            Answer::Inline(result) => {
                let mut printer = Printer::new(self.format, result.schema, stdout());
                for batch in &result.batches {
                    printer.write(batch)?;
                }
                printer.finish()?
            }
            Answer::Job(job) => self.rows(&job).await?,
        };
        if printed.shown < printed.rows {
            eprintln!(
                "Only the first {} of {} rows are shown; --format csv or json writes all of them.",
                printed.shown, printed.rows
            );
        }
        Ok(Done { printed, elapsed: self.env.clock.now() - started })
    }

    async fn rows(&self, job: &JobHandle) -> Result<Printed, CliError> {
        let mut rows = job.stream();
        let mut updates = rows.progress();
        let progress = Progress::new();
        let mut printer = None;
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut quiet = pin!(tokio::time::sleep(progress::QUIET));
        let (mut shown, mut watching) = (false, true);
        loop {
            tokio::select! {
                biased;
                signal = &mut interrupt => {
                    signal.map_err(CliError::Signals)?;
                    job.cancel("interrupted at the prompt").await?;
                    return Err(CliError::Interrupted { job: job.id() });
                }
                batch = rows.next() => match batch {
                    Some(batch) => {
                        let batch = batch?;
                        if self.format != Format::Table {
                            progress.make_way();
                        }
                        // The rows of `EXPLAIN ANALYZE` have another schema than the query.
                        let new = || Printer::new(self.format, batch.schema(), stdout());
                        printer.get_or_insert_with(new).write(&batch)?;
                    }
                    None => break,
                },
                changed = updates.changed(), if watching => {
                    watching = changed.is_ok();
                    if let Some(update) = updates.borrow_and_update().as_ref() {
                        progress.update(update);
                    }
                }
                () = &mut quiet, if !shown => {
                    shown = true;
                    progress.show();
                }
            }
        }
        drop(progress);
        printer.unwrap_or_else(|| Printer::new(self.format, job.schema(), stdout())).finish()
    }

    /// Tells the cluster that nothing of this session is needed any more. Best effort: it would forget by itself.
    pub(crate) async fn close(&self) {
        let goodbye = async {
            self.client.settle().await;
            if let Some(id) = &self.id {
                let forgotten = self.client.close_session(id).await;
                tracing::debug!(?forgotten, "session closed");
            }
        };
        if tokio::time::timeout(SETTLE, goodbye).await.is_err() {
            tracing::debug!("the cluster did not hear the goodbye in time");
        }
    }
}

fn stdout() -> impl Write {
    BufWriter::with_capacity(64 * 1024, std::io::stdout())
}
