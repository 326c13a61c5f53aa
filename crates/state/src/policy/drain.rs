//! When a drained executor may go.
//!
//! ```text
//!   asked ──────────────────────────── until ─────────────── + grace
//!     │ tasks run to their end           │ what still runs      │ goes in any case
//!     │ outputs go elsewhere             │ there is stopped     │
//!     └─ goes once nothing runs there and nothing is only there ┘
//! ```
//!
//! When nobody is left to hand outputs to, waiting on after `until` would help nobody.

use crate::{Drain, limits::HANDOVER_GRACE_MS};

/// What the leader knows of an executor that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remains {
    /// Attempts that run there.
    pub running: usize,
    /// Outputs that are needed and nowhere else.
    pub outputs: usize,
    /// There is another executor that takes outputs.
    pub has_takers: bool,
}

/// What still runs there must run elsewhere.
pub fn is_over(drain: &Drain, now_ms: u64) -> bool {
    now_ms >= drain.until_ms
}

/// Why the executor is let go now; `None` while it is waited for.
pub fn goes(drain: &Drain, remains: Remains, now_ms: u64) -> Option<String> {
    let Remains { running, outputs, has_takers } = remains;
    if running == 0 && outputs == 0 {
        return Some("it was drained".to_owned());
    }
    let waits = outputs > 0 && has_takers && now_ms < drain.until_ms.saturating_add(HANDOVER_GRACE_MS);
    if !is_over(drain, now_ms) || waits {
        return None;
    }
    Some(format!("the time of its drain was over, and {outputs} outputs were not handed over"))
}

#[cfg(test)]
mod tests {
    use polybolos_model::Incarnation;

    use super::*;

    #[test]
    fn it_goes_when_nothing_is_left_or_its_time_is_over() {
        let drain =
            Drain { incarnation: Incarnation(1), since_ms: 0, until_ms: 1_000, moved: 0, left: false };
        let grace = 1_000 + HANDOVER_GRACE_MS;
        let check = |running, outputs, has_takers, now_ms, expected: Option<&str>| {
            let why = goes(&drain, Remains { running, outputs, has_takers }, now_ms);
            assert_eq!(why.is_some(), expected.is_some(), "{running} {outputs} {has_takers} {now_ms}");
            assert!(why.unwrap_or_default().contains(expected.unwrap_or_default()));
        };
        check(0, 0, false, 0, Some("it was drained"));
        check(1, 0, true, 999, None);
        check(0, 1, true, 999, None);
        check(0, 1, false, 999, None);
        // What runs is stopped then.
        check(1, 0, true, 1_000, Some("0 outputs"));
        check(0, 2, false, 1_000, Some("2 outputs"));
        check(0, 2, true, 1_000, None);
        check(0, 2, true, grace - 1, None);
        check(1, 2, true, grace, Some("2 outputs"));
    }
}
