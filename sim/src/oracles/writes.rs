//! At rest the files of statements that write are exactly the rows of those that succeeded, each once; nothing is there of
//! one that failed or was cancelled, nothing is staged, and the log knows that all is swept.
//! From: "retries, speculation, fail-over, cancel and crash leave no double, no half, no stray file behind".
//!
//! An executor that is cut off for good may go on staging files, and reads no word of its job's end.

use std::collections::{BTreeMap, BTreeSet};

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use polybolos_model::STAGING_FOLDER;
use polybolos_state::{ClusterState, Job, JobStatus};

use super::{Check, Oracle, Reference, Rest};
use crate::{
    env::TableStore,
    schedule::Schedule,
    workload::{Answers, copied},
};

pub(super) struct Writes {
    answers: Answers,
}

/// The rows of one place, and the statements that they are of.
#[derive(Default)]
struct Place {
    rows: Vec<String>,
    jobs: BTreeSet<String>,
}

/// Paths of files, and what they hold.
type Files<'a> = Vec<&'a (String, Bytes)>;

impl Writes {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self { answers: Answers::new(schedule) }
    }

    /// What should be there, by the URL that was written to. (A single file is written by one op only.)
    fn expected(&self, state: &ClusterState) -> Result<BTreeMap<String, Place>, String> {
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for job in state.jobs().filter(|job| job.status == JobStatus::Succeeded) {
            let Some(write) = state.write(job.id) else { continue };
            let Some(rows) = self.rows(job)? else { continue };
            let place = places.entry(write.target.url.clone()).or_default();
            place.rows.extend(rows);
            place.jobs.insert(job.id.to_string());
        }
        Ok(places)
    }

    /// `None` if plain DataFusion has no answer.
    fn rows(&self, job: &Job) -> Result<Option<Vec<String>>, String> {
        let query = copied(&job.sql).ok_or_else(|| format!("job {} writes by '{}'", job.id, job.sql))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(runtime.block_on(self.answers.rows(query)).ok().map(|rows| rows.to_vec()))
    }
}

impl Oracle for Writes {
    fn name(&self) -> &'static str {
        "writes"
    }

    fn at_rest(&mut self, rest: &Rest, reference: &Reference) -> Check {
        let state = reference.state();
        if let Some((job, write)) = state.unsettled_writes().next() {
            return Err(format!("the write of job {job} is still {}", write.phase));
        }
        let (staged, published): (Files<'_>, Files<'_>) =
            rest.written.iter().partition(|(path, _)| path.contains(STAGING_FOLDER));
        let all_hear =
            state.executors().all(|known| rest.healthy.iter().any(|host| host == known.id.as_str()));
        if let Some((path, _)) = staged.first().filter(|_| all_hear) {
            return Err(format!("a staged file is left over: {path}"));
        }
        let mut expected = self.expected(state)?;
        let mut found: BTreeMap<String, Files<'_>> = BTreeMap::new();
        for file in published {
            let url = format!("{}/{}", TableStore::URL, file.0);
            let folder = url.rfind('/').map_or("", |slash| &url[..=slash]).to_owned();
            let place = if expected.contains_key(&url) { url } else { folder };
            if !expected.contains_key(&place) {
                return Err(format!("{} is of no statement that succeeded", file.0));
            }
            found.entry(place).or_default().push(file);
        }
        expected
            .iter_mut()
            .try_for_each(|(url, place)| check_place(url, place, &found.remove(url).unwrap_or_default()))
    }
}

fn check_place(url: &str, place: &mut Place, files: &[&(String, Bytes)]) -> Check {
    let mut rows = Vec::new();
    for (path, bytes) in files {
        rows.extend(rows_of(bytes).map_err(|error| format!("{path} can't be read: {error}"))?);
    }
    rows.sort_unstable();
    place.rows.sort_unstable();
    if place.rows == rows {
        return Ok(());
    }
    let names: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let (wanted, found) = (place.rows.len(), rows.len());
    Err(format!(
        "at {url} should be the {wanted} rows of {:?}, and {found} are in {names:?}, not all of them alike",
        place.jobs
    ))
}

