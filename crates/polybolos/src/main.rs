//! The binary `polybolos`.
//!
//! The production composition root; the simulator is the other one. What it can do is in [`cli`], what others may
//! embed is in the library.

mod cli;

/// Query execution allocates and frees large buffers from many threads; mimalloc does so faster than the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
