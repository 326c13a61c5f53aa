//! From the dispatcher's launches to messages: a stage's plan goes to an executor once, tasks carry their partition.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use polybolos_model::{
    AttemptId, ErrorClass, Exchange, ExecutorId, JobId, StageId, TaskError, TaskId,
    limits::{MAX_INLINE_ROWS_BYTES, MAX_MESSAGE_BYTES},
    settings,
    simulation::{Fact, report},
};
use polybolos_proto::v1::{
    CancelTasks, InputLocations, LaunchTasks, MapOutput, PrepareStage, TaskLaunch, TaskShare,
    scheduler_message::Message,
};
use polybolos_state::{ClusterState, Command, JobError, Launch, MapLocation, policy};
use prost::Message as _;

use crate::{
    input::{Batch, Origin},
    leader::Leader,
};

/// What a message carries around a [`PrepareStage`] is small.
const MAX_PREPARE_BYTES: usize = MAX_MESSAGE_BYTES - 1_024;

/// What executors are told of [`MAX_INLINE_ROWS_BYTES`].
const MAX_INLINE_ROWS: u32 = MAX_INLINE_ROWS_BYTES as u32;

/// Stages as they are sent, made once for each epoch, and again when an output of the job has moved.
#[derive(Default)]
pub(crate) struct StageCache {
    by_stage: BTreeMap<(JobId, StageId), Made>,
}

/// A message, how often outputs of its job had moved by then, and by which decision its tasks read their inputs.
struct Made {
    moves: u64,
    adapted: Option<AttemptId>,
    message: Arc<PrepareStage>,
}

/// Why a stage can't be sent.
enum Unsendable {
    /// The job, the stage or one of its inputs went away between the plan and here; the next round sees it.
    Gone,
    /// So many inputs that the message is over the limit.
    TooLarge { bytes: usize },
}

impl StageCache {
    fn get(
        &mut self,
        state: &ClusterState,
        job: JobId,
        stage: StageId,
        epoch: u32,
    ) -> Result<Arc<PrepareStage>, Unsendable> {
        let moves = state.moves(job);
        let adapted = state.adapted_after(job, stage);
        let known = self.by_stage.get(&(job, stage));
        let is_same =
            |known: &&Made| known.message.epoch == epoch && known.moves == moves && known.adapted == adapted;
        if let Some(known) = known.filter(is_same) {
            return Ok(Arc::clone(&known.message));
        }
        let known_plan = known.map(|known| plan_of(&known.message).clone());
        let made = prepare(state, job, stage, epoch, known_plan).ok_or(Unsendable::Gone)?;
        let bytes = made.encoded_len();
        if bytes > MAX_PREPARE_BYTES {
            return Err(Unsendable::TooLarge { bytes });
        }
        let message = Arc::new(made);
        self.by_stage.insert((job, stage), Made { moves, adapted, message: Arc::clone(&message) });
        Ok(message)
    }

    /// The messages, and with them where the inputs are.
    pub(crate) fn forget_all(&mut self) {
        self.by_stage.clear();
    }

    pub(crate) fn forget_job(&mut self, job: JobId) {
        let stages: Vec<_> =
            self.by_stage.range((job, StageId(0))..=(job, StageId(u32::MAX))).map(|(k, _)| *k).collect();
        for stage in stages {
            self.by_stage.remove(&stage);
        }
    }
}

fn prepare(
    state: &ClusterState,
    job: JobId,
    stage: StageId,
    epoch: u32,
    known_plan: Option<Bytes>,
) -> Option<PrepareStage> {
    let of = state.job(job)?;
    let definition = of.graph.stage(stage)?;
    let mut inputs = Vec::with_capacity(definition.inputs.len());
    for input in &definition.inputs {
        let maps = state.map_outputs(job, input.stage)?.iter().map(map_output).collect();
        inputs.push(InputLocations { stage_id: input.stage.0, maps });
    }
    // The schedulers themselves answer an `EXPLAIN ANALYZE`, and a statement that writes.
    let gives_rows =
        definition.exchange == Exchange::Result && of.explain_analyze.is_none() && state.write(job).is_none();
    let plan = known_plan.unwrap_or_else(|| Bytes::from(definition.plan.clone()));
    let shares: Vec<TaskShare> =
        state.shares(job, stage).into_iter().flatten().map(|s| (*s).into()).collect();
    let (plan, shared_plan) = if shares.is_empty() { (plan, Bytes::new()) } else { (Bytes::new(), plan) };
    Some(PrepareStage {
        job_id: job.to_string(),
        stage_id: stage.0,
        epoch,
        plan,
        options: for_executors(&of.options),
        inputs,
        max_inline_bytes: if gives_rows { MAX_INLINE_ROWS } else { 0 },
        shares,
        shared_plan,
    })
}

