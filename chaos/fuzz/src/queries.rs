//! What schedulers, executors and clients send each other of a query: plans, tickets, and the files of outputs.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{Int64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema},
    },
    execution::{SessionState, runtime_env::RuntimeEnv},
    logical_expr::LogicalPlan,
    prelude::SessionContext,
};
use datafusion_proto::bytes::{
    logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
};
use polybolos_model::{AttemptId, JobId, StageId, TaskId, Term};
use polybolos_planner::{Extensions, RuntimeFilters, cluster_config, decode_stage, stage_graph, task_plan};
use polybolos_shuffle::{OutputKey, decode_ticket, encode_ticket, output_files};

fn extensions() -> &'static Extensions {
    static EXTENSIONS: OnceLock<Extensions> = OnceLock::new();
    EXTENSIONS.get_or_init(|| polybolos::with_table_codec(Extensions::default()))
}

fn session() -> &'static SessionState {
    static SESSION: OnceLock<SessionState> = OnceLock::new();
    SESSION.get_or_init(|| extensions().session_state(cluster_config(4), Arc::new(RuntimeEnv::default())))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A logical plan as clients send them, and a stage as schedulers do: what decodes is planned on, as far as a server does.
/// The first byte says which.
pub fn plans(bytes: &[u8]) {
    match bytes.split_first() {
        None => {}
        Some((0, stage)) => {
            if let Ok(template) = decode_stage(stage, session(), extensions()) {
                let _plan_or_error = task_plan(&template, 0);
            }
        }
        Some((_, plan)) => {
            if let Some(plan) = logical(plan) {
                let state = session();
                let _plan_or_error = runtime().block_on(state.create_physical_plan(&plan));
            }
        }
    }
}

fn logical(bytes: &[u8]) -> Option<LogicalPlan> {
    let codec = extensions().logical_codec();
    logical_plan_from_bytes_with_extension_codec(bytes, &session().task_ctx(), codec.as_ref()).ok()
}

/// A ticket: what decodes is written again as it was meant.
pub fn tickets(bytes: &[u8]) {
    let Ok(ticket) = decode_ticket(bytes) else { return };
    let again = decode_ticket(&encode_ticket(ticket.key, ticket.partitions.start));
    assert_eq!(again.expect("a ticket").key, ticket.key);
}

/// The two files of an output. The first two bytes say how long the index is; it comes as it is, and once more with the
/// checksum that it should have.
pub fn shuffle_files(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (index, data) = rest.split_at(length);
    let sealed = match index.len().checked_sub(4) {
        Some(end) => [&index[..end], &crc32fast::hash(&index[..end]).to_le_bytes()].concat(),
        None => Vec::new(),
    };
    let data = Bytes::copy_from_slice(data);
    for index in [Bytes::copy_from_slice(index), Bytes::from(sealed)] {
        let _rows_or_error = output_files(&index, &data);
    }
}

pub fn ticket_seeds() -> Vec<Vec<u8>> {
    let key = OutputKey {
        task: TaskId { job: JobId(7), stage: StageId(2), partition: 3 },
        attempt: AttemptId { term: Term(4), counter: 5 },
    };
    vec![encode_ticket(key, 0).to_vec(), encode_ticket(key, 9).to_vec()]
}

/// One of two partitions and three chunks.
pub fn shuffle_file_seeds() -> Vec<Vec<u8>> {
    let schema =
        Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("s", DataType::Utf8, true)]);
    let numbers = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let texts = Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![numbers, texts]).expect("a batch");
    let partitions = [vec![batch.clone(), batch.slice(1, 2)], vec![batch]];
    let (index, data) = polybolos_shuffle::encode_output_files(&partitions).expect("files");
    let length = u16::try_from(index.len()).expect("a short index").to_le_bytes();
    vec![[&length[..], &index, &data].concat()]
}

pub const QUERIES: [&str; 6] = [
    "SELECT column1 AS a, column2 AS b FROM (VALUES (1, 'x'), (2, NULL)) WHERE column1 > 1",
    "SELECT column1 % 3 AS k, count(*), sum(column1) FROM (VALUES (1), (2), (3)) GROUP BY column1 % 3",
    "SELECT a.column1 FROM (VALUES (1), (2)) AS a JOIN (VALUES (2), (3)) AS b ON a.column1 = b.column1",
    "SELECT column1, row_number() OVER (PARTITION BY column1 ORDER BY column1 DESC) FROM (VALUES (1), (2))",
    "SELECT CASE WHEN column1 IN (1, 2) THEN upper('a') ELSE CAST(column1 AS VARCHAR) END FROM (VALUES (1))",
    "SELECT 1 UNION ALL SELECT 2 ORDER BY 1 LIMIT 1",
];

/// Logical plans, and the stages that they are cut into.
pub fn plan_seeds() -> Vec<Vec<u8>> {
    let runtime = runtime();
    let context = SessionContext::new_with_state(session().clone());
    let codec = extensions().logical_codec();
    let mut seeds = Vec::new();
    for sql in QUERIES {
        let frame = runtime.block_on(context.sql(sql)).expect("a query");
        let (state, plan) = frame.into_parts();
        let bytes = logical_plan_to_bytes_with_extension_codec(&plan, codec.as_ref()).expect("bytes");
        seeds.push([&[1], bytes.as_ref()].concat());
        let physical = runtime.block_on(state.create_physical_plan(&plan)).expect("a plan");
        let graph = stage_graph(physical, extensions(), RuntimeFilters::default()).expect("stages");
        seeds.extend(graph.stages.into_iter().map(|stage| [&[0], stage.plan.as_slice()].concat()));
    }
    seeds
}
