//! Real processes of the binary: started, waited for with a deadline, and killed at the end whatever happens.
#![allow(clippy::disallowed_methods, reason = "drives real processes on the real machine")]

use std::{
    fs::{self, File},
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Longest time that a command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
/// Longest time until a server is ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Longest time that a server may take to stop.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "'{part}' is not in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A process that does not outlive the test.
pub(crate) struct Process {
    child: Child,
    files: TempDir,
    stdout_is_ours: bool,
}

impl Process {
    pub(crate) fn output(&self, name: &str) -> String {
        fs::read_to_string(self.files.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn stdin(&mut self, text: &str) {
        let mut stdin = self.child.stdin.take().unwrap();
        // A command that ended before it read everything is judged by what it says.
        let _written = stdin.write_all(text.as_bytes());
    }

    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    #[track_caller]
    pub(crate) fn wait(mut self, deadline: Duration) -> Ended {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let stdout = if self.stdout_is_ours { self.output("stdout") } else { String::new() };
                return Ended { code: status.code(), stdout, stderr: self.output("stderr") };
            }
            assert!(
                started.elapsed() < deadline,
                "still running after {deadline:?}: {}",
                self.output("stderr")
            );
            sleep(POLL);
        }
    }

    /// Waits until standard error has `text` and returns its line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(line) = self.output("stderr").lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?}: {}", self.output("stderr"));
            assert!(started.elapsed() < READY_DEADLINE, "no '{text}' in {}", self.output("stderr"));
            sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The binary with `args`, without variables of the caller.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polybolos"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POLYBOLOS_") {
            command.env_remove(name);
        }
    }
    command
}

/// Starts `command` with its output in files, so that no pipe can fill up.
pub(crate) fn start(mut command: Command, stdout_is_ours: bool) -> Process {
    let files = tempfile::tempdir().unwrap();
    if stdout_is_ours {
        command.stdout(File::create(files.path().join("stdout")).unwrap());
    }
    command.stderr(File::create(files.path().join("stderr")).unwrap());
    Process { child: command.spawn().unwrap(), files, stdout_is_ours }
}

#[track_caller]
pub(crate) fn run_command(command: Command) -> Ended {
    start(command, true).wait(COMMAND_DEADLINE)
}

#[track_caller]
pub(crate) fn run(args: &[&str]) -> Ended {
    run_command(command(args))
}

/// Runs a command that reads `text`.
#[track_caller]
pub(crate) fn run_with_stdin(args: &[&str], text: &str) -> Ended {
    let mut command = command(args);
    command.stdin(Stdio::piped());
    let mut process = start(command, true);
    process.stdin(text);
    process.wait(COMMAND_DEADLINE)
}

/// Free now, and given to nobody else by this process. Below the ports that Linux gives to outgoing connections, of which
/// one could take it before it is listened on; each process of tests begins elsewhere.
pub(crate) fn free_address() -> String {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let ports =
        std::iter::repeat_with(|| FIRST + begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT);
    let mut addresses = ports.take(COUNT as usize).map(|port| format!("127.0.0.1:{port}"));
    addresses.find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> String {
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A scheduler and executors of one slot, as processes of their own.
pub(crate) struct Cluster {
    pub(crate) scheduler: Process,
    pub(crate) executors: Vec<Process>,
    pub(crate) address: String,
    pub(crate) folder: TempDir,
}

/// Waits until the scheduler serves.
pub(crate) fn scheduler(address: &str, data_dir: &Path) -> Process {
    let cluster = format!("1={address}");
    let data_dir = data_dir.to_str().unwrap();
    let args = ["scheduler", "--id", "1", "--listen", address, "--cluster", &cluster, "--data-dir", data_dir];
    start(command(&args), true)
}

impl Cluster {
    pub(crate) fn start(executors: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut scheduler = scheduler(&address, &folder.path().join("scheduler"));
        assert_eq!(scheduler.wait_for("listening on"), format!("listening on {address}"));
        let mut cluster = Self { scheduler, executors: Vec::new(), address, folder };
        for number in 1..=executors {
            let mut executor = cluster.executor(&format!("e{number}"));
            executor.wait_for("listening on");
            cluster.executors.push(executor);
        }
        cluster.wait_for_executors(executors);
        cluster
    }

    fn executor(&self, id: &str) -> Process {
        let work_dir = self.folder.path().join(id);
        let work_dir = work_dir.to_str().unwrap();
        let flags = ["--listen", "127.0.0.1:0", "--slots", "1", "--memory", "2GiB", "--work-dir", work_dir];
        let named = ["executor", "--id", id, "--schedulers", &self.address];
        start(command(&[named.as_slice(), &flags].concat()), true)
    }

    fn wait_for_executors(&self, count: usize) {
        let started = Instant::now();
        loop {
            let status = self.run(&["status", "--format", "json"]).exits(0).json();
            let live = |executor: &&Value| executor["state"] == "live";
            if status["executors"].as_array().unwrap().iter().filter(live).count() == count {
                return;
            }
            assert!(started.elapsed() < READY_DEADLINE, "{status:#}");
            sleep(POLL);
        }
    }

    /// Runs a command against this cluster.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let schedulers = ["--schedulers", &self.address];
        run(&[args, &schedulers].concat())
    }

    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> Ended {
        self.run(&["sql", "--format", "csv", "-c", sql])
    }
}
