//! A file system in memory, one for each host.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use polybolos_env::{Disk, DiskFile, DiskLock};

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// So many of them survive a power cut.
    synced: usize,
}

/// A file stays what it is when its path changes: who has it open writes on.
type File = Arc<Mutex<Content>>;
type Files = BTreeMap<PathBuf, File>;

/// Folders exist as soon as a file in them does. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<Files>>,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl MemoryDisk {
    /// A power cut: what was not synced is gone, of each file as much as `keep` says of its unsynced bytes.
    pub fn crash(&self, mut keep: impl FnMut(usize) -> usize) {
        for file in lock(&self.files).values() {
            let mut file = lock(file);
            let unsynced = file.bytes.len().saturating_sub(file.synced);
            let kept = file.synced + keep(unsynced).min(unsynced);
            file.bytes.truncate(kept);
            file.synced = kept;
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Locked(Arc<Mutex<BTreeSet<PathBuf>>>, PathBuf);

impl Drop for Locked {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

#[async_trait]
impl Disk for MemoryDisk {
    async fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut files = lock(&self.files);
        if files.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let file = File::default();
        files.insert(path.to_owned(), Arc::clone(&file));
        Ok(Box::new(MemoryFile(file)))
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
        let files = lock(&self.files);
        let file = lock(files.get(path).ok_or_else(|| not_found(path))?);
        let range =
            usize::try_from(offset).ok().and_then(|from| file.bytes.get(from..from.checked_add(length)?));
        range.map(Bytes::copy_from_slice).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    async fn length(&self, path: &Path) -> io::Result<u64> {
        lock(&self.files).get(path).map(|file| lock(file).bytes.len() as u64).ok_or_else(|| not_found(path))
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        lock(&self.files).remove(path).map(drop).ok_or_else(|| not_found(path))
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        lock(&self.files).retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let files = lock(&self.files);
        let below = files.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        let below = below.map(|(file, _)| file).take_while(|file| file.starts_with(path));
        let mut entries: Vec<PathBuf> = below
            .filter_map(|file| Some(path.join(file.strip_prefix(path).ok()?.components().next()?)))
            .collect();
        entries.dedup();
        Ok(entries)
    }

    async fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    async fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        if !lock(&self.locked).insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(DiskLock::new(Locked(Arc::clone(&self.locked), path.to_owned())))
    }
}

struct MemoryFile(File);

#[async_trait]
impl DiskFile for MemoryFile {
    async fn append(&mut self, data: &[u8]) -> io::Result<()> {
        lock(&self.0).bytes.extend_from_slice(data);
        Ok(())
    }

    async fn finish(&mut self, durable: bool) -> io::Result<()> {
        let mut file = lock(&self.0);
        if durable {
            file.synced = file.bytes.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract_of_the_seam() -> io::Result<()> {
        let disk = MemoryDisk::default();
        let mut file = disk.create(Path::new("/w/job/a.tmp")).await?;
        file.append(b"hello world").await?;
        file.finish(true).await?;
        disk.rename(Path::new("/w/job/a.tmp"), Path::new("/w/job/a")).await?;
        assert_eq!(&disk.read(Path::new("/w/job/a"), 6, 5).await?[..], b"world");
        assert!(disk.read(Path::new("/w/job/a"), 6, 6).await.is_err());
        file.append(b"!").await?;
        file.finish(true).await?;
        assert_eq!(disk.length(Path::new("/w/job/a")).await?, 12);
        assert!(disk.create(Path::new("/w/job/a")).await.is_err());
        assert_eq!(disk.list(Path::new("/w")).await?, vec![PathBuf::from("/w/job")]);
        disk.remove_dir_all(Path::new("/w/job")).await?;
        assert!(disk.list(Path::new("/w")).await?.is_empty());
        assert!(disk.length(Path::new("/w/job/a")).await.is_err());
        let held = disk.lock(Path::new("/w/lock")).await?;
        assert!(disk.lock(Path::new("/w/lock")).await.is_err());
        drop(held);
        assert!(disk.lock(Path::new("/w/lock")).await.is_ok());
        Ok(())
    }

    #[tokio::test]
    async fn a_power_cut_takes_what_was_not_synced() -> io::Result<()> {
        let disk = MemoryDisk::default();
        let path = Path::new("/d/log");
        let mut file = disk.create(path).await?;
        file.append(b"kept").await?;
        file.finish(true).await?;
        file.append(b"torn").await?;
        file.finish(false).await?;
        disk.crash(|unsynced| unsynced / 2);
        assert_eq!(&disk.read(path, 0, 6).await?[..], b"keptto");
        assert_eq!(disk.length(path).await?, 6);
        disk.crash(|_| 0);
        assert_eq!(disk.length(path).await?, 6);
        Ok(())
    }
}
