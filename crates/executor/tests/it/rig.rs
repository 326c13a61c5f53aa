//! An executor with its fake scheduler, and queries cut into stages.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::RecordBatch;
use arrow_flight::{Ticket, decode::FlightRecordBatchStream, flight_service_client::FlightServiceClient};
use datafusion::{execution::runtime_env::RuntimeEnv, prelude::SessionContext};
use futures::TryStreamExt;
use polybolos_env::{Env, grpc};
use polybolos_executor::{Executor, ExecutorConfig, ExecutorHandle, ExecutorStatus};
use polybolos_model::{ExecutorId, JobId, ReadMode, StageGraph, StageInput, WriteTarget};
use polybolos_planner::{Extensions, RuntimeFilters, cluster_config, stage_graph, write_plan};
use polybolos_proto::v1::{
    self, AttemptId, InputLocations, LaunchTasks, MapOutput, PrepareStage, ShuffleTicket, TaskLaunch,
    TaskReport, scheduler_message::Message, task_report::Outcome,
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::fake::{DEADLINE, FakeScheduler, Session};

pub(crate) struct Rig {
    pub(crate) env: Env,
    pub(crate) scheduler: FakeScheduler,
    pub(crate) executor: ExecutorHandle,
    pub(crate) work_dir: TempDir,
}

pub(crate) const TERM: u64 = 3;

pub(crate) fn config(schedulers: &[&str], work_dir: &TempDir) -> ExecutorConfig {
    let id = ExecutorId::new("executor-1").unwrap();
    let schedulers = schedulers.iter().map(|address| (*address).to_owned()).collect();
    ExecutorConfig { slots: 2, ..ExecutorConfig::new(id, schedulers, work_dir.path().to_path_buf()) }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(Extensions::default()).await
    }

    pub(crate) async fn start_with(extensions: Extensions) -> Self {
        let env = Env::production(2).unwrap();
        let scheduler = FakeScheduler::start(&env).await;
        Self::start_at(env, scheduler, &[], extensions).await
    }

    /// With a scheduler of which there are others.
    pub(crate) async fn start_at(
        env: Env,
        scheduler: FakeScheduler,
        others: &[&str],
        extensions: Extensions,
    ) -> Self {
        let work_dir = TempDir::new().unwrap();
        let schedulers: Vec<&str> =
            std::iter::once(scheduler.address.as_str()).chain(others.iter().copied()).collect();
        let config = config(&schedulers, &work_dir);
        let executor = Executor::start(config, env.clone(), extensions).await.unwrap();
        Self { env, scheduler, executor, work_dir }
    }

    pub(crate) async fn start_with_memory(memory_bytes: u64) -> Self {
        let env = Env::production(2).unwrap();
        let scheduler = FakeScheduler::start(&env).await;
        let work_dir = TempDir::new().unwrap();
        let config = ExecutorConfig { memory_bytes, ..config(&[&scheduler.address], &work_dir) };
        let executor = Executor::start(config, env.clone(), Extensions::default()).await.unwrap();
        Self { env, scheduler, executor, work_dir }
    }

    /// Waits until the executor's status is as wished.
    pub(crate) async fn wait(&self, wish: impl Fn(&ExecutorStatus) -> bool) {
        let mut status = self.executor.watch();
        timeout(DEADLINE, status.wait_for(wish)).await.expect("in time").unwrap();
    }

    /// The rows of one output, by Flight.
    pub(crate) async fn fetch(&self, report: &TaskReport, output: u32) -> Result<Vec<RecordBatch>, String> {
        let ticket = ShuffleTicket {
            job_id: report.job_id.clone(),
            stage_id: report.stage_id,
            map_partition: report.partition,
            attempt: report.attempt,
            output_partition: output,
            ..ShuffleTicket::default()
        };
        let channel = grpc::connect(&self.env.net, &self.executor.address()).await.unwrap();
        let ticket = Ticket { ticket: ticket.encode_to_vec().into() };
        let answer =
            FlightServiceClient::new(channel).do_get(ticket).await.map_err(|status| status.to_string())?;
        let data = answer.into_inner().map_err(Into::into);
        FlightRecordBatchStream::new_from_flight_data(data)
            .try_collect()
            .await
            .map_err(|error| error.to_string())
    }
}

/// A query as the scheduler would send it.
pub(crate) struct Query {
    pub(crate) job: JobId,
    pub(crate) graph: StageGraph,
    /// Of a statement that writes.
    pub(crate) target: Option<WriteTarget>,
    options: BTreeMap<String, String>,
}

