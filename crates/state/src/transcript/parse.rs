//! Words to commands.
//!
//! `one`, `hash(m,r)`, `chain(a,b,c)`, `join(a,b,c)`, `broadcast(a,b,c)`, `diamond(a,b,c,d)` are graphs by their stages' tasks;
//! a `!` makes stage 0 indeterminate, and with a `~` behind the name it is decided once they are complete how partitioned inputs are
//! read: `adapt job/stage`, with a share for each task: `first-end`, or `partition:input/first_map-end_map`. The last stage of a `broadcast` joins what each of its tasks reads of all of stage 0. Tasks are `job/stage/partition`. Executors are `name`, or `name#incarnation` for another than the
//! present one. Attempts are `counter`, or `term.counter` for another term than the present one. Rest: `key=value`; a
//! completion with an `epoch=` is one of version 3. `write` is `submit` of a statement that writes, with a `table=` of a
//! `CREATE TABLE AS`.

use std::collections::BTreeMap;

use polybolos_model::{
    AttemptId, ErrorClass, Exchange, ExecutorId, FetchFailure, Incarnation, JobId, OperatorMetrics,
    PartitionStats, ReadMode, ReplicaId, SHUFFLE_DURABLE_LABEL, Share, Split, Stage, StageGraph, StageId,
    StageInput, TaskError, TaskId, TaskMetrics, Term, WriteTarget,
};

use super::Lab;
use crate::{Command, JobError, LoggedBeat, NewTable, RelationKind, RelationName, TableDef};

pub(super) fn command(lab: &Lab, line: &str) -> Command {
    let all: Vec<&str> = line.split_whitespace().collect();
    let (options, words): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|word| word.contains('='));
    let options: BTreeMap<&str, &str> = options.into_iter().filter_map(|word| word.split_once('=')).collect();
    let executor = |word: &str| executor(lab, word);
    match words.as_slice() {
        ["submit", id, shape] => submit(job(id), shape, &options),
        ["cancel", id, reason] => Command::CancelJob { job: job(id), reason: (*reason).into() },
        ["fail-job", id, reason] => {
            let error = JobError::of_job(TaskError::new(ErrorClass::Internal, *reason));
            Command::FailJob { job: job(id), error }
        }
        ["write", id, shape] => submit_write(job(id), shape, &options),
        ["published", id] => Command::Published { job: job(id) },
        ["abandon", id, reason] => {
            let error = JobError::of_job(TaskError::new(ErrorClass::Retryable, *reason));
            Command::AbandonWrite { job: job(id), error }
        }
        ["swept", id] => Command::Swept { job: job(id) },
        ["started", ids @ ..] => Command::JobsStarted { jobs: ids.iter().map(|id| job(id)).collect() },
        ["release", id] => Command::ReleaseJob { job: job(id) },
        ["expire"] => Command::ExpireJobs,
        ["complete", who, what, which] => complete(lab, who, task(what), attempt(lab, which), &options),
        ["fail", who, what, which, class] => {
            let (executor, incarnation) = executor(who);
            let mut error = TaskError::new(error_class(class), "boom");
            error.fetch = options.get("lost").map(|lost| fetch(lab, lost));
            Command::FailTask { executor, incarnation, task: task(what), attempt: attempt(lab, which), error }
        }
        ["durable", who, what, which] => {
            let (executor, incarnation) = executor(who);
            Command::OutputDurable { executor, incarnation, task: task(what), attempt: attempt(lab, which) }
        }
        ["reopen", id, lost @ ..] => {
            let partition = |word: &&str| {
                let (partition, which) = word.split_once(':').unwrap();
                (partition.parse().unwrap(), attempt(lab, which))
            };
            Command::ReopenJob { job: job(id), unreadable: lost.iter().map(partition).collect() }
        }
        ["moved", to, what, which, from] => {
            let ((executor, incarnation), (from, from_incarnation)) = (executor(to), executor(from));
            let (task, attempt) = (task(what), attempt(lab, which));
            Command::OutputMoved { executor, incarnation, task, attempt, from, from_incarnation }
        }
        ["adapt", what, shares @ ..] => adapt(lab, what, shares, &options),
        _ => executors(lab, &words, &options)
            .or_else(|| cluster(&words, &options))
            .unwrap_or_else(|| catalogue(&words, &options)),
    }
}

