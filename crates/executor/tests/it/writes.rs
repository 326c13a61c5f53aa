//! Tasks that write files: where these are, what is told of them, and when they go.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use polybolos_model::{AttemptId, Term};
use polybolos_planner::Extensions;
use polybolos_proto::v1::{CancelTasks, DeleteOutputs, ErrorClass, ReleaseJob, scheduler_message::Message};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::rig::{Query, Rig, TERM, attempt, completed, failed};

/// A `COPY` to a folder of its own.
struct Copy {
    query: Query,
    folder: TempDir,
}

impl Copy {
    /// One task.
    async fn new(job: u64, query: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sql = format!("COPY ({query}) TO '{}/out/' {rest}", folder.path().display());
        let query = Query::new(job, &sql, &Extensions::default()).await;
        assert_eq!((query.graph.stages.len(), query.graph.stages[0].tasks), (1, 1), "{}", query.graph);
        Self { query, folder }
    }

    /// Of attempt `counter` of its task.
    fn staged(&self, counter: u64) -> Vec<PathBuf> {
        let attempt = AttemptId { term: Term(TERM), counter };
        let target = self.query.target.as_ref().unwrap();
        let url = url::Url::parse(&target.staged_by(self.query.job, 0, attempt)).unwrap();
        files(&url.to_file_path().unwrap())
    }

    async fn until_nothing_is_staged(&self) {
        let all = self.folder.path();
        let gone = async {
            while !files(all).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.unwrap_or_else(|_| panic!("{:?}", files(all)));
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn size(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_has_files_of_its_own_until_it_is_told_that_nobody_wants_them() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let rows = "SELECT value AS v, value % 3 AS k FROM generate_series(1, 30000)";
    let copy = Copy::new(1, rows, "STORED AS PARQUET PARTITIONED BY (k)").await;
    for counter in 1..=3 {
        copy.query.send_first(&session, attempt(counter)).await;
        let report = session.report().await;
        let done = completed(&report);
        let files = copy.staged(counter);
        assert_eq!(files.len(), 3, "{files:?}");
        assert_eq!(
            (done.outputs.len(), done.outputs[0].rows, done.outputs[0].bytes),
            (1, 30_000, size(&files))
        );
        let metrics = done.metrics.as_ref().unwrap();
        assert_eq!((metrics.rows_out, metrics.bytes_out), (30_000, done.outputs[0].bytes));
        let operators = metrics.operators.iter().flat_map(|operator| &operator.values);
        let files_written = operators.into_iter().find(|value| value.name == "files_written");
        assert_eq!(files_written.unwrap().value, 3, "{metrics:?}");
        assert!(rig.fetch(&report, 0).await.unwrap().is_empty(), "its reader gets no rows");
        session.commit(TERM, vec![report.sequence]).await;
    }
    let delete = DeleteOutputs { attempts: vec![attempt(2)] };
    session.send(TERM, Message::DeleteOutputs(delete)).await;
    let gone = async { while !copy.staged(2).is_empty() {} };
    timeout(Duration::from_secs(5), gone).await.unwrap();
    assert_eq!((copy.staged(1).len(), copy.staged(3).len()), (3, 3));

    // A new life: the log may count on what was written in the last one.
    drop(session);
    let session = rig.scheduler.registered(TERM, 2).await;
    rig.wait(|status| status.incarnation.is_some_and(|life| life.0 == 2)).await;
    assert_eq!((copy.staged(1).len(), copy.staged(3).len()), (3, 3));
    session.send(TERM, Message::Release(ReleaseJob { job_id: copy.query.job.to_string() })).await;
    copy.until_nothing_is_staged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_attempt_has_written_goes() {
    let rig = Rig::start().await;
    let session = rig.scheduler.registered(TERM, 1).await;
    let endless = "SELECT value AS v FROM generate_series(1, 1000000000000)";
    let copy = Copy::new(1, endless, "STORED AS CSV").await;
    // Many small files, and one in parts.
    let copy = Copy {
        query: copy
            .query
            .option("datafusion.execution.soft_max_rows_per_output_file", "20000")
            .option("datafusion.execution.objectstore_writer_buffer_size", "10000"),
        ..copy
    };
    copy.query.send_first(&session, attempt(1)).await;
    let some = async { while copy.staged(1).len() < 5 {} };
    timeout(Duration::from_secs(20), some).await.expect("files");
    session.send(TERM, Message::Cancel(CancelTasks { attempts: vec![attempt(1)] })).await;
    rig.wait(|status| status.busy_slots == 0).await;
    copy.until_nothing_is_staged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_fails_leaves_nothing_and_says_whether_another_may_succeed() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let bad = "SELECT 1 / (value - 29000) AS v FROM generate_series(1, 30000)";
    let copy = Copy::new(1, bad, "STORED AS JSON").await;
    let query = copy.query.option("datafusion.execution.soft_max_rows_per_output_file", "5000");
    let copy = Copy { query, ..copy };
    copy.query.send_first(&session, attempt(1)).await;
    let report = session.report().await;
    assert_eq!(failed(&report).class(), ErrorClass::User, "{report:?}");
    assert!(failed(&report).message.contains("ivide by zero"), "{report:?}");
    copy.until_nothing_is_staged().await;

    for (job, format) in (2..).zip(["CSV", "JSON", "PARQUET"]) {
        let copy = Copy::new(job, "SELECT 1 AS v", &format!("STORED AS {format}")).await;
        std::fs::write(copy.folder.path().join("out"), "a file in the way").unwrap();
        copy.query.send_first(&session, attempt(job)).await;
        let report = session.report().await;
        assert_eq!(failed(&report).class(), ErrorClass::Retryable, "{report:?}");
        assert!(failed(&report).message.contains("could not be written"), "{report:?}");
    }
}
