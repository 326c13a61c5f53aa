//! What makes changes durable, and what only looks so.

use std::ffi::{c_int, c_long, c_uint};

use libc::off_t;

use crate::{files, kernel, shared::word};

/// `call` is the sync itself. What was written before it began is durable when it has succeeded, by whatever descriptor: a sync is
/// one of the file.
fn sync_file(file: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let Some((armed, inode)) = files::ours(file) else { return call() };
    armed.delay();
    if inode.is_folder || armed.undo.is_none() {
        return call();
    }
    let covered = inode.lock().covered();
    if covered.has_notes {
        armed.add(word::SYNCING, 1);
        kernel::sleep_ms(armed.read(word::HOLD_MS));
    }
    let done = call();
    let error = kernel::errno();
    if done == 0 {
        inode.lock().synced(covered);
    }
    if covered.has_notes {
        armed.subtract(word::SYNCING, 1);
    }
    kernel::set_errno(error);
    done
}

#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    // SAFETY: no pointers.
    sync_file(file, || unsafe { libc::syscall(libc::SYS_fsync, file) as c_int })
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    // SAFETY: no pointers.
    sync_file(file, || unsafe { libc::syscall(libc::SYS_fdatasync, file) as c_int })
}

/// It asks for no flush of the disk's cache and writes no length: no sync.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(file: c_int, offset: off_t, length: off_t, flags: c_uint) -> c_int {
    if let Some((armed, _)) = files::ours(file) {
        armed.delay();
    }
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_sync_file_range, file, offset, length, flags) as c_int }
}

fn sync_all(call: impl FnOnce() -> c_int) -> c_int {
    let covered: Vec<_> = files::all().into_iter().map(|inode| (inode, inode.lock().covered())).collect();
    let done = call();
    let error = kernel::errno();
    for (inode, covered) in covered.into_iter().filter(|_| done == 0) {
        inode.lock().synced(covered);
    }
    kernel::set_errno(error);
    done
}

#[unsafe(no_mangle)]
extern "C" fn sync() {
    // SAFETY: no pointers.
    sync_all(|| unsafe { libc::syscall(libc::SYS_sync) as c_int });
}

/// For files of other file systems this is a sync as well, which may only hide something.
#[unsafe(no_mangle)]
extern "C" fn syncfs(file: c_int) -> c_int {
    // SAFETY: no pointers.
    sync_all(|| unsafe { libc::syscall(libc::SYS_syncfs, c_long::from(file)) as c_int })
}
