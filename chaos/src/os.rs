//! The machine: programs, signals, files, time. All of this crate's dealings with it that are more than one call.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::process::Command;

/// A turn takes a few calls of `ip`; dozens of runs may wait for theirs.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
const TURN_INTERVAL: Duration = Duration::from_millis(20);

/// Something that the machine refused.
#[derive(Debug, thiserror::Error)]
pub enum OsError {
    #[error("`{command}` can't be run: {source}")]
    Spawn { command: String, source: io::Error },
    #[error("`{command}` failed: {stderr}")]
    Failed { command: String, stderr: String },
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

impl OsError {
    /// For `map_err`: what was done to which file.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

/// Waits until no other run on this machine holds it; until it is dropped, none does.
///
/// # Errors
/// The folder for temporary files can't be locked, or another process holds it for longer than [`TURN_TIMEOUT`].
pub async fn turn() -> Result<fs::File, OsError> {
    let path = std::env::temp_dir();
    let folder = fs::File::open(&path).map_err(OsError::file("locking", &path))?;
    let began = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(fs::TryLockError::WouldBlock) if began.elapsed() < TURN_TIMEOUT => {
                tokio::time::sleep(TURN_INTERVAL).await;
            }
            Err(error) => return Err(OsError::file("locking", &path)(error.into())),
        }
    }
}

/// Runs a program to its end and gives its standard output.
///
/// # Errors
/// It can't be started, or ends with another code than 0.
pub async fn run(program: &str, args: &[&str]) -> Result<String, OsError> {
    run_with::<&str>(program, args, &[]).await
}

/// The same with more variables in its environment.
///
/// # Errors
/// As [`run`].
pub async fn run_with<V: AsRef<OsStr>>(
    program: &str,
    args: &[&str],
    variables: &[(&str, V)],
) -> Result<String, OsError> {
    let mut command = Command::new(program);
    command.args(args).envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let line = || format!("{program} {}", args.join(" "));
    let output = command.output().await.map_err(|source| OsError::Spawn { command: line(), source })?;
    succeeded(&output, line)
}

/// As [`run`], where nothing can be awaited: in a `Drop`.
///
/// # Errors
/// As [`run`].
pub fn run_blocking(program: &str, args: &[&str]) -> Result<String, OsError> {
    let line = || format!("{program} {}", args.join(" "));
    let output = std::process::Command::new(program).args(args).stdin(Stdio::null()).output();
    succeeded(&output.map_err(|source| OsError::Spawn { command: line(), source })?, line)
}

fn succeeded(output: &Output, line: impl FnOnce() -> String) -> Result<String, OsError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if stderr.is_empty() {
        stderr = output.status.to_string();
    }
    Err(OsError::Failed { command: line(), stderr })
}

/// This process may open as many files and connections as the machine allows it; how many that is.
pub fn raise_descriptors() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Sends a signal by its name, `STOP` or `KILL`, to exactly this process.
///
/// # Errors
/// It is gone, or not ours.
pub async fn signal(process: u32, name: &str) -> Result<(), OsError> {
    run("kill", &["-s", name, &process.to_string()]).await.map(drop)
}

/// The state letter of a process in `/proc/PID/stat`: `R`, `S`, `T` (stopped), `Z`.
pub fn process_state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it is in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// All files below a folder, in the order of their names. A folder that vanishes meanwhile has none.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The clock of a run: time since its cluster was ready, 0 before. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    began: Arc<OnceLock<Instant>>,
}

impl Clock {
    /// The cluster is ready. A second call changes nothing.
    pub fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    pub fn ms(&self) -> u64 {
        self.us() / 1_000
    }

    pub fn us(&self) -> u64 {
        let since = self.began.get().map(Instant::elapsed).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// A seed for something by its name, as the simulator forks its seeds: FNV-1a over the name, then the finaliser of
/// splitmix64.
pub fn fork(seed: u64, name: &str) -> u64 {
    let mut hash = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
