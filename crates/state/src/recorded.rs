//! A job as [`Recorded`]: what the replicated state knows of it. Tables and views are the catalogue's, and come later.

use polybolos_model::{
    ErrorClass, JobId, ReadMode, SHUFFLE_DURABLE_LABEL, SHUFFLE_DURABLE_MODE_LABEL, Stage,
    recorded::{
        RECORDED_FORMAT, Recorded, RecordedAttempt, RecordedCluster, RecordedDurability, RecordedEvent,
        RecordedExecutor, RecordedInput, RecordedJob, RecordedLine, RecordedStage, RecordedTask,
    },
    settings::is_ours,
};

use crate::{
    ClusterState, Fate, FleetMember, Job, PastAttempt, StageRun, StoryEvent, StoryLine, TaskDone,
    policy::noticed,
};

/// Executors that are listed.
const MAX_EXECUTORS: usize = 64;
/// Completed tasks that are listed, of all stages together, and past attempts.
const MAX_TASKS: usize = 20_000;
/// Longest line of an operator.
const MAX_OPERATOR_BYTES: usize = 1_000;

impl ClusterState {
    /// The job, the fleet and the story, at `now_ms` by the leader's clock. `None` for an unknown job.
    pub fn record(&self, id: JobId, now_ms: u64) -> Option<Recorded> {
        let job = self.job(id)?;
        let mut notes = Vec::new();
        let mut left = MAX_TASKS;
        let stages = job.graph.stages.iter().zip(&job.runs);
        let stages: Vec<RecordedStage> = stages.map(|(stage, run)| stage_of(stage, run, &mut left)).collect();
        if left == 0 {
            notes.push(format!("only the first {MAX_TASKS} tasks are listed"));
        }
        let (story, story_left_out) = self.story(id);
        if self.story_fleet(id).is_none() {
            notes.push("the executors are those of the time of the export".to_owned());
        }
        if self.version() < 3 {
            notes.push(format!("no story is kept while entries of version {} are in use", self.version()));
        }
        Some(Recorded {
            polybolos_recorded: RECORDED_FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            job: job_of(job, now_ms),
            cluster: self.cluster_of(id),
            tables: Vec::new(),
            views: Vec::new(),
            stages,
            story: story.iter().map(|line| line_of(line, job.submitted_at_ms)).collect(),
            story_left_out,
            notes,
        })
    }

    /// The waits are the shell's to fill in.
    fn cluster_of(&self, id: JobId) -> RecordedCluster {
        let (fleet, left_out) = match self.story_fleet(id) {
            Some((fleet, left_out)) => (fleet.to_vec(), left_out),
            None => (self.fleet(), 0),
        };
        let surplus = u32::try_from(fleet.len().saturating_sub(MAX_EXECUTORS)).unwrap_or(u32::MAX);
        let executor = |member: &FleetMember| RecordedExecutor {
            executor: member.executor.to_string(),
            incarnation: member.incarnation.0,
            slots: member.slots,
            memory_bytes: member.memory_bytes,
        };
        RecordedCluster {
            schedulers: self.replicas().map(|(id, _)| id.0).collect(),
            version: self.version(),
            executors: fleet.iter().take(MAX_EXECUTORS).map(executor).collect(),
            executors_left_out: left_out.saturating_add(surplus),
            durable_shuffle: self.durability(),
            ..RecordedCluster::default()
        }
    }

    fn durability(&self) -> RecordedDurability {
        let durable = self.executors().find(|executor| executor.labels.contains_key(SHUFFLE_DURABLE_LABEL));
        match durable.map(|executor| executor.labels.get(SHUFFLE_DURABLE_MODE_LABEL).map(String::as_str)) {
            None => RecordedDurability::Off,
            Some(Some("before")) => RecordedDurability::Before,
            Some(_) => RecordedDurability::Background,
        }
    }
}

/// Of the options only what is known to hold no secret.
fn job_of(job: &Job, now_ms: u64) -> RecordedJob {
    let is_plain = |name: &str| name.starts_with("datafusion.") || is_ours(name);
    let options = job.options.iter().filter(|(name, _)| is_plain(name));
    RecordedJob {
        id: job.id.to_string(),
        sql: job.sql.clone(),
        options: options.map(|(name, value)| (name.clone(), value.clone())).collect(),
        state: job.status.to_string(),
        error: job.error.as_ref().map(ToString::to_string),
        submitted_at_ms: job.submitted_at_ms,
        elapsed_ms: job.ended_at_ms.unwrap_or(now_ms).saturating_sub(job.submitted_at_ms),
        ordered: job.ordered,
        explain_analyze: job.explain_analyze.is_some(),
    }
}

