//! Outcomes and states to words.

use std::fmt::Display;

use polybolos_model::{ExecutorId, JobId, StageId, TaskId};

use crate::{
    Change, ClusterState, Effects, Executor, Job, MapLocation, MovedOutput, Rejection, ResultLocation, Write,
    WritePhase,
};

pub(super) fn outcome(outcome: &Result<Change, Rejection>) -> String {
    match outcome {
        Ok(change) => self::change(change),
        Err(rejection) => format!("REJECTED {rejection}"),
    }
}

fn change(change: &Change) -> String {
    match change {
        Change::Unchanged => "unchanged".into(),
        Change::Submitted { job } => format!("submitted {}", job.0),
        Change::Duplicate { job } => format!("duplicate of {}", job.0),
        Change::JobEnded { job, status } => format!("{} {status}", job.0),
        Change::Released { job } => format!("released {}", job.0),
        Change::Expired { jobs } => format!("expired {}", list(jobs.iter().map(|job| job.0))),
        Change::TaskCompleted { task, stage_complete, job_ended } => {
            let stage = if *stage_complete { ", stage complete" } else { "" };
            let job = if *job_ended { ", job succeeded" } else { "" };
            format!("completed {}{stage}{job}", short(task))
        }
        Change::TaskFailed { task, failures, effects } => {
            format!("failed {}, {failures} counted{}", short(task), self::effects(effects))
        }
        Change::Registered { executor, incarnation, replaced, effects } => {
            let replaced =
                replaced.as_ref().map(|(id, old)| format!(" in place of {id}#{old}")).unwrap_or_default();
            format!("registered {executor}#{incarnation}{replaced}{}", self::effects(effects))
        }
        Change::Draining { executor } => format!("draining {executor}"),
        Change::Suspected { executor } => format!("suspected {executor}"),
        Change::Lost { executor, incarnation, effects } => {
            format!("lost {executor}#{incarnation}{}", self::effects(effects))
        }
        Change::Beats { accepted, stale } => format!("{accepted} beats, stale: {}", list(stale)),
        Change::Created => "created".into(),
        Change::Replaced => "replaced".into(),
        Change::Dropped => "dropped".into(),
        Change::SessionSet => "session set".into(),
        Change::SessionClosed => "session closed".into(),
        Change::ClusterFounded => "founded".into(),
        Change::ReplicaRegistered { replica } => format!("registered replica {replica}"),
        Change::ReplicaRetired { replica } => format!("retired replica {replica}"),
        Change::VersionRaised { to } => format!("version {to} is in use"),
        Change::ClusterRestarted { effects } => format!("restarted{}", self::effects(effects)),
        Change::RefusedCommandsCounted { executors } => format!("counted for {executors}"),
        Change::MadeDurable { task } => format!("durable {}", short(task)),
        Change::DeathsCounted { tasks, effects } => {
            format!("deaths counted for {tasks}{}", self::effects(effects))
        }
        Change::Reopened { job, effects } => format!("reopened {}{}", job.0, self::effects(effects)),
        Change::OutputMoved { task } => format!("moved {}", short(task)),
        Change::Left { executor, incarnation, effects } => {
            format!("left {executor}#{incarnation}{}", self::effects(effects))
        }
        Change::Swept { job } => format!("swept {}", job.0),
        Change::StageAdapted { job, stage, tasks, after } => {
            format!("adapted {}/{stage} to {tasks} tasks, by attempts after {after}", job.0)
        }
        Change::JobsStarted { jobs } => format!("started {}", list(jobs.iter().map(|job| job.0))),
    }
}

fn effects(effects: &Effects) -> String {
    let mut out = String::new();
    let mut add = |what: &str, items: Vec<String>| {
        if !items.is_empty() {
            out += &format!("; {what} {}", items.join(" "));
        }
    };
    add("run again", effects.rerun.iter().map(short).collect());
    add(
        "delete",
        effects.orphaned.iter().map(|(executor, attempt)| format!("{executor}:{attempt}")).collect(),
    );
    add("fail job", effects.failed.iter().map(|job| job.0.to_string()).collect());
    add("results lost of", effects.results_lost.iter().map(|job| job.0.to_string()).collect());
    out
}

