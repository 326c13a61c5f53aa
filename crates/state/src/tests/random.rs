//! Random sequences of commands, right and wrong: `apply` never panics, every invariant holds after each entry, a
//! rejection changes nothing, and a replay (from the log or from a snapshot) gives the same state.

use proptest::prelude::*;

use crate::{Change, ClusterState, Entry, TaskDone, invariants, transcript::Lab};

/// A line of a transcript, or one that is made to fit the state when its turn comes.
#[derive(Debug, Clone)]
enum Op {
    Line(String),
    /// Ends a runnable task: which, where, how.
    End {
        pick: usize,
        executor: &'static str,
        how: &'static str,
    },
    Later {
        ms: u64,
    },
    NewTerm,
}

const EXECUTORS: [&str; 4] = ["a", "b", "c", "d"];
const SHAPES: [&str; 7] =
    ["one", "hash(2,2)", "hash!(2,2)", "chain(2,3,1)", "join(2,1,2)", "chain(1,2,2,1)", "hash(0,1)"];

fn executor() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&EXECUTORS[..])
}

fn end() -> impl Strategy<Value = Op> {
    let how = prop_oneof![
        12 => Just("complete"),
        4 => Just("durable"),
        4 => Just("moved"),
        2 => Just("retryable"),
        1 => Just("user"),
        3 => Just("input"),
        1 => Just("unreadable"),
    ];
    (any::<usize>(), executor(), how).prop_map(|(pick, executor, how)| Op::End { pick, executor, how })
}

fn job_line() -> impl Strategy<Value = String> {
    let shape = proptest::sample::select(&SHAPES[..]);
    let shape_of_write = shape.clone();
    prop_oneof![
        4 => (0..8u64, shape, 0..6u32).prop_map(|(job, shape, key)| format!("submit {job} {shape} key=k{key}")),
        1 => (0..8u64).prop_map(|job| format!("cancel {job} x")),
        1 => (0..8u64).prop_map(|job| format!("fail-job {job} x")),
        2 => (0..8u64).prop_map(|job| format!("release {job}")),
        3 => (0..8u64).prop_map(|job| format!("reopen {job}")),
        1 => (0..8u64, 0..3u32, 1..200u32)
            .prop_map(|(job, partition, attempt)| format!("reopen {job} {partition}:{attempt}")),
        1 => Just("expire".to_owned()),
        4 => (0..8u64, shape_of_write, 0..6u32, any::<bool>()).prop_map(|(job, shape, key, is_ctas)| {
            let table = if is_ctas { " table=s.x" } else { "" };
            format!("write {job} {shape} key=k{key}{table}")
        }),
        4 => (0..8u64).prop_map(|job| format!("published {job}")),
        1 => (0..8u64).prop_map(|job| format!("abandon {job} x")),
        4 => (0..8u64).prop_map(|job| format!("swept {job}")),
        1 => (0..8u64, 0..8u64).prop_map(|(job, other)| format!("started {job} {other}")),
    ]
}

fn wild_report() -> impl Strategy<Value = String> {
    let task =
        (0..8u64, 0..4u32, 0..4u32).prop_map(|(job, stage, partition)| format!("{job}/{stage}/{partition}"));
    (executor(), 0..6u64, task, 1..30u32, 0..9u32).prop_map(|(executor, incarnation, task, attempt, how)| {
        match how {
            0 => format!("fail {executor}#{incarnation} {task} {attempt} user"),
            1 => format!("fail {executor} {task} {attempt} resources"),
            2 => format!("fail {executor} {task} {attempt} retryable lost=a/0/0/{attempt}"),
            3 => format!("complete {executor} {task} {attempt} outputs=1"),
            4 => format!("complete {executor}#{incarnation} {task} {attempt}"),
            5 => format!("complete {executor} {task} {attempt} epoch={incarnation} durable=yes"),
            6 => format!("durable {executor} {task} {attempt}"),
            7 => format!("moved {executor} {task} {attempt} a#{incarnation}"),
            _ => format!("complete {executor} {task} {attempt}"),
        }
    })
}

