//! A small disk of its own for a node's folder, which can be filled to the last byte.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::os::{OsError, run, run_blocking};

const FILLER: &str = "filler";
const BLOCK_BYTES: usize = 64 * 1024;
/// The last bytes are taken in small pieces.
const CRUMB_BYTES: usize = 512;

pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// `name` is what the mount is called, for the sweep.
    ///
    /// # Errors
    /// Only root may mount.
    pub async fn mount(name: &str, at: &Path, bytes: u64) -> Result<Self, OsError> {
        fs::create_dir_all(at).map_err(OsError::file("making", at))?;
        let path = at.to_string_lossy();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), name, &path]).await?;
        Ok(Self { at: at.to_owned() })
    }

    /// Writes until the kernel says that there is no room, and tells how many bytes that took.
    ///
    /// # Errors
    /// Another error than that.
    pub fn fill(&self) -> Result<u64, OsError> {
        let path = self.at.join(FILLER);
        let failed = |source| OsError::File { action: "filling", path: path.clone(), source };
        let mut file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let block = vec![7_u8; BLOCK_BYTES];
        let mut written = 0;
        for size in [BLOCK_BYTES, CRUMB_BYTES, 1] {
            loop {
                match file.write(block.get(..size).unwrap_or_default()) {
                    Ok(0) => break,
                    Ok(count) => written += count as u64,
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(written)
    }

    /// # Errors
    /// The filler can't be removed.
    pub fn free(&self) -> Result<(), OsError> {
        let path = self.at.join(FILLER);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OsError::File { action: "freeing", path, source: error })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may have files open there. The sweep of the next run finds the rest.
        let _gone = run_blocking("umount", &["-l", &self.at.to_string_lossy()]);
    }
}