fn rows_of(bytes: &Bytes) -> Result<Vec<String>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).map_err(|e| text(&e))?;
    let batches: Result<Vec<RecordBatch>, _> = reader.build().map_err(|e| text(&e))?.collect();
    crate::workload::rows_of(&batches.map_err(|e| text(&e))?).map_err(|e| text(&e))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use parquet::arrow::ArrowWriter;
    use polybolos_model::{JobId, ReplicaId, TaskId, WriteTarget};
    use polybolos_state::Command;

    use super::{super::testing::*, *};

    const WRITE: JobId = JobId(0xb1);

    fn file(values: &[i64]) -> Bytes {
        let column = Arc::new(Int64Array::from(values.to_vec()));
        let batch = RecordBatch::try_from_iter([("c1", column as _)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn rest(files: &[(&str, &[i64])]) -> Rest {
        let written = files.iter().map(|(path, values)| ((*path).to_owned(), file(values))).collect();
        Rest { healthy: vec!["executor-1".to_owned(), "executor-2".to_owned()], written, ..Rest::default() }
    }

    fn write(url: &str) -> Command {
        let Command::SubmitJob { graph, options, schema, .. } = submit(WRITE, None) else {
            panic!("another command")
        };
        Command::SubmitWrite {
            job: WRITE,
            key: None,
            session: None,
            sql: format!("COPY (SELECT 7 AS c1 UNION ALL SELECT 8) TO '{url}' STORED AS PARQUET"),
            graph,
            options,
            schema,
            cancel_when_unwatched_ms: 0,
            target: WriteTarget { url: url.to_owned(), extension: ".parquet".to_owned(), single_file: false },
            table: None,
        }
    }

    /// With one statement that has written 7 and 8.
    fn lab() -> Lab<Writes> {
        let mut lab = Lab::with_job(Writes::new(&schedule()));
        let register = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 3 };
        lab.commit(vec![register, Command::RaiseVersion { to: 3 }]).unwrap();
        lab.commit(vec![write("sim://tables/out/a/")]).unwrap();
        for (at, counter) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().zip(70..) {
            let task = TaskId { job: WRITE, ..task(at.0, at.1) };
            lab.commit(vec![complete(1, task, counter)]).unwrap();
        }
        lab
    }

    #[test]
    fn what_is_not_settled_or_not_swept_is_found() {
        let mut lab = lab();
        let right = rest(&[("out/a/00000000000000b1-00000-0.parquet", &[8, 7])]);
        assert!(lab.at_rest(&right).unwrap_err().contains("publishing"));
        lab.commit(vec![Command::Published { job: WRITE }]).unwrap();
        assert!(lab.at_rest(&right).unwrap_err().contains("sweeping"));
        lab.commit(vec![Command::Swept { job: WRITE }]).unwrap();
        lab.at_rest(&right).unwrap();
        let staged = "out/a/.polybolos-staging/00000000000000b1/0-1.1/0.parquet.staged";
        let mut left = rest(&[("out/a/x.parquet", &[7, 8]), (staged, &[7])]);
        assert!(lab.at_rest(&left).unwrap_err().contains("left over"));
        left.healthy.pop();
        lab.at_rest(&left).unwrap();
    }

    #[test]
    fn rows_that_are_missing_doubled_or_of_nobody_are_found() {
        let mut lab = lab();
        lab.commit(vec![Command::Published { job: WRITE }, Command::Swept { job: WRITE }]).unwrap();
        for (files, part) in [
            (rest(&[]), "and 0 are"),
            (rest(&[("out/a/1.parquet", &[7])]), "and 1 are"),
            (rest(&[("out/a/1.parquet", &[7, 8]), ("out/a/2.parquet", &[7, 8])]), "and 4 are"),
            (rest(&[("out/a/1.parquet", &[7, 9])]), "and 2 are"),
            (rest(&[("out/a/1.parquet", &[7, 8]), ("out/b/1.parquet", &[1])]), "of no statement"),
        ] {
            let error = lab.at_rest(&files).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
