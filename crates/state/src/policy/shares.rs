//! How the partitions of a stage's inputs are divided among its tasks, by their sizes.
//!
//! ```text
//!   target = min(coalesce_partition_bytes, max(1 MiB, all bytes ÷ all slots))
//!   a partition of one input with more than skew_factor × the median, and skew_bytes: by ranges of map tasks
//!   all others: neighbours together while they stay within the target
//! ```
//!
//! The rules and their defaults are those of Spark's adaptive execution (`CoalesceShufflePartitions`,
//! `OptimizeSkewedJoin`, `ShufflePartitionsUtil`).

use polybolos_model::{PartitionStats, Share, Split, StageId, limits::MAX_TASKS_PER_STAGE};

use crate::limits::MAX_ESTIMATE_STATS;

/// A task should have at least that much to do: Spark's `coalescePartitions.minPartitionSize`.
const MIN_SHARE_BYTES: u64 = 1 << 20;

/// What a decision goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimits {
    /// 0 if nothing is coalesced.
    pub coalesce_bytes: u64,
    /// 0 if nothing is split.
    pub skew_bytes: u64,
    /// In thousandths.
    pub skew_factor: u32,
    /// Of all executors that take tasks.
    pub slots: u64,
}

/// A partitioned input that is complete.
#[derive(Debug, Clone)]
pub struct Measured<'a> {
    pub stage: StageId,
    /// Its partitions may be divided.
    pub splits: bool,
    /// Of each of its tasks the sizes of all partitions.
    pub maps: Vec<&'a [PartitionStats]>,
}

impl Measured<'_> {
    fn size(&self, map: usize, partition: usize) -> u64 {
        // Rows without columns take no bytes.
        self.maps.get(map).and_then(|of| of.get(partition)).map_or(0, |stats| stats.bytes.max(stats.rows))
    }

    /// Over all its tasks. Of very many every n-th counts for n.
    fn sums(&self, partitions: usize) -> Vec<u64> {
        let step = (self.maps.len() * partitions).div_ceil(MAX_ESTIMATE_STATS).max(1);
        let mut sums = vec![0u64; partitions];
        for map in (0..self.maps.len()).step_by(step) {
            for (partition, sum) in sums.iter_mut().enumerate() {
                *sum = sum.saturating_add(self.size(map, partition).saturating_mul(step as u64));
            }
        }
        sums
    }

    /// The partition as ranges of tasks of about `target_bytes`, as far as tasks go.
    fn ranges(&self, partition: usize, target_bytes: u64) -> Vec<Share> {
        let mut ends = Vec::new();
        let mut bytes = 0u64;
        for map in 0..self.maps.len() {
            let more = self.size(map, partition);
            if bytes > 0 && bytes.saturating_add(more) > target_bytes {
                ends.push(map);
                bytes = 0;
            }
            bytes = bytes.saturating_add(more);
        }
        ends.push(self.maps.len());
        let mut first = 0;
        let share = |end: usize| {
            let split = Split { input: self.stage, first_map: number(first), end_map: number(end) };
            first = end;
            Share { split: Some(split), ..Share::one(number(partition)) }
        };
        ends.into_iter().map(share).collect()
    }
}

/// The shares of `partitions` of `inputs`, each of which has as many. Empty if each task had better read one.
pub fn shares(inputs: &[Measured<'_>], partitions: u32, limits: ShareLimits) -> Vec<Share> {
    let count = partitions as usize;
    let by_input: Vec<Vec<u64>> = inputs.iter().map(|input| input.sums(count)).collect();
    let total = |partition: usize| by_input.iter().fold(0u64, |sum, of| sum.saturating_add(of[partition]));
    let totals: Vec<u64> = (0..count).map(total).collect();
    let splits = splits(inputs, &by_input, limits);
    let more = splits.iter().flatten().map(Vec::len).sum::<usize>();
    let is_split = |partition: usize| {
        splits
            .get(partition)
            .and_then(Option::as_ref)
            .filter(|_| count + more <= MAX_TASKS_PER_STAGE as usize)
    };
    let target = limits.coalesce_bytes.min(sum(&totals).div_ceil(limits.slots.max(1)).max(MIN_SHARE_BYTES));
    let mut shares: Vec<Share> = Vec::new();
    // Of the last share, if it may take more.
    let mut open: Option<u64> = None;
    for (partition, &bytes) in totals.iter().enumerate() {
        if let Some(split) = is_split(partition) {
            shares.extend(split);
            open = None;
            continue;
        }
        let sum = open.map(|sum| sum.saturating_add(bytes)).filter(|sum| bytes == 0 || *sum <= target);
        match (sum.filter(|_| limits.coalesce_bytes > 0), shares.last_mut()) {
            (Some(_), Some(last)) => last.end += 1,
            _ => shares.push(Share::one(number(partition))),
        }
        open = Some(sum.unwrap_or(bytes));
    }
    let is_as_planned = shares.iter().all(|share| share.width() == 1 && share.split.is_none());
    if is_as_planned { Vec::new() } else { shares }
}

/// Of each partition how it is divided, if it is.
fn splits(inputs: &[Measured<'_>], by_input: &[Vec<u64>], limits: ShareLimits) -> Vec<Option<Vec<Share>>> {
    let mut splits = vec![None; by_input.first().map_or(0, Vec::len)];
    if limits.skew_bytes == 0 {
        return splits;
    }
    for (input, sums) in inputs.iter().zip(by_input).filter(|(input, _)| input.splits) {
        let least = least_skewed(sums, limits);
        let (skewed, others): (Vec<u64>, Vec<u64>) = sums.iter().partition(|bytes| **bytes > least);
        if skewed.is_empty() {
            continue;
        }
        let usual = sum(&others).checked_div(others.len() as u64).unwrap_or(0);
        let target = limits.coalesce_bytes.max(usual).max(1);
        for (partition, split) in splits.iter_mut().enumerate() {
            let bytes = sums.get(partition).copied().unwrap_or(0);
            // If several inputs are skewed there, the largest.
            let is_largest = by_input.iter().all(|of| of.get(partition).is_none_or(|other| *other <= bytes));
            if bytes > least && is_largest {
                *split = Some(input.ranges(partition, target)).filter(|ranges| ranges.len() > 1);
            }
        }
    }
    splits
}

/// What a partition must exceed to be skewed.
fn least_skewed(sums: &[u64], limits: ShareLimits) -> u64 {
    let mut sorted = sums.to_vec();
    let middle = sorted.len() / 2;
    let median = if sorted.is_empty() { 0 } else { *sorted.select_nth_unstable(middle).1 };
    let factor = u128::from(median) * u128::from(limits.skew_factor) / 1_000;
    limits.skew_bytes.max(u64::try_from(factor).unwrap_or(u64::MAX))
}

fn sum(sizes: &[u64]) -> u64 {
    sizes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
