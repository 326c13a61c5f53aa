//! Which ops have begun and ended, over the lives of the clients, and which op waits for which.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use crate::schedule::{Action, Op};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begun,
    /// With or without its effect.
    Ended(bool),
}

/// Shared by all clients of a run.
#[derive(Debug)]
pub(super) struct Progress(watch::Sender<BTreeMap<u32, Stage>>);

impl Default for Progress {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Progress {
    /// Gives up what an earlier life of this client had begun and not ended.
    pub(super) fn restart(&self, ops: &[&Op]) {
        self.0.send_modify(|stages| {
            for op in ops {
                if let Some(stage) = stages.get_mut(&op.id)
                    && *stage == Stage::Begun
                {
                    *stage = Stage::Ended(false);
                }
            }
        });
    }

    /// False if an earlier life has begun it.
    pub(super) fn begin(&self, op: u32) -> bool {
        let mut is_new = false;
        self.0.send_modify(|stages| {
            stages.entry(op).or_insert_with(|| {
                is_new = true;
                Stage::Begun
            });
        });
        is_new
    }

    pub(super) fn end(&self, op: u32, took_effect: bool) {
        self.0.send_modify(|stages| {
            stages.insert(op, Stage::Ended(took_effect));
        });
    }

    /// Waits until all of `ops` have ended, and tells whether all took effect.
    pub(super) async fn wait(&self, ops: &BTreeSet<u32>) -> bool {
        let mut stages = self.0.subscribe();
        let ended = |stages: &BTreeMap<u32, Stage>| {
            ops.iter().all(|op| matches!(stages.get(op), Some(Stage::Ended(_))))
        };
        match stages.wait_for(ended).await {
            Ok(stages) => ops.iter().all(|op| stages.get(op) == Some(&Stage::Ended(true))),
            // Its sender is `self`.
            Err(_) => false,
        }
    }
}

/// The view that a statement makes.
pub(super) fn created_view(sql: &str) -> Option<&str> {
    sql.strip_prefix("CREATE VIEW ")?.split_whitespace().next()
}

/// The view that a statement drops.
pub(super) fn dropped_view(sql: &str) -> Option<&str> {
    sql.strip_prefix("DROP VIEW ")?.split_whitespace().next()
}

/// Ops of the same client that make what `op` reads.
pub(super) fn makers(op: &Op, ops: &[&Op]) -> BTreeSet<u32> {
    let Some(sql) = text(op) else { return BTreeSet::new() };
    let makes = |other: &&&Op| {
        other.id != op.id
            && matches!(&other.action, Action::Ddl { sql: made } if created_view(made).is_some_and(|view| mentions(sql, view)))
    };
    ops.iter().filter(makes).map(|other| other.id).collect()
}

/// Ops of the same client that read what `op` drops and come before it.
pub(super) fn readers(op: &Op, ops: &[&Op]) -> BTreeSet<u32> {
    let Action::Ddl { sql } = &op.action else { return BTreeSet::new() };
    let Some(view) = dropped_view(sql) else { return BTreeSet::new() };
    let reads = |other: &&&Op| other.id < op.id && text(other).is_some_and(|sql| mentions(sql, view));
    ops.iter().filter(reads).map(|other| other.id).collect()
}

fn text(op: &Op) -> Option<&str> {
    match &op.action {
        Action::Query { sql, .. } | Action::Ddl { sql } => Some(sql),
        Action::Status => None,
    }
}

/// Whether `name` is a word of `sql`.
pub(crate) fn mentions(sql: &str, name: &str) -> bool {
    sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ddl(id: u32, sql: &str) -> Op {
        Op { id, at_ms: 0, client: 1, action: Action::Ddl { sql: sql.to_owned() } }
    }

    #[test]
    fn readers_wait_for_makers_and_drops_for_readers() {
        let ops = [
            ddl(1, "CREATE VIEW v1 AS SELECT 1 AS c1"),
            ddl(2, "CREATE VIEW v2 AS SELECT * FROM v1"),
            ddl(3, "CREATE VIEW v11 AS SELECT 2 AS c1"),
            ddl(4, "DROP VIEW v1"),
        ];
        let all: Vec<&Op> = ops.iter().collect();
        assert_eq!(makers(&ops[0], &all), BTreeSet::new());
        assert_eq!(makers(&ops[1], &all), BTreeSet::from([1]));
        assert_eq!(readers(&ops[3], &all), BTreeSet::from([1, 2]));
        assert_eq!(readers(&ops[1], &all), BTreeSet::new());
    }

    #[tokio::test]
    async fn a_new_life_gives_up_what_the_old_one_had_begun() {
        let progress = Progress::default();
        let op = ddl(1, "CREATE VIEW v1 AS SELECT 1 AS c1");
        assert!(progress.begin(1));
        assert!(!progress.begin(1));
        progress.restart(&[&op]);
        assert!(!progress.wait(&BTreeSet::from([1])).await);
        assert!(!progress.begin(1));
        progress.begin(2);
        progress.end(2, true);
        assert!(progress.wait(&BTreeSet::from([2])).await);
    }
}
