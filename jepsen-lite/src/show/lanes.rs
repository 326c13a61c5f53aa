//! Where operations stand in a picture: times become ranks, so that what matters is seen however far apart it was.

use crate::Operation;

/// The moments of a window, each begin and end, in order.
pub(super) struct Ranks {
    moments: Vec<u64>,
}

impl Ranks {
    pub(super) fn of(window: &[Operation]) -> Self {
        let mut moments: Vec<u64> =
            window.iter().flat_map(|op| [Some(op.start_ns), op.end_ns]).flatten().collect();
        moments.sort_unstable();
        moments.dedup();
        Self { moments }
    }

    pub(super) fn moments(&self) -> &[u64] {
        &self.moments
    }

    /// Ranks of begin and end; no end for an operation that stays open.
    pub(super) fn place(&self, op: &Operation) -> (usize, Option<usize>) {
        let rank = |ns: u64| self.moments.partition_point(|moment| *moment < ns);
        (rank(op.start_ns), op.end_ns.map(rank))
    }
}