pub(super) fn show(state: &ClusterState, what: &[&str]) -> String {
    match what {
        ["executors"] => executors(state),
        ["cluster"] => cluster(state),
        ["drain", name] => drain(state, name),
        ["refused", name] => {
            format!("  {}\n", state.refused_commands(&ExecutorId::new(*name).unwrap()))
        }
        ["relations"] => relations(state),
        ["session", id] => format!("  {:?}\n", state.session_options(&id.parse().unwrap())),
        ["term"] => format!("  {} since {} at {}\n", state.term(), state.term_since_ms(), state.now_ms()),
        ["jobs"] => {
            let line = |job: &Job| {
                format!("  {} {}{}\n", job.id.0, job.status, if job.released { ", released" } else { "" })
            };
            state.jobs().map(line).collect()
        }
        ["pending"] => pending(state),
        ["alone"] => format!("  {}\n", list(state.alone_tasks().map(|task| short(&task)))),
        ["deaths", task] => {
            let of = state.deaths(super::parse::task(task));
            format!("  {}\n", list(of.iter().map(|(executor, life)| format!("{executor}#{life}"))))
        }
        [what, id, rest @ ..] => of_job(state, what, JobId(id.parse().unwrap()), rest),
        _ => panic!("can't show {what:?}"),
    }
}

fn of_job(state: &ClusterState, what: &str, id: JobId, rest: &[&str]) -> String {
    match (what, rest) {
        ("job", []) => state.job(id).map_or("  none\n".into(), job),
        ("story", []) => story(state, id),
        ("results", []) => results(state, id),
        ("inputs", [stage]) => inputs(state, id, StageId(stage.parse().unwrap())),
        ("shares", [stage]) => {
            let words = state.shares_in_words(id, StageId(stage.parse().unwrap()));
            format!("  {}\n", words.unwrap_or("none".into()))
        }
        ("write", []) => write(state, id),
        ("moves", []) => moves(state, id),
        _ => panic!("can't show {what} {rest:?}"),
    }
}

fn story(state: &ClusterState, id: JobId) -> String {
    let (lines, left_out) = state.story(id);
    let mut out: String = lines.iter().map(|line| format!("  {} {}\n", line.at_ms, line.event)).collect();
    if left_out > 0 {
        out += &format!("  and {left_out} more\n");
    }
    out
}

fn executors(state: &ClusterState) -> String {
    let line = |e: &Executor| {
        let suspect = e.suspect_since_ms.map(|at| format!(", suspect since {at}")).unwrap_or_default();
        let lost = e.lost.as_ref().map(|loss| format!(", at {} for: {}", loss.at_ms, loss.reason));
        format!(
            "  {}#{} {} {}, heard {}{suspect}{}\n",
            e.id,
            e.incarnation,
            e.address,
            e.state,
            e.last_beat_ms,
            lost.unwrap_or_default()
        )
    };
    state.executors().map(line).collect()
}

fn results(state: &ClusterState, id: JobId) -> String {
    let line = |at: ResultLocation<'_>| {
        let durable = if at.durable { " durable" } else { "" };
        format!("  {}: {}{durable}\n", at.partition, at.address.unwrap_or("gone"))
    };
    state.results(id).map(line).collect()
}

fn inputs(state: &ClusterState, id: JobId, stage: StageId) -> String {
    let line = |at: &MapLocation<'_>| {
        let address = if at.address.is_empty() { "durable store" } else { at.address };
        format!("  {}: {address} {}\n", at.map_partition, at.done.attempt)
    };
    state.map_outputs(id, stage).map_or("  not complete\n".into(), |all| all.iter().map(line).collect())
}

