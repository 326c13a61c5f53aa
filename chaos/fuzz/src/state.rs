//! What a replica stores: entries of its log, and snapshots.

use polybolos_model::{
    Exchange, ExecutorId, IdempotencyKey, JobId, ReplicaId, SessionId, Stage, StageGraph, StageId, Term,
};
use polybolos_state::{
    ClusterState, CodecError, Command, ENTRY_FORMAT, ENTRY_VERSION, Entry, RelationName, SNAPSHOT_FORMAT,
    invariants,
};

/// A state in which the newest version is in use.
fn newest() -> ClusterState {
    let mut state = ClusterState::new("fuzzed");
    let replica = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: ENTRY_VERSION };
    let raise = Command::RaiseVersion { to: ENTRY_VERSION };
    state.apply(&Entry::new(1, Term(1), 1, vec![replica, raise]));
    assert_eq!(state.version(), ENTRY_VERSION);
    state
}

/// An entry, with its first byte or without: what decodes is written again as it was meant, is applied to a state without
/// a panic, and breaks no rule.
pub fn entries(bytes: &[u8]) {
    let with_format = [&[ENTRY_FORMAT], bytes].concat();
    for bytes in [bytes, &with_format] {
        let Ok(entry) = Entry::decode(bytes) else { continue };
        let again = entry.encode().expect("what was decoded can be encoded");
        assert_eq!(Entry::decode(&again).as_ref(), Ok(&entry));
        let before = newest();
        let mut state = before.clone();
        state.apply(&entry);
        invariants::check(&state).expect("every entry keeps the rules");
        invariants::check_step(&before, &state).expect("every entry keeps the rules of a step");
        let stored = state.encode().expect("every state can be encoded");
        match ClusterState::decode(&stored) {
            // The entry has brought a version into use that a newer program knows: that one reads on from here.
            Err(error) => {
                assert!(state.version() > ENTRY_VERSION, "{error}");
                assert!(matches!(error, CodecError::Version { .. }), "{error}");
            }
            read => assert_eq!(read, Ok(state)),
        }
    }
}

/// A snapshot as it is, and one of each format with these bytes as its body and the checksum that they have.
pub fn snapshots(bytes: &[u8]) {
    let mut all = vec![bytes.to_vec()];
    all.extend((1..=SNAPSHOT_FORMAT).map(|format| {
        let crc = crc32fast::hash(bytes).to_le_bytes();
        [&[format], &crc[..], bytes].concat()
    }));
    for bytes in all {
        let Ok(state) = ClusterState::decode(&bytes) else { continue };
        let again = state.encode().expect("what was decoded can be encoded");
        assert_eq!(ClusterState::decode(&again), Ok(state.clone()));
        // Nobody may depend on it, but it has to end.
        let _hash = state.hash();
    }
}

fn graph() -> StageGraph {
    let stage = |id: u32, exchange, output_partitions| Stage {
        id: StageId(id),
        plan: vec![1, 2, 3],
        tasks: 2,
        inputs: Vec::new(),
        exchange,
        output_partitions,
        display: "Scan".to_owned(),
        indeterminate: None,
    };
    let mut last = stage(1, Exchange::Result, 1);
    last.inputs =
        vec![polybolos_model::StageInput { stage: StageId(0), read: polybolos_model::ReadMode::Partition }];
    StageGraph { stages: vec![stage(0, Exchange::Hash, 2), last] }
}

/// Entries that are right, as a fuzzer's and a test's beginnings.
pub fn entry_seeds() -> Vec<Vec<u8>> {
    let executor = ExecutorId::new("executor-1").expect("a name");
    let name = RelationName { schema: "public".to_owned(), name: "v".to_owned() };
    let submit = Command::SubmitJob {
        job: JobId(7),
        key: IdempotencyKey::new("key").ok(),
        session: None,
        sql: "SELECT 1".to_owned(),
        graph: graph(),
        options: [("datafusion.execution.batch_size".to_owned(), "10".to_owned())].into(),
        explain_analyze: None,
        ordered: true,
        schema: vec![1, 2],
        cancel_when_unwatched_ms: 9,
    };
    let register = Command::RegisterExecutor {
        executor,
        address: "h:1".to_owned(),
        slots: 2,
        memory_bytes: 3,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        process_id: 4,
    };
    let view =
        Command::CreateView { name, sql: "SELECT 2".to_owned(), or_replace: true, if_not_exists: false };
    let session = SessionId::new("s").expect("a name");
    let set = Command::SetSession { session, key: "a".to_owned(), value: "b".to_owned() };
    let newer = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: ENTRY_VERSION + 1 };
    let batches = [
        vec![],
        vec![register, submit.clone()],
        vec![submit, Command::CancelJob { job: JobId(7), reason: "enough".to_owned() }],
        vec![view, set, Command::ExpireJobs, Command::ReleaseJob { job: JobId(7) }],
        vec![newer, Command::RaiseVersion { to: ENTRY_VERSION + 1 }],
    ];
    let entry = |commands| Entry::new(ENTRY_VERSION, Term(3), 1_700_000_000_000, commands);
    batches.into_iter().map(|commands| entry(commands).encode().expect("it can be encoded")).collect()
}

/// States that entries lead to, encoded as snapshots.
pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![ClusterState::new("first").encode().expect("it can be encoded")];
    let mut state = newest();
    // The last one leads to a state that only a newer program reads.
    let entries = entry_seeds();
    for entry in entries.iter().rev().skip(1).rev() {
        state.apply(&Entry::decode(entry).expect("a seed is an entry"));
        seeds.push(state.encode().expect("it can be encoded"));
    }
    seeds
}
