//! What nodes are started with (`LD_PRELOAD`) so that their clocks jump, their disks are slow, and a power cut costs them what
//! they had not synced. `chaos/shim` is the other half.
//!
//! ```text
//!   Nemesis ──▶ Shim ──▶ control file ──▶ the library in the node's process
//!                 └◀── counts, undo journals ◀──┘
//! ```

#[path = "../../shim/src/shared.rs"]
pub mod shared;
mod undo;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use self::shared::{
    CONTROL_BYTES, CONTROL_MARK, CONTROL_VARIABLE, DATA_VARIABLE, UNDO_VARIABLE, journal_name, word,
};
use crate::os::{OsError, files_below, fork, run_with};

const LIBRARY: &str = "libpolybolos_chaos_shim.so";
const PRELOAD: &str = "LD_PRELOAD";
/// Whole blocks are compared and written.
const BLOCK_BYTES: usize = 4096;

/// The library that was built with `program`. `cargo test` leaves it in `deps`, and one beside the program is older then.
pub fn library(program: &Path) -> Option<PathBuf> {
    let places = [program.with_file_name("deps").join(LIBRARY), program.with_file_name(LIBRARY)];
    places.into_iter().find(|place| place.is_file())
}

/// The library beside this program, if programs of this machine load it.
///
/// # Errors
/// It is not there, or not loaded.
pub async fn find(folder: &Path) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let library = library(&program).ok_or_else(|| format!("there is no {LIBRARY} beside this program"))?;
    let at = folder.join("probe-shim");
    let tried = async {
        let shim = Shim::make(&library, &at, &at)?;
        run_with("true", &[], &shim.environment()).await?;
        Ok::<_, OsError>(shim.read(word::PROCESS) > 0)
    };
    let loaded = tried.await.map_err(|error| error.to_string())?;
    // Left if it can't be removed.
    let _gone = fs::remove_dir_all(&at);
    if loaded { Ok(library) } else { Err(format!("{LIBRARY} is not loaded by programs of this machine")) }
}

/// What the library in a node has counted, over all its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Looks at a wall clock that was wrong.
    pub reads: u64,
    /// Calls that took longer.
    pub delayed: u64,
    /// Writes whose bytes from before could not be kept.
    pub not_kept: u64,
}

/// What a power cut took from one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// Below the data folder.
    pub file: PathBuf,
    /// Writes since its last sync.
    pub writes: usize,
    /// Bytes that are others now, or gone.
    pub bytes: u64,
    /// The node syncs this file. Others it may lose at any time.
    pub is_synced: bool,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, writes, bytes, is_synced } = self;
        let never = if *is_synced { "" } else { ", which is never synced" };
        write!(f, "{bytes} bytes by {writes} writes of {}{never}", file.display())
    }
}

/// The library in the processes of one node, one after the other.
pub struct Shim {
    library: PathBuf,
    data: PathBuf,
    undo: PathBuf,
    path: PathBuf,
    control: File,
}

impl Shim {
    /// `at` is the folder for what is shared with the library, `data` the node's, which is made if it is not there.
    ///
    /// # Errors
    /// A file can't be made.
    pub fn make(library: &Path, at: &Path, data: &Path) -> Result<Self, OsError> {
        let undo = at.join("undo");
        for folder in [&undo, data] {
            fs::create_dir_all(folder).map_err(OsError::file("making", folder))?;
        }
        let path = at.join("control");
        let control = File::options().read(true).write(true).create_new(true).open(&path);
        let control = control.map_err(OsError::file("making", &path))?;
        control.set_len(CONTROL_BYTES as u64).map_err(OsError::file("writing", &path))?;
        let (library, data) = (library.to_owned(), data.to_owned());
        let shim = Self { library, data, undo, path, control };
        shim.write(word::MARK, CONTROL_MARK)?;
        Ok(shim)
    }

