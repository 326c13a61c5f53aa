//! Descriptors that come and go.

use std::ffi::{CStr, c_char, c_int};

use libc::mode_t;

use crate::{control::armed, files, kernel};

/// The mode is there only with some flags; without them whatever stands in its register is passed on and not looked at, as the C
/// library does. So these need not be variadic, which functions in Rust can't be.
fn open_any(folder: c_int, path: &CStr, flags: c_int, mode: mode_t) -> c_int {
    let keeps = armed().is_some_and(|armed| armed.undo.is_some());
    let makes = flags & libc::O_CREAT != 0;
    let cuts = flags & libc::O_TRUNC != 0 && flags & libc::O_ACCMODE != libc::O_RDONLY;
    if !keeps || !(makes || cuts) {
        let file = kernel::open(folder, path, flags, mode);
        if file >= 0 {
            files::reset(file);
        }
        return file;
    }
    let was_there = kernel::status_at(folder, path).is_some();
    // What it would cut off has to be noted first.
    let file = kernel::open(folder, path, flags & !libc::O_TRUNC, mode);
    if file < 0 {
        return file;
    }
    files::reset(file);
    if !was_there {
        files::is_new(file);
    } else if cuts && super::write::cut(file, 0) != 0 {
        let error = kernel::errno();
        // What has no length, a device or a pipe, is not cut by opening it.
        if error != libc::EINVAL {
            files::reset(file);
            kernel::close(file);
            return kernel::fail(error);
        }
    }
    file
}

/// # Safety
/// As openat(2): `path` must be a C string.
#[unsafe(no_mangle)]
unsafe extern "C" fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    if path.is_null() {
        return kernel::fail(libc::EFAULT);
    }
    // SAFETY: by the caller's contract.
    open_any(folder, unsafe { CStr::from_ptr(path) }, flags, mode)
}

/// # Safety
/// As openat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { openat(folder, path, flags, mode) }
}

/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As creat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { openat(libc::AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

#[unsafe(no_mangle)]
extern "C" fn close(file: c_int) -> c_int {
    files::reset(file);
    kernel::close(file)
}

/// Not used by Rust's library within a process; shells do.
#[unsafe(no_mangle)]
extern "C" fn dup2(from: c_int, to: c_int) -> c_int {
    if from != to {
        files::reset(to);
    }
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_dup3, from, to, 0) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    files::reset(to);
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_dup3, from, to, flags) as c_int }
}