impl Query {
    pub(crate) async fn new(job: u64, sql: &str, extensions: &Extensions) -> Self {
        let state = extensions.session_state(cluster_config(2), Arc::new(RuntimeEnv::default()));
        let session = SessionContext::new_with_state(state);
        let mut plan = None;
        // Earlier statements prepare tables.
        for statement in sql.split(';') {
            let frame = session.sql(statement).await.unwrap();
            plan = Some(frame.create_physical_plan().await.unwrap());
        }
        let mut plan = plan.unwrap();
        let mut target = None;
        if plan.name() == "DataSinkExec" {
            let write = write_plan(plan).unwrap();
            (plan, target) = (write.plan, Some(write.target));
        }
        let graph = stage_graph(plan, extensions, RuntimeFilters::default()).unwrap().as_planned();
        Self { job: JobId(job), graph, target, options: BTreeMap::new() }
    }

    pub(crate) fn option(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn prepare(&self, stage: usize, inputs: Vec<InputLocations>) -> PrepareStage {
        PrepareStage {
            job_id: self.job.to_string(),
            stage_id: stage as u32,
            epoch: 0,
            plan: self.graph.stages[stage].plan.clone().into(),
            options: self.options.clone().into_iter().collect(),
            inputs,
            ..PrepareStage::default()
        }
    }

    pub(crate) fn launch(&self, stage: usize, tasks: &[(u32, AttemptId)]) -> LaunchTasks {
        let tasks = tasks
            .iter()
            .map(|(partition, attempt)| TaskLaunch { partition: *partition, attempt: Some(*attempt) });
        LaunchTasks { job_id: self.job.to_string(), stage_id: stage as u32, epoch: 0, tasks: tasks.collect() }
    }

    /// Prepares and launches task 0 of stage 0.
    pub(crate) async fn send_first(&self, session: &Session, attempt: AttemptId) {
        session.send(TERM, Message::Prepare(self.prepare(0, vec![]))).await;
        session.send(TERM, Message::Launch(self.launch(0, &[(0, attempt)]))).await;
    }

    /// Runs all stages on one executor; answers the reports of the last.
    pub(crate) async fn run(&self, session: &mut Session, address: &str) -> Vec<TaskReport> {
        let mut done: Vec<Vec<TaskReport>> = Vec::new();
        for (index, stage) in self.graph.stages.iter().enumerate() {
            let inputs = stage.inputs.iter().map(|input| locations(*input, &done, address)).collect();
            session.send(TERM, Message::Prepare(self.prepare(index, inputs))).await;
            let tasks: Vec<_> = (0..stage.tasks)
                .map(|task| (task, attempt(100 * self.job.0 + 10 * index as u64 + u64::from(task))))
                .collect();
            session.send(TERM, Message::Launch(self.launch(index, &tasks))).await;
            let mut reports = Vec::new();
            while reports.len() < tasks.len() {
                let some = session.reports().await;
                session.commit(TERM, some.iter().map(|report| report.sequence).collect()).await;
                reports.extend(some);
            }
            reports.sort_by_key(|report| report.partition);
            done.push(reports);
        }
        done.pop().unwrap()
    }
}

pub(crate) fn locations(input: StageInput, done: &[Vec<TaskReport>], address: &str) -> InputLocations {
    assert!(matches!(input.read, ReadMode::Partition | ReadMode::All));
    let maps = done[input.stage.0 as usize].iter().map(|report| MapOutput {
        map_partition: report.partition,
        executor_id: "executor-1".to_owned(),
        address: address.to_owned(),
        attempt: report.attempt,
        outputs: completed(report).outputs.clone(),
    });
    InputLocations { stage_id: input.stage.0, maps: maps.collect() }
}

pub(crate) fn attempt(counter: u64) -> AttemptId {
    AttemptId { term: TERM, counter }
}

pub(crate) fn completed(report: &TaskReport) -> &v1::TaskCompleted {
    match report.outcome.as_ref().unwrap() {
        Outcome::Completed(completed) => completed,
        other => panic!("task did not complete: {other:?}"),
    }
}

pub(crate) fn failed(report: &TaskReport) -> &v1::TaskFailed {
    match report.outcome.as_ref().unwrap() {
        Outcome::Failed(failed) => failed,
        other => panic!("task did not fail: {other:?}"),
    }
}
