//! One file below the data folder, and the journal of what was not synced of it.

use std::{
    ffi::{CString, c_int},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use crate::{
    control::{Armed, link_of},
    kernel,
    shared::{HEADER_BYTES, Header, Kind, journal_name, word},
};

/// Regular files have a journal. Folders are here since syncing one takes as long as the disk is slow.
pub(crate) struct Inode {
    pub(crate) is_folder: bool,
    /// Descriptors of this process.
    opened: AtomicU32,
    state: Mutex<State>,
}

/// Held while the file is changed, so that what is noted is what was there.
pub(crate) struct State {
    armed: &'static Armed,
    path: CString,
    /// The journal, and a second descriptor of the file itself for reading; open only while the program has the file open.
    journal: Option<c_int>,
    reader: Option<c_int>,
    /// Of the journal. `None` until it was looked at: an earlier life of the node may have left one.
    bytes: Option<u64>,
    /// How often the journal began anew.
    generation: u64,
    /// Whether it has anything that a sync would void.
    has_notes: bool,
    /// The file has no name any more, so that nothing of it survives in any case.
    is_gone: bool,
}

/// What a sync covers that begins now: so much of a generation of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Covered {
    generation: u64,
    bytes: u64,
    /// There is something that was not synced.
    pub(crate) has_notes: bool,
}

/// Where the journal of a file is.
pub(crate) fn journal_path(armed: &Armed, device: u64, inode: u64) -> Option<CString> {
    let mut path = armed.undo.clone()?;
    path.push(b'/');
    path.extend_from_slice(journal_name(device, inode).as_bytes());
    CString::new(path).ok()
}

impl Inode {
    pub(crate) fn folder(armed: &'static Armed) -> Self {
        Self { is_folder: true, ..Self::file(armed, CString::default()) }
    }

    /// `path` is that of its journal, or empty if none is kept.
    pub(crate) fn file(armed: &'static Armed, path: CString) -> Self {
        let state = State {
            armed,
            is_gone: path.is_empty(),
            path,
            journal: None,
            reader: None,
            bytes: None,
            generation: 0,
            has_notes: false,
        };
        Self { is_folder: false, opened: AtomicU32::new(0), state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opened.load(Relaxed) > 0
    }

    /// One descriptor of it is being closed.
    pub(crate) fn closed(&self) {
        if self.opened.fetch_sub(1, Relaxed) == 1 {
            self.lock().rest();
        }
    }

    /// It has no name any more.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.is_gone = true;
        state.rest();
    }
}

impl State {
    fn rest(&mut self) {
        for file in [self.journal.take(), self.reader.take()].into_iter().flatten() {
            kernel::close(file);
        }
    }

    /// Notes that `length` bytes from `offset` on are about to be written. `file` is any descriptor of it.
    pub(crate) fn before_write(&mut self, file: c_int, offset: u64, length: u64) {
        let Some(old_length) = self.length_of(file) else { return };
        let kept = old_length.min(offset.saturating_add(length)).saturating_sub(offset);
        self.note(file, Header { kind: Kind::Write, offset, length, old_length, kept }, offset);
    }

    /// Notes that it is about to get another length.
    pub(crate) fn before_length(&mut self, file: c_int, new_length: u64) {
        let Some(old_length) = self.length_of(file) else { return };
        let kept = old_length.saturating_sub(new_length);
        let header = Header { kind: Kind::Length, offset: new_length, length: 0, old_length, kept };
        self.note(file, header, new_length);
    }

    fn length_of(&self, file: c_int) -> Option<u64> {
        if self.is_gone {
            return None;
        }
        kernel::status(file).and_then(|status| u64::try_from(status.st_size).ok())
    }

    /// `from` is where what is kept begins in the file.
    fn note(&mut self, file: c_int, header: Header, from: u64) {
        let word = match self.try_note(file, header, from) {
            Some(()) => {
                self.has_notes = true;
                word::KEPT
            }
            None => {
                // Notes with a gap are worth nothing: as if it had been synced.
                self.give_up();
                word::NOT_KEPT
            }
        };
        self.armed.add(word, 1);
    }

