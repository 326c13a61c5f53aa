//! How far the journal was known to be durable, in a file beside it: see `replay`.
//!
//! Each number is appended after the journal was synced, and is never synced itself: it is never ahead of the journal,
//! and a power cut may only set it back.

use std::{io, path::Path};

use polybolos_env::{Disk, DiskFile};

use super::{
    super::{
        KvError,
        witness::{SLOT_BYTES, number, slot},
    },
    aside, io_error, remove_if_there,
};

const NAME: &str = "acknowledged";

pub(super) struct Witness(Box<dyn DiskFile>);

impl Witness {
    /// Begins a file with `number` in place of the one before.
    pub(super) async fn renew(disk: &dyn Disk, folder: &Path, number: u64) -> io::Result<Self> {
        let (new, path) = (aside(folder, NAME), folder.join(NAME));
        remove_if_there(disk, &new).await?;
        let mut file = disk.create(&new).await?;
        file.append(&slot(number)).await?;
        file.finish(true).await?;
        disk.rename(&new, &path).await?;
        Ok(Self(file))
    }

    /// Notes that batch `number`, and every batch before it, is durable. The end of a process does not undo it.
    pub(super) async fn note(&mut self, number: u64) -> io::Result<()> {
        self.0.append(&slot(number)).await?;
        self.0.finish(false).await
    }

    pub(super) fn is_there(files: &[std::path::PathBuf], folder: &Path) -> bool {
        files.contains(&folder.join(NAME))
    }

    /// The highest number in the file.
    pub(super) async fn read(disk: &dyn Disk, folder: &Path) -> Result<u64, KvError> {
        let (path, failed) = (folder.join(NAME), io_error("read the file of acknowledged batches"));
        let length = disk.length(&path).await.map_err(failed)?;
        let bytes = disk.read(&path, 0, length as usize).await.map_err(failed)?;
        let slots = bytes.chunks_exact(SLOT_BYTES).filter_map(|slot| number(slot.try_into().ok()?));
        slots.max().ok_or_else(|| KvError::Damaged {
            reason: "the number of its last acknowledged batch is unreadable".to_owned(),
        })
    }
}
