//! System calls as such: the C library's functions are those that this library replaces.

use std::{
    ffi::{CStr, c_int, c_long},
    mem::MaybeUninit,
};

use libc::{off_t, size_t, ssize_t, stat};

/// The error of the last call that failed.
pub(crate) fn errno() -> c_int {
    // SAFETY: it is this thread's own.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value }
}

/// -1, as a system call that fails.
pub(crate) fn fail(error: c_int) -> c_int {
    set_errno(error);
    -1
}

/// openat(2).
pub(crate) fn open(folder: c_int, path: &CStr, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the path is a C string.
    unsafe { libc::syscall(libc::SYS_openat, folder, path.as_ptr(), flags, mode) as c_int }
}

/// close(2).
pub(crate) fn close(file: c_int) -> c_int {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_close, file) as c_int }
}

/// fstat(2); `None` if it fails.
pub(crate) fn status(file: c_int) -> Option<stat> {
    let mut status = MaybeUninit::<stat>::uninit();
    // SAFETY: the kernel fills it if it succeeds.
    unsafe {
        let done = libc::syscall(libc::SYS_fstat, file, status.as_mut_ptr());
        (done == 0).then(|| status.assume_init())
    }
}

/// fstatat(2) of the name itself, not of what it links to; `None` if it fails.
pub(crate) fn status_at(folder: c_int, path: &CStr) -> Option<stat> {
    let mut status = MaybeUninit::<stat>::uninit();
    // SAFETY: the path is a C string, and the kernel fills the status if it succeeds.
    unsafe {
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        let done = libc::syscall(libc::SYS_newfstatat, folder, path.as_ptr(), status.as_mut_ptr(), flags);
        (done == 0).then(|| status.assume_init())
    }
}

/// Flags by which a file was opened; 0 if that can't be told.
pub(crate) fn flags(file: c_int) -> c_int {
    // SAFETY: no pointers.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, file, libc::F_GETFL) };
    c_int::try_from(flags.max(0)).unwrap_or(0)
}

/// Where the next read or write begins.
pub(crate) fn position(file: c_int) -> Option<u64> {
    // SAFETY: no pointers.
    let at = unsafe { libc::syscall(libc::SYS_lseek, file, 0 as off_t, libc::SEEK_CUR) };
    u64::try_from(at).ok()
}

/// Reads all of `into`, or fails.
pub(crate) fn read_exact(file: c_int, mut into: &mut [u8], mut offset: u64) -> bool {
    while !into.is_empty() {
        // SAFETY: the buffer is ours and as long as told.
        let got =
            unsafe { libc::syscall(libc::SYS_pread64, file, into.as_mut_ptr(), into.len(), offset as off_t) };
        match usize::try_from(got) {
            Ok(0) => return false,
            Ok(got) => {
                into = into.get_mut(got..).unwrap_or_default();
                offset += got as u64;
            }
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return false,
        }
    }
    true
}

/// Writes all of it, or fails.
pub(crate) fn write_all(file: c_int, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the buffer is ours and as long as told.
        let done = unsafe { libc::syscall(libc::SYS_write, file, bytes.as_ptr(), bytes.len()) };
        match usize::try_from(done) {
            Ok(done) => bytes = bytes.get(done..).unwrap_or_default(),
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return false,
        }
    }
    true
}

/// ftruncate(2).
pub(crate) fn truncate(file: c_int, length: off_t) -> c_int {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_ftruncate, file, length) as c_int }
}

/// unlink(2).
pub(crate) fn unlink(path: &CStr) {
    // SAFETY: the path is a C string.
    unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) };
}

/// What a symbolic link says.
pub(crate) fn read_link(path: &CStr) -> Option<Vec<u8>> {
    let mut bytes = vec![0_u8; libc::PATH_MAX as size_t];
    // SAFETY: the path is a C string, the buffer ours and as long as told.
    let got = unsafe {
        libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, path.as_ptr(), bytes.as_mut_ptr(), bytes.len())
    };
    bytes.truncate(usize::try_from(got).ok()?);
    Some(bytes)
}

/// Does nothing for so long.
pub(crate) fn sleep_ms(ms: u64) {
    let mut left =
        libc::timespec { tv_sec: (ms / 1_000) as libc::time_t, tv_nsec: (ms % 1_000) as c_long * 1_000_000 };
    let left: *mut libc::timespec = &raw mut left;
    // SAFETY: the kernel reads the time and, when a signal comes, writes what is left of it, in the same place.
    while unsafe { libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, left, left) } != 0 {
        if errno() != libc::EINTR {
            return;
        }
    }
}

/// Whether a write that came back with `done` was a sync as well, by the flags of its descriptor.
pub(crate) fn is_synced_by(flags: c_int, done: ssize_t) -> bool {
    done >= 0 && flags & (libc::O_SYNC | libc::O_DSYNC) != 0
}