    fn try_note(&mut self, file: c_int, header: Header, from: u64) -> Option<()> {
        let kept = usize::try_from(header.kept).ok()?;
        let mut record = vec![0; HEADER_BYTES + kept];
        record.get_mut(..HEADER_BYTES)?.copy_from_slice(&header.encode());
        if kept > 0 {
            let reader = self.reader(file)?;
            kernel::read_exact(reader, record.get_mut(HEADER_BYTES..)?, from).then_some(())?;
        }
        self.append(&record)
    }

    fn append(&mut self, record: &[u8]) -> Option<()> {
        let (journal, bytes) = self.journal()?;
        kernel::write_all(journal, record).then_some(())?;
        self.bytes = Some(bytes + record.len() as u64);
        Some(())
    }

    /// A descriptor that can read what `file` may only be able to write.
    fn reader(&mut self, file: c_int) -> Option<c_int> {
        if self.reader.is_none() {
            let reader = kernel::open(libc::AT_FDCWD, &link_of(file)?, libc::O_RDONLY | libc::O_CLOEXEC, 0);
            self.reader = (reader >= 0).then_some(reader);
        }
        self.reader
    }

    /// The journal and its length.
    fn journal(&mut self) -> Option<(c_int, u64)> {
        let journal = match self.journal {
            Some(journal) => journal,
            None => {
                let flags = libc::O_RDWR | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
                let journal = kernel::open(libc::AT_FDCWD, &self.path, flags, 0o644);
                (journal >= 0).then_some(journal)?
            }
        };
        self.journal = Some(journal);
        if self.bytes.is_none() {
            let bytes = whole(journal)?;
            (self.bytes, self.has_notes) = (Some(bytes), bytes > 0);
        }
        Some((journal, self.bytes?))
    }

    fn give_up(&mut self) {
        self.rest();
        kernel::unlink(&self.path);
        (self.bytes, self.has_notes) = (None, false);
        self.generation += 1;
    }

    /// What a sync will cover that begins now.
    pub(crate) fn covered(&mut self) -> Covered {
        let bytes = if self.is_gone { None } else { self.journal().map(|(_, bytes)| bytes) };
        let has_notes = bytes.is_some() && self.has_notes;
        Covered { generation: self.generation, bytes: bytes.unwrap_or(0), has_notes }
    }

    /// A sync that began so has succeeded.
    pub(crate) fn synced(&mut self, covered: Covered) {
        if self.is_gone || covered.generation != self.generation {
            return;
        }
        let Some((journal, bytes)) = self.journal() else { return };
        let offset = if bytes == covered.bytes {
            if kernel::truncate(journal, 0) != 0 {
                return self.give_up();
            }
            (self.bytes, self.has_notes) = (Some(0), false);
            self.generation += 1;
            0
        } else {
            covered.bytes
        };
        // Always: whoever reads the journal sees that the program syncs this file.
        let synced = Header { kind: Kind::Synced, offset, length: 0, old_length: 0, kept: 0 };
        if self.append(&synced.encode()).is_none() {
            self.give_up();
        }
    }
}

/// Cuts off a record that an earlier life could not finish, and tells the length of the rest.
fn whole(journal: c_int) -> Option<u64> {
    let length = u64::try_from(kernel::status(journal)?.st_size).ok()?;
    let mut at = 0;
    while at < length {
        let mut bytes = [0; HEADER_BYTES];
        let end = match kernel::read_exact(journal, &mut bytes, at) {
            true => Header::decode(&bytes).map(|header| at + HEADER_BYTES as u64 + header.kept),
            false => None,
        };
        match end.filter(|end| *end <= length) {
            Some(end) => at = end,
            None => {
                kernel::truncate(journal, i64::try_from(at).ok()?);
                break;
            }
        }
    }
    Some(at)
}