fn executors(lab: &Lab, words: &[&str], options: &BTreeMap<&str, &str>) -> Option<Command> {
    let executor = |word: &str| executor(lab, word);
    Some(match words {
        ["register", name] => register(name, options),
        ["died", who, runs @ ..] => {
            let (executor, incarnation) = executor(who);
            let run = |run: &&str| {
                let (what, which) = run.split_once(':').unwrap();
                (task(what), attempt(lab, which))
            };
            Command::TasksDied { executor, incarnation, tasks: runs.iter().map(run).collect() }
        }
        ["drain", who] => Command::DrainExecutor { executor: executor(who).0 },
        ["drain", who, ms] => {
            let (executor, incarnation) = executor(who);
            Command::BeginDrain { executor, incarnation, deadline_ms: ms.parse().unwrap() }
        }
        ["left", who] => {
            let (executor, incarnation) = executor(who);
            Command::ExecutorLeft { executor, incarnation, reason: "it was drained".into() }
        }
        ["lose", who] => {
            let (executor, incarnation) = executor(who);
            Command::LoseExecutor { executor, incarnation, reason: "power cut".into() }
        }
        ["suspect", who] => {
            let (executor, incarnation) = executor(who);
            Command::SuspectExecutor { executor, incarnation }
        }
        ["beat", names @ ..] => {
            Command::Heartbeats { beats: names.iter().map(|name| beat(lab, name)).collect() }
        }
        _ => return None,
    })
}

fn cluster(words: &[&str], options: &BTreeMap<&str, &str>) -> Option<Command> {
    let replica = |word: &str| ReplicaId(word.parse().unwrap());
    let number = |key: &str, default: u64| options.get(key).map_or(default, |n| n.parse().unwrap());
    Some(match words {
        ["found", name] => Command::FoundCluster { cluster_id: (*name).into() },
        ["replica", id] => Command::RegisterReplica {
            replica: replica(id),
            folder: number("folder", 7),
            version: u16::try_from(number("version", 2)).unwrap(),
        },
        ["retire", id] => Command::RetireReplica { replica: replica(id) },
        ["raise", to] => Command::RaiseVersion { to: to.parse().unwrap() },
        ["restart", id, note] => {
            let cluster_id = options.get("name").map(|name| (*name).to_owned());
            Command::RestartCluster { cluster_id, replica: replica(id), note: (*note).into() }
        }
        ["refused"] => {
            let count = |(name, n): (&&str, &&str)| (ExecutorId::new(*name).unwrap(), n.parse().unwrap());
            Command::RefusedCommands { counts: options.iter().map(count).collect() }
        }
        _ => return None,
    })
}

fn catalogue(words: &[&str], options: &BTreeMap<&str, &str>) -> Command {
    let session = |word: &str| word.parse().unwrap();
    let flag = |name: &str| options.contains_key(name);
    let (or_replace, if_not_exists) = (flag("replace"), flag("keep"));
    match words {
        ["table", name] => {
            Command::CreateTable { name: relation(name), table: table(name), or_replace, if_not_exists }
        }
        ["view", name] => {
            Command::CreateView { name: relation(name), sql: "SELECT 1".into(), or_replace, if_not_exists }
        }
        ["drop", kind, name] => {
            let kind = if *kind == "view" { RelationKind::View } else { RelationKind::Table };
            Command::DropRelation { name: relation(name), if_exists: flag("if_exists"), kind }
        }
        ["set", who, key, value] => {
            Command::SetSession { session: session(who), key: (*key).into(), value: (*value).into() }
        }
        ["reset", who, key] => Command::ResetSession { session: session(who), key: (*key).into() },
        ["close", who] => Command::CloseSession { session: session(who) },
        _ => panic!("no such command: {words:?}"),
    }
}

fn table(name: &str) -> TableDef {
    TableDef { ddl: format!("CREATE EXTERNAL TABLE {name}"), provider: vec![1, 2] }
}

fn submit_write(job: JobId, shape: &str, options: &BTreeMap<&str, &str>) -> Command {
    let new_table = |name: &&str| NewTable { name: relation(name), table: table(name) };
    Command::SubmitWrite {
        job,
        key: options.get("key").map(|key| key.parse().unwrap()),
        session: None,
        sql: format!("WRITE {job}"),
        graph: graph(shape),
        options: job_options(options),
        schema: vec![8],
        cancel_when_unwatched_ms: 0,
        target: WriteTarget {
            url: options.get("to").map_or("s3://b/t/", |url| url).to_string(),
            extension: ".parquet".into(),
            single_file: false,
        },
        table: options.get("table").map(new_table),
    }
}

