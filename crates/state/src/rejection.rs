//! Why a command changed nothing.

use polybolos_model::{
    AttemptId, ExecutorId, Incarnation, JobId, ReplicaId, SessionId, ShareError, StageGraphError, StageId,
    TaskId, Term,
    limits::{MAX_ACTIVE_JOBS, MAX_PLAN_BYTES, MAX_RELATIONS, MAX_SESSIONS, MAX_SQL_BYTES},
};
use serde::{Deserialize, Serialize};

use crate::{
    ENTRY_VERSION, JobStatus, RelationKind, RelationName, WritePhase,
    limits::{
        MAX_ADDRESS_BYTES, MAX_CLUSTER_ID_BYTES, MAX_EXECUTORS, MAX_LABEL_BYTES, MAX_OPTION_BYTES,
        MAX_RELATION_NAME_BYTES, MAX_REPLICAS, MAX_SESSION_OPTIONS, MAX_TARGET_BYTES, MAX_WRITES,
    },
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    #[error("the entry has version {version}, and this replica knows up to {ENTRY_VERSION}: upgrade it")]
    UnknownVersion { version: u16 },
    #[error("the entry was decided in term {entry}, and term {current} has begun")]
    StaleTerm { entry: Term, current: Term },

    #[error("job {job} is not known, or was forgotten after its end")]
    JobNotFound { job: JobId },
    #[error("job id {job} is in use")]
    JobIdInUse { job: JobId },
    #[error("job {job} has ended already: {status}")]
    JobEnded { job: JobId, status: JobStatus },
    #[error("job {job} is still {status}: cancel it or wait for its end")]
    JobActive { job: JobId, status: JobStatus },
    #[error("the plan of job {job} breaks a rule: {error}")]
    InvalidGraph { job: JobId, error: StageGraphError },
    #[error("the statement has {bytes} bytes; at most {MAX_SQL_BYTES} are allowed")]
    SqlTooLong { bytes: usize },
    #[error("{MAX_ACTIVE_JOBS} jobs wait, run or have unfetched results; try again later")]
    TooManyJobs,

    #[error("job {} has no stage {} with partition {}", task.job, task.stage, task.partition)]
    TaskNotFound { task: TaskId },
    // Whatever the reason why a completion is refused, its output is of no use and must be deleted.
    #[error("task {task} was completed by attempt {winner}; attempt {loser} came later")]
    AlreadyComplete { task: TaskId, winner: AttemptId, loser: AttemptId },
    #[error("attempt {attempt} of task {task} is over: it failed, or its output was given up")]
    AttemptOver { task: TaskId, attempt: AttemptId },
    #[error("attempt {attempt} of task {task} reports {got} output partitions instead of {expected}")]
    OutputCount { task: TaskId, attempt: AttemptId, expected: u32, got: u32 },

    #[error("executor {executor} is not known: it must register")]
    ExecutorNotFound { executor: ExecutorId },
    #[error(
        "executor {executor} reports as incarnation {reported}, which is not the present one: it must register anew"
    )]
    StaleIncarnation { executor: ExecutorId, reported: Incarnation, present: Option<Incarnation> },
    #[error(
        "executor id {executor} is in use by a live process at {address}; give each executor an id of its own"
    )]
    ExecutorIdInUse { executor: ExecutorId, address: String },
    #[error(
        "address {address} is in use by live executor {executor}; give each executor an address of its own"
    )]
    AddressInUse { address: String, executor: ExecutorId },
    #[error("executor {executor} offers no slots; it needs at least one")]
    NoSlots { executor: ExecutorId },
    #[error(
        "executor {executor} has an address of {bytes} bytes; between 1 and {MAX_ADDRESS_BYTES} are allowed"
    )]
    BadAddress { executor: ExecutorId, bytes: usize },
    #[error("executor {executor} has labels of {bytes} bytes; at most {MAX_LABEL_BYTES} are allowed")]
    LabelsTooLarge { executor: ExecutorId, bytes: usize },
    #[error("{MAX_EXECUTORS} executors are present; no more are allowed")]
    TooManyExecutors,

    #[error("{kind} '{name}' already exists")]
    RelationExists { name: RelationName, kind: RelationKind },
    #[error("{kind} '{name}' does not exist")]
    RelationNotFound { name: RelationName, kind: RelationKind },
    #[error("'{name}' is a {actual}, not a {asked}")]
    WrongKind { name: RelationName, asked: RelationKind, actual: RelationKind },
    #[error("schema and name of a {kind} have 1 to {MAX_RELATION_NAME_BYTES} bytes each, not {bytes}")]
    RelationName { kind: RelationKind, bytes: usize },
    #[error("the definition of {kind} '{name}' has {bytes} bytes; at most {MAX_PLAN_BYTES} are allowed")]
    DefinitionTooLarge { name: RelationName, kind: RelationKind, bytes: usize },
    #[error("{MAX_RELATIONS} tables and views exist; no more are allowed")]
    TooManyRelations,
    #[error("{MAX_SESSIONS} sessions have options; close some and try again")]
    TooManySessions,
    #[error("session {session} has {MAX_SESSION_OPTIONS} options; no more are allowed")]
    TooManyOptions { session: SessionId },
    #[error("a session option has {bytes} bytes; at most {MAX_OPTION_BYTES} are allowed")]
    OptionTooLarge { bytes: usize },

    #[error("the entry has version {entry}, and version {in_use} is in use")]
    VersionNotInUse { entry: u16, in_use: u16 },
    #[error("the command needs version {needs}, and its entry has version {entry}")]
    NeedsVersion { needs: u16, entry: u16 },
    #[error("the cluster has a name already: {present}")]
    ClusterNamed { present: String },
    #[error("a cluster's name has {bytes} bytes; between 1 and {MAX_CLUSTER_ID_BYTES} are allowed")]
    BadClusterId { bytes: usize },
    // The folders' draws tell people nothing; the folder of a lost disk never comes back.
    #[error(
        "replica {replica} is bound to another data folder: start it with that folder or, if that is lost, remove it and add a replica with a new id"
    )]
    ReplicaFolder { replica: ReplicaId, known: u64 },
    #[error("replica {replica} was removed, and its id is never used again: choose another one")]
    ReplicaRetired { replica: ReplicaId },
    #[error("{MAX_REPLICAS} replicas are registered; no more are allowed: remove some")]
    TooManyReplicas,
    #[error(
        "replica {replica} knows entries up to version {version}, and version {in_use} is in use: upgrade it"
    )]
    ReplicaTooOld { replica: ReplicaId, version: u16, in_use: u16 },
    #[error("version {to} can't come into use: replica {replica} knows up to version {version}")]
    VersionTooNew { to: u16, replica: ReplicaId, version: u16 },
    #[error("version {to} can't come into use: no replica has said which versions it knows")]
    NoReplicas { to: u16 },
    #[error(
        "attempt {attempt} of task {task} has read outputs that were lost and may have come out differently since"
    )]
    InputsRolledBack { task: TaskId, attempt: AttemptId },
    #[error(
        "the result of job {job} can't be made again: that was tried in vain, or what it was made from is not kept"
    )]
    NotReopened { job: JobId },
    #[error("executor {executor} was not asked to leave")]
    NotDraining { executor: ExecutorId },

    #[error("all files of job {job} are written and are being published: it will end in a moment")]
    JobPublishing { job: JobId },
    #[error("job {job} writes no files, or was forgotten after its end")]
    NoWrite { job: JobId },
    #[error("job {job} still writes: it is {phase}")]
    WriteUnderWay { job: JobId, phase: WritePhase },
    #[error("{MAX_WRITES} statements write or have files that are still to be deleted; try again later")]
    TooManyWrites,
    #[error("it is decided how stage {stage} of job {job} reads its inputs")]
    StageDecided { job: JobId, stage: StageId },
    #[error("the inputs of stage {stage} of job {job} are not complete")]
    StageNotReady { job: JobId, stage: StageId },
    #[error("stage {stage} of job {job} can't be divided like that: {error}")]
    BadShares { job: JobId, stage: StageId, error: ShareError },
    #[error(
        "attempt {attempt} of task {task} was launched before it was decided how the task reads its inputs"
    )]
    LaunchedUndecided { task: TaskId, attempt: AttemptId },
    #[error("the URL that job {job} writes to has {bytes} bytes; at most {MAX_TARGET_BYTES} are allowed")]
    TargetTooLong { job: JobId, bytes: usize },
}

