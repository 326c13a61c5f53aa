//! Local files, as much as shuffles, identities and logs need.

use std::{
    any::Any,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::fs;

/// A file system. Paths are those of the host.
#[async_trait]
pub trait Disk: Send + Sync {
    async fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file, which must not exist yet.
    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The `length` bytes from `offset`; an error if the file ends before.
    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes>;

    /// Opens a file, which must be one by itself and no link. It stays readable when its name is gone. `Unsupported` on a
    /// disk that is never shared with other processes.
    async fn open(&self, _path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn length(&self, path: &Path) -> io::Result<u64>;

    /// Atomic; replaces `to`.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    async fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all in it; a folder that isn't there is no error.
    async fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder that is empty.
    async fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Entries of a folder, sorted.
    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Hands to the disk what was created, renamed or removed in a folder: until then a power cut may undo it.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes that may still be written to the file system of `path`, which must exist.
    async fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Locks a file, which is made if need be, against every other process and caller. An error of kind `WouldBlock`
    /// says that another one has it.
    async fn lock(&self, path: &Path) -> io::Result<DiskLock>;
}

/// A file that is written from its start to its end.
#[async_trait]
pub trait DiskFile: Send {
    async fn append(&mut self, data: &[u8]) -> io::Result<()>;

    /// Appends all of `parts`, without a copy of them where that can be.
    async fn append_parts(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        self.append(&parts.concat()).await
    }

    /// Hands everything to the operating system, and with `durable` to the disk. More may be appended afterwards. After
    /// an error nobody knows how much of the file is there.
    async fn finish(&mut self, durable: bool) -> io::Result<()>;
}

/// A file that is there to be read.
#[async_trait]
pub trait OpenFile: Send {
    /// As [`Disk::read`]. Not to be used after a call of which the end was not awaited.
    async fn read(&mut self, offset: u64, length: usize) -> io::Result<Bytes>;
}

/// Held until it is dropped, or its process ends.
pub struct DiskLock(#[allow(dead_code, reason = "kept only to be dropped")] Box<dyn Any + Send + Sync>);

impl DiskLock {
    /// A lock that lasts as long as `held`.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

pub(crate) struct LocalDisk;

#[async_trait]
#[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
impl Disk for LocalDisk {
    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path).await
    }

    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new().write(true).create_new(true).open(path).await?;
        Ok(Box::new(LocalFile { file: Arc::new(file.into_std().await), waiting: Vec::new() }))
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
        let path = path.to_owned();
        blocking(move || read_range(&mut std::fs::File::open(path)?, offset, length)).await
    }

    async fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let path = path.to_owned();
        let file = blocking(move || open_itself(&path)).await?;
        Ok(Box::new(LocalOpenFile(Some(file))))
    }

    async fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path).await?.len())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut entries = fs::read_dir(path).await?;
        let mut paths = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            paths.push(entry.path());
        }
        paths.sort();
        Ok(paths)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path).await?.sync_all().await
    }

    // A call of about a microsecond, which is less than moving it to another thread costs.
    async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        fs2::available_space(path)
    }

    async fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).await?;
        let file = file.into_std().await;
        file.try_lock()?;
        Ok(DiskLock::new(file))
    }
}

/// Runs one piece of work on a thread that may wait for a disk: each step by itself would cost a change of threads.
#[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn read_range(file: &mut std::fs::File, offset: u64, length: usize) -> io::Result<Bytes> {
    // Before memory is taken for it: who asks may have it from a damaged file.
    let wanted = u64::try_from(length).map_err(io::Error::other)?;
    if offset.checked_add(wanted).is_none_or(|end| end > file.metadata().map_or(0, |there| there.len())) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = Vec::with_capacity(length);
    file.take(wanted).read_to_end(&mut buffer)?;
    if buffer.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buffer.into())
}

#[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
fn open_itself(path: &Path) -> io::Result<std::fs::File> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "it is a link, or no file");
    // Before it is opened: a pipe would keep who opens it.
    let named = std::fs::symlink_metadata(path)?;
    if !named.is_file() {
        return Err(other());
    }
    let file = std::fs::File::open(path)?;
    let opened = file.metadata()?;
    // The name may stand for another file by now.
    if (opened.dev(), opened.ino()) == (named.dev(), named.ino()) { Ok(file) } else { Err(other()) }
}

/// Away while it is read.
struct LocalOpenFile(Option<std::fs::File>);

#[async_trait]
impl OpenFile for LocalOpenFile {
    async fn read(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut file = self.0.take().ok_or_else(|| io::Error::other("a read of it was given up"))?;
        let read = move || {
            let bytes = read_range(&mut file, offset, length);
            Ok((file, bytes))
        };
        let (file, bytes) = blocking(read).await?;
        self.0 = Some(file);
        bytes
    }
}

