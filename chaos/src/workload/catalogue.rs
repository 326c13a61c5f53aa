//! Views that are made, replaced, read and dropped: each is a register.

use jepsen_lite::Model;
use polybolos_client::{ClientError, SubmitOptions};
use rand::Rng;
use serde_json::{Value, json};

use super::{Worker, texts};
use crate::history::{End, Op};

/// All clients share these views.
const VIEWS: u32 = 2;
const WRITE_PERCENT: u32 = 40;
const DROP_PERCENT: u32 = 10;
/// What a statement on a view says when there is none.
const ABSENT: &str = "not found";

pub(super) async fn run(mut worker: Worker) {
    let mut number = 0_u64;
    while worker.goes_on().await {
        number += 1;
        let view = format!("chaos_{:x}_{}", worker.scene.seed, worker.random.random_range(1..=VIEWS));
        // Unique over all clients.
        let version = worker.process.id() * 1_000_000 + number;
        match worker.random.random_range(0..100) {
            0..DROP_PERCENT => write(&worker, &view, None).await,
            DROP_PERCENT..WRITE_PERCENT => write(&worker, &view, Some(version)).await,
            _ => read(&worker, &view).await,
        }
    }
    worker.client.settle().await;
}

async fn write(worker: &Worker, view: &str, version: Option<u64>) {
    let sql = match version {
        Some(version) => format!("CREATE OR REPLACE VIEW {view} AS SELECT {version} AS version"),
        None => format!("DROP VIEW IF EXISTS {view}"),
    };
    let call = async {
        match worker.client.query_with(sql, SubmitOptions::default()).await {
            Ok(_) => (End::Ok(Value::Null), ()),
            Err(error) => (End::of_change(&error), ()),
        }
    };
    worker.process.op(Op { model: Model::Register, f: "write", key: view }, json!(version), call).await;
}

async fn read(worker: &Worker, view: &str) {
    let call = async {
        let end = match worker.client.query(format!("SELECT version FROM {view}")).await {
            Ok(result) => match texts(&result.batches).unwrap_or_default().as_slice() {
                [version] => version.parse::<u64>().map_or_else(
                    |_| End::Info(format!("the version is '{version}'")),
                    |version| End::Ok(json!(version)),
                ),
                rows => End::Info(format!("{} rows came", rows.len())),
            },
            Err(ClientError::Statement { message }) if message.contains(ABSENT) => End::Ok(Value::Null),
            Err(error) => End::of_question(&error),
        };
        (end, ())
    };
    worker.process.op(Op { model: Model::Register, f: "read", key: view }, Value::Null, call).await;
}
