//! The functions that are replaced. Each keeps the contract of its manual page, as its caller does: that is what the `SAFETY` of
//! passing its arguments on means.

mod clock;
mod names;
mod open;
mod sync;
mod write;

/// The loader calls it before the program begins, and its threads.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

extern "C" fn loaded() {
    // Whatever comes of it, each function asks again.
    let _armed = crate::control::armed();
}
