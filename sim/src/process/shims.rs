//! libc's randomness and clocks, interposed in this program: they follow the run's seed and the simulated time.
//!
//! Until [`activate`] they pass everything on to the kernel, so a parent and the tests of this crate see the real ones.
//! What escapes them: code that makes the system calls by itself (`getrandom` 0.2, which only openraft's `rand` 0.8
//! brings along; its randomness comes from `env`).
#![allow(
    unsafe_code,
    reason = "functions of the C library can only be replaced by functions of the C library's kind"
)]

use std::{
    ffi::{c_int, c_long, c_uint, c_void},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use libc::{clockid_t, cpu_set_t, pid_t, size_t, ssize_t, timespec};

/// Wall clocks start at this time since the Unix epoch, as turmoil's do.
const EPOCH_S: u64 = 1_000_000_000;
/// Monotonic clocks start later than zero, since some code looks into the past.
const BOOTED_S: u64 = 10_000;
/// Processors that a simulation sees, so that a seed found on one machine replays on another.
const PROCESSORS: usize = 4;
const NANOS: u64 = 1_000_000_000;
const GETENTROPY_MAX_BYTES: size_t = 256;

static ACTIVE: AtomicBool = AtomicBool::new(false);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static NOW_NS: AtomicU64 = AtomicU64::new(0);

/// From here on randomness and time are the simulation's, for the rest of this process.
pub(super) fn activate(seed: u64) {
    RANDOM.store(seed, Relaxed);
    ACTIVE.store(true, Relaxed);
}

pub(super) fn set_now(since_start: Duration) {
    NOW_NS.store(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX), Relaxed);
}

/// Whether the interposed functions are those that the program's code reaches, by linking and by name.
pub(super) fn are_in_force() -> bool {
    #[allow(clippy::disallowed_methods, reason = "it is what has to be simulated here")]
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // SAFETY: the name is a C string, and the lookup has no other precondition.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"getrandom".as_ptr()) };
    let own: unsafe extern "C" fn(*mut c_void, size_t, c_uint) -> ssize_t = getrandom;
    wall.as_secs() == EPOCH_S && found as usize == own as usize
}

/// The next number of splitmix64.
fn next_u64() -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = RANDOM.fetch_add(GAMMA, Relaxed).wrapping_add(GAMMA);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// # Safety
/// `buffer` must be valid for writes of `length` bytes.
unsafe fn fill(buffer: *mut c_void, length: size_t) {
    let mut left = length;
    let mut to = buffer.cast::<u8>();
    while left > 0 {
        let bytes = next_u64().to_le_bytes();
        let count = left.min(bytes.len());
        // SAFETY: `count` bytes are left of the buffer, which the caller owns, and `bytes` is another one.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, count);
            to = to.add(count);
        }
        left -= count;
    }
}

/// # Safety
/// As getrandom(2): `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !ACTIVE.load(Relaxed) {
        // SAFETY: the caller keeps the contract of this very system call.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t };
    }
    // SAFETY: by the caller's contract.
    unsafe { fill(buffer, length) };
    length as ssize_t
}

/// # Safety
/// As getentropy(3): `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut c_void, length: size_t) -> c_int {
    if length > GETENTROPY_MAX_BYTES {
        return -1;
    }
    // SAFETY: by the caller's contract; requests of this size are never cut short.
    let got = unsafe { getrandom(buffer, length, 0) };
    if got == length as ssize_t { 0 } else { -1 }
}

/// # Safety
/// As clock_gettime(2): `time` must be valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let start_s = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => EPOCH_S,
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME => BOOTED_S,
        _ => 0,
    };
    if !ACTIVE.load(Relaxed) {
        // SAFETY: the caller keeps the contract of this very system call.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, c_long::from(clock), time) as c_int };
    }
    let now_ns = NOW_NS.load(Relaxed);
    // SAFETY: by the caller's contract. Both parts fit: they are seconds of a simulation, and less than a second.
    unsafe {
        (*time).tv_sec = (start_s + now_ns / NANOS) as libc::time_t;
        (*time).tv_nsec = (now_ns % NANOS) as c_long;
    }
    0
}

/// # Safety
/// As sched_getaffinity(2): `set` must be valid for writes of `size` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn sched_getaffinity(process: pid_t, size: size_t, set: *mut cpu_set_t) -> c_int {
    if !ACTIVE.load(Relaxed) {
        // SAFETY: the caller keeps the contract of this very system call.
        let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, c_long::from(process), size, set) };
        let Ok(filled) = usize::try_from(got) else { return -1 };
        // SAFETY: the kernel filled `filled` bytes of the `size` that the caller owns; the rest counts as empty.
        unsafe { std::ptr::write_bytes(set.cast::<u8>().add(filled), 0, size.saturating_sub(filled)) };
        return 0;
    }
    if size < size_of::<cpu_set_t>() {
        return -1;
    }
    // SAFETY: the caller owns `size` bytes, which is a whole set.
    unsafe {
        std::ptr::write_bytes(set.cast::<u8>(), 0, size);
        for processor in 0..PROCESSORS {
            libc::CPU_SET(processor, &mut *set);
        }
    }
    0
}
