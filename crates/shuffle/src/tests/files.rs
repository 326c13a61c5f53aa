//! Outputs in files: damage is found, deletion is complete, leftovers are swept.
#![allow(clippy::disallowed_methods, reason = "the tests look at and damage files behind the store's back")]

use std::{path::Path, sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use polybolos_model::{ErrorClass, Exchange};

use crate::{
    Compression, ShuffleError, WriteError,
    testing::{PLENTY, key, memory, read, store, task, write},
};

fn batch(rows: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let texts: ArrayRef =
        Arc::new(StringViewArray::from_iter_values((0..rows).map(|n| format!("text number {n:08}"))));
    RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).unwrap()
}

fn files(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

async fn emptied(dir: &Path) {
    for _ in 0..200 {
        if files(dir).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left over: {:?}", files(dir));
}

#[tokio::test]
async fn an_output_that_outgrows_the_budget_moves_to_one_data_file_and_one_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 200_000, Compression::Lz4).await;
    let batches: Vec<RecordBatch> = (0..10).map(|_| batch(1000)).collect();
    let task = task(memory(&batches[0].schema(), batches.clone()), Exchange::Result, vec![], 1);
    let stats = write(&store, key(0, 1), &task, 1000).await.unwrap();
    assert!(stats[0].bytes > 400_000 && store.memory_bytes() == 0 && store.disk_bytes() > 0);
    let names = files(dir.path());
    assert!(names.len() == 2 && names[0].ends_with(".data") && names[1].ends_with(".index"), "{names:?}");
    let on_disk: u64 = names.iter().map(|name| std::fs::metadata(dir.path().join(name)).unwrap().len()).sum();
    assert_eq!(store.disk_bytes(), on_disk);
    assert!(on_disk < stats[0].bytes / 2, "LZ4 made {on_disk} of {}", stats[0].bytes);
    assert_eq!(read(&store, key(0, 1), 0).await.unwrap(), batches);
    // A small output after it finds the budget free again.
    write(&store, key(1, 2), &task_of(1), 1000).await.unwrap();
    assert!(store.memory_bytes() > 0);
    store.delete(key(0, 1).attempt);
    store.delete(key(1, 2).attempt);
    assert_eq!(store.bytes(), 0);
    emptied(dir.path()).await;
}

fn task_of(rows: i64) -> polybolos_planner::TaskPlan {
    task(memory(&batch(1).schema(), vec![batch(rows)]), Exchange::Single, vec![], 1)
}

#[tokio::test]
async fn one_flipped_bit_is_found_and_the_output_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 0, Compression::None).await;
    for (attempt, suffix) in [(1, ".data"), (2, ".index")] {
        write(&store, key(7, attempt), &task_of(500), 1000).await.unwrap();
        let name =
            files(dir.path()).into_iter().find(|n| n.contains(&format!("3.{attempt}{suffix}"))).unwrap();
        let path = dir.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = read(&store, key(7, attempt), 0).await.unwrap_err();
        assert!(matches!(error, ShuffleError::Corrupt { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Retryable);
        let text = error.to_string();
        assert!(
            text.contains(&format!("stage 1 partition 7 attempt 3.{attempt}")) && text.contains(suffix),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_file_cut_short_is_damage_and_a_missing_one_an_error_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 0, Compression::None).await;
    write(&store, key(0, 1), &task_of(500), 1000).await.unwrap();
    let data = dir.path().join(&files(dir.path())[0]);
    let bytes = std::fs::read(&data).unwrap();
    std::fs::write(&data, &bytes[..100]).unwrap();
    assert!(matches!(read(&store, key(0, 1), 0).await, Err(ShuffleError::Corrupt { .. })));
    std::fs::remove_file(&data).unwrap();
    let error = read(&store, key(0, 1), 0).await.unwrap_err();
    assert!(matches!(error, ShuffleError::Disk { action: "read", .. }), "{error}");
}

#[tokio::test]
async fn a_folder_that_goes_away_is_a_retryable_error_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("shuffle");
    let store = store(&folder, 0, Compression::None).await;
    std::fs::remove_dir_all(&folder).unwrap();
    let error = write(&store, key(0, 1), &task_of(10), 1000).await.unwrap_err();
    assert!(matches!(error, WriteError::Store(ShuffleError::Disk { action: "create", .. })), "{error}");
    assert_eq!(polybolos_model::TaskError::from(error).class, ErrorClass::Retryable);
    assert_eq!(store.bytes(), 0);
}

#[tokio::test]
async fn deletion_ends_readers_with_a_clear_error() {
    for budget in [PLENTY, 0] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), budget, Compression::None).await;
        let task = task(memory(&batch(1).schema(), vec![batch(10), batch(10)]), Exchange::Single, vec![], 1);
        write(&store, key(0, 1), &task, 10).await.unwrap();
        let mut reader = store.read(key(0, 1), 0).unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().num_rows(), 10);
        store.delete_job(key(0, 1).task.job);
        assert_eq!(store.bytes(), 0);
        let error = reader.next().await.unwrap_err();
        assert!(matches!(error, ShuffleError::Deleted { .. }), "{error}");
        assert!(matches!(store.read(key(0, 1), 0), Err(ShuffleError::NotFound { .. })));
        emptied(dir.path()).await;
    }
}

#[tokio::test]
async fn an_attempt_writes_once_and_another_task_can_not_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    write(&store, key(0, 1), &task_of(10), 1000).await.unwrap();
    let again = write(&store, key(0, 1), &task_of(10), 1000).await.unwrap_err();
    assert!(matches!(again, WriteError::Store(ShuffleError::Duplicate { .. })), "{again}");
    assert!(matches!(store.read(key(5, 1), 0), Err(ShuffleError::NotFound { .. })));
    let beyond = store.read(key(0, 1), 3).unwrap_err();
    assert!(matches!(beyond, ShuffleError::NoSuchPartition { partition: 3, partitions: 1, .. }), "{beyond}");
}

#[tokio::test]
async fn opening_sweeps_what_an_earlier_process_left_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["shuffle-a-1-2-3.4.data", "shuffle-a-1-2-3.4.index.tmp", "notes.data", "shuffle-notes.txt"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    let _store = store(dir.path(), PLENTY, Compression::None).await;
    assert_eq!(files(dir.path()), ["notes.data", "shuffle-notes.txt"]);
}
