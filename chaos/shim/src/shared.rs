//! What the shim and the chaos process both know: the words of the control file, and how an undo journal lies in its file.
//!
//! ```text
//!   control:  64-bit words of the machine's own order; the chaos process writes some, the shim the others
//!   journal:  record │ record │ …           one file for each file of the node, named by device and inode
//!   record:   mark and kind 8 · offset 8 · length 8 · old length of the file 8 · bytes kept 8 │ kept    (little-endian)
//! ```
//!
//! The chaos process includes this file rather than link the shim, whose functions would replace its own C library's.

/// Path of the control file.
pub const CONTROL_VARIABLE: &str = "PBC_SHIM_CONTROL";
/// The node's data folder, without symbolic links.
pub const DATA_VARIABLE: &str = "PBC_SHIM_DATA";
/// Where undo journals are kept, outside of the data folder. None are if it is not given.
pub const UNDO_VARIABLE: &str = "PBC_SHIM_UNDO";

pub const CONTROL_BYTES: usize = 4096;
/// In the first word of a control file. The last digits are its version.
pub const CONTROL_MARK: u64 = 0x7062_6373_6869_0001;

/// Indices of the words.
pub mod word {
    pub const MARK: usize = 0;
    /// The process that has loaded the shim last.
    pub const PROCESS: usize = 1;
    /// What the wall clock shows more, in milliseconds: a signed number.
    pub const CLOCK_MS: usize = 2;
    /// What calls that write or sync take more, in milliseconds.
    pub const DISK_MS: usize = 3;
    /// A sync of something that was not synced waits so long, in milliseconds, before it begins.
    pub const HOLD_MS: usize = 4;

    /// How often a wall clock was read that is wrong.
    pub const READS: usize = 5;
    /// How many calls took longer, and by how much together.
    pub const DELAYED: usize = 6;
    pub const DELAYED_MS: usize = 7;
    /// Syncs under way of files that have something that is not synced.
    pub const SYNCING: usize = 8;
    /// Writes for which the journal has what was there before.
    pub const KEPT: usize = 9;
    /// Writes for which it could not be kept: their files are as if synced then.
    pub const NOT_KEPT: usize = 10;
}

pub const HEADER_BYTES: usize = 40;
const RECORD_MARK: u64 = 0x7062_6375_6e64_6f00;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `length` bytes from `offset` on are written. What was there before is kept, as far as the file reached.
    Write = 1,
    /// The file gets the length `offset`. What is cut off is kept.
    Length = 2,
    /// What stands before byte `offset` of this journal is on the disk.
    Synced = 3,
}

/// One change of a file, noted before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub offset: u64,
    pub length: u64,
    /// Of the file, before.
    pub old_length: u64,
    /// So many bytes follow.
    pub kept: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let words = [RECORD_MARK | self.kind as u64, self.offset, self.length, self.old_length, self.kept];
        for (at, word) in bytes.chunks_exact_mut(8).zip(words) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// `None` if the bytes are none, or too few.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let part = bytes.get(index * 8..index * 8 + 8)?;
            Some(u64::from_le_bytes(part.try_into().ok()?))
        };
        let kind = match word(0)?.checked_sub(RECORD_MARK)? {
            1 => Kind::Write,
            2 => Kind::Length,
            3 => Kind::Synced,
            _ => return None,
        };
        Some(Self { kind, offset: word(1)?, length: word(2)?, old_length: word(3)?, kept: word(4)? })
    }
}

/// The name of a file's journal.
pub fn journal_name(device: u64, inode: u64) -> String {
    format!("{device:x}-{inode}")
}
