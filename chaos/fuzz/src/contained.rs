//! Panics of libraries on bytes that nobody wrote.

use std::{
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
};

/// Where cargo keeps the sources of other people's crates.
const REGISTRY: &str = "/registry/src/";

/// Does `work` as a server does what it was sent: a panic of DataFusion or Arrow on a changed plan or file is an error of
/// that one statement or task. libFuzzer ends at any panic; so those are hidden from it, and ours are not.
pub fn contained(work: impl FnOnce()) {
    static HIDDEN: Once = Once::new();
    HIDDEN.call_once(|| {
        let end = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_of_a_library(info) {
                end(info);
            }
        }));
    });
    let _done_or_contained = panic::catch_unwind(AssertUnwindSafe(work));
}

fn is_of_a_library(info: &PanicHookInfo<'_>) -> bool {
    info.location().is_some_and(|location| location.file().contains(REGISTRY))
}
