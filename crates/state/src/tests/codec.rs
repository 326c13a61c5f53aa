//! What is stored stays readable: these numbers may grow, never change.

use std::fmt::Debug;

use expect_test::expect;
use polybolos_model::{ErrorClass, Exchange, ReadMode, Term};
use serde::Serialize;

use crate::{
    ClusterState, CodecError, Command, Entry, ExecutorState, Fate, JobStatus, Relation, RelationKind,
    TableDef, transcript::Lab,
};

/// One of each, in the order of the enum.
const ALL_COMMANDS: &[&str] = &[
    "submit 2 hash!(2,2) key=k session=s",
    "cancel 1 enough",
    "fail-job 1 because",
    "release 1",
    "expire",
    "complete a 1/0/0 1",
    "fail a 1/1/0 2 retryable lost=a/0/0/1",
    "register a",
    "drain a",
    "lose a",
    "beat a",
    "table public.t",
    "view public.v",
    "drop table public.t",
    "set s a 1",
    "reset s a",
    "close s",
    "suspect a",
];

fn commands() -> Vec<Command> {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "submit 1 hash(2,2)"]);
    ALL_COMMANDS.iter().map(|line| lab.parse(line)).collect()
}

fn numbers<T: Debug + Serialize>(values: &[T]) -> String {
    values.iter().map(number).collect::<Vec<_>>().join(" ")
}

fn number(value: &(impl Debug + Serialize)) -> String {
    let name = format!("{value:?}");
    let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap();
    format!("{name}={}", postcard::to_stdvec(value).unwrap()[0])
}

#[test]
fn the_numbers_of_variants_are_pinned() {
    let (table, view) = (TableDef { ddl: String::new(), provider: vec![] }, String::new());
    let all = [
        numbers(&commands()),
        numbers(&[JobStatus::Queued, JobStatus::Running, JobStatus::Succeeded]),
        numbers(&[JobStatus::Failed, JobStatus::Cancelled]),
        numbers(&[ExecutorState::Live, ExecutorState::Draining, ExecutorState::Lost]),
        numbers(&[Fate::Failed, Fate::InputLost, Fate::OutputLost]),
        numbers(&[RelationKind::Table, RelationKind::View]),
        numbers(&[Relation::Table(table), Relation::View { sql: view }]),
        numbers(&[ErrorClass::User, ErrorClass::Retryable, ErrorClass::Resources, ErrorClass::Internal]),
        numbers(&[Exchange::Hash, Exchange::RoundRobin, Exchange::Single]),
        numbers(&[Exchange::Merge, Exchange::Broadcast, Exchange::Result]),
        numbers(&[ReadMode::Partition, ReadMode::All]),
    ];
    expect![[r#"
        SubmitJob=0 CancelJob=1 FailJob=2 ReleaseJob=3 ExpireJobs=4 CompleteTask=5 FailTask=6 RegisterExecutor=7 DrainExecutor=8 LoseExecutor=9 Heartbeats=10 CreateTable=11 CreateView=12 DropRelation=13 SetSession=14 ResetSession=15 CloseSession=16 SuspectExecutor=17
        Queued=0 Running=1 Succeeded=2
        Failed=3 Cancelled=4
        Live=0 Draining=1 Lost=2
        Failed=0 InputLost=1 OutputLost=2
        Table=0 View=1
        Table=0 View=1
        User=0 Retryable=1 Resources=2 Internal=3
        Hash=0 RoundRobin=1 Single=2
        Merge=3 Broadcast=4 Result=5
        Partition=0 All=1"#]].assert_eq(&all.join("\n"));
}

#[test]
fn the_bytes_of_an_entry_and_of_a_state_are_pinned() {
    let entry = Entry::new(Term(3), 1_700_000_000_000, commands());
    let bytes = entry.encode().unwrap();
    let mut lab = Lab::new();
    lab.run_all(ALL_COMMANDS);
    lab.run_all(&["register b", "submit 3 hash(1,1)", "complete b 3/0/0 3", "fail b 3/1/0 4 resources"]);
    let state = lab.state.encode().unwrap();
    let pins = format!(
        "entry {} bytes, crc {:08x}\nstate {} bytes, crc {:08x}, hash {:016x}",
        bytes.len(),
        crc32fast::hash(&bytes),
        state.len(),
        crc32fast::hash(&state),
        lab.state.hash(),
    );
    // A change here makes stored data unreadable: raise the format or find another way.
    expect![[r#"
        entry 330 bytes, crc 664db515
        state 402 bytes, crc 07253f89, hash 26b29df903b5a13b"#]]
    .assert_eq(&pins);
    assert_eq!(Entry::decode(&bytes), Ok(entry));
    assert_eq!(ClusterState::decode(&state), Ok(lab.state));
}

#[test]
fn damage_is_found() {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "submit 1 hash(2,2)"]);
    let good = lab.state.encode().unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(ClusterState::decode(&bad).is_err(), "flipped byte {at}");
        assert!(ClusterState::decode(&good[..at]).is_err(), "cut at {at}");
    }
    let entry = Entry::new(Term(1), 2, commands()).encode().unwrap();
    for at in 0..entry.len() {
        assert!(Entry::decode(&entry[..at]).is_err(), "cut at {at}");
    }
    let longer = [entry.as_slice(), &[0]].concat();
    assert!(matches!(Entry::decode(&longer), Err(CodecError::Trailing { bytes: 1, .. })));
    let newer = [&[9], &entry[1..]].concat();
    expect!["a log entry has format 9, and this version knows format 1: upgrade it"]
        .assert_eq(&Entry::decode(&newer).unwrap_err().to_string());
    expect!["a snapshot is cut short: 0 bytes"]
        .assert_eq(&ClusterState::decode(&[]).unwrap_err().to_string());
}

#[test]
fn the_hash_tells_states_apart() {
    let mut lab = Lab::new();
    let mut seen = std::collections::BTreeSet::from([lab.state.hash()]);
    for line in
        ["register a", "submit 1 hash(2,2)", "complete a 1/0/0 1", "fail a 1/0/1 2 retryable", "beat a"]
    {
        lab.run(line);
        assert_eq!(lab.state.hash(), lab.state.clone().hash());
        assert!(seen.insert(lab.state.hash()), "{line}");
    }
}
