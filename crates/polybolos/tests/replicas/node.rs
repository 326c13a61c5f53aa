//! One process of the binary that may die and come back under the same flags.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::support::command;

/// Longest time until a process says that it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 60;

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    /// `--data-dir` of a scheduler, `--work-dir` of an executor.
    pub(crate) dir: PathBuf,
    pub(crate) args: Vec<String>,
    /// `POLYBOLOS_LOG`.
    pub(crate) filter: String,
    log: PathBuf,
    /// Where the present life begins in the log.
    begin: usize,
    child: Option<Child>,
    paused: bool,
}

impl Node {
    /// Not started yet. All its lives write to one log in `logs`.
    pub(crate) fn new(name: String, address: String, dir: PathBuf, args: Vec<String>, logs: &Path) -> Self {
        let log = logs.join(format!("{name}.log"));
        File::create(&log).unwrap();
        let filter = "info,openraft=off".to_owned();
        Self { name, address, dir, args, filter, log, begin: 0, child: None, paused: false }
    }

    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        self.begin = self.history().len();
        let file = File::options().append(true).open(&self.log).unwrap();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut command = command(&args);
        command.env("POLYBOLOS_LOG", &self.filter).stdout(Stdio::null()).stderr(file);
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(&mut self) {
        self.spawn();
        self.says("listening on").await;
    }

    /// What it logged in all its lives.
    pub(crate) fn history(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it logged in its last life.
    pub(crate) fn log(&self) -> String {
        let history = self.history();
        history.get(self.begin..).unwrap_or_default().to_owned()
    }

    /// Waits until the log of this life has `text`, and returns its line.
    pub(crate) async fn says(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended with {ended:?} before it said '{text}'", self.name);
            assert!(started.elapsed() < READY_DEADLINE, "{} does not say '{text}'", self.name);
            sleep(POLL).await;
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some() && !self.paused
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self) {
        self.signal("STOP");
        self.paused = true;
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        self.signal("CONT");
        self.paused = false;
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until it has ended, and returns its exit code.
    pub(crate) async fn ends(&mut self, limit: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status.code();
            }
            assert!(started.elapsed() < limit, "{} still runs after {limit:?}", self.name);
            sleep(POLL).await;
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGTERM, and waits for a clean end.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        assert_eq!(self.ends(Duration::from_secs(15)).await, Some(0), "{}", self.name);
    }

    /// Starts it, and it must refuse: exit code 2, each of `parts` in what it says.
    pub(crate) async fn refuses(&mut self, parts: &[&str]) {
        self.spawn();
        assert_eq!(self.ends(Duration::from_secs(20)).await, Some(2), "{}: {}", self.name, self.log());
        let error =
            self.log().lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default().to_owned();
        for part in parts {
            assert!(error.contains(part), "'{part}' is not in '{error}' of {}", self.name);
        }
    }

    pub(crate) fn tail(&self) -> String {
        let history = self.history();
        let lines: Vec<&str> = history.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines[from..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _killed = child.kill();
            let _reaped = child.wait();
        }
    }
}
