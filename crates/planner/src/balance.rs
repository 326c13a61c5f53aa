//! Scans whose tasks read about as much as was planned.
//!
//! DataFusion divides files by bytes, into ranges of exactly one size. A Parquet reader takes the row groups that begin in
//! its range, so that a range of a few bytes at the head of a file takes its first row group, perhaps all of the file.
//! Inside one process idle threads take over files of busy ones; tasks on several machines can't. So a file is divided only
//! where both parts are of some size.
//!
//! ```text
//!   task 0: ████A████ ████B████ ▌C        task 0: ████A████ ████B████
//!   task 1:  ███C████ ████D████      ─▶   task 1: ████C████ ████D████
//! ```

use std::sync::Arc;

use datafusion::{
    datasource::{
        listing::{FileRange, PartitionedFile},
        physical_plan::{FileGroup, FileScanConfig},
        source::DataSourceExec,
    },
    physical_plan::ExecutionPlan,
};

/// A part of a file below this share of what a task reads goes to the task that has the other part.
const SMALL_SHARE: u64 = 8;

/// The scan with its files divided anew. `None` where nothing is to be changed: also where it gives its rows in an order
/// or is divided by their values.
pub(crate) fn balanced(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let scan = plan.downcast_ref::<DataSourceExec>()?;
    let files = scan.data_source().downcast_ref::<FileScanConfig>()?;
    let is_free =
        files.output_ordering.is_empty() && !files.preserve_order && files.output_partitioning.is_none();
    let file_groups = is_free.then(|| join_small_parts(&files.file_groups)).flatten()?;
    let mut files = files.clone();
    files.file_groups = file_groups;
    Some(DataSourceExec::from_data_source(files))
}

fn join_small_parts(groups: &[FileGroup]) -> Option<Vec<FileGroup>> {
    let mut groups: Vec<Vec<PartitionedFile>> =
        groups.iter().map(|group| group.iter().cloned().collect()).collect();
    let bytes: u64 = groups.iter().flatten().map(PartitionedFile::effective_size).sum();
    let small = bytes / (groups.len() as u64).max(1) / SMALL_SHARE;
    let mut is_changed = false;
    for at in 1..groups.len() {
        let (before, after) = groups.split_at_mut(at);
        if let (Some(before), Some(after)) = (before.last_mut(), after.first_mut()) {
            is_changed |= join_at_seam(before, after, small);
        }
    }
    is_changed.then(|| groups.into_iter().map(FileGroup::new).collect())
}

/// Undoes a division of a file between two tasks if one of the parts is small, and not all that its task reads.
fn join_at_seam(before: &mut Vec<PartitionedFile>, after: &mut Vec<PartitionedFile>, small: u64) -> bool {
    let (Some(head), Some(tail)) = (before.last(), after.first()) else { return false };
    let ((start, seam), (next, end)) = (head.range(), tail.range());
    if head.object_meta.location != tail.object_meta.location || seam != next {
        return false;
    }
    let (Ok(start), Ok(end)) = (i64::try_from(start), i64::try_from(end)) else { return false };
    let range = Some(FileRange { start, end });
    if head.effective_size() <= small && before.len() > 1 {
        before.pop();
        if let Some(tail) = after.first_mut() {
            tail.range = range;
        }
        return true;
    }
    if tail.effective_size() <= small && after.len() > 1 {
        after.remove(0);
        if let Some(head) = before.last_mut() {
            head.range = range;
        }
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, start: i64, end: i64) -> PartitionedFile {
        PartitionedFile::new(name, 1_000).with_range(start, end)
    }

    fn words(groups: &[FileGroup]) -> Vec<String> {
        let word = |file: &PartitionedFile| {
            let (start, end) = file.range();
            format!("{}:{start}-{end}", file.object_meta.location)
        };
        groups.iter().map(|group| group.iter().map(word).collect::<Vec<_>>().join(" ")).collect()
    }

    #[track_caller]
    fn check(groups: Vec<Vec<PartitionedFile>>, expected: Option<&[&str]>) {
        let groups: Vec<FileGroup> = groups.into_iter().map(FileGroup::new).collect();
        let joined = join_small_parts(&groups).map(|groups| words(&groups));
        assert_eq!(
            joined.as_deref(),
            expected.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref()
        );
    }

    #[test]
    fn small_parts_go_to_the_task_with_the_rest_of_their_file() {
        check(
            vec![
                vec![part("a", 0, 1_000), part("b", 0, 1_000), part("c", 0, 2)],
                vec![part("c", 2, 1_000), part("d", 0, 1_000)],
            ],
            Some(&["a:0-1000 b:0-1000", "c:0-1000 d:0-1000"]),
        );
        check(
            vec![vec![part("a", 0, 998)], vec![part("a", 998, 1_000), part("b", 0, 1_000)]],
            Some(&["a:0-1000", "b:0-1000"]),
        );
    }

    #[test]
    fn real_halves_and_lonely_parts_stay() {
        check(
            vec![
                vec![part("a", 0, 1_000), part("b", 0, 500)],
                vec![part("b", 500, 1_000), part("c", 0, 1_000)],
            ],
            None,
        );
        check(vec![vec![part("a", 0, 2)], vec![part("a", 2, 1_000)]], None);
        check(
            vec![vec![part("a", 0, 1_000), part("b", 0, 2)], vec![part("c", 2, 1_000), part("d", 0, 1_000)]],
            None,
        );
        check(vec![vec![part("a", 0, 1_000)]], None);
        check(vec![], None);
    }
}
