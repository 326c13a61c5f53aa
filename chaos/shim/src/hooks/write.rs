//! What changes the bytes of a file, or its length.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libc::{iovec, off_t, size_t, ssize_t};

use crate::{files, kernel};

/// Where a write goes.
#[derive(Clone, Copy)]
enum Place {
    /// Where the descriptor stands, or the end of a file that is appended to.
    Next,
    At(off_t),
}

/// Notes what is there, and writes by `call`.
fn write_at(file: c_int, place: Place, length: u64, call: impl FnOnce() -> ssize_t) -> ssize_t {
    let Some((armed, inode)) = files::ours(file) else { return call() };
    armed.delay();
    if inode.is_folder || armed.undo.is_none() {
        return call();
    }
    let flags = kernel::flags(file);
    let mut state = inode.lock();
    // Appending is stronger than a place, on Linux.
    let offset = match place {
        _ if flags & libc::O_APPEND != 0 => kernel::status(file).map(|status| status.st_size.cast_unsigned()),
        Place::Next => kernel::position(file),
        Place::At(offset) => u64::try_from(offset).ok(),
    };
    if let Some(offset) = offset.filter(|_| length > 0) {
        state.before_write(file, offset, length);
    }
    let done = call();
    if kernel::is_synced_by(flags, done) {
        let covered = state.covered();
        state.synced(covered);
    }
    done
}

/// Notes what is cut off, and gives the file another length.
pub(super) fn cut(file: c_int, length: off_t) -> c_int {
    let call = || kernel::truncate(file, length);
    match (files::ours(file), u64::try_from(length)) {
        (Some((armed, inode)), Ok(length)) => {
            armed.delay();
            let mut state = inode.lock();
            if !inode.is_folder {
                state.before_length(file, length);
            }
            call()
        }
        _ => call(),
    }
}

/// # Safety
/// `parts` must be valid for reads of `count` parts.
unsafe fn length_of(parts: *const iovec, count: c_int) -> u64 {
    let Ok(count) = usize::try_from(count) else { return 0 };
    if parts.is_null() {
        return 0;
    }
    // SAFETY: by the caller's contract.
    let parts = unsafe { std::slice::from_raw_parts(parts, count) };
    parts.iter().map(|part| part.iov_len as u64).sum()
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, from: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: by the caller's contract.
    let call = || unsafe { libc::syscall(libc::SYS_write, file, from, count) as ssize_t };
    write_at(file, Place::Next, count as u64, call)
}

/// # Safety
/// As writev(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(file: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: by the caller's contract.
    let length = unsafe { length_of(parts, count) };
    // SAFETY: by the caller's contract.
    let call = || unsafe { libc::syscall(libc::SYS_writev, file, parts, count) as ssize_t };
    write_at(file, Place::Next, length, call)
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(file: c_int, from: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: by the caller's contract.
    let call = || unsafe { libc::syscall(libc::SYS_pwrite64, file, from, count, offset) as ssize_t };
    write_at(file, Place::At(offset), count as u64, call)
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(file: c_int, from: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: by the caller's contract.
    unsafe { pwrite64(file, from, count, offset) }
}

/// # Safety
/// As pwritev(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64(file: c_int, parts: *const iovec, count: c_int, offset: off_t) -> ssize_t {
    // SAFETY: by the caller's contract.
    let length = unsafe { length_of(parts, count) };
    // The kernel takes an offset in two halves, of which a 64-bit one ignores the upper.
    // SAFETY: by the caller's contract.
    let call = || unsafe { libc::syscall(libc::SYS_pwritev, file, parts, count, offset, 0) as ssize_t };
    write_at(file, Place::At(offset), length, call)
}

/// # Safety
/// As pwritev(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev(file: c_int, parts: *const iovec, count: c_int, offset: off_t) -> ssize_t {
    // SAFETY: by the caller's contract.
    unsafe { pwritev64(file, parts, count, offset) }
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(file: c_int, length: off_t) -> c_int {
    cut(file, length)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(file: c_int, length: off_t) -> c_int {
    cut(file, length)
}

/// # Safety
/// As truncate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn truncate64(path: *const c_char, length: off_t) -> c_int {
    if path.is_null() {
        return kernel::fail(libc::EFAULT);
    }
    // SAFETY: by the caller's contract.
    let path = unsafe { CStr::from_ptr(path) };
    let file = kernel::open(libc::AT_FDCWD, path, libc::O_WRONLY | libc::O_CLOEXEC, 0);
    if file < 0 {
        return file;
    }
    files::reset(file);
    let done = cut(file, length);
    let error = kernel::errno();
    files::reset(file);
    kernel::close(file);
    kernel::set_errno(error);
    done
}

/// # Safety
/// As truncate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn truncate(path: *const c_char, length: off_t) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { truncate64(path, length) }
}

/// Only room at the end is noted; what moves or wipes bytes is refused, as some file systems do.
#[unsafe(no_mangle)]
extern "C" fn fallocate64(file: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: no pointers.
    let call = || unsafe { libc::syscall(libc::SYS_fallocate, file, mode, offset, length) as c_int };
    let Some((armed, inode)) = files::ours(file) else { return call() };
    armed.delay();
    if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
        return kernel::fail(libc::EOPNOTSUPP);
    }
    let mut state = inode.lock();
    let end = u64::try_from(offset.saturating_add(length)).unwrap_or(0);
    let now = kernel::status(file).map_or(0, |status| status.st_size.cast_unsigned());
    if mode == 0 && end > now {
        state.before_length(file, end);
    }
    call()
}

#[unsafe(no_mangle)]
extern "C" fn fallocate(file: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    fallocate64(file, mode, offset, length)
}

/// Returns the error.
#[unsafe(no_mangle)]
extern "C" fn posix_fallocate64(file: c_int, offset: off_t, length: off_t) -> c_int {
    let before = kernel::errno();
    let done = fallocate64(file, 0, offset, length);
    let error = kernel::errno();
    kernel::set_errno(before);
    if done == 0 { 0 } else { error }
}

#[unsafe(no_mangle)]
extern "C" fn posix_fallocate(file: c_int, offset: off_t, length: off_t) -> c_int {
    posix_fallocate64(file, offset, length)
}

/// Into a file of ours: refused as across file systems, so that the caller reads and writes.
///
/// # Safety
/// As copy_file_range(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    if files::ours(to).is_some() {
        return kernel::fail(libc::EXDEV) as ssize_t;
    }
    // SAFETY: by the caller's contract.
    unsafe {
        let call = libc::SYS_copy_file_range;
        libc::syscall(call, from, from_offset, to, to_offset, length, flags) as ssize_t
    }
}

/// Likewise, as for a file that can't take it.
///
/// # Safety
/// As sendfile(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    if files::ours(to).is_some() {
        return kernel::fail(libc::EINVAL) as ssize_t;
    }
    // SAFETY: by the caller's contract.
    unsafe { libc::syscall(libc::SYS_sendfile, to, from, offset, count) as ssize_t }
}

/// # Safety
/// As sendfile(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: by the caller's contract.
    unsafe { sendfile64(to, from, offset, count) }
}

/// Likewise.
///
/// # Safety
/// As splice(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn splice(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    if files::ours(to).is_some() {
        return kernel::fail(libc::EINVAL) as ssize_t;
    }
    // SAFETY: by the caller's contract.
    unsafe { libc::syscall(libc::SYS_splice, from, from_offset, to, to_offset, length, flags) as ssize_t }
}