fn plan_of(message: &PrepareStage) -> &Bytes {
    if message.shares.is_empty() { &message.plan } else { &message.shared_plan }
}

/// Settings of the job are for schedulers; executors of older versions would not know them.
fn for_executors(options: &BTreeMap<String, String>) -> HashMap<String, String> {
    let others = options.iter().filter(|(name, _)| !settings::is_ours(name));
    others.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn map_output(location: &MapLocation<'_>) -> MapOutput {
    MapOutput {
        map_partition: location.map_partition,
        executor_id: location.done.executor.to_string(),
        address: location.address.to_owned(),
        attempt: Some(location.done.attempt.into()),
        outputs: location.done.outputs.iter().copied().map(Into::into).collect(),
    }
}

/// What one executor is told of one stage.
struct Order {
    executor: ExecutorId,
    job: JobId,
    stage: StageId,
    epoch: u32,
    moves: u64,
    adapted: Option<AttemptId>,
    prepare: Result<Arc<PrepareStage>, Unsendable>,
    tasks: Vec<(u32, AttemptId)>,
}

impl Leader {
    /// Stops what is of no use and fills the free slots.
    pub(crate) fn dispatch(&mut self) {
        let shared = Arc::clone(&self.shared);
        let now_ms = self.led_ms();
        let (targets, orders, wakes_at) = shared.read(|state| {
            let mut dispatcher = shared.dispatcher();
            let check = std::mem::take(&mut self.check_running);
            let targets = if check { dispatcher.cancel_targets(state) } else { Vec::new() };
            let launches = dispatcher.plan(state, now_ms);
            let wakes_at = dispatcher.wakes_at();
            drop(dispatcher);
            (targets, self.orders(state, launches), wakes_at)
        });
        let mut stop: BTreeMap<ExecutorId, Vec<AttemptId>> = BTreeMap::new();
        for target in targets {
            stop.entry(target.executor).or_default().push(target.attempt);
        }
        for (executor, attempts) in stop {
            let attempts = attempts.into_iter().map(Into::into).collect();
            self.streams.send(&executor, Message::Cancel(CancelTasks { attempts }));
        }
        for order in orders {
            self.give(order);
        }
        if std::mem::take(&mut self.check_writes) {
            self.settlers.follow(&shared);
        }
        self.wake_at(wakes_at);
    }

    /// Starts what follows from the commands that are on the way into the log, as far as that is sure. See
    /// [`ClusterState::ahead`]. Whether the job will not have ended by then, and how stages that can start now read their
    /// inputs: that is to be logged next.
    pub(crate) fn look_ahead<'a>(
        &mut self,
        under_way: impl Iterator<Item = &'a Command> + Clone,
    ) -> (bool, Vec<Command>) {
        let shared = Arc::clone(&self.shared);
        let (term, now_ms) = (self.term(), self.led_ms());
        let seen = shared.read(|state| {
            let mut ahead = state.ahead(under_way, term)?;
            let mut dispatcher = shared.dispatcher();
            let decisions = ahead.adapt(dispatcher.last_attempt());
            let launches = dispatcher.plan_ahead(&ahead, now_ms);
            drop(dispatcher);
            Some((self.orders(ahead.state(), launches), ahead.goes_on(), decisions))
        });
        let Some((orders, goes_on, decisions)) = seen else { return (false, Vec::new()) };
        for order in orders {
            polybolos_model::sometimes!("a task was launched before the log had what it needs");
            self.give(order);
        }
        (goes_on, decisions)
    }

    /// Puts behind the requests of the batch how stages read their inputs that have all of them by then. Of `all` jobs, or of
    /// those of which stages were completed of late. Whether there is any.
    pub(crate) fn adapt(&mut self, batch: &mut Batch, all: bool) -> bool {
        let jobs = std::mem::take(&mut self.adaptable);
        let after = self.shared.dispatcher().last_attempt();
        let decisions = self.shared.read(|state| {
            let active = state.active_jobs().filter(|_| all).map(|job| job.id);
            policy::adaptations(state, batch.requests(), active.chain(jobs), after)
        });
        let is_any = !decisions.is_empty();
        decisions.into_iter().for_each(|command| batch.request(command, Origin::Housekeeping));
        is_any
    }

    /// Jobs of which tasks may have been launched, while their submit was on the way into the log. It has no effect if its
    /// job is not there now: then nobody wants them.
    pub(crate) fn forget_unsubmitted(&mut self, mut jobs: Vec<JobId>) {
        let shared = Arc::clone(&self.shared);
        if !jobs.is_empty() {
            jobs.iter().for_each(|job| shared.dispatcher().came(*job));
            shared.read(|state| jobs.retain(|job| state.job(*job).is_none()));
        }
        if jobs.is_empty() {
            return;
        }
        polybolos_model::sometimes!("a job was not submitted after all");
        for job in jobs {
            self.stages.forget_job(job);
            self.shared.rows().forget_job(job);
        }
        self.check_running = true;
        self.dispatch();
    }

    /// One order for each executor and stage, in the order of the launches.
    fn orders(&mut self, state: &ClusterState, launches: Vec<Launch>) -> Vec<Order> {
        let mut orders: Vec<Order> = Vec::new();
        let mut positions: BTreeMap<(ExecutorId, JobId, StageId), usize> = BTreeMap::new();
        for Launch { executor, task, attempt, epoch, .. } in launches {
            let key = (executor.clone(), task.job, task.stage);
            let position = *positions.entry(key).or_insert_with(|| {
                let prepare = self.stages.get(state, task.job, task.stage, epoch);
                orders.push(Order {
                    executor,
                    job: task.job,
                    stage: task.stage,
                    epoch,
                    moves: state.moves(task.job),
                    adapted: state.adapted_after(task.job, task.stage),
                    prepare,
                    tasks: Vec::new(),
                });
                orders.len() - 1
            });
            if let Some(order) = orders.get_mut(position) {
                order.tasks.push((task.partition, attempt));
            }
        }
        orders
    }

    fn give(&mut self, order: Order) {
        let Order { executor, job, stage, epoch, moves, adapted, prepare, tasks } = order;
        let placed = tasks.clone();
        let launch =
            |(partition, attempt): (u32, AttemptId)| TaskLaunch { partition, attempt: Some(attempt.into()) };
        let tasks = tasks.into_iter().map(launch).collect();
        let launch = LaunchTasks { job_id: job.to_string(), stage_id: stage.0, epoch, tasks };
        let sent = match prepare {
            Ok(prepare) => {
                let told = !self.streams.must_prepare(&executor, job, stage, (epoch, moves, adapted))
                    || self.streams.send(&executor, Message::Prepare((*prepare).clone()));
                told && self.streams.send(&executor, Message::Launch(launch))
            }
            Err(Unsendable::Gone) => false,
            Err(Unsendable::TooLarge { bytes }) => {
                self.fail_for_size(job, stage, bytes);
                false
            }
        };
        if sent {
            for &(partition, attempt) in &placed {
                let (term, task) = (self.term(), TaskId { job, stage, partition });
                report(|| Fact::Launched { term, executor: executor.clone(), task, attempt });
            }
        } else {
            tracing::debug!(%executor, %job, %stage, "a launch could not be sent");
            let mut dispatcher = self.shared.dispatcher();
            for (_, attempt) in placed {
                dispatcher.gone(attempt);
            }
        }
    }

    fn fail_for_size(&mut self, job: JobId, stage: StageId, bytes: usize) {
        let message = format!(
            "what a task of stage {stage} must know of its plan and inputs is {bytes} bytes; at most {MAX_PREPARE_BYTES} \
             are sent (set datafusion.execution.target_partitions lower, or read fewer files)"
        );
        let error = JobError::of_job(TaskError::new(ErrorClass::User, message));
        self.follow_up(Command::FailJob { job, error });
    }
}
