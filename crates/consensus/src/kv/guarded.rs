//! sled panics on some kinds of damage: here that becomes an error, which whoever called has to report anyway.
//!
//! The panic's own words go into the error and not to stderr, where they would look like a bug of ours beside the refusal
//! that tells what to do.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
    thread,
};

use super::KvError;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
    static WORDS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a call of sled on this thread.
///
/// # Errors
/// What `work` gives, or [`KvError::Panicked`]. sled can't be relied on after that.
pub(super) fn guarded<T>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, KvError>,
) -> Result<T, KvError> {
    static HOOK: Once = Once::new();
    // The standard library lets no panicking thread do this.
    if !thread::panicking() {
        HOOK.call_once(take_notes);
    }
    let was_guarded = IS_GUARDED.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(was_guarded);
    done.unwrap_or_else(|_| {
        let reason = WORDS.take().unwrap_or_else(|| "it panicked".to_owned());
        Err(KvError::Panicked { operation, reason })
    })
}

/// Panics of all other code stay with the hook that was there before.
fn take_notes() {
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if IS_GUARDED.get() {
            WORDS.set(Some(words(panic)));
        } else {
            others(panic);
        }
    }));
}

fn words(panic: &PanicHookInfo<'_>) -> String {
    let text = panic.payload_as_str().unwrap_or("it panicked");
    panic.location().map_or_else(|| text.to_owned(), |at| format!("{text}, at {}:{}", at.file(), at.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words_and_stays_within() {
        let read =
            || guarded("read the database", || -> Result<(), KvError> { panic!("a page of {} bytes", 3) });
        for _ in 0..2 {
            let error = read().unwrap_err().to_string();
            let expected = "the database gave up when it was to read the database (a page of 3 bytes, at ";
            assert!(error.starts_with(expected) && error.contains("guarded.rs:"), "{error}");
        }
        assert_eq!(guarded("read the database", || Ok(7)).unwrap(), 7);
        assert!(panic::catch_unwind(|| panic!("not sled's")).is_err());
        assert_eq!(WORDS.take(), None, "what does not belong to a call of sled is another hook's");
    }
}
