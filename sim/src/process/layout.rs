//! Where things lie in the memory of a child: the same in each.
#![allow(
    unsafe_code,
    reason = "the kernel is asked by libc's functions, which the standard library does not wrap"
)]

use std::io;

/// Of the main thread, on which a simulation runs.
const STACK_BYTES: libc::rlim_t = 64 << 20;
const ASK: libc::c_ulong = 0xffff_ffff;

/// Why a simulation would not repeat in this process.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "the kernel does not let this process turn address randomisation off (personality: {0}), and without that no run \
         can be repeated; in a container allow it, for example by `docker run --security-opt seccomp=unconfined`"
    )]
    Personality(io::Error),
    #[error("the limit of the stack can't be set: {0}")]
    Stack(io::Error),
    #[error(
        "addresses are randomised in the simulation's process although that was turned off, so no run can be repeated"
    )]
    Randomised,
    #[error("the simulation's process has an environment, which moves its stack, so no run can be repeated")]
    Environment,
    #[error(
        "the simulation's process still reaches libc's own clocks and randomness, so no run can be repeated"
    )]
    Shims,
}

/// Makes the processes that this one starts from now on have one layout.
pub(super) fn fix_for_children() -> Result<(), LayoutError> {
    // SAFETY: it only reads and sets flags of this process, which mean something when a program is started.
    let done = unsafe {
        let now = libc::personality(ASK);
        if now < 0 { now } else { libc::personality((now | libc::ADDR_NO_RANDOMIZE) as libc::c_ulong) }
    };
    if done < 0 {
        return Err(LayoutError::Personality(io::Error::last_os_error()));
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid structure of this kind, for the kernel to fill and to read.
    let done = unsafe {
        if libc::getrlimit(libc::RLIMIT_STACK, &mut limit) == 0 {
            // Unlimited would turn the order of mappings round; up to 128 MiB it moves nothing.
            limit.rlim_cur = STACK_BYTES.min(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_STACK, &limit)
        } else {
            -1
        }
    };
    if done == 0 { Ok(()) } else { Err(LayoutError::Stack(io::Error::last_os_error())) }
}

/// In a child: that it took effect. Closes what else was inherited.
pub(super) fn check() -> Result<(), LayoutError> {
    // SAFETY: it only reads a flag of this process.
    let now = unsafe { libc::personality(ASK) };
    if now < 0 || now & libc::ADDR_NO_RANDOMIZE == 0 {
        return Err(LayoutError::Randomised);
    }
    if std::env::vars_os().next().is_some() {
        return Err(LayoutError::Environment);
    }
    // SAFETY: nothing in this process owns a descriptor above the standard ones yet. An old kernel that lacks the call
    // leaves them open, which changes no more than numbers of descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    Ok(())
}