fn executor_line() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (executor(), 1..4u32, 0..3u32).prop_map(|(id, process, place)| match place {
            0 => format!("register {id} process={process} address=shared:1"),
            1 => format!("register {id} process={process} store=s3://b"),
            _ => format!("register {id} process={process}"),
        }),
        1 => executor().prop_map(|id| format!("drain {id}")),
        3 => (executor(), 0..9_000u32).prop_map(|(id, ms)| format!("drain {id} {ms}")),
        2 => executor().prop_map(|id| format!("left {id}")),
        2 => executor().prop_map(|id| format!("lose {id}")),
        1 => (executor(), 0..6u64).prop_map(|(id, incarnation)| format!("lose {id}#{incarnation}")),
        1 => executor().prop_map(|id| format!("suspect {id}")),
        1 => Just("beat a b c#2 d".to_owned()),
    ]
}

fn catalogue_line() -> impl Strategy<Value = String> {
    let lines = [
        "table s.x",
        "table s.x replace=",
        "view s.x",
        "view s.y keep=",
        "drop table s.x",
        "drop view s.x if_exists=",
        "drop view s.y",
        "set u a 1",
        "set u b 2",
        "reset u a",
        "close u",
    ];
    proptest::sample::select(lines.to_vec()).prop_map(str::to_owned)
}

fn cluster_line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..5u64, 0..3u64, 0..3u16)
            .prop_map(|(id, folder, version)| format!("replica {id} folder={folder} version={version}")),
        1 => (0..5u64).prop_map(|id| format!("retire {id}")),
        2 => (0..4u16).prop_map(|to| format!("raise {to}")),
        1 => (0..3u32).prop_map(|id| format!("found c{id}")),
        1 => (0..5u64, 0..4u32).prop_map(|(id, name)| match name {
            0 => format!("restart {id} by-hand"),
            _ => format!("restart {id} restored name=c{name}"),
        }),
        3 => (executor(), 0..3u64, 0..3u64).prop_map(|(id, n, m)| format!("refused {id}={n} a={m} z=1")),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let line = prop_oneof![
        4 => job_line(),
        2 => wild_report(),
        4 => executor_line(),
        1 => catalogue_line(),
        1 => cluster_line(),
    ];
    let lines = proptest::collection::vec(line, 1..4).prop_map(|lines| Op::Line(lines.join(" ; ")));
    prop_oneof![
        10 => end(),
        8 => lines,
        1 => (0..400_000u64).prop_map(|ms| Op::Later { ms }),
        1 => Just(Op::NewTerm),
    ]
}

/// A report that makes sense now, as a line; `None` when nothing can run.
fn sensible(lab: &Lab, pick: usize, executor: &str, how: &str, attempt: usize) -> Option<String> {
    if how == "durable" || how == "moved" {
        return of_output(lab, pick, executor, how);
    }
    if how == "unreadable" {
        return unreadable(lab, pick);
    }
    let runnable = lab.state.pending().runnable;
    let task = runnable.get(pick.checked_rem(runnable.len())?)?.task;
    let at = format!("{executor} {}/{}/{} {attempt}", task.job.0, task.stage, task.partition);
    Some(match how {
        "complete" if lab.state.version() >= 3 => {
            let epoch = lab.state.job(task.job)?.run(task.stage)?.epoch;
            let durable = if pick.is_multiple_of(2) { " durable=yes" } else { "" };
            format!("complete {at} epoch={epoch}{durable}")
        }
        "complete" => format!("complete {at}"),
        "input" => {
            let job = lab.state.job(task.job)?;
            let input = job.graph.stage(task.stage)?.inputs.first()?.stage;
            let (map, done): (u32, &TaskDone) = job.run(input)?.completed().next()?;
            format!("fail {at} retryable lost={}/{input}/{map}/{}", done.executor, done.attempt)
        }
        class => format!("fail {at} {class}"),
    })
}

/// The output of a completed task is in the durable store by now, or on the executor.
fn of_output(lab: &Lab, pick: usize, executor: &str, how: &str) -> Option<String> {
    let of = |job: &'_ crate::Job| {
        let runs = job.graph.stages.iter().zip(&job.runs);
        let done = runs.flat_map(|(stage, run)| run.completed().map(|(p, done)| (stage.id, p, done)));
        let line = |(stage, p, done): (_, u32, &TaskDone)| {
            let from = format!("{}#{}", done.executor, done.incarnation);
            let from = if how == "moved" { from } else { String::new() };
            format!("{how} {executor} {}/{stage}/{p} {} {from}", job.id.0, done.attempt)
        };
        done.map(line).collect::<Vec<_>>()
    };
    let lines: Vec<String> = lab.state.jobs().flat_map(of).collect();
    lines.get(pick.checked_rem(lines.len())?).cloned()
}

