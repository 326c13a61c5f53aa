//! Where a simulator may look into real code and act in it.
//!
//! ```text
//!   failpoint!("…")  a narrow window: the simulator may hold the caller there, or cut its host's power
//!   sometimes!("…")  a rare state was reached; a campaign reports which never were
//!   report(…)        a fact for the simulator's oracles and traces
//!   mutant!("…")     whether this planted bug is switched on, to prove that the simulator finds it
//! ```
//!
//! Compiled in by the features `simulation` and `mutants` of this crate, which only `sim/` switches on. Without them
//! every macro is a constant, and no argument of [`report`] is evaluated. With them, and without
//! [`install`], nothing happens either: the workspace's tests run such a build.

use std::{future::Future, pin::Pin, sync::OnceLock};

use crate::{AttemptId, ExecutorId, Incarnation, TaskId, Term};

/// What became of an attempt on its executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    Completed,
    Failed,
    /// Stopped because nobody wants it any more.
    Stopped,
}

/// A fact that an oracle needs and no client sees. The simulator knows on which host it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A scheduler replica won the election of `term`, with a log that ends at `last_index` of `last_term`.
    Elected {
        term: Term,
        last_term: Term,
        last_index: u64,
    },
    /// A scheduler replica opened its store: what it has on its disk after a start.
    Opened {
        last_term: Term,
        last_index: u64,
    },
    /// A replica applied a committed entry. `entry` is as encoded in the log, empty for openraft's own entries;
    /// `state_hash` is of the whole state afterwards.
    Applied {
        index: u64,
        term: Term,
        entry: Vec<u8>,
        state_hash: u64,
    },
    /// A replica took over a snapshot of the state as of `index`.
    Installed {
        index: u64,
        term: Term,
        state_hash: u64,
    },
    /// A scheduler sent an attempt to an executor.
    Launched {
        term: Term,
        executor: ExecutorId,
        task: TaskId,
        attempt: AttemptId,
    },
    /// An executor obeyed a command of this term.
    Obeyed {
        executor: ExecutorId,
        term: Term,
    },
    /// An executor learned its incarnation.
    Registered {
        executor: ExecutorId,
        term: Term,
        incarnation: Incarnation,
    },
    /// An executor began to run an attempt, in one of `slots`; `busy` counts it.
    AttemptStarted {
        executor: ExecutorId,
        task: TaskId,
        attempt: AttemptId,
        busy: usize,
        slots: usize,
    },
    AttemptEnded {
        executor: ExecutorId,
        task: TaskId,
        attempt: AttemptId,
        end: AttemptEnd,
    },
}

/// What a caller does while a failpoint holds it. `None` to go on at once.
pub type Hold = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// The simulator's side.
pub trait Hooks: Send + Sync {
    /// A host reached a failpoint.
    fn reach(&self, point: &'static str) -> Hold;
    /// A host reached a failpoint in synchronous code, which decides between two ways to go on; `true` is the rare one.
    fn decide(&self, point: &'static str) -> bool;
    fn mark(&self, mark: &'static str);
    fn report(&self, fact: Fact);
}

static HOOKS: OnceLock<Box<dyn Hooks>> = OnceLock::new();

/// Called once, before any host starts. A second call changes nothing and returns false.
pub fn install(hooks: Box<dyn Hooks>) -> bool {
    HOOKS.set(hooks).is_ok()
}

/// Tells an oracle; `fact` is only evaluated if somebody listens.
#[inline]
pub fn report(fact: impl FnOnce() -> Fact) {
    if cfg!(feature = "simulation")
        && let Some(hooks) = HOOKS.get()
    {
        hooks.report(fact());
    }
}

/// See [`failpoint!`](crate::failpoint).
#[inline]
pub async fn reach(point: &'static str) {
    if cfg!(feature = "simulation")
        && let Some(hold) = HOOKS.get().and_then(|hooks| hooks.reach(point))
    {
        hold.await;
    }
}

/// See [`buggify!`](crate::buggify).
#[inline]
pub fn decide(point: &'static str) -> bool {
    cfg!(feature = "simulation") && HOOKS.get().is_some_and(|hooks| hooks.decide(point))
}

/// See [`sometimes!`](crate::sometimes).
#[inline]
pub fn mark(mark: &'static str) {
    if cfg!(feature = "simulation")
        && let Some(hooks) = HOOKS.get()
    {
        hooks.mark(mark);
    }
}

/// Whether this build has planted bugs, for whoever switches one on by other means than the simulator's.
pub const HAS_MUTANTS: bool = cfg!(feature = "mutants");

static MUTANT: OnceLock<String> = OnceLock::new();

/// Switches one planted bug on, for the rest of this process. A second call changes nothing and returns false.
pub fn plant(mutant: impl Into<String>) -> bool {
    MUTANT.set(mutant.into()).is_ok()
}

/// See [`mutant!`](crate::mutant).
#[inline]
pub fn is_planted(mutant: &'static str) -> bool {
    cfg!(feature = "mutants") && MUTANT.get().is_some_and(|planted| planted == mutant)
}

/// A narrow window in asynchronous code: `failpoint!("log.after_append");`. Await it where the caller may be held.
#[macro_export]
macro_rules! failpoint {
    ($point:literal) => {
        $crate::simulation::reach($point).await
    };
}

/// True when the simulator wants the rare one of two legal ways: `if buggify!("executor.report_twice") { … }`.
#[macro_export]
macro_rules! buggify {
    ($point:literal) => {
        $crate::simulation::decide($point)
    };
}

/// Says that a rare state was reached, or that it was if a condition holds.
#[macro_export]
macro_rules! sometimes {
    ($mark:literal) => {
        $crate::simulation::mark($mark)
    };
    ($mark:literal, $condition:expr) => {
        if $condition {
            $crate::simulation::mark($mark)
        }
    };
}

/// Whether the planted bug of this name is switched on: `if mutant!("skip-flush") { return Ok(()) }`. Constantly false
/// without the feature `mutants`.
#[macro_export]
macro_rules! mutant {
    ($mutant:literal) => {
        $crate::simulation::is_planted($mutant)
    };
}