fn submit(job: JobId, shape: &str, options: &BTreeMap<&str, &str>) -> Command {
    Command::SubmitJob {
        job,
        key: options.get("key").map(|key| key.parse().unwrap()),
        session: options.get("session").map(|session| session.parse().unwrap()),
        sql: format!("SELECT {job}"),
        graph: graph(shape),
        options: job_options(options),
        explain_analyze: None,
        ordered: false,
        schema: vec![7],
        cancel_when_unwatched_ms: 0,
    }
}

/// By short names.
fn job_options(options: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    let names = [
        ("attempts", "polybolos.max_task_attempts"),
        ("coalesce", "polybolos.coalesce_partition_bytes"),
        ("skew", "polybolos.skew_partition_bytes"),
        ("reruns", "polybolos.max_stage_reruns"),
        ("deaths", "polybolos.max_task_deaths"),
        ("max_parallel", "polybolos.max_parallel_tasks"),
        ("max_bytes", "polybolos.max_result_bytes"),
        ("max_run_ms", "polybolos.max_run_ms"),
        ("priority", "polybolos.priority"),
        ("speculation", "polybolos.speculation"),
        ("min_ms", "polybolos.speculation_min_ms"),
        ("multiplier", "polybolos.speculation_multiplier"),
        ("quantile", "polybolos.speculation_quantile"),
    ];
    let given = |(short, name): (&str, &str)| Some((name.to_owned(), (*options.get(short)?).to_owned()));
    names.into_iter().filter_map(given).collect()
}

fn adapt(lab: &Lab, what: &str, shares: &[&str], options: &BTreeMap<&str, &str>) -> Command {
    let range = |word: &str| {
        let (first, end) = word.split_once('-').unwrap();
        (first.parse().unwrap(), end.parse().unwrap())
    };
    let share = |word: &&str| match word.split_once(':') {
        Some((partition, maps)) => {
            let (input, maps) = maps.split_once('/').unwrap();
            let (first_map, end_map) = range(maps);
            let split = Split { input: StageId(input.parse().unwrap()), first_map, end_map };
            Share { split: Some(split), ..Share::one(partition.parse().unwrap()) }
        }
        None => {
            let (first, end) = range(word);
            Share { first, end, split: None }
        }
    };
    let TaskId { job, stage, .. } = task(&format!("{what}/0"));
    let shares = shares.iter().map(share).collect();
    Command::AdaptStage { job, stage, shares, after: attempt(lab, options.get("after").unwrap_or(&"0")) }
}

fn complete(
    lab: &Lab,
    who: &str,
    task: TaskId,
    attempt: AttemptId,
    options: &BTreeMap<&str, &str>,
) -> Command {
    let (executor, incarnation) = executor(lab, who);
    let planned =
        lab.state.job(task.job).and_then(|job| Some(job.graph.stage(task.stage)?.output_partitions));
    let count = options.get("outputs").map_or(planned.unwrap_or(1), |n| n.parse().unwrap());
    let bytes = options.get("bytes").map_or(8, |n| n.parse().unwrap());
    let outputs = vec![PartitionStats { rows: 1, bytes }; count as usize];
    let elapsed_us = options.get("ms").map_or(0, |n| n.parse::<u64>().unwrap() * 1_000);
    let used = options.get("used").map(|n| ("build_mem_used".to_owned(), n.parse().unwrap()));
    let operators = used.map(|used| OperatorMetrics { node: 1, values: vec![used] }).into_iter().collect();
    let spilled_bytes = options.get("spilled").map_or(0, |n| n.parse().unwrap());
    let rows_out = u64::from(count);
    let metrics = TaskMetrics { rows_out, elapsed_us, spilled_bytes, operators, ..TaskMetrics::default() };
    let Some(epoch) = options.get("epoch").map(|n| n.parse().unwrap()) else {
        return Command::CompleteTask { executor, incarnation, task, attempt, outputs, metrics };
    };
    let durable = options.contains_key("durable");
    Command::CompleteTaskIn { executor, incarnation, task, attempt, epoch, durable, outputs, metrics }
}

fn register(name: &str, options: &BTreeMap<&str, &str>) -> Command {
    let number = |key: &str, default: u64| options.get(key).map_or(default, |n| n.parse().unwrap());
    Command::RegisterExecutor {
        executor: ExecutorId::new(name).unwrap(),
        address: options.get("address").map_or(format!("{name}:1"), |address| (*address).to_owned()),
        slots: u32::try_from(number("slots", 2)).unwrap(),
        memory_bytes: options.get("memory").map_or(1 << 30, |n| n.parse().unwrap()),
        labels: options
            .get("store")
            .map(|url| (SHUFFLE_DURABLE_LABEL.into(), (*url).into()))
            .into_iter()
            .collect(),
        process_id: number("process", 1),
    }
}

