//! Names that are taken from files. Only what that means for journals: names themselves are not brought back.

use std::ffi::{CStr, c_char, c_int, c_uint};

use crate::{files, kernel};

/// # Safety
/// `path` must be null or a C string.
unsafe fn text<'a>(path: *const c_char) -> Option<&'a CStr> {
    // SAFETY: by the caller's contract.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}

/// # Safety
/// As unlinkat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: by the caller's contract.
    let last = unsafe { text(path) }
        .filter(|_| flags & libc::AT_REMOVEDIR == 0)
        .and_then(|path| files::last_name(folder, path));
    // SAFETY: by the caller's contract.
    let done = unsafe { libc::syscall(libc::SYS_unlinkat, folder, path, flags) as c_int };
    if let Some(last) = last.filter(|_| done == 0) {
        files::forget(&last);
    }
    done
}

/// # Safety
/// As unlink(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

/// # Safety
/// As renameat2(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: by the caller's contract.
    let (old, new) = unsafe { (text(from), text(to)) };
    let replaces = flags & libc::RENAME_EXCHANGE == 0;
    let last = new.filter(|_| replaces).and_then(|path| files::last_name(to_folder, path));
    // A name that is given to the same file stays.
    let moved = old.filter(|_| last.is_some()).and_then(|path| kernel::status_at(from_folder, path));
    // SAFETY: by the caller's contract.
    let done =
        unsafe { libc::syscall(libc::SYS_renameat2, from_folder, from, to_folder, to, flags) as c_int };
    if let (0, Some(last), Some(moved)) = (done, last, moved)
        && (last.st_dev, last.st_ino) != (moved.st_dev, moved.st_ino)
    {
        files::forget(&last);
    }
    done
}

/// # Safety
/// As renameat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { renameat2(from_folder, from, to_folder, to, 0) }
}

/// # Safety
/// As rename(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { renameat2(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}