fn pending(state: &ClusterState) -> String {
    let pending = state.pending();
    let run = pending.runnable.iter().map(|r| format!("{}@{}", short(&r.task), r.epoch));
    let mut out = format!("  run {}, release {}", list(run), jobs(&pending.release));
    if !(pending.publish.is_empty() && pending.sweep.is_empty()) {
        out += &format!(", publish {}, sweep {}", jobs(&pending.publish), jobs(&pending.sweep));
    }
    out + "\n"
}

fn write(state: &ClusterState, id: JobId) -> String {
    let rows = state.rows_written(id).map(|rows| format!(", {rows} rows")).unwrap_or_default();
    let write = |write: &Write| match write.phase {
        WritePhase::Sweeping { since_ms, unpublish } => {
            let published = if unpublish { ", also what is published" } else { "" };
            format!("  {} since {since_ms}{published}{rows}\n", write.phase)
        }
        phase => format!("  {phase}{rows}\n"),
    };
    state.write(id).map_or("  none\n".into(), write)
}

fn relations(state: &ClusterState) -> String {
    let all = state.catalogue().relations.iter();
    let all = all.map(|(name, relation)| format!("{} {name}", relation.kind()));
    format!("  {} at version {}\n", list(all), state.catalogue().version)
}

fn drain(state: &ClusterState, name: &str) -> String {
    let id = ExecutorId::new(name).unwrap();
    let Some((executor, drain)) = state.executor(&id).zip(state.drain_of(&id)) else {
        return "  none\n".into();
    };
    let only_there = state.only_there(&id, drain.incarnation);
    format!(
        "  since {} until {}, {} moved, left {}, only there: {}\n",
        drain.since_ms,
        drain.until_ms,
        drain.moved,
        state.has_left(executor),
        list(only_there.iter().map(|(task, _)| short(task)))
    )
}

fn moves(state: &ClusterState, id: JobId) -> String {
    let moved = state.moved_outputs().filter(|at| at.task.job == id);
    let line = |at: MovedOutput<'_>| format!("{} {} on {}", short(&at.task), at.attempt, at.executor.id);
    format!("  {} times: {}\n", state.moves(id), list(moved.map(line)))
}

fn cluster(state: &ClusterState) -> String {
    let replicas = state
        .replicas()
        .map(|(id, record)| format!("{id} in folder {} up to version {}", record.folder, record.version));
    let mut out = format!("  '{}' at version {}: {}\n", state.cluster_id(), state.version(), list(replicas));
    for (at_ms, note) in state.history() {
        out += &format!("  at {at_ms}: {note}\n");
    }
    out
}

fn job(job: &Job) -> String {
    let released = if job.released { ", released" } else { "" };
    let error = job.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let mut out = format!("  {} {}{released}{error}\n", job.id.0, job.status);
    for (partition, reason) in &job.results_lost {
        out += &format!("  result {partition} is lost: {reason}\n");
    }
    for (stage, run) in job.graph.stages.iter().zip(&job.runs) {
        let plan = if stage.plan.is_empty() { ", no plan" } else { "" };
        out += &format!("  stage {} epoch {} reruns {}{plan}:", stage.id, run.epoch, run.reruns);
        for task in &run.tasks {
            let done = task.completed.as_ref().map(|done| format!("{}:{}", done.executor, done.attempt));
            out += &format!(" {}", done.unwrap_or("-".into()));
            if !task.past.is_empty() {
                let past = task
                    .past
                    .iter()
                    .map(|past| format!("{:?} {}:{}", past.fate, past.executor, past.attempt));
                out += &format!(" ({})", list(past));
            }
        }
        out += "\n";
    }
    out
}

fn jobs(ids: &[JobId]) -> String {
    list(ids.iter().map(|job| job.0))
}

fn short(task: &TaskId) -> String {
    format!("{}/{}/{}", task.job.0, task.stage, task.partition)
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}
