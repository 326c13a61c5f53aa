//! What each task of a stage reads of partitioned inputs, once that is decided by their measured sizes.
//!
//! ```text
//!   partitions    0   1   2   3   4                4 is large in one input, whose map tasks are 0 to 5
//!   tasks        [0   1   2] [3] [4: maps 0 to 2] [4: maps 3 to 5]
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Exchange, ReadMode, Stage, StageGraph, StageId, limits::MAX_TASKS_PER_STAGE};

/// Neighbouring output partitions that one task reads of every partitioned input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub first: u32,
    /// The one behind the last.
    pub end: u32,
    /// Of one input only what some of its tasks gave.
    pub split: Option<Split>,
}

/// A range of the tasks of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub input: StageId,
    pub first_map: u32,
    /// The one behind the last.
    pub end_map: u32,
}

impl Share {
    /// What task `partition` reads if nothing is decided.
    pub fn one(partition: u32) -> Self {
        Self { first: partition, end: partition.saturating_add(1), split: None }
    }

    /// How many partitions it is of.
    pub fn width(&self) -> u32 {
        self.end.saturating_sub(self.first)
    }

    /// The range of the tasks of `input` that it reads, if not all.
    pub fn maps_of(&self, input: StageId) -> Option<std::ops::Range<u32>> {
        self.split.filter(|split| split.input == input).map(|split| split.first_map..split.end_map)
    }
}

/// Why shares don't fit their stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ShareError {
    #[error("{0} shares; between 1 and {MAX_TASKS_PER_STAGE} are allowed")]
    Count(usize),
    #[error("share {0} does not go on where the one before it ends, or is empty")]
    Gap(usize),
    #[error("share {0} splits what may not be split")]
    Split(usize),
    #[error("the last share ends at partition {end} of {partitions}")]
    End { end: u32, partitions: u32 },
}

impl Stage {
    /// How its tasks read their inputs is still to be decided; none may start before that.
    pub fn is_undecided(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input.read, ReadMode::Adaptive { .. }))
    }

    /// Decides: by `shares`, of which task `i` has the i-th, or as planned if there are none.
    pub fn decide(&mut self, shares: &[Share]) {
        let read = if shares.is_empty() { ReadMode::Partition } else { ReadMode::Shares };
        for input in self.inputs.iter_mut().filter(|input| matches!(input.read, ReadMode::Adaptive { .. })) {
            input.read = read;
        }
        if !shares.is_empty() {
            self.tasks = u32::try_from(shares.len()).unwrap_or(u32::MAX);
        }
    }
}

impl StageGraph {
    /// Whether something of it is decided only when sizes are known.
    pub fn is_adaptive(&self) -> bool {
        self.stages.iter().any(Stage::is_undecided)
    }

    /// Nothing is left to be decided: each task reads one partition.
    #[must_use]
    pub fn as_planned(mut self) -> Self {
        self.stages.iter_mut().for_each(|stage| stage.decide(&[]));
        self
    }

    /// Whether each partition of `stage`, which is undecided, is read just once by `shares`, in order.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_shares(&self, stage: &Stage, shares: &[Share]) -> Result<(), ShareError> {
        if shares.is_empty() || shares.len() > MAX_TASKS_PER_STAGE as usize {
            return Err(ShareError::Count(shares.len()));
        }
        let mut before: Option<&Share> = None;
        for (at, share) in shares.iter().enumerate() {
            let goes_on = match (before, before.and_then(|before| before.split)) {
                (None, _) => share.first == 0 && begins(share),
                (Some(before), Some(of)) if !self.is_whole(of) => {
                    let follows = share.split.is_some_and(|split| {
                        split.input == of.input
                            && split.first_map == of.end_map
                            && split.end_map > split.first_map
                    });
                    share.first == before.first && follows
                }
                (Some(before), _) => share.first == before.end && begins(share),
            };
            if !goes_on || share.end <= share.first {
                return Err(ShareError::Gap(at));
            }
            if share.split.is_some_and(|split| share.width() != 1 || !self.may_split(stage, split)) {
                return Err(ShareError::Split(at));
            }
            before = Some(share);
        }
        let end = before.map_or(0, |last| {
            if last.split.is_none_or(|of| self.is_whole(of)) { last.end } else { last.first }
        });
        if end == stage.tasks { Ok(()) } else { Err(ShareError::End { end, partitions: stage.tasks }) }
    }

    /// Up to its end all tasks of the input are read.
    fn is_whole(&self, split: Split) -> bool {
        self.stage(split.input).is_some_and(|input| split.end_map == input.tasks)
    }

    /// Who reads all of such a stage takes more outputs than were planned, which its order must not depend on.
    fn may_split(&self, stage: &Stage, split: Split) -> bool {
        let splits = stage
            .inputs
            .iter()
            .any(|input| input.stage == split.input && input.read == ReadMode::Adaptive { splits: true });
        let maps = self.stage(split.input).map_or(0, |input| input.tasks);
        splits && split.end_map <= maps && !matches!(stage.exchange, Exchange::Merge | Exchange::Result)
    }
}

/// A split one begins with the first task.
fn begins(share: &Share) -> bool {
    share.split.is_none_or(|split| split.first_map == 0 && split.end_map > 0)
}

/// What was decided for a stage, in words: `8 partitions read by 3 tasks: 4 coalesced, 1 split`.
pub struct SharesInWords<'a>(pub u32, pub &'a [Share]);

