//! Compares the rows of two runs of a query.

use datafusion::{
    arrow::record_batch::RecordBatch,
    common::ScalarValue,
    prelude::{SessionConfig, SessionContext},
};

use crate::{cluster::Cluster, data};

type Row = Vec<ScalarValue>;

/// Relative, as in TPC-H's own check of floats, but stricter.
const TOLERANCE: f64 = 1e-9;

pub(crate) async fn plain(dir: &std::path::Path) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3));
    data::register(&ctx, dir).await;
    ctx
}

/// Runs `sql` on both and panics where they differ. Returns the number of rows.
pub(crate) async fn check(cluster: &Cluster, plain: &SessionContext, sql: &str, ordered: bool) -> usize {
    check_as(cluster, plain, sql, sql, ordered).await
}

/// The same, where plain DataFusion runs `same`, another way to say `sql`.
pub(crate) async fn check_as(
    cluster: &Cluster,
    plain: &SessionContext,
    sql: &str,
    same: &str,
    ordered: bool,
) -> usize {
    let expected = plain.sql(same).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let expected = expected.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let run = cluster.run(sql).await;
    let (mut left, mut right) = (rows(&run.batches), rows(&expected));
    for batch in &run.batches {
        let types = |schema: &datafusion::arrow::datatypes::Schema| {
            schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>()
        };
        assert_eq!(types(&batch.schema()), types(&run.schema), "{sql}");
    }
    if !ordered {
        left.sort_by_cached_key(key);
        right.sort_by_cached_key(key);
    }
    assert_eq!(left.len(), right.len(), "{sql}\n{}", run.graph);
    for (left, right) in left.iter().zip(&right) {
        let alike = left.len() == right.len() && left.iter().zip(right).all(|(l, r)| is_same(l, r));
        assert!(alike, "{sql}\n{}\ncluster {left:?}\nplain   {right:?}", run.graph);
    }
    left.len()
}

fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let row = |batch: &RecordBatch, row| {
        batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row).unwrap()).collect()
    };
    batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>())
        .collect()
}

/// Floats last and rounded, so that their last digits don't change the order.
fn key(row: &Row) -> (Vec<String>, Vec<String>) {
    let (floats, others): (Vec<_>, Vec<_>) = row.iter().partition(|value| float(value).is_some());
    let rounded = floats.into_iter().filter_map(float).map(|value| format!("{value:.6e}"));
    (others.into_iter().map(ToString::to_string).collect(), rounded.collect())
}

fn float(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(value) => *value,
        ScalarValue::Float32(value) => value.map(f64::from),
        _ => None,
    }
}

fn is_same(left: &ScalarValue, right: &ScalarValue) -> bool {
    match (float(left), float(right)) {
        (Some(l), Some(r)) => {
            l == r || (l.is_nan() && r.is_nan()) || (l - r).abs() <= TOLERANCE * l.abs().max(r.abs())
        }
        _ => left == right,
    }
}

#[test]
fn differences_are_seen() {
    assert!(is_same(&ScalarValue::from(1.0), &ScalarValue::from(1.0 + 1e-12)));
    assert!(!is_same(&ScalarValue::from(1.0), &ScalarValue::from(1.0 + 1e-6)));
    assert!(!is_same(&ScalarValue::from(1), &ScalarValue::from(2)));
    assert!(!is_same(&ScalarValue::Int32(None), &ScalarValue::from(2)));
}
