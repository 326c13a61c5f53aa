//! Which descriptors are files below the data folder.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_int},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicPtr, Ordering::AcqRel, Ordering::Acquire},
    },
};

use libc::stat;

use crate::{
    control::{Armed, armed, link_of},
    inode::{Inode, journal_path},
    kernel,
};

/// Descriptors above are looked at each time.
const REMEMBERED: usize = 65_536;

/// By descriptor: null if it was not looked at yet, [`others`] if it is none below the data folder.
static TABLE: [AtomicPtr<Inode>; REMEMBERED] = [const { AtomicPtr::new(std::ptr::null_mut()) }; REMEMBERED];
/// By device and number. They are never freed: descriptors may outlive names.
static INODES: Mutex<BTreeMap<(u64, u64), &'static Inode>> = Mutex::new(BTreeMap::new());

/// Marks what is of no interest. No inode lives there.
fn others() -> *mut Inode {
    std::ptr::dangling_mut()
}

fn inodes() -> MutexGuard<'static, BTreeMap<(u64, u64), &'static Inode>> {
    INODES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot(file: c_int) -> Option<&'static AtomicPtr<Inode>> {
    TABLE.get(usize::try_from(file).ok()?)
}

/// The file or folder below the data folder that a descriptor is of, if it is of one.
pub(crate) fn ours(file: c_int) -> Option<(&'static Armed, &'static Inode)> {
    let armed = armed()?;
    let slot = slot(file)?;
    let mut known = slot.load(Acquire);
    if known.is_null() {
        let error = kernel::errno();
        let found = look(armed, file);
        kernel::set_errno(error);
        let new = found.map_or(others(), |inode| std::ptr::from_ref(inode).cast_mut());
        match slot.compare_exchange(known, new, AcqRel, Acquire) {
            Ok(_) => {
                known = new;
                found.inspect(|inode| inode.opened());
            }
            // Another thread has looked as well.
            Err(seen) => known = seen,
        }
    }
    if known == others() {
        return None;
    }
    // SAFETY: what is neither null nor the mark came from a reference that lasts for ever.
    unsafe { known.as_ref() }.map(|inode| (armed, inode))
}

/// A descriptor is new, or about to be closed.
pub(crate) fn reset(file: c_int) {
    let Some(slot) = slot(file) else { return };
    let known = slot.swap(std::ptr::null_mut(), AcqRel);
    if !known.is_null() && known != others() {
        // SAFETY: as in `ours`.
        if let Some(inode) = unsafe { known.as_ref() } {
            inode.closed();
        }
    }
}

/// Takes no lock for what is not ours: this may run in a handler of a signal, which writes to a pipe or a socket.
fn look(armed: &'static Armed, file: c_int) -> Option<&'static Inode> {
    let status = kernel::status(file)?;
    let is_folder = match status.st_mode & libc::S_IFMT {
        libc::S_IFREG => false,
        libc::S_IFDIR => true,
        _ => return None,
    };
    let path = kernel::read_link(&link_of(file)?)?;
    let rest = path.strip_prefix(armed.data.as_slice())?;
    // A file without a name is gone after a power cut.
    let is_below = rest.is_empty() || rest.starts_with(b"/");
    if !is_below || status.st_nlink == 0 {
        return None;
    }
    let key = (status.st_dev, status.st_ino);
    let new = || -> &'static Inode {
        let inode = match is_folder {
            true => Inode::folder(armed),
            false => Inode::file(armed, journal_path(armed, key.0, key.1).unwrap_or_default()),
        };
        Box::leak(Box::new(inode))
    };
    Some(*inodes().entry(key).or_insert_with(new))
}

/// A name is about to be taken from a file, or given to another one: what it is of, if that is its last name.
pub(crate) fn last_name(folder: c_int, path: &CStr) -> Option<stat> {
    armed()?.undo.as_ref()?;
    let status = kernel::status_at(folder, path)?;
    (status.st_mode & libc::S_IFMT == libc::S_IFREG && status.st_nlink == 1).then_some(status)
}

/// A file has lost its last name: nothing of it has to be undone, and its number may be another file's soon.
pub(crate) fn forget(status: &stat) {
    let key = (status.st_dev, status.st_ino);
    if let Some(inode) = inodes().remove(&key) {
        inode.forget();
    }
    unlink_journal(key);
}

/// A file was just made: what an earlier one of its number has left is none of its own. (Removed by somebody else.)
pub(crate) fn is_new(file: c_int) {
    let Some(status) = kernel::status(file) else { return };
    let key = (status.st_dev, status.st_ino);
    let mut inodes = inodes();
    if inodes.get(&key).is_some_and(|inode| inode.is_open()) {
        // Two threads made it at the same time.
        return;
    }
    if let Some(inode) = inodes.remove(&key) {
        inode.forget();
    }
    unlink_journal(key);
}

fn unlink_journal(key: (u64, u64)) {
    let path: Option<CString> = armed().and_then(|armed| journal_path(armed, key.0, key.1));
    path.inspect(|path| kernel::unlink(path));
}

/// All files that have a journal.
pub(crate) fn all() -> Vec<&'static Inode> {
    inodes().values().filter(|inode| !inode.is_folder).copied().collect()
}
