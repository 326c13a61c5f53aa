//! One process of the program that may die, stand still and come back under the same flags.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::{Group, disk::Disk};
use crate::{
    journal::{Journal, What},
    os::{OsError, process_state, signal},
    shim::Shim,
};

const POLL: Duration = Duration::from_millis(20);
/// A node says where it listens when it is ready.
const READY: &str = "listening on";
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Scheduler { id: u64 },
    Executor,
}

pub struct Node {
    pub name: String,
    pub role: Role,
    pub host: usize,
    /// What it keeps on disk.
    pub folder: PathBuf,
    pub disk: Option<Disk>,
    pub group: Option<Group>,
    /// What it is started with, if a fault needs that and it can be had.
    pub shim: Option<Shim>,
    /// It is gone for good.
    pub is_removed: bool,
    /// Faults that may end it.
    excuses: u32,
    /// Faults that want it dead, and stopped.
    downs: u32,
    stops: u32,
    life: u32,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    /// Where the present life begins in the log.
    log_from: u64,
    /// How it ended by itself last.
    last_end: Option<ExitStatus>,
    child: Option<Child>,
    journal: Arc<Journal>,
}

/// What a node is made of.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) host: usize,
    pub(super) folder: PathBuf,
    pub(super) log: PathBuf,
    /// The program and its arguments, with what starts it in its network before.
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) shim: Option<Shim>,
}

impl Node {
    /// Not started yet.
    pub(super) fn new(parts: Parts, journal: Arc<Journal>) -> Self {
        let Parts { name, role, host, folder, log, command, environment, shim } = parts;
        Self {
            name,
            role,
            host,
            folder,
            disk: None,
            group: None,
            shim,
            is_removed: false,
            excuses: 0,
            downs: 0,
            stops: 0,
            life: 0,
            command,
            environment,
            log,
            log_from: 0,
            last_end: None,
            child: None,
            journal,
        }
    }

    pub fn process(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Runs, and does not stand still.
    pub fn is_up(&self) -> bool {
        self.child.is_some() && self.stops == 0 && !self.is_removed
    }

    /// Starts its process, whatever faults want.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn spawn(&mut self) -> Result<(), OsError> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(OsError::file("opening", &self.log))?;
        self.log_from = log.metadata().map(|found| found.len()).unwrap_or(0);
        let line = || self.command.join(" ");
        let failed = |source| OsError::Spawn { command: line(), source };
        let Some((program, args)) = self.command.split_first() else {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        };
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        // A Ctrl-C is for this process, which then ends its nodes.
        command.kill_on_drop(true).process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POLYBOLOS_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(shim) = &self.shim {
            shim.begins()?;
            command.envs(shim.environment());
        }
        let child = command.spawn().map_err(failed)?;
        if let (Some(group), Some(process)) = (&self.group, child.id()) {
            group.take(process)?;
        }
        self.child = Some(child);
        self.last_end = None;
        self.life += 1;
        self.journal.note(What::Started { node: self.name.clone(), life: self.life });
        Ok(())
    }

    /// One more fault wants it dead. Whether this one killed it.
    ///
    /// # Errors
    /// It can't be killed.
    pub async fn down(&mut self) -> Result<bool, OsError> {
        self.downs += 1;
        self.kill().await
    }

    /// One fault less wants it dead; it starts if none does. Whether it did.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn up(&mut self) -> Result<bool, OsError> {
        self.downs = self.downs.saturating_sub(1);
        self.start_if_wanted().await
    }

    /// # Errors
    /// It can't be started.
    pub async fn start_if_wanted(&mut self) -> Result<bool, OsError> {
        if self.downs > 0 || self.child.is_some() || self.is_removed {
            return Ok(false);
        }
        self.spawn()?;
        if self.stops > 0 {
            self.send("STOP").await?;
        }
        Ok(true)
    }

    /// SIGKILL; dead when it returns. Whether it lived.
    ///
    /// # Errors
    /// It can't be killed.
    pub async fn kill(&mut self) -> Result<bool, OsError> {
        let Some(mut child) = self.child.take() else { return Ok(false) };
        let failed = |source| OsError::File { action: "killing", path: self.log.clone(), source };
        child.start_kill().map_err(failed)?;
        child.wait().await.map_err(failed)?;
        self.journal.note(What::Killed { node: self.name.clone() });
        Ok(true)
    }

    /// One more fault wants it to stand still. Whether the kernel says that it does.
    ///
    /// # Errors
    /// It can't be stopped.
    pub async fn stop(&mut self) -> Result<bool, OsError> {
        self.stops += 1;
        let Some(process) = self.process() else { return Ok(false) };
        self.send("STOP").await?;
        sleep(POLL).await;
        Ok(process_state(process) == Some('T'))
    }

    /// # Errors
    /// It can't be woken.
    pub async fn resume(&mut self) -> Result<(), OsError> {
        self.stops = self.stops.saturating_sub(1);
        if self.stops == 0 { self.send("CONT").await } else { Ok(()) }
    }

    /// Sends a signal if it runs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn send(&self, name: &str) -> Result<(), OsError> {
        match self.process() {
            Some(process) => signal(process, name).await,
            None => Ok(()),
        }
    }

    /// From now on (or no more) a fault explains it if it ends by itself.
    pub fn excuse(&mut self, begins: bool) {
        self.excuses = if begins { self.excuses + 1 } else { self.excuses.saturating_sub(1) };
    }

    /// If it has ended by itself: how, and whether a fault explains it. It is told once.
    pub fn ended(&mut self) -> Option<(ExitStatus, bool)> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.last_end = Some(status);
        let excused = self.excuses > 0 || self.is_removed;
        self.journal.note(What::EndedByItself {
            node: self.name.clone(),
            how: format!("{status}: {}", self.tail()),
            excused,
        });
        Some((status, excused))
    }

    /// What it has logged in its present life.
    pub fn logged(&self) -> String {
        let read = File::open(&self.log).and_then(|mut file| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(self.log_from))?;
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        String::from_utf8_lossy(&read.unwrap_or_default()).into_owned()
    }

    /// How many lines of its present life have this text.
    pub fn says(&self, text: &str) -> usize {
        self.logged().lines().filter(|line| line.contains(text)).count()
    }

    /// How it ended by itself, if it does not run for that reason.
    pub fn last_end(&self) -> Option<ExitStatus> {
        self.last_end
    }

    pub fn is_ready(&self) -> bool {
        self.child.is_some() && self.says(READY) > 0
    }

    fn tail(&self) -> String {
        let logged = self.logged();
        let lines: Vec<&str> = logged.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join(" | ")
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its folder with all that is in it is gone.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn wipe(&self) -> Result<(), OsError> {
        // The folder itself may be a mount.
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(OsError::file("removing", &path))?;
        }
        self.shim.as_ref().map_or(Ok(()), Shim::forget)
    }
}
