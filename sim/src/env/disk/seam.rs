//! A simulated disk behind [`polybolos_env::Disk`].

use std::{
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use polybolos_env::{Disk, DiskFile, DiskLock};
use rand::Rng;
use tokio::time::sleep;

use super::{
    SimDisk,
    content::{File, inode, not_found},
};

/// A sync takes so many times as long as another operation.
const SYNC_COST: u64 = 5;

impl SimDisk {
    /// Half of what an operation takes: it is spent before it and after it, so who stops waiting doesn't know whether it
    /// was done.
    async fn half(&self, cost: u64) {
        let extra_us = self.state().knobs.extra_ms.saturating_mul(1_000);
        let us = self.0.latency_us.saturating_mul(cost).saturating_add(extra_us) / 2;
        let due = self.0.debt.owe(us);
        if !due.is_zero() {
            sleep(due).await;
        }
        self.0.pause.wait().await;
    }

    /// Takes its time around `operation`, or fails.
    async fn operate<T>(
        &self,
        cost: u64,
        operation: impl FnOnce(&mut super::State) -> io::Result<T> + Send,
    ) -> io::Result<T>
    where
        T: Send,
    {
        self.half(cost).await;
        let done = {
            let mut state = self.state();
            state.draw_error().and_then(|()| operation(&mut state))
        };
        self.half(cost).await;
        done
    }
}

#[async_trait]
impl Disk for SimDisk {
    async fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        self.operate(1, |_| Ok(())).await
    }

    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let made = self.operate(1, |state| {
            if state.names.contains_key(path) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
            }
            if state.knobs.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = File::default();
            state.link(path, &file);
            Ok((file, state.boot))
        });
        let (file, boot) = made.await?;
        Ok(Box::new(SimFile { disk: self.clone(), file, boot }))
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
        let read = self.operate(1, |state| {
            let file = inode(state.file(path)?);
            let from = usize::try_from(offset).ok();
            let range = from.and_then(|from| file.bytes.get(from..from.checked_add(length)?));
            range.map(Bytes::copy_from_slice).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        });
        read.await
    }

    async fn length(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(inode(state.file(path)?).bytes.len() as u64)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = self.operate(1, |state| {
            let file = Arc::clone(state.file(from)?);
            // In this order: a power cut may leave both names, never none.
            state.link(to, &file);
            state.unlink(from);
            Ok(())
        });
        renamed.await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let removed = self.operate(1, |state| {
            state.file(path)?;
            state.unlink(path);
            Ok(())
        });
        removed.await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let removed = self.operate(1, |state| {
            let below: Vec<_> = state.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
            below.iter().for_each(|name| state.unlink(name));
            Ok(())
        });
        removed.await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let removed = self.operate(1, |state| match state.names.keys().any(|name| name.starts_with(path)) {
            true => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            false => Ok(()),
        });
        removed.await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        let below = state.names.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        let below = below.map(|(file, _)| file).take_while(|file| file.starts_with(path));
        let mut entries: Vec<PathBuf> = below
            .filter_map(|file| Some(path.join(file.strip_prefix(path).ok()?.components().next()?)))
            .collect();
        entries.dedup();
        Ok(entries)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let synced = self.operate(SYNC_COST, |state| {
            state.sync_dir(path);
            Ok(())
        });
        synced.await
    }

    async fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(if self.state().knobs.full { 0 } else { u64::MAX })
    }

    async fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let locked = self.operate(1, |state| {
            if !state.locked.insert(path.to_owned()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(state.boot)
        });
        let boot = locked.await?;
        Ok(DiskLock::new(Locked { disk: self.clone(), path: path.to_owned(), boot }))
    }
}

struct Locked {
    disk: SimDisk,
    path: PathBuf,
    boot: u64,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locked.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    file: File,
    boot: u64,
}

#[async_trait]
impl DiskFile for SimFile {
    async fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.disk.half(1).await;
        {
            let mut state = self.disk.state();
            if state.boot != self.boot {
                return Err(not_found(Path::new("a file of an earlier process")));
            }
            let full = if state.knobs.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
            let failed = full.and_then(|()| state.draw_error());
            // Nobody knows how much of it is there after an error.
            let written =
                if failed.is_err() { state.random.random_range(0..=data.len()) } else { data.len() };
            inode(&self.file).bytes.extend_from_slice(&data[..written]);
            failed?;
        }
        self.disk.half(1).await;
        Ok(())
    }

    async fn finish(&mut self, durable: bool) -> io::Result<()> {
        let cost = if durable { SYNC_COST } else { 1 };
        self.disk.half(cost).await;
        {
            let mut state = self.disk.state();
            if state.boot != self.boot {
                return Err(not_found(Path::new("a file of an earlier process")));
            }
            let mut file = inode(&self.file);
            if state.knobs.full && file.flushed < file.bytes.len() {
                let end = state.random.random_range(file.flushed..=file.bytes.len());
                file.bytes.truncate(end);
                file.flushed = end;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let failed = state.draw_error();
            file.flushed = file.bytes.len();
            if durable && failed.is_err() {
                let lost = file.synced..file.bytes.len();
                file.lost.push(lost);
            }
            failed?;
            if durable {
                file.synced = file.bytes.len();
            }
        }
        self.disk.half(cost).await;
        Ok(())
    }
}