fn stage_of(stage: &Stage, run: &StageRun, left: &mut usize) -> RecordedStage {
    let mut room = |count: usize| {
        let taken = count.min(*left);
        *left -= taken;
        taken
    };
    let completed = room(run.done());
    let attempts: usize = run.tasks.iter().map(|task| task.past.len()).sum();
    let past = room(attempts);
    let of_task = (0u32..).zip(&run.tasks);
    let past_attempts = of_task.flat_map(|(p, task)| task.past.iter().map(move |past| past_of(p, past)));
    let input = |input: &polybolos_model::StageInput| RecordedInput {
        stage: input.stage.0,
        all: input.read == ReadMode::All,
    };
    RecordedStage {
        id: stage.id.0,
        tasks: stage.tasks,
        inputs: stage.inputs.iter().map(input).collect(),
        exchange: stage.exchange.to_string(),
        output_partitions: stage.output_partitions,
        indeterminate: stage.indeterminate.clone(),
        operators: stage.display.lines().map(operator).collect(),
        reruns: run.reruns,
        completed: run.completed().take(completed).map(|(p, done)| task_of(p, done)).collect(),
        running: Vec::new(),
        past: past_attempts.take(past).collect(),
    }
}

/// Without the files that it reads: where data is, is nobody's business.
fn operator(line: &str) -> String {
    let text = match line.split_once("file_groups={") {
        Some((before, after)) => {
            let groups = after.split_once(':').map_or("", |(groups, _)| groups);
            let rest = after.rsplit_once("]]}").map_or("", |(_, rest)| rest);
            format!("{before}file_groups={{{groups}}}{rest}")
        }
        None => line.to_owned(),
    };
    text.get(..text.floor_char_boundary(MAX_OPERATOR_BYTES)).unwrap_or_default().to_owned()
}

fn task_of(partition: u32, done: &TaskDone) -> RecordedTask {
    RecordedTask {
        partition,
        executor: done.executor.to_string(),
        incarnation: done.incarnation.0,
        attempt: done.attempt.to_string(),
        elapsed_us: done.metrics.elapsed_us,
        rows_in: done.metrics.rows_in,
        rows_out: done.metrics.rows_out,
        bytes_in: done.metrics.bytes_in,
        bytes_out: done.metrics.bytes_out,
        spilled_bytes: done.metrics.spilled_bytes,
    }
}

fn past_of(partition: u32, past: &PastAttempt) -> RecordedAttempt {
    let fate = match past.fate {
        Fate::Failed => "failed",
        Fate::InputLost => "input-lost",
        Fate::OutputLost => "output-lost",
    };
    RecordedAttempt {
        partition,
        executor: past.executor.to_string(),
        attempt: past.attempt.to_string(),
        fate: fate.to_owned(),
    }
}

fn line_of(line: &StoryLine, submitted_at_ms: u64) -> RecordedLine {
    RecordedLine {
        at_ms: line.at_ms.saturating_sub(submitted_at_ms),
        done: line.done.clone(),
        text: line.event.to_string(),
        event: event_of(&line.event),
    }
}

fn event_of(event: &StoryEvent) -> RecordedEvent {
    match event {
        StoryEvent::LeaderBegan { term, pause_ms, more, last_term: _ } => {
            RecordedEvent::LeaderBegan { term: term.0, pause_ms: *pause_ms, more: *more }
        }
        StoryEvent::ExecutorCame { executor, incarnation, slots, memory_bytes, same_process } => {
            RecordedEvent::ExecutorCame {
                executor: executor.to_string(),
                incarnation: incarnation.0,
                slots: *slots,
                memory_bytes: *memory_bytes,
                same_process: *same_process,
            }
        }
        StoryEvent::ExecutorLost { executor, incarnation, silent_ms, broken_ms, reason } => {
            RecordedEvent::ExecutorLost {
                executor: executor.to_string(),
                incarnation: incarnation.0,
                noticed: noticed(reason),
                silent_ms: *silent_ms,
                broken_ms: *broken_ms,
            }
        }
        StoryEvent::ExecutorDied { executor, incarnation, tasks, which } => RecordedEvent::ExecutorDied {
            executor: executor.to_string(),
            incarnation: incarnation.0,
            tasks: *tasks,
            which: which.iter().map(|(stage, partition)| (stage.0, *partition)).collect(),
        },
        StoryEvent::WorkLost { stage, tasks, partitions, elapsed_us, bytes, reason: _ } => {
            RecordedEvent::WorkLost {
                stage: stage.0,
                tasks: *tasks,
                partitions: partitions.clone(),
                elapsed_us: *elapsed_us,
                bytes: *bytes,
            }
        }
        StoryEvent::TaskFailed { task, attempt, executor, class, fetch_from, reason: _ } => {
            RecordedEvent::TaskFailed {
                stage: task.stage.0,
                partition: task.partition,
                executor: executor.to_string(),
                attempt: attempt.to_string(),
                class: class_name(*class).to_owned(),
                fetch_from: fetch_from.as_ref().map(ToString::to_string),
            }
        }
        StoryEvent::ReportRefused { task, attempt, executor, reason: _ } => RecordedEvent::ReportRefused {
            stage: task.stage.0,
            partition: task.partition,
            executor: executor.to_string(),
            attempt: attempt.to_string(),
        },
        StoryEvent::ResultsLost { .. } => RecordedEvent::ResultsLost,
        StoryEvent::DrainBegan { executor, incarnation, deadline_ms } => RecordedEvent::DrainBegan {
            executor: executor.to_string(),
            incarnation: incarnation.0,
            deadline_ms: *deadline_ms,
        },
        StoryEvent::ExecutorLeft { executor, incarnation, moved, reason: _ } => RecordedEvent::ExecutorLeft {
            executor: executor.to_string(),
            incarnation: incarnation.0,
            moved: *moved,
        },
    }
}

