//! What the core takes in, and what it answers.

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, TaskId, Term};

use super::{MovedTo, Outcome, StageKey};

/// What a scheduler asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// The answer to `Register`: the life that the log gave this executor.
    Registered {
        cluster: String,
        incarnation: Incarnation,
    },
    /// `bytes` is the size of the message that the shell keeps for the stage.
    Prepare {
        stage: StageKey,
        epoch: u32,
        bytes: usize,
    },
    Launch {
        stage: StageKey,
        epoch: u32,
        tasks: Vec<(u32, AttemptId)>,
    },
    /// Stop these attempts and report nothing. One that has ended meanwhile is left alone: its report is on the way,
    /// and the scheduler will say whether it wants the output.
    Cancel {
        attempts: Vec<AttemptId>,
    },
    DeleteOutputs {
        attempts: Vec<AttemptId>,
    },
    Release {
        job: JobId,
    },
    Committed {
        sequences: Vec<u64>,
    },
    /// This executor is to leave; its tasks are stopped after `deadline_ms`.
    Drain {
        deadline_ms: u64,
    },
    /// Take over the output of a task from an executor that leaves. The shell keeps where it is.
    Pull {
        task: TaskId,
        attempt: AttemptId,
        from: ExecutorId,
        incarnation: Incarnation,
    },
    Moved {
        outputs: Vec<MovedTo>,
    },
    /// The executor that served there was lost.
    Lost {
        address: String,
    },
    /// This executor is no member any more.
    Leave,
}

/// How a started attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Finished(Outcome),
    /// Because of [`Effect::Stop`].
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Command {
        term: Term,
        command: Command,
    },
    Ended {
        attempt: AttemptId,
        ended: Ended,
    },
    /// The output of an attempt that has completed is in the durable store too.
    Durable {
        attempt: AttemptId,
        task: TaskId,
    },
    /// [`Effect::Pull`] has ended, well or not.
    Pulled {
        attempt: AttemptId,
        whole: bool,
    },
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Keep the `PrepareStage` message just received, in place of an older one of the stage.
    KeepStage(StageKey),
    ForgetStage(StageKey),
    Start {
        attempt: AttemptId,
        task: TaskId,
    },
    /// Stop a started attempt, and tell when it has stopped.
    Stop(AttemptId),
    DeleteOutput(AttemptId),
    /// Like [`Effect::DeleteOutput`], but for a durable copy: the log may count on it.
    ForgetOutput(AttemptId),
    DeleteJob(JobId),
    /// A command of a deposed leader was ignored.
    RefusedTerm {
        term: Term,
        highest: Term,
    },
    /// Drop the stream and register anew: what the scheduler thinks of this executor must be made true again.
    Reattach(&'static str),
    /// Fetch the output, and tell how that ended.
    Pull(AttemptId),
    /// It is not fetched: another executor should.
    TellPullFailed(AttemptId),
    NoteMoved(Vec<MovedTo>),
    /// End what is being read from this address.
    StopReading(String),
    /// This executor drains, and leaves by itself some time after `deadline_ms` if nobody tells it to.
    Drain {
        deadline_ms: u64,
    },
    /// The process ends.
    Leave,
}
