//! Where an executor keeps its files: `WORK_DIR/EXECUTOR/PROCESS/{shuffle,spill}`.
//!
//! One process never touches the files of another that lives, even when both were given one name and one folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use polybolos_env::Env;
use polybolos_model::ExecutorId;

pub(crate) struct Dirs {
    executor: PathBuf,
    process: PathBuf,
}

impl Dirs {
    pub(crate) fn new(work_dir: &Path, executor: &ExecutorId, process_id: u64) -> Self {
        let executor = work_dir.join(executor.as_str());
        Self { process: executor.join(format!("{process_id:016x}")), executor }
    }

    pub(crate) fn shuffle(&self) -> PathBuf {
        self.process.join("shuffle")
    }

    pub(crate) fn spill(&self) -> PathBuf {
        self.process.join("spill")
    }

    /// # Errors
    /// The folder that can't be made, and why.
    pub(crate) async fn create(&self, env: &Env) -> Result<(), (PathBuf, io::Error)> {
        for path in [self.shuffle(), self.spill()] {
            if let Err(error) = env.disk.create_dir_all(&path).await {
                return Err((path, error));
            }
        }
        Ok(())
    }

    /// Deletes what earlier processes of this name left behind. Only a registered executor may: then they are dead.
    pub(crate) async fn remove_leftovers(&self, env: &Env) {
        let Ok(siblings) = env.disk.list(&self.executor).await else { return };
        for path in siblings.into_iter().filter(|path| *path != self.process) {
            tracing::info!(path = %path.display(), "deleting what an earlier process left behind");
            if let Err(error) = env.disk.remove_dir_all(&path).await {
                tracing::warn!(path = %path.display(), %error, "it could not be deleted");
            }
        }
    }

    /// Deletes everything of this process, and the executor's folder when nothing else is in it.
    pub(crate) async fn remove(&self, env: &Env) {
        let mut removed = env.disk.remove_dir_all(&self.process).await;
        if removed.is_ok() && env.disk.list(&self.executor).await.is_ok_and(|left| left.is_empty()) {
            removed = env.disk.remove_dir_all(&self.executor).await;
        }
        if let Err(error) = removed {
            tracing::warn!(path = %self.process.display(), %error, "the executor's files could not be deleted");
        }
    }
}
