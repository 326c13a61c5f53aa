//! `scheduler` and `executor`: one node of a cluster, until it is told to stop. An executor hands over first.

use std::{path::Path, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use polybolos::with_table_codec;
use polybolos_env::Env;
use polybolos_executor::{DurableMode, Executor, ExecutorConfig, ShuffleDurable};
use polybolos_model::{ExecutorId, ReplicaId};
use polybolos_planner::Extensions;
use polybolos_scheduler::{LogKind, Patience, Scheduler, SchedulerConfig, Snapshots, Store, Timing};
use polybolos_shuffle::Compression;
use polybolos_state::ENTRY_VERSION;
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

use super::{
    args::{
        ChildArgs, CompressionArg, DurableModeArg, ExecutorArgs, ExecutorCommand, PatienceArgs, SameHostArg,
        SchedulerArgs, TimingArgs,
    },
    drain,
    error::CliError,
    files, values,
};

/// Threads that plan statements, beside those that serve the network.
const PLANNING_THREADS: usize = 2;
/// Longest time that a graceful stop takes; the process ends then in any case.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// The drawn name of an executor, in its work folder.
const ID_FILE: &str = "executor-id";

/// A process may open as many files and connections as the machine allows it. By default that is 1,024 until it asks,
/// which a thousand idle clients use up.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

pub(crate) async fn scheduler(args: SchedulerArgs) -> Result<(), CliError> {
    raise_descriptors();
    let cluster = values::members(&args.cluster)
        .map_err(|error| CliError::Flag { flag: "--cluster", reason: error.to_string() })?;
    let cluster = cluster.into_iter().map(|(id, at)| (ReplicaId(id), at)).collect();
    let (timing, version) = (timing(args.timing)?, args.hold_version.unwrap_or(ENTRY_VERSION));
    let (store, snapshots) = (Store::default(), Snapshots::default());
    let log = LogKind::Durable { cluster, data_dir: args.data_dir, store, timing, snapshots, version };
    let env = Env::production(PLANNING_THREADS).map_err(CliError::Threads)?;
    let mut stop = Stop::new(args.child)?;
    let mut config = SchedulerConfig::new(ReplicaId(args.id), args.listen, log);
    config.heartbeat_interval = args.patience.executor_heartbeat;
    config.patience = patience(args.patience);
    config.max_queued_jobs = args.max_queued_jobs;
    (config.warehouse, config.sweep_grace) = (args.warehouse, args.sweep_grace);
    let scheduler = Scheduler::start(config, env, with_table_codec(Extensions::default())).await?;
    ready(&scheduler.address());
    let failed = tokio::select! {
        biased;
        _ = stop.wait() => None,
        fatal = scheduler.failed() => Some(fatal),
    };
    within_deadline(scheduler.shutdown()).await;
    failed.map_or(Ok(()), |fatal| Err(fatal.into()))
}

/// Runs one, or asks one to leave.
pub(crate) async fn executor(mut args: ExecutorArgs) -> Result<(), CliError> {
    match args.command.take() {
        Some(ExecutorCommand::Drain(args)) => drain::run(args).await,
        None => run_executor(args).await,
    }
}

async fn run_executor(args: ExecutorArgs) -> Result<(), CliError> {
    raise_descriptors();
    // Both are required without a subcommand.
    let (listen, work_dir) = (args.listen.unwrap_or_default(), args.work_dir.unwrap_or_default());
    let slots = args.slots.unwrap_or_else(cores);
    // Query work has as many threads as there are slots, so that a slot is a core.
    let env = Env::production(slots as usize).map_err(CliError::Threads)?;
    let id = match args.id {
        Some(id) => id,
        None => remembered_id(&work_dir, &env)?,
    };
    let mut stop = Stop::new(args.child)?;
    let mut config = ExecutorConfig::new(id, args.cluster.schedulers, work_dir);
    config.listen = listen;
    config.advertise = args.advertise;
    config.slots = slots;
    config.memory_bytes = args.memory.bytes;
    if let Some(shuffle) = args.shuffle_memory {
        config.shuffle_memory_fraction = shuffle.bytes as f64 / args.memory.bytes as f64;
    }
    config.labels = args.labels.into_iter().collect();
    config.shuffle_durable = args.shuffle_durable.map(|url| ShuffleDurable {
        url,
        mode: match args.shuffle_durable_mode {
            DurableModeArg::Background => DurableMode::Background,
            DurableModeArg::Before => DurableMode::Before,
        },
    });
    config.compression = match args.compression {
        CompressionArg::None => Compression::None,
        CompressionArg::Lz4 => Compression::Lz4,
    };
    config.host_files = args.same_host == SameHostArg::Files;
    let executor = Executor::start(config, env, with_table_codec(Extensions::default())).await?;
    ready(&executor.address());
    let mut status = executor.watch();
    // Nobody waits for another word: it has failed, it was let go, or it has stopped (an error).
    let mut ended = async || {
        let ended = status.wait_for(|status| status.failure.is_some() || status.left).await;
        ended.ok().and_then(|status| status.failure.clone())
    };
    let mut failed = None;
    let drains = tokio::select! {
        biased;
        signal = stop.wait() => signal == Signal::Terminate && !args.drain_deadline.is_zero(),
        failure = ended() => {
            failed = failure;
            false
        }
    };
    if drains {
        eprintln!(
            "handing over to other executors, for up to {} s; a second signal ends this at once",
            args.drain_deadline.as_secs()
        );
        executor.drain(args.drain_deadline);
        failed = tokio::select! {
            biased;
            _ = stop.wait() => None,
            failure = ended() => failure,
        };
    }
    within_deadline(executor.shutdown()).await;
    failed.map_or(Ok(()), |failure| Err(failure.into()))
}

async fn within_deadline(stop: impl Future<Output = ()>) {
    if tokio::time::timeout(STOP_DEADLINE, stop).await.is_err() {
        eprintln!("not everything stopped within {} s; ending anyway", STOP_DEADLINE.as_secs());
    }
}

/// What scripts wait for.
fn ready(address: &str) {
    eprintln!("listening on {address}");
}

pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// The name that the work folder holds, else a new one that it then holds: a restarted executor is the same one.
fn remembered_id(work_dir: &Path, env: &Env) -> Result<ExecutorId, CliError> {
    let path = work_dir.join(ID_FILE);
    let fail = |action| {
        let path = path.clone();
        move |source| CliError::File { action, path, source }
    };
    let text = match files::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("executor-{:08x}", env.random.below(1 << 32));
            files::create_dir_all(work_dir).map_err(fail("making the folder of"))?;
            files::write_aside_and_rename(&path, &text).map_err(fail("writing"))?;
            text
        }
        Err(error) => return Err(fail("reading")(error)),
    };
    let named = ExecutorId::new(text.trim());
    named.map_err(|error| fail("reading")(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))
}