fn class_name(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::User => "user",
        ErrorClass::Retryable => "retryable",
        ErrorClass::Resources => "resources",
        ErrorClass::Internal => "internal",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use polybolos_model::recorded::{Noticed, RecordedEvent as Event};

    use super::*;
    use crate::transcript::Lab;

    fn lab() -> Lab {
        let mut lab = Lab::new();
        lab.run_all(&[
            "replica 1 version=3; raise 3",
            "register a",
            "register b",
            "at 1000",
            "submit 1 hash(2,2)",
            "complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0",
            "at 2000",
            "died a 1/1/1:4; lose a",
            "at 2500",
            "register a",
        ]);
        lab
    }

    #[test]
    fn a_loss_is_recorded_with_the_progress_and_the_fleet_before_it() {
        let lab = lab();
        let recorded = lab.state.record(JobId(1), 3_000).unwrap();
        assert_eq!((recorded.job.elapsed_ms, recorded.polybolos_recorded), (2_000, RECORDED_FORMAT));
        let fleet: Vec<&str> = recorded.cluster.executors.iter().map(|e| e.executor.as_str()).collect();
        assert_eq!(fleet, ["a", "b"]);
        let kinds: Vec<(u64, &[u32], &Event)> =
            recorded.story.iter().map(|line| (line.at_ms, line.done.as_slice(), &line.event)).collect();
        let [died, lost, again, came] = kinds.as_slice() else { panic!("{kinds:#?}") };
        assert!(matches!(died, (1_000, [2, 0], Event::ExecutorDied { which, .. }) if which == &[(1, 1)]));
        assert!(
            matches!(lost, (1_000, [2, 0], Event::ExecutorLost { executor, noticed: Noticed::Other, .. }) if executor == "a")
        );
        assert!(
            matches!(again, (1_000, [2, 0], Event::WorkLost { stage: 0, partitions, .. }) if partitions == &[0])
        );
        assert!(matches!(came, (1_500, [1, 0], Event::ExecutorCame { executor, .. }) if executor == "a"));
        let [first, second] = recorded.stages.as_slice() else { panic!() };
        assert_eq!((first.completed.len(), first.past.len(), first.reruns, second.tasks), (1, 1, 1, 2));
    }

    #[test]
    fn a_drain_is_recorded_with_its_deadline_and_the_end_of_it() {
        let mut lab = lab();
        lab.run_all(&["at 3000", "drain b 60000", "moved a 1/0/1 2 b", "at 3500", "left b"]);
        let recorded = lab.state.record(JobId(1), 4_000).unwrap();
        let last: Vec<(u64, &Event)> =
            recorded.story.iter().rev().take(2).map(|line| (line.at_ms, &line.event)).collect();
        let began = Event::DrainBegan { executor: "b".to_owned(), incarnation: 2, deadline_ms: 60_000 };
        let left = Event::ExecutorLeft { executor: "b".to_owned(), incarnation: 2, moved: 1 };
        assert_eq!(last, [(2_500, &left), (2_000, &began)]);
    }

    #[test]
    fn an_ended_job_has_the_same_story() {
        let mut lab = lab();
        let before = lab.state.record(JobId(1), 3_000).unwrap();
        lab.run_all(&["at 4000", "cancel 1 enough", "register c"]);
        let after = lab.state.record(JobId(1), 9_000).unwrap();
        assert_eq!((&after.story, &after.cluster), (&before.story, &before.cluster));
        assert_eq!((after.job.elapsed_ms, after.job.state.as_str()), (3_000, "cancelled"));
        assert!(lab.state.record(JobId(2), 0).is_none());
    }

    #[test]
    fn options_of_object_stores_are_left_out() {
        let mut lab = lab();
        let job = lab.state.jobs.by_id.get_mut(&JobId(1)).unwrap();
        for (name, value) in [
            ("polybolos.object_store.s3://b/aws.secret_access_key", "hush"),
            ("aws.session_token", "hush"),
            ("polybolos.max_task_attempts", "6"),
            ("datafusion.execution.batch_size", "64"),
        ] {
            job.options.insert(name.to_owned(), value.to_owned());
        }
        let options = lab.state.record(JobId(1), 0).unwrap().job.options;
        let names: Vec<&str> = options.keys().map(String::as_str).collect();
        assert_eq!(names, ["datafusion.execution.batch_size", "polybolos.max_task_attempts"]);
    }

    #[test]
    fn operators_do_not_say_where_files_are() {
        let scan = "  DataSourceExec: file_groups={2 groups: [[tmp/secret/a.parquet], [tmp/b.parquet]]}, projection=[n]";
        assert_eq!(operator(scan), "  DataSourceExec: file_groups={2 groups}, projection=[n]");
        assert_eq!(operator("FilterExec: n@0 > 1"), "FilterExec: n@0 > 1");
    }
}
