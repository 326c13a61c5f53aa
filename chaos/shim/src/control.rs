//! The control file, and what the shim was told when it was loaded.

use std::{
    ffi::{CStr, CString, c_int},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    kernel,
    shared::{CONTROL_BYTES, CONTROL_MARK, CONTROL_VARIABLE, DATA_VARIABLE, UNDO_VARIABLE, word},
};

/// What this process was started with.
pub(crate) struct Armed {
    words: &'static [AtomicU64; CONTROL_BYTES / 8],
    /// The data folder, as the kernel names it.
    pub(crate) data: Vec<u8>,
    /// Where journals are, if any are kept.
    pub(crate) undo: Option<Vec<u8>>,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// `None` in a process that was not started by a chaos run.
pub(crate) fn armed() -> Option<&'static Armed> {
    ARMED
        .get_or_init(|| {
            let error = kernel::errno();
            let armed = arm();
            kernel::set_errno(error);
            armed
        })
        .as_ref()
}

fn arm() -> Option<Armed> {
    let control = CString::new(variable(CONTROL_VARIABLE)?).ok()?;
    let file = kernel::open(libc::AT_FDCWD, &control, libc::O_RDWR | libc::O_CLOEXEC, 0);
    if file < 0 || kernel::status(file)?.st_size < CONTROL_BYTES as i64 {
        return None;
    }
    let (protection, null) = (libc::PROT_READ | libc::PROT_WRITE, std::ptr::null_mut());
    // SAFETY: a new mapping of a file that is long enough, which nobody cuts; it stays for the life of the process, and
    // what others change in it is only ever read as atomic words.
    let words = unsafe {
        let at = libc::mmap(null, CONTROL_BYTES, protection, libc::MAP_SHARED, file, 0);
        if at == libc::MAP_FAILED {
            return None;
        }
        &*at.cast::<[AtomicU64; CONTROL_BYTES / 8]>()
    };
    kernel::close(file);
    if words[word::MARK].load(Relaxed) != CONTROL_MARK {
        return None;
    }
    words[word::PROCESS].store(u64::from(std::process::id()), Relaxed);
    Some(Armed { words, data: variable(DATA_VARIABLE)?, undo: variable(UNDO_VARIABLE) })
}

fn variable(name: &str) -> Option<Vec<u8>> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string, and nobody changes the environment before the program has begun.
    let value = unsafe { libc::getenv(name.as_ptr()).as_ref().map(|value| CStr::from_ptr(value)) };
    value.map(|value| value.to_bytes().to_vec())
}

impl Armed {
    pub(crate) fn read(&self, word: usize) -> u64 {
        self.words.get(word).map_or(0, |found| found.load(Relaxed))
    }

    pub(crate) fn add(&self, word: usize, count: u64) {
        if let Some(found) = self.words.get(word) {
            found.fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn subtract(&self, word: usize, count: u64) {
        if let Some(found) = self.words.get(word) {
            found.fetch_sub(count, Relaxed);
        }
    }

    /// In milliseconds; it is counted if it is not 0.
    pub(crate) fn clock_shift_ms(&self) -> i64 {
        let shift_ms = self.read(word::CLOCK_MS).cast_signed();
        if shift_ms != 0 {
            self.add(word::READS, 1);
        }
        shift_ms
    }

    /// A call on something below the data folder takes as long as the disk is slow.
    pub(crate) fn delay(&self) {
        let ms = self.read(word::DISK_MS);
        if ms > 0 {
            kernel::sleep_ms(ms);
            self.add(word::DELAYED, 1);
            self.add(word::DELAYED_MS, ms);
        }
    }
}

/// The link by which the kernel shows what a descriptor is.
pub(crate) fn link_of(file: c_int) -> Option<CString> {
    CString::new(format!("/proc/self/fd/{file}")).ok()
}
