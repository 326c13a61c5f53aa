//! Rows go where DataFusion's own repartitioning would send them.

use std::sync::Arc;

use datafusion::physical_plan::{
    ExecutionPlan, Partitioning, collect_partitioned, expressions::col, repartition::RepartitionExec,
};
use polybolos_model::Exchange;
use proptest::prelude::*;

use super::rows::{batches, schema, sorted_rows};
use crate::{
    Compression,
    testing::{PLENTY, context, key, memory, read, store, task, write},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_hash_exchange_agrees_with_repartitioning(batches in batches(), partitions in 1..7u32, spill: bool) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = store(dir.path(), if spill { 3000 } else { PLENTY }, Compression::None).await;
            let keys = ["number", "view", "code"].map(|name| col(name, &schema()).unwrap()).to_vec();
            let plan = memory(&schema(), batches);
            let by_hash = Partitioning::Hash(keys.clone(), partitions as usize);
            let repartition = RepartitionExec::try_new(Arc::clone(&plan), by_hash).unwrap();
            let expected = collect_partitioned(Arc::new(repartition), context(16)).await.unwrap();
            let task = task(plan, Exchange::Hash, keys, partitions);
            let stats = write(&store, key(0, 1), &task, 16).await.unwrap();
            for (partition, expected) in (0..partitions).zip(&expected) {
                let found = read(&store, key(0, 1), partition).await.unwrap();
                assert_eq!(sorted_rows(&found), sorted_rows(expected), "partition {partition}");
                let rows: usize = found.iter().map(|batch| batch.num_rows()).sum();
                assert_eq!(stats[partition as usize].rows, rows as u64);
            }
        });
    }
}

#[tokio::test]
async fn a_round_robin_starts_at_the_task_and_repeats_in_every_attempt() {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let column = |n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
    let one = |n: i64| RecordBatch::try_from_iter([("n", column(n))]).unwrap();
    let plan: Arc<dyn ExecutionPlan> = memory(&one(0).schema(), (0..5).map(one).collect());
    let task = task(plan, Exchange::RoundRobin, vec![], 3);
    for attempt in [1, 2] {
        let stats = write(&store, key(4, attempt), &task, 8192).await.unwrap();
        assert_eq!(stats.iter().map(|s| s.rows).collect::<Vec<_>>(), vec![1, 2, 2]);
        let first = read(&store, key(4, attempt), 1).await.unwrap();
        assert_eq!(first[0].column(0).as_ref(), &Int64Array::from(vec![0, 3]));
    }
}
