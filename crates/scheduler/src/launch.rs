//! From the dispatcher's launches to messages: a stage's plan goes to an executor once, tasks carry their partition.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use polybolos_model::{AttemptId, ExecutorId, JobId, StageId};
use polybolos_proto::v1::{
    CancelTasks, InputLocations, LaunchTasks, MapOutput, PrepareStage, TaskLaunch, scheduler_message::Message,
};
use polybolos_state::{ClusterState, Launch, MapLocation};

use crate::leader::Leader;

/// Stages as they are sent, made once for each epoch.
#[derive(Default)]
pub(crate) struct StageCache {
    by_stage: BTreeMap<(JobId, StageId), Arc<PrepareStage>>,
}

impl StageCache {
    fn get(&mut self, state: &ClusterState, job: JobId, stage: StageId, epoch: u32) -> Option<Arc<PrepareStage>> {
        if let Some(known) = self.by_stage.get(&(job, stage)).filter(|known| known.epoch == epoch) {
            return Some(Arc::clone(known));
        }
        let known_plan = self.by_stage.get(&(job, stage)).map(|known| known.plan.clone());
        let made = Arc::new(prepare(state, job, stage, epoch, known_plan)?);
        self.by_stage.insert((job, stage), Arc::clone(&made));
        Some(made)
    }

    pub(crate) fn forget_job(&mut self, job: JobId) {
        let stages: Vec<_> = self.by_stage.range((job, StageId(0))..=(job, StageId(u32::MAX))).map(|(k, _)| *k).collect();
        for stage in stages {
            self.by_stage.remove(&stage);
        }
    }
}

/// `None` when the job, the stage or one of its inputs is gone.
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
    Some(PrepareStage {
        job_id: job.to_string(),
        stage_id: stage.0,
        epoch,
        plan: known_plan.unwrap_or_else(|| Bytes::from(definition.plan.clone())),
        options: of.options.clone().into_iter().collect(),
        inputs,
    })
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
    prepare: Option<Arc<PrepareStage>>,
    tasks: Vec<(u32, AttemptId)>,
}

impl Leader {
    /// Stops what is of no use and fills the free slots.
    pub(crate) fn dispatch(&mut self) {
        let shared = Arc::clone(&self.shared);
        let (targets, orders) = shared.read(|state| {
            let mut dispatcher = shared.dispatcher();
            let check = std::mem::take(&mut self.check_running);
            let targets = if check { dispatcher.cancel_targets(state) } else { Vec::new() };
            let launches = dispatcher.plan(state);
            drop(dispatcher);
            (targets, self.orders(state, launches))
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
    }

    /// One order for each executor and stage, in the order of the launches.
    fn orders(&mut self, state: &ClusterState, launches: Vec<Launch>) -> Vec<Order> {
        let mut orders: Vec<Order> = Vec::new();
        let mut positions: BTreeMap<(ExecutorId, JobId, StageId), usize> = BTreeMap::new();
        for Launch { executor, task, attempt, epoch, .. } in launches {
            let key = (executor.clone(), task.job, task.stage);
            let position = *positions.entry(key).or_insert_with(|| {
                let prepare = self.stages.get(state, task.job, task.stage, epoch);
                orders.push(Order { executor, job: task.job, stage: task.stage, epoch, prepare, tasks: Vec::new() });
                orders.len() - 1
            });
            if let Some(order) = orders.get_mut(position) {
                order.tasks.push((task.partition, attempt));
            }
        }
        orders
    }

    fn give(&mut self, order: Order) {
        let Order { executor, job, stage, epoch, prepare, tasks } = order;
        let attempts: Vec<AttemptId> = tasks.iter().map(|(_, attempt)| *attempt).collect();
        let launch = |(partition, attempt): (u32, AttemptId)| TaskLaunch { partition, attempt: Some(attempt.into()) };
        let tasks = tasks.into_iter().map(launch).collect();
        let launch = LaunchTasks { job_id: job.to_string(), stage_id: stage.0, epoch, tasks };
        let sent = match prepare {
            Some(prepare) => {
                let told = !self.streams.must_prepare(&executor, job, stage, epoch)
                    || self.streams.send(&executor, Message::Prepare((*prepare).clone()));
                told && self.streams.send(&executor, Message::Launch(launch))
            }
            // An input went away between the plan and here; the next round sees it.
            None => false,
        };
        if !sent {
            tracing::debug!(%executor, %job, %stage, "a launch could not be sent");
            let mut dispatcher = self.shared.dispatcher();
            for attempt in attempts {
                dispatcher.ended(attempt);
            }
        }
    }
}