impl fmt::Display for SharesInWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(partitions, shares) = self;
        let tasks = shares.len();
        write!(f, "{partitions} partitions read by {tasks} task{}", if tasks == 1 { "" } else { "s" })?;
        let merged = shares.iter().filter(|share| share.width() > 1);
        let coalesced: u32 = merged.map(Share::width).sum();
        let split =
            shares.iter().filter(|share| share.split.is_some_and(|split| split.first_map == 0)).count();
        let mut separator = ": ";
        for (count, what) in [(coalesced as usize, "coalesced"), (split, "split for skew")] {
            if count > 0 {
                write!(f, "{separator}{count} {what}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StageInput;

    fn graph(exchange: Exchange) -> StageGraph {
        let stage = |id: u32, tasks, inputs, exchange, output_partitions| Stage {
            id: StageId(id),
            plan: vec![],
            tasks,
            inputs,
            exchange,
            output_partitions,
            display: String::new(),
            indeterminate: None,
        };
        let read = |id, splits| StageInput { stage: StageId(id), read: ReadMode::Adaptive { splits } };
        let all = StageInput { stage: StageId(2), read: ReadMode::All };
        let mut stages = vec![
            stage(0, 2, vec![], Exchange::Hash, 4),
            stage(1, 6, vec![], Exchange::Hash, 4),
            stage(2, 4, vec![read(0, false), read(1, true)], exchange, 1),
        ];
        if exchange != Exchange::Result {
            stages.push(stage(3, 1, vec![all], Exchange::Result, 1));
        }
        StageGraph { stages }
    }

    fn share(first: u32, end: u32) -> Share {
        Share { first, end, split: None }
    }

    fn split(at: u32, first_map: u32, end_map: u32) -> Share {
        Share { split: Some(Split { input: StageId(1), first_map, end_map }), ..Share::one(at) }
    }

    fn check(exchange: Exchange, shares: &[Share]) -> Result<(), ShareError> {
        let graph = graph(exchange);
        assert_eq!(graph.validate(), Ok(()));
        graph.check_shares(&graph.stages[2], shares)
    }

    #[test]
    fn shares_cover_every_partition_once() {
        let single = |shares: &[Share]| check(Exchange::Single, shares);
        assert_eq!(single(&[share(0, 4)]), Ok(()));
        assert_eq!(single(&[share(0, 1), split(1, 0, 2), split(1, 2, 6), share(2, 4)]), Ok(()));
        assert_eq!(single(&[share(0, 3), split(3, 0, 5), split(3, 5, 6)]), Ok(()));
        assert_eq!(single(&[]), Err(ShareError::Count(0)));
        assert_eq!(single(&[share(0, 2), share(3, 4)]), Err(ShareError::Gap(1)));
        assert_eq!(single(&[share(0, 2), share(1, 4)]), Err(ShareError::Gap(1)));
        assert_eq!(single(&[share(0, 2), share(2, 2)]), Err(ShareError::Gap(1)));
        assert_eq!(single(&[share(0, 3)]), Err(ShareError::End { end: 3, partitions: 4 }));
        assert_eq!(single(&[share(0, 3), split(3, 0, 5)]), Err(ShareError::End { end: 3, partitions: 4 }));
        assert_eq!(single(&[split(0, 0, 2), split(0, 3, 6), share(1, 4)]), Err(ShareError::Gap(1)));
        assert_eq!(single(&[split(0, 0, 2), share(1, 4)]), Err(ShareError::Gap(1)));
        assert_eq!(single(&[split(0, 0, 7), share(1, 4)]), Err(ShareError::Split(0)));
    }

    #[test]
    fn nothing_is_split_whose_readers_count_or_sort() {
        let shares = [split(0, 0, 2), split(0, 2, 6), share(1, 4)];
        assert_eq!(check(Exchange::Broadcast, &shares), Ok(()));
        for exchange in [Exchange::Merge, Exchange::Result] {
            assert_eq!(check(exchange, &shares), Err(ShareError::Split(0)));
        }
        let of_other =
            Share { split: Some(Split { input: StageId(0), first_map: 0, end_map: 1 }), ..shares[0] };
        assert_eq!(check(Exchange::Single, &[of_other]), Err(ShareError::Split(0)));
    }

    #[test]
    fn a_decision_is_told_in_words() {
        let shares = [share(0, 3), split(3, 0, 2), split(3, 2, 6), share(4, 5)];
        assert_eq!(
            SharesInWords(5, &shares).to_string(),
            "5 partitions read by 4 tasks: 3 coalesced, 1 split for skew"
        );
        assert_eq!(SharesInWords(8, &[share(0, 8)]).to_string(), "8 partitions read by 1 task: 8 coalesced");
    }

    #[test]
    fn a_graph_is_decided_stage_by_stage() {
        let mut adaptive = graph(Exchange::Single);
        assert!(adaptive.is_adaptive() && adaptive.stages[2].is_undecided());
        assert!(!adaptive.clone().as_planned().is_adaptive());
        adaptive.stages[2].decide(&[share(0, 4)]);
        assert_eq!((adaptive.is_adaptive(), adaptive.stages[2].tasks), (false, 1));
        assert!(adaptive.stages[2].inputs.iter().all(|input| input.read == ReadMode::Shares));
    }
}