/// Small data waits for more up to this size.
const WAITING_BYTES: usize = 256 * 1024;

struct LocalFile {
    file: Arc<std::fs::File>,
    waiting: Vec<u8>,
}

impl LocalFile {
    async fn write(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        let (file, waiting) = (Arc::clone(&self.file), std::mem::take(&mut self.waiting));
        blocking(move || {
            // What is between large parts is small: it goes out together.
            let mut file = io::BufWriter::new(file.as_ref());
            file.write_all(&waiting)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.flush()
        })
        .await
    }
}

#[async_trait]
impl DiskFile for LocalFile {
    async fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(data);
        if self.waiting.len() < WAITING_BYTES {
            return Ok(());
        }
        self.write(Vec::new()).await
    }

    async fn append_parts(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        if self.waiting.len() + bytes < WAITING_BYTES {
            parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
            return Ok(());
        }
        self.write(parts).await
    }

    async fn finish(&mut self, durable: bool) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.write(Vec::new()).await?;
        }
        if durable {
            let file = Arc::clone(&self.file);
            blocking(move || file.sync_all()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_written_aside_and_renamed_reads_back_in_ranges() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (aside, path) = (folder.path().join("a.tmp"), folder.path().join("a"));
        let mut file = LocalDisk.create(&aside).await?;
        file.append(b"hello ").await?;
        file.append(b"world").await?;
        file.finish(true).await?;
        LocalDisk.rename(&aside, &path).await?;
        assert_eq!(LocalDisk.list(folder.path()).await?, vec![path.clone()]);
        assert_eq!(LocalDisk.length(&path).await?, 11);
        assert_eq!(&LocalDisk.read(&path, 6, 5).await?[..], b"world");
        for (offset, length) in [(6, 6), (0, usize::MAX), (u64::MAX, 2)] {
            let error = LocalDisk.read(&path, offset, length).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(LocalDisk.create(&path).await.is_err());
        LocalDisk.sync_dir(folder.path()).await?;
        LocalDisk.remove_dir_all(folder.path()).await?;
        LocalDisk.remove_dir_all(folder.path()).await
    }

    #[tokio::test]
    async fn a_file_goes_on_after_it_was_finished() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a");
        let mut file = LocalDisk.create(&path).await?;
        for part in [b"one", b"two"] {
            file.append(part).await?;
            file.finish(true).await?;
        }
        assert_eq!(&LocalDisk.read(&path, 0, 6).await?[..], b"onetwo");
        // Small and large parts stay in order.
        let large = Bytes::from(vec![b'x'; WAITING_BYTES]);
        file.append(b"three").await?;
        file.append_parts(vec![Bytes::from_static(b"four")]).await?;
        file.append_parts(vec![Bytes::from_static(b"<"), large.clone(), Bytes::from_static(b">")]).await?;
        file.append(&large).await?;
        file.append(b"end").await?;
        file.finish(false).await?;
        let rest = [b"threefour<", &large[..], b">", &large[..], b"end"].concat();
        assert_eq!(LocalDisk.length(&path).await?, 6 + rest.len() as u64);
        assert_eq!(LocalDisk.read(&path, 6, rest.len()).await?, rest);
        Ok(())
    }

    #[tokio::test]
    async fn an_open_file_is_read_after_its_name_is_gone_and_no_link_is_opened() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        let mut file = LocalDisk.create(&path).await?;
        file.append(b"hello world").await?;
        file.finish(false).await?;
        std::os::unix::fs::symlink(&path, &link)?;
        for no_file in [link.as_path(), folder.path()] {
            let refused = LocalDisk.open(no_file).await.map(drop).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
        let mut open = LocalDisk.open(&path).await?;
        LocalDisk.remove_file(&path).await?;
        assert_eq!(&open.read(6, 5).await?[..], b"world");
        assert_eq!(open.read(6, 6).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(&open.read(0, 5).await?[..], b"hello");
        assert_eq!(LocalDisk.open(&path).await.map(drop).unwrap_err().kind(), io::ErrorKind::NotFound);
        Ok(())
    }

    #[tokio::test]
    async fn a_lock_keeps_others_out_until_it_is_dropped() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("lock");
        let lock = LocalDisk.lock(&path).await?;
        let refused = LocalDisk.lock(&path).await.map(drop);
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        drop(lock);
        LocalDisk.lock(&path).await.map(drop)
    }

    #[tokio::test]
    async fn free_space_is_that_of_the_file_system() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        assert!(LocalDisk.free_bytes(folder.path()).await? > 0);
        assert!(LocalDisk.free_bytes(&folder.path().join("not/there")).await.is_err());
        Ok(())
    }
}
