//! Wall clocks.

use std::{
    ffi::{c_int, c_long, c_void},
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use libc::{clockid_t, time_t, timespec, timeval};

use crate::control::armed;

const NANOS: i64 = 1_000_000_000;
const NANOS_A_MS: i64 = 1_000_000;

/// The C library's own, which asks the kernel without a system call where it can. Null until it was looked up.
static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

type ClockGettime = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;

/// # Safety
/// As clock_gettime(2).
unsafe fn real(clock: clockid_t, time: *mut timespec) -> c_int {
    let mut found = REAL.load(Relaxed);
    if found.is_null() {
        // SAFETY: the name is a C string.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"clock_gettime".as_ptr()) };
        REAL.store(found, Relaxed);
    }
    if found.is_null() {
        // SAFETY: by the caller's contract.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, c_long::from(clock), time) as c_int };
    }
    // SAFETY: the C library's function of this name has this type, and the caller keeps its contract.
    unsafe { std::mem::transmute::<*mut c_void, ClockGettime>(found)(clock, time) }
}

/// # Safety
/// As clock_gettime(2): `time` must be valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: by the caller's contract.
    let done = unsafe { real(clock, time) };
    if done == 0
        && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI)
        && let Some(armed) = armed()
    {
        let shift_ms = armed.clock_shift_ms();
        if shift_ms != 0 {
            // SAFETY: the kernel has just written there.
            let time = unsafe { &mut *time };
            let nanos = time.tv_nsec + shift_ms % 1_000 * NANOS_A_MS;
            time.tv_sec = (time.tv_sec + shift_ms / 1_000 + nanos.div_euclid(NANOS)).max(0);
            time.tv_nsec = nanos.rem_euclid(NANOS);
        }
    }
    done
}

fn wall() -> timespec {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is our own. This clock is there on every kernel.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    time
}

/// # Safety
/// As gettimeofday(2): `time` must be null or valid for a write. The time zone is left alone, as is usual.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut c_void) -> c_int {
    let now = wall();
    // SAFETY: by the caller's contract.
    if let Some(time) = unsafe { time.as_mut() } {
        *time = timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1_000 };
    }
    0
}

/// # Safety
/// As time(2): `into` must be null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn time(into: *mut time_t) -> time_t {
    let now = wall().tv_sec;
    // SAFETY: by the caller's contract.
    if let Some(into) = unsafe { into.as_mut() } {
        *into = now;
    }
    now
}