fn beat(lab: &Lab, name: &str) -> LoggedBeat {
    let (executor, incarnation) = executor(lab, name);
    LoggedBeat { executor, incarnation, memory_used_bytes: 5, shuffle_bytes: 6, running_tasks: 1 }
}

fn executor(lab: &Lab, word: &str) -> (ExecutorId, Incarnation) {
    let (name, incarnation) = word.split_once('#').map_or((word, None), |(name, n)| (name, n.parse().ok()));
    let id = ExecutorId::new(name).unwrap();
    let present = lab.state.executor(&id).map_or(Incarnation(0), |executor| executor.incarnation);
    (id, incarnation.map_or(present, Incarnation))
}

fn job(word: &str) -> JobId {
    JobId(word.parse().unwrap())
}

pub(super) fn task(word: &str) -> TaskId {
    let parts: Vec<u32> = word.split('/').map(|part| part.parse().unwrap()).collect();
    TaskId { job: JobId(u64::from(parts[0])), stage: StageId(parts[1]), partition: parts[2] }
}

fn attempt(lab: &Lab, word: &str) -> AttemptId {
    match word.split_once('.') {
        Some((term, counter)) => {
            AttemptId { term: Term(term.parse().unwrap()), counter: counter.parse().unwrap() }
        }
        None => AttemptId { term: lab.term, counter: word.parse().unwrap() },
    }
}

/// `executor/stage/partition/attempt`
fn fetch(lab: &Lab, word: &str) -> FetchFailure {
    let parts: Vec<&str> = word.split('/').collect();
    FetchFailure {
        executor: ExecutorId::new(parts[0]).unwrap(),
        stage: StageId(parts[1].parse().unwrap()),
        map_partition: parts[2].parse().unwrap(),
        attempt: attempt(lab, parts[3]),
    }
}

fn error_class(word: &str) -> ErrorClass {
    match word {
        "user" => ErrorClass::User,
        "retryable" => ErrorClass::Retryable,
        "resources" => ErrorClass::Resources,
        "internal" => ErrorClass::Internal,
        _ => panic!("no such class: {word}"),
    }
}

fn relation(word: &str) -> RelationName {
    let (schema, name) = word.split_once('.').unwrap();
    RelationName { schema: schema.into(), name: name.into() }
}

/// A graph by its shape; see the module.
pub(crate) fn graph(shape: &str) -> StageGraph {
    let (shape, adapts) = (shape.replace('~', ""), shape.contains('~'));
    let shape = shape.as_str();
    let (name, sizes) = shape.trim_end_matches(')').split_once('(').unwrap_or((shape, "1"));
    let sizes: Vec<u32> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let broadcasts = name.starts_with("broadcast");
    let inputs = |stages: &[u32]| {
        let read = |s: u32| match broadcasts && s == 0 {
            true => ReadMode::All,
            false if adapts => ReadMode::Adaptive { splits: true },
            false => ReadMode::Partition,
        };
        stages.iter().map(|&s| StageInput { stage: StageId(s), read: read(s) }).collect()
    };
    let last = sizes.len() - 1;
    let is_join = name.starts_with("join") || broadcasts;
    let stages = sizes.iter().enumerate().map(|(at, &tasks)| {
        let id = u32::try_from(at).unwrap();
        let inputs = match (at, is_join && at == last) {
            // Two stages read the first, and the last reads both.
            (2, _) if name.starts_with("diamond") => inputs(&[0]),
            (3, _) if name.starts_with("diamond") => inputs(&[1, 2]),
            (0, _) => vec![],
            (_, true) => inputs(&(0..id).collect::<Vec<_>>()),
            (_, false) if is_join => vec![],
            (_, false) => inputs(&[id - 1]),
        };
        let is_broadcast = broadcasts && at == 0;
        let reader = if is_join || (at == 1 && name.starts_with("diamond")) { last } else { at + 1 };
        Stage {
            id: StageId(id),
            plan: vec![u8::try_from(at).unwrap(); 3],
            tasks,
            inputs,
            exchange: match at {
                _ if at == last => Exchange::Result,
                _ if is_broadcast => Exchange::Broadcast,
                _ => Exchange::Hash,
            },
            output_partitions: if at == last || is_broadcast { 1 } else { sizes[reader] },
            display: match is_join && at == last {
                true => format!("HashJoinExec: plan of stage {at}"),
                false => format!("plan of stage {at}"),
            },
            indeterminate: (at == 0 && name.ends_with('!')).then(|| "it calls random()".to_owned()),
        }
    });
    StageGraph { stages: stages.collect() }
}
