//! What is stored stays readable: these numbers may grow, never change.

use std::fmt::Debug;

use expect_test::expect;
use polybolos_model::{AttemptId, ErrorClass, Exchange, JobId, ReadMode, Share, StageId, Term};
use serde::Serialize;

use crate::{
    ClusterState, CodecError, Command, Entry, ExecutorState, Fate, JobStatus, Relation, RelationKind,
    TableDef,
    apply::adapt::Adapted,
    extension::{Extension, ExtensionV3, ExtensionV4},
    transcript::Lab,
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
    "found test",
    "replica 1 folder=300 version=2",
    "retire 9",
    "raise 2",
    "restart 1 by-hand name=beta",
    "refused a=3",
    "complete a 1/0/1 9 epoch=0 durable=yes",
    "died a 1/0/1:9",
    "durable a 1/0/1 9",
    "reopen 1 0:1",
    "write 9 one key=k9 table=public.w",
    "published 9",
    "abandon 9 because",
    "swept 9",
    "started 1",
    "adapt 2/1 0-1 1:0/0-1 1:0/1-2",
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
        numbers(&[ReadMode::Partition, ReadMode::All, ReadMode::Adaptive { splits: true }, ReadMode::Shares]),
    ];
    expect![[r#"
        SubmitJob=0 CancelJob=1 FailJob=2 ReleaseJob=3 ExpireJobs=4 CompleteTask=5 FailTask=6 RegisterExecutor=7 DrainExecutor=8 LoseExecutor=9 Heartbeats=10 CreateTable=11 CreateView=12 DropRelation=13 SetSession=14 ResetSession=15 CloseSession=16 SuspectExecutor=17 FoundCluster=18 RegisterReplica=19 RetireReplica=20 RaiseVersion=21 RestartCluster=22 RefusedCommands=23 CompleteTaskIn=24 TasksDied=25 OutputDurable=26 ReopenJob=27 SubmitWrite=31 Published=32 AbandonWrite=33 Swept=34 JobsStarted=35 AdaptStage=36
        Queued=0 Running=1 Succeeded=2
        Failed=3 Cancelled=4
        Live=0 Draining=1 Lost=2
        Failed=0 InputLost=1 OutputLost=2
        Table=0 View=1
        Table=0 View=1
        User=0 Retryable=1 Resources=2 Internal=3
        Hash=0 RoundRobin=1 Single=2
        Merge=3 Broadcast=4 Result=5
        Partition=0 All=1 Adaptive=2 Shares=3"#]].assert_eq(&all.join("\n"));
}

/// How many of [`ALL_COMMANDS`] versions 1 and 2 know.
const OLD_COMMANDS: usize = 24;

/// A state with something in every part: at version 2 the extension too, at version 3 its second section.
fn full(version: u16) -> ClusterState {
    let mut lab = Lab::new();
    let lines = ALL_COMMANDS.iter().filter(|line| version >= 2 || !line.starts_with("raise"));
    lines.for_each(|line| drop(lab.run(line)));
    lab.run_all(&["register a", "register b", "submit 3 hash(1,1)", "complete b 3/0/0 3"]);
    lab.run_all(&["fail b 3/1/0 4 resources", "replica 1", "replica 2", "retire 3", "refused a=3"]);
    if version >= 3 {
        for line in ["replica 1 version=", "replica 2 version=", "raise "] {
            lab.run(&format!("{line}{version}"));
        }
        lab.state.extension.v3.valid_from.insert((JobId(3), StageId(1)), 1);
    }
    if version >= 4 {
        let shares = vec![Share { first: 0, end: 2, split: None }];
        let adapted = Adapted { after: AttemptId { term: Term(1), counter: 4 }, partitions: 2, shares };
        lab.state.extension.v4.adapted.insert((JobId(3), StageId(1)), adapted);
    }
    assert_eq!((lab.state.version(), lab.state.extension == Extension::default()), (version, version == 1));
    assert_eq!(lab.state.extension.v3 == ExtensionV3::default(), version < 3);
    assert_eq!(lab.state.extension.v4 == ExtensionV4::default(), version < 4);
    lab.state
}

#[test]
fn the_bytes_of_an_entry_and_of_a_state_are_pinned() {
    let entry = Entry::new(1, Term(3), 1_700_000_000_000, commands());
    let bytes = entry.encode().unwrap();
    let old = Entry { commands: entry.commands[..OLD_COMMANDS].to_vec(), ..entry.clone() };
    let mut pins = String::new();
    for bytes in [&old.encode().unwrap(), &bytes] {
        pins += &format!("entry {} bytes, crc {:08x}\n", bytes.len(), crc32fast::hash(bytes));
    }
    for version in 1..=4 {
        let state = full(version);
        let bytes = state.encode().unwrap();
        pins += &format!(
            "state at version {version}: format {}, {} bytes, crc {:08x}, hash {:016x}\n",
            bytes[0],
            bytes.len(),
            crc32fast::hash(&bytes),
            state.hash(),
        );
        assert_eq!(ClusterState::decode(&bytes), Ok(state));
    }
    // A change here makes stored data unreadable: raise the format or find another way.
    expect![[r#"
        entry 366 bytes, crc 64de5fea
        entry 583 bytes, crc 902e4bd1
        state at version 1: format 1, 412 bytes, crc 029ad6a4, hash 42add38287cb50c6
        state at version 2: format 2, 416 bytes, crc 52404a70, hash 6d1004d88c5c3a7b
        state at version 3: format 3, 429 bytes, crc 88ed498b, hash c8ef5ecd9176ee5b
        state at version 4: format 4, 439 bytes, crc 368499d8, hash 00d17d5501cc6215
    "#]]
    .assert_eq(&pins);
    assert_eq!(Entry::decode(&bytes), Ok(entry));
}

#[test]
fn a_program_of_an_older_version_reads_on_until_the_newer_one_is_in_use() {
    let read = |bytes: &[u8]| ClusterState::decode_up_to(bytes, 1);
    let old = full(1);
    assert_eq!(read(&old.encode().unwrap()), Ok(old));
    let new = full(2);
    let bytes = new.encode().unwrap();
    expect!["a snapshot has format 2, and this program knows formats up to 1: upgrade it"]
        .assert_eq(&read(&bytes).unwrap_err().to_string());
    assert_eq!(read(&bytes), Err(CodecError::Format { what: "a snapshot", found: 2, known: 1 }));

    let new = full(3).encode().unwrap();
    let error = CodecError::Format { what: "a snapshot", found: 3, known: 2 };
    assert_eq!(ClusterState::decode_up_to(&new, 2), Err(error));
    assert_eq!(ClusterState::decode_up_to(&bytes, 2), Ok(full(2)));

    let entry = |version, line: &str| Entry::new(version, Term(1), 2, vec![Lab::new().parse(line)]);
    let old = entry(1, "expire");
    assert_eq!(Entry::decode_up_to(&old.encode().unwrap(), 1), Ok(old));
    let bytes = entry(2, "refused a=3").encode().unwrap();
    assert_eq!(Entry::decode(&bytes), Ok(entry(2, "refused a=3")));
    expect!["a log entry needs version 2, and this program knows versions up to 1: upgrade it"]
        .assert_eq(&Entry::decode_up_to(&bytes, 1).unwrap_err().to_string());
    // What stands behind the version may be anything: nobody has looked at it.
    let unknown = [&bytes[..2], &[200, 201, 202]].concat();
    assert_eq!(Entry::decode_up_to(&unknown, 1), Entry::decode_up_to(&bytes, 1));
    assert!(matches!(Entry::decode(&unknown), Err(CodecError::Malformed { .. })));
}

/// It does not know the newer version, and yet applied the entry that brought it into use.
#[test]
fn the_last_snapshot_of_an_older_program_is_read_by_a_newer_one() {
    let last = |version: u16, state: ClusterState, body: Vec<u8>| {
        let format = u8::try_from(version - 1).unwrap();
        let bytes = [&[format], crc32fast::hash(&body).to_le_bytes().as_slice(), &body].concat();
        assert_eq!(ClusterState::decode(&bytes), Ok(state));
        let error = CodecError::Version { what: "a snapshot", found: version, known: version - 1 };
        assert_eq!(ClusterState::decode_up_to(&bytes, version - 1), Err(error));
    };
    let mut state = full(2);
    state.extension = Extension::default();
    let body = postcard::to_stdvec(&state).unwrap();
    last(2, state, body);
    let mut state = full(3);
    state.extension.v3 = ExtensionV3::default();
    let body = postcard::to_stdvec(&(&state, &state.extension)).unwrap();
    last(3, state, body);
    let mut state = full(4);
    state.extension.v4 = ExtensionV4::default();
    let body = postcard::to_stdvec(&(&state, &state.extension, &state.extension.v3)).unwrap();
    last(4, state, body);
}

#[test]
fn a_snapshot_whose_format_is_newer_than_its_version_is_malformed() {
    let first = postcard::to_stdvec(&(full(1), Extension::default())).unwrap();
    let second = postcard::to_stdvec(&(full(2), Extension::default(), ExtensionV3::default())).unwrap();
    let empty = (Extension::default(), ExtensionV3::default(), ExtensionV4::default());
    let third = postcard::to_stdvec(&(full(3), empty.0, empty.1, empty.2)).unwrap();
    for (format, body) in [(2, first), (3, second), (4, third)] {
        let bytes = [&[format], crc32fast::hash(&body).to_le_bytes().as_slice(), &body].concat();
        assert!(matches!(ClusterState::decode(&bytes), Err(CodecError::Malformed { .. })));
    }
}

#[test]
fn damage_is_found() {
    for good in [full(1), full(2), full(3), full(4)].map(|state| state.encode().unwrap()) {
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(ClusterState::decode(&bad).is_err(), "flipped byte {at}");
            assert!(ClusterState::decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
    let entry = Entry::new(1, Term(1), 2, commands()).encode().unwrap();
    for at in 0..entry.len() {
        assert!(Entry::decode(&entry[..at]).is_err(), "cut at {at}");
    }
    let longer = [entry.as_slice(), &[0]].concat();
    assert!(matches!(Entry::decode(&longer), Err(CodecError::Trailing { bytes: 1, .. })));
    let newer = [&[9], &entry[1..]].concat();
    expect!["a log entry has format 9, and this program knows formats up to 1: upgrade it"]
        .assert_eq(&Entry::decode(&newer).unwrap_err().to_string());
    expect!["a snapshot is cut short: 0 bytes"]
        .assert_eq(&ClusterState::decode(&[]).unwrap_err().to_string());
}

#[test]
fn the_hash_tells_states_apart() {
    let mut lab = Lab::new();
    let mut seen = std::collections::BTreeSet::from([lab.state.hash()]);
    for line in [
        "register a",
        "submit 1 hash(2,2)",
        "complete a 1/0/0 1",
        "fail a 1/0/1 2 retryable",
        "beat a",
        "replica 1",
        "retire 2",
        "raise 2",
        "refused a=1",
        "restart 1 by-hand",
    ] {
        lab.run(line);
        assert_eq!(lab.state.hash(), lab.state.clone().hash());
        assert!(seen.insert(lab.state.hash()), "{line}");
    }
}
