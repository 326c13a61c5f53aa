//! A control group of one process, with a limit on its memory. Version 1 or 2, whichever the machine has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::os::OsError;

pub struct Group {
    at: PathBuf,
    is_v1: bool,
}

impl Group {
    /// Below `root`, which the probe of the machine found.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make(root: &Path, name: &str) -> Result<Self, OsError> {
        let at = root.join(name);
        fs::create_dir_all(&at).map_err(OsError::file("making", &at))?;
        let is_v1 = at.join("memory.limit_in_bytes").exists();
        Ok(Self { at, is_v1 })
    }

    /// # Errors
    /// The process is gone, or the kernel refuses.
    pub fn take(&self, process: u32) -> Result<(), OsError> {
        self.write("cgroup.procs", &process.to_string())
    }

    /// In bytes, with the pages of files that it has read.
    pub fn used(&self) -> u64 {
        self.read(if self.is_v1 { "memory.usage_in_bytes" } else { "memory.current" })
    }

    /// `None` takes the limit away.
    ///
    /// # Errors
    /// Version 1 refuses a limit below what can't be given up.
    pub fn limit(&self, bytes: Option<u64>) -> Result<(), OsError> {
        let (file, none) = if self.is_v1 { ("memory.limit_in_bytes", "-1") } else { ("memory.max", "max") };
        self.write(file, &bytes.map_or_else(|| none.to_owned(), |bytes| bytes.to_string()))
    }

    /// How often the kernel has killed for want of memory here.
    pub fn kills(&self) -> u64 {
        let file = if self.is_v1 { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.at.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    fn read(&self, file: &str) -> u64 {
        fs::read_to_string(self.at.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), OsError> {
        let path = self.at.join(file);
        fs::write(&path, text).map_err(OsError::file("writing", &path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not while a process is in it; the sweep of the next run finds it then.
        let _gone = fs::remove_dir(&self.at);
    }
}