    /// What a process needs to load it.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            (PRELOAD, self.library.clone()),
            (CONTROL_VARIABLE, self.path.clone()),
            (DATA_VARIABLE, self.data.clone()),
            (UNDO_VARIABLE, self.undo.clone()),
        ]
    }

    /// A new life begins: what the last one was in the middle of is over.
    ///
    /// # Errors
    /// The control file can't be written.
    pub fn begins(&self) -> Result<(), OsError> {
        self.write(word::PROCESS, 0)?;
        self.write(word::SYNCING, 0)
    }

    /// Whether this process has loaded it.
    pub fn is_loaded(&self, process: u32) -> bool {
        self.read(word::PROCESS) == u64::from(process)
    }

    /// The wall clock jumps, for good.
    ///
    /// # Errors
    /// The control file can't be written.
    pub fn jump(&self, by_ms: i64) -> Result<(), OsError> {
        let shift_ms = self.read(word::CLOCK_MS).cast_signed().saturating_add(by_ms);
        self.write(word::CLOCK_MS, shift_ms.cast_unsigned())
    }

    /// The disk takes so much more, or again less, for each call.
    ///
    /// # Errors
    /// The control file can't be written.
    pub fn slow(&self, by_ms: i64) -> Result<(), OsError> {
        let ms = self.read(word::DISK_MS).saturating_add_signed(by_ms);
        self.write(word::DISK_MS, ms)
    }

    /// Syncs wait so long before they begin.
    ///
    /// # Errors
    /// The control file can't be written.
    pub fn hold(&self, ms: u64) -> Result<(), OsError> {
        self.write(word::HOLD_MS, ms)
    }

    /// Whether a sync is under way of something that was not synced.
    pub fn is_syncing(&self) -> bool {
        self.read(word::SYNCING) > 0
    }

    pub fn counts(&self) -> Counts {
        Counts {
            reads: self.read(word::READS),
            delayed: self.read(word::DELAYED),
            not_kept: self.read(word::NOT_KEPT),
        }
    }

    fn read(&self, word: usize) -> u64 {
        let mut bytes = [0; 8];
        // It is as long as it was made: there is always something to read.
        let read = self.control.read_exact_at(&mut bytes, word as u64 * 8);
        read.map_or(0, |()| u64::from_ne_bytes(bytes))
    }

    fn write(&self, word: usize, value: u64) -> Result<(), OsError> {
        let written = self.control.write_all_at(&value.to_ne_bytes(), word as u64 * 8);
        written.map_err(OsError::file("writing", &self.path))
    }

    /// The node's data folder was emptied: no note is of any file that is there.
    ///
    /// # Errors
    /// A journal can't be removed.
    pub fn forget(&self) -> Result<(), OsError> {
        for journal in files_below(&self.undo) {
            fs::remove_file(&journal).map_err(OsError::file("removing", &journal))?;
        }
        Ok(())
    }

    /// The power was cut, and the process is dead: of what it had not synced, all is lost, or with a seed all or a part. What
    /// is there then is on the disk. Only files of which something was lost are told.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn cut_power(&self, seed: Option<u64>) -> Result<Vec<Undone>, OsError> {
        let mut files = BTreeMap::new();
        for path in files_below(&self.data) {
            let found = fs::metadata(&path).map_err(OsError::file("reading", &path))?;
            files.insert(journal_name(found.dev(), found.ino()), path);
        }
        let mut lost = Vec::new();
        for journal in files_below(&self.undo) {
            let name = journal.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(path) = files.get(&name) {
                let bytes = fs::read(&journal).map_err(OsError::file("reading", &journal))?;
                let notes = undo::Notes::read(&bytes);
                let file = path.strip_prefix(&self.data).unwrap_or(path).to_owned();
                let left = match seed {
                    Some(seed) => undo::Left::draw(notes.changes.len(), fork(seed, &file.to_string_lossy())),
                    None => undo::Left::First(0),
                };
                let bytes = take_back(path, &notes, &left).map_err(OsError::file("taking back", path))?;
                if bytes > 0 {
                    lost.push(Undone {
                        file,
                        writes: notes.changes.len(),
                        bytes,
                        is_synced: notes.is_synced,
                    });
                }
            }
        }
        self.forget()?;
        Ok(lost)
    }
}

/// How many bytes of the file that changed.
fn take_back(path: &Path, notes: &undo::Notes, left: &undo::Left) -> std::io::Result<u64> {
    if notes.changes.is_empty() {
        return Ok(0);
    }
    let before = fs::read(path)?;
    let after = undo::undo(&before, &notes.changes, left);
    let file = File::options().write(true).open(path)?;
    file.set_len(after.len() as u64)?;
    let mut changed = before.len().abs_diff(after.len()) as u64;
    for (index, block) in after.chunks(BLOCK_BYTES).enumerate() {
        let at = index * BLOCK_BYTES;
        let old = before.get(at..before.len().min(at + block.len())).unwrap_or_default();
        if old != block {
            changed += old.iter().zip(block).filter(|(old, new)| old != new).count() as u64;
            file.write_all_at(block, at as u64)?;
        }
    }
    file.sync_all()?;
    Ok(changed)
}
