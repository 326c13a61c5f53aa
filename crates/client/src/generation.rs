//! Rows of one result that belong together.
//!
//! When an output is lost that comes out differently in a second run, the cluster rolls back whatever has read it, the
//! result's partitions too, and raises the generation of the result. Partitions of two generations must never be mixed:
//!
//! ```text
//!   update of a new generation ─▶ advance ─▶ nothing handed out: read everything anew
//!                                        └─▶ something was: the stream ends in an error
//!   a batch for the reader ─────▶ enter ───▶ of the present generation: handed out
//! ```

use std::sync::{Mutex, PoisonError};

/// The present generation, and whether a row of it was handed out. Both are decided under one lock, so that no row of
/// an old generation slips by a change.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    generation: u32,
    handed_out: bool,
}

/// What an update's generation means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advance {
    /// What the update says is of the present generation.
    Same,
    /// Of one that is over.
    Old,
    /// Everything that was begun must be begun anew.
    Anew,
    /// Rows that were handed out are void.
    TooLate,
}

impl Generation {
    pub(crate) fn advance(&self, to: u32) -> Advance {
        // Each change is a whole one.
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if to <= present.generation {
            return if to == present.generation { Advance::Same } else { Advance::Old };
        }
        if present.handed_out && !polybolos_model::mutant!("generations-mixed") {
            return Advance::TooLate;
        }
        present.generation = to;
        Advance::Anew
    }

    /// Whether a row of this generation may be handed out; it counts as handed out from now on.
    pub(crate) fn enter(&self, generation: u32) -> bool {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let may = present.generation == generation;
        present.handed_out |= may;
        may
    }

    pub(crate) fn present(&self) -> u32 {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_generation_is_welcome_until_a_row_is_handed_out() {
        let generation = Generation::default();
        assert_eq!(generation.advance(0), Advance::Same);
        assert_eq!(generation.advance(2), Advance::Anew);
        assert_eq!(generation.advance(1), Advance::Old);
        assert!(!generation.enter(0), "of a reader that was begun before");
        assert_eq!(generation.advance(3), Advance::Anew);
        assert!(generation.enter(3));
        assert_eq!((generation.advance(3), generation.advance(2)), (Advance::Same, Advance::Old));
        assert_eq!(generation.advance(4), Advance::TooLate);
        assert_eq!(generation.present(), 3);
    }
}
