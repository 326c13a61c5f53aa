//! A file system in memory, one for each host.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use polybolos_env::{Disk, DiskFile};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Folders exist as soon as a file in them does.
#[derive(Default)]
pub(super) struct MemoryDisk(Arc<Mutex<Files>>);

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Disk for MemoryDisk {
    async fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut files = lock(&self.0);
        if files.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        files.insert(path.to_owned(), Vec::new());
        Ok(Box::new(MemoryFile { files: Arc::clone(&self.0), path: path.to_owned() }))
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
        let files = lock(&self.0);
        let file = files.get(path).ok_or_else(|| not_found(path))?;
        let range = usize::try_from(offset).ok().and_then(|from| file.get(from..from.checked_add(length)?));
        range.map(Bytes::copy_from_slice).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    async fn length(&self, path: &Path) -> io::Result<u64> {
        lock(&self.0).get(path).map(|file| file.len() as u64).ok_or_else(|| not_found(path))
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.0);
        let file = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).remove(path).map(drop).ok_or_else(|| not_found(path))
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let files = lock(&self.0);
        let below = files.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        let below = below.map(|(file, _)| file).take_while(|file| file.starts_with(path));
        let mut entries: Vec<PathBuf> = below
            .filter_map(|file| Some(path.join(file.strip_prefix(path).ok()?.components().next()?)))
            .collect();
        entries.dedup();
        Ok(entries)
    }
}

struct MemoryFile {
    files: Arc<Mutex<Files>>,
    path: PathBuf,
}

#[async_trait]
impl DiskFile for MemoryFile {
    async fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let mut files = lock(&self.files);
        files.get_mut(&self.path).ok_or_else(|| not_found(&self.path))?.extend_from_slice(data);
        Ok(())
    }

    async fn finish(&mut self, _durable: bool) -> io::Result<()> {
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
        assert!(disk.create(Path::new("/w/job/a")).await.is_err());
        assert_eq!(disk.list(Path::new("/w")).await?, vec![PathBuf::from("/w/job")]);
        disk.remove_dir_all(Path::new("/w/job")).await?;
        assert!(disk.list(Path::new("/w")).await?.is_empty());
        assert!(disk.length(Path::new("/w/job/a")).await.is_err());
        Ok(())
    }
}
