//! Local files, as much as shuffles, identities and logs need.

use std::{
    any::Any,
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, SeekFrom},
};

/// A file system. Paths are those of the host.
#[async_trait]
pub trait Disk: Send + Sync {
    async fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file, which must not exist yet.
    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The `length` bytes from `offset`; an error if the file ends before.
    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes>;

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

    /// Hands everything to the operating system, and with `durable` to the disk. More may be appended afterwards. After
    /// an error nobody knows how much of the file is there.
    async fn finish(&mut self, durable: bool) -> io::Result<()>;
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
        Ok(Box::new(LocalFile(tokio::io::BufWriter::with_capacity(256 * 1024, file))))
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut file = fs::File::open(path).await?;
        // Before memory is taken for it: who asks may have it from a damaged file.
        let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
        let there = file.metadata().await?.len();
        if end.is_none_or(|end| end > there) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.seek(SeekFrom::Start(offset)).await?;
        let mut buffer = BytesMut::zeroed(length);
        file.read_exact(&mut buffer).await?;
        Ok(buffer.freeze())
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

struct LocalFile(tokio::io::BufWriter<fs::File>);

#[async_trait]
impl DiskFile for LocalFile {
    async fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.write_all(data).await
    }

    async fn finish(&mut self, durable: bool) -> io::Result<()> {
        self.0.flush().await?;
        if durable {
            self.0.get_ref().sync_all().await?;
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