/// A client can't read a partition of a result.
fn unreadable(lab: &Lab, pick: usize) -> Option<String> {
    let of = |job: &'_ crate::Job| {
        let line = |(p, done): (u32, &TaskDone)| format!("reopen {} {p}:{}", job.id.0, done.attempt);
        job.results().map(line).collect::<Vec<_>>()
    };
    let lines: Vec<String> = lab.state.jobs().flat_map(of).collect();
    lines.get(pick.checked_rem(lines.len())?).cloned()
}

/// Applies the ops and returns the entries that did it.
fn drive(lab: &mut Lab, ops: &[Op]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let line = match op {
            Op::Line(line) => Some(line.clone()),
            Op::End { pick, executor, how } => sensible(lab, *pick, executor, how, 100 + at),
            Op::Later { ms } => {
                lab.now_ms += ms;
                None
            }
            Op::NewTerm => {
                lab.term.0 += 1;
                None
            }
        };
        let commands = line.iter().flat_map(|line| line.split(';')).map(|line| lab.parse(line)).collect();
        let entry = lab.entry(commands);
        step(lab, &entry);
        entries.push(entry);
    }
    entries
}

/// Each command alone, so that the effect of each is seen; then the state is that of the entry as a whole.
fn step(lab: &mut Lab, entry: &Entry) {
    let mut whole = lab.state.clone();
    let outcomes = whole.apply(entry).outcomes;
    let part = |commands| Entry::new(entry.version, entry.term, entry.at_ms, commands);
    lab.state.apply(&part(vec![]));
    for (command, outcome) in entry.commands.iter().zip(&outcomes) {
        let before = lab.state.clone();
        let single = lab.state.apply(&part(vec![command.clone()]));
        assert_eq!(single.outcomes.as_slice(), std::slice::from_ref(outcome));
        invariants::check(&lab.state).unwrap();
        invariants::check_step(&before, &lab.state).unwrap();
        if matches!(outcome, Err(_) | Ok(Change::Unchanged)) {
            // That a report was refused is told.
            let mut before = before;
            before.extension.v3.stories = lab.state.extension.v3.stories.clone();
            assert_eq!(before, lab.state, "{command:?} changed something: {outcome:?}");
        }
    }
    assert_eq!(whole, lab.state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_invariants_and_replays(
        ops in proptest::collection::vec(op(), 1..150), newest in any::<bool>(),
    ) {
        let mut lab = Lab::new();
        if newest {
            lab.run_all(&["replica 1 version=3", "raise 3"]);
        }
        lab.run_all(&["register a", "register b", "submit 0 chain(2,2,1)"]);
        let start = lab.state.clone();
        let entries = drive(&mut lab, &ops);

        let mut replayed = start;
        for (at, entry) in entries.iter().enumerate() {
            let decoded = Entry::decode(&entry.encode().unwrap()).unwrap();
            prop_assert_eq!(&decoded, entry);
            replayed.apply(&decoded);
            if at == entries.len() / 2 {
                let restored = ClusterState::decode(&replayed.encode().unwrap()).unwrap();
                prop_assert_eq!(&restored, &replayed);
                replayed = restored;
            }
        }
        prop_assert_eq!(replayed.hash(), lab.state.hash());
        prop_assert_eq!(replayed, lab.state);
    }

    #[test]
    fn any_bytes_decode_or_fail_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::decode(&[&[crate::ENTRY_FORMAT], bytes.as_slice()].concat());
        for format in 1..=crate::SNAPSHOT_FORMAT {
            let mut snapshot = vec![format];
            snapshot.extend(crc32fast::hash(&bytes).to_le_bytes());
            snapshot.extend(&bytes);
            if let Ok(state) = ClusterState::decode(&snapshot) {
                prop_assert_eq!(ClusterState::decode(&state.encode().unwrap()), Ok(state));
            }
        }
    }
}