/// Whether they go together the scheduler checks.
fn patience(args: PatienceArgs) -> Patience {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Patience {
        executor_timeout_ms: ms(args.executor_timeout),
        stream_grace_ms: ms(args.stream_grace),
        no_executor_wait_ms: ms(args.no_executor_wait),
    }
}

/// # Errors
/// Times under which a healthy leader would be unseated.
fn timing(args: TimingArgs) -> Result<Timing, CliError> {
    let TimingArgs { heartbeat_ms, lease_ms, election_min_ms, election_max_ms } = args;
    let wrong = |flag, reason: String| Err(CliError::Flag { flag, reason });
    if heartbeat_ms >= lease_ms {
        return wrong("--heartbeat-ms", format!("{heartbeat_ms} is not below --lease-ms {lease_ms}"));
    }
    if election_min_ms < lease_ms {
        return wrong("--election-min-ms", format!("{election_min_ms} is below --lease-ms {lease_ms}"));
    }
    if election_max_ms <= election_min_ms {
        let reason = format!("{election_max_ms} is not above --election-min-ms {election_min_ms}");
        return wrong("--election-max-ms", reason);
    }
    let ms = Duration::from_millis;
    Ok(Timing {
        heartbeat: ms(heartbeat_ms),
        lease: ms(lease_ms),
        election_min: ms(election_min_ms),
        election_max: ms(election_max_ms),
    })
}

/// SIGTERM or SIGINT; for a child process, also the end of its standard input.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    child: ChildArgs,
}

impl Stop {
    fn new(child: ChildArgs) -> Result<Self, CliError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(CliError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(CliError::Signals)?,
            child,
        })
    }

    async fn wait(&mut self) -> Signal {
        let signal = tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            () = stdin_ends(), if self.child.until_stdin_ends => Signal::Interrupt,
        };
        eprintln!("stopping");
        signal
    }
}

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// In order.
    Terminate,
    /// At once.
    Interrupt,
}

async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    // An error ends it as well.
    while matches!(stdin.read(&mut buffer).await, Ok(read) if read > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_drawn_once_for_each_work_folder() {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::production(1).unwrap();
        let work = folder.path().join("new/work");
        let first = remembered_id(&work, &env).unwrap();
        assert_eq!(remembered_id(&work, &env).unwrap(), first);
        assert_ne!(remembered_id(&folder.path().join("other"), &env).unwrap(), first);
    }

    #[test]
    fn a_damaged_name_is_refused_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        files::write_aside_and_rename(&folder.path().join(ID_FILE), "two words").unwrap();
        let error = remembered_id(folder.path(), &Env::production(1).unwrap()).unwrap_err();
        assert!(error.to_string().contains(ID_FILE) && error.exit_code() == 2, "{error}");
    }

    #[test]
    fn a_timing_that_unseats_healthy_leaders_is_refused() {
        let check = |heartbeat_ms, lease_ms, election_min_ms, election_max_ms| {
            let args = TimingArgs { heartbeat_ms, lease_ms, election_min_ms, election_max_ms };
            timing(args).map_err(|error| error.to_string())
        };
        assert_eq!(check(100, 300, 300, 600), Ok(Timing::default()));
        assert_eq!(check(300, 300, 300, 600), Err("--heartbeat-ms: 300 is not below --lease-ms 300".into()));
        assert_eq!(check(100, 300, 299, 600), Err("--election-min-ms: 299 is below --lease-ms 300".into()));
        let drawn = check(100, 300, 600, 600);
        assert_eq!(drawn, Err("--election-max-ms: 600 is not above --election-min-ms 600".into()));
    }
}