impl Rejection {
    /// Whether somebody of the past was kept out: a leader whose term is over, or a life of an executor that the
    /// cluster has given up. For counting; ask it of entries and of executors' reports. (Beats of such lives are no
    /// rejections: [`crate::Change::Beats`] names them.)
    pub fn is_fencing(&self) -> bool {
        match self {
            Self::StaleTerm { .. } | Self::StaleIncarnation { .. } | Self::ExecutorNotFound { .. } => true,
            Self::UnknownVersion { .. }
            | Self::JobNotFound { .. }
            | Self::JobIdInUse { .. }
            | Self::JobEnded { .. }
            | Self::JobActive { .. }
            | Self::InvalidGraph { .. }
            | Self::SqlTooLong { .. }
            | Self::TooManyJobs
            | Self::TaskNotFound { .. }
            | Self::AlreadyComplete { .. }
            | Self::AttemptOver { .. }
            | Self::OutputCount { .. }
            | Self::ExecutorIdInUse { .. }
            | Self::AddressInUse { .. }
            | Self::NoSlots { .. }
            | Self::BadAddress { .. }
            | Self::LabelsTooLarge { .. }
            | Self::TooManyExecutors
            | Self::RelationExists { .. }
            | Self::RelationNotFound { .. }
            | Self::WrongKind { .. }
            | Self::RelationName { .. }
            | Self::DefinitionTooLarge { .. }
            | Self::TooManyRelations
            | Self::TooManySessions
            | Self::TooManyOptions { .. }
            | Self::OptionTooLarge { .. }
            | Self::VersionNotInUse { .. }
            | Self::NeedsVersion { .. }
            | Self::ClusterNamed { .. }
            | Self::BadClusterId { .. }
            | Self::ReplicaFolder { .. }
            | Self::ReplicaRetired { .. }
            | Self::TooManyReplicas
            | Self::ReplicaTooOld { .. }
            | Self::VersionTooNew { .. }
            | Self::NoReplicas { .. }
            | Self::InputsRolledBack { .. }
            | Self::NotReopened { .. }
            | Self::NotDraining { .. }
            | Self::JobPublishing { .. }
            | Self::NoWrite { .. }
            | Self::WriteUnderWay { .. }
            | Self::TooManyWrites
            | Self::StageDecided { .. }
            | Self::StageNotReady { .. }
            | Self::BadShares { .. }
            | Self::LaunchedUndecided { .. }
            | Self::TargetTooLong { .. } => false,
        }
    }
}
