//! Statements that write, whose tasks are the test's: what the leader publishes, refuses and sweeps.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use polybolos_model::AttemptId;
use polybolos_proto::v1::{
    CancelRequest, GetJobRequest, JobAccepted, JobState, JobUpdate, LaunchTasks, ProfileRequest, WriteDetail,
};

use crate::{
    executor::FakeExecutor,
    harness::{self, Harness, table},
};

/// A folder that statements write to.
struct Target(tempfile::TempDir);

impl Target {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn copy(&self) -> String {
        format!("COPY (SELECT 1 AS one) TO '{}/' STORED AS CSV", self.0.path().display())
    }

    /// Where the attempts of a job write to.
    fn staging(&self, job: &JobAccepted) -> PathBuf {
        self.0.path().join(".polybolos-staging").join(&job.job_id)
    }

    /// As the launched attempt would.
    fn stage(&self, job: &JobAccepted, launch: &LaunchTasks, text: &str) {
        let attempt = AttemptId::from(launch.tasks[0].attempt.unwrap());
        let folder = self.staging(job).join(format!("{}-{attempt}", launch.tasks[0].partition));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("0.csv.staged"), text).unwrap();
    }

    /// Names of files, and what they hold.
    fn holds(&self) -> Vec<(String, String)> {
        let files = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        };
        files.filter(|path| path.is_file()).map(read).collect()
    }
}

async fn gone(folder: &Path) {
    let start = Instant::now();
    while folder.exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "{} stays", folder.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Harness {
    async fn last_of(&mut self, job: &JobAccepted) -> JobUpdate {
        harness::last(&mut self.watch(&job.job_id).await).await
    }

    async fn write_of(&mut self, job: &JobAccepted) -> WriteDetail {
        let request = GetJobRequest { job_id: job.job_id.clone(), stale: false };
        self.query.get_job(request).await.unwrap().into_inner().write.unwrap()
    }
}

#[tokio::test]
async fn what_the_winner_has_staged_is_published_and_the_rest_swept() {
    let (mut harness, target) = (Harness::start().await, Target::new());
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job(&target.copy()).await;
    assert!(job.explain_analyze, "its answer comes from the scheduler");
    let launch = executor.launch().await;
    assert_eq!(harness.write_of(&job).await.phase, "staging");
    target.stage(&job, &launch, "one\n1\n");
    let stray = target.staging(&job).join("0-9.9");
    fs::create_dir_all(&stray).unwrap();
    fs::write(stray.join("0.csv.staged"), "of nobody").unwrap();
    let request = ProfileRequest { job_id: job.job_id.clone() };
    let early = harness.query.profile(request.clone()).await.unwrap_err();
    assert!(early.message().contains("once it has succeeded"), "{early:?}");

    executor.complete_with(&launch, 0, 1, 6).await;
    let last = harness.last_of(&job).await;
    assert_eq!((last.state(), last.results.len()), (JobState::Succeeded, 0), "{last:?}");
    let answer = harness.query.profile(request).await.unwrap().into_inner();
    assert!(table(&answer.arrow_stream).contains("| 1     |"));
    let name = format!("{}-00000-0.csv", job.job_id);
    assert_eq!(target.holds(), [(name, "one\n1\n".to_owned())]);
    gone(&target.0.path().join(".polybolos-staging")).await;
    // It is looked for once more.
    assert_eq!(harness.write_of(&job).await.phase, "sweeping");
    // Nobody fetches what its tasks have kept.
    assert_eq!(executor.released().await, job.job_id);
    harness.stop().await;
}

#[tokio::test]
async fn files_that_are_not_there_fail_the_statement() {
    let (mut harness, target) = (Harness::start().await, Target::new());
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job(&target.copy()).await;
    let launch = executor.launch().await;
    target.stage(&job, &launch, "one\n");
    executor.complete_with(&launch, 0, 1, 6).await;
    let last = harness.last_of(&job).await;
    assert_eq!(last.state(), JobState::Failed);
    let message = last.error.unwrap().message;
    assert!(message.contains("6 bytes were written, and 4 are there"), "{message}");
    gone(&target.staging(&job)).await;
    assert_eq!(target.holds(), []);
    harness.stop().await;
}

#[tokio::test]
async fn a_cancelled_write_is_swept() {
    let (mut harness, target) = (Harness::start().await, Target::new());
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job(&target.copy()).await;
    let launch = executor.launch().await;
    target.stage(&job, &launch, "one\n1\n");
    let cancel = CancelRequest { job_id: job.job_id.clone(), reason: "enough".to_owned() };
    harness.query.cancel(cancel).await.unwrap();
    assert_eq!(harness.last_of(&job).await.state(), JobState::Cancelled);
    gone(&target.staging(&job)).await;
    assert_eq!(target.holds(), []);
    harness.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again() {
    let (mut harness, target) = (Harness::start().await, Target::new());
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job(&target.copy()).await;
    let launch = executor.launch().await;
    target.stage(&job, &launch, "one\n1\n");
    // A folder stands where the file should be: nothing of it can be linked or renamed there.
    let name = target.0.path().join(format!("{}-00000-0.csv", job.job_id));
    fs::create_dir_all(name.join("in the way")).unwrap();
    executor.complete_with(&launch, 0, 1, 6).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let cancel = CancelRequest { job_id: job.job_id.clone(), reason: "enough".to_owned() };
    let refused = harness.query.cancel(cancel).await;
    fs::remove_dir_all(&name).unwrap();
    let last = harness.last_of(&job).await;
    match last.state() {
        JobState::Succeeded => {
            let refused = refused.unwrap_err();
            assert!(refused.message().contains("being published"), "{refused:?}");
            assert_eq!(target.holds().len(), 1);
        }
        state => panic!("{state:?}: {last:?}"),
    }
    harness.stop().await;
}
