//! tokio for openraft, with the clock of an [`Env`].
//!
//! openraft asks for the time by static functions, so the `Env` travels in a task-local: [`within`] sets it, and
//! every task that openraft spawns inherits it. openraft's randomness has one use, to draw an election time-out from
//! a range; `replica` gives it a range of one value, so what is drawn decides nothing.

use std::{
    fmt,
    future::Future,
    ops::{Add, AddAssign, Sub, SubAssign},
    time::Duration,
};

use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};
use polybolos_env::Env;
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Sleep, Timeout},
};

tokio::task_local! {
    static ENV: Env;
}

/// Runs `work`, and every task that openraft spawns in it, with the clock of `env`.
pub(crate) async fn within<T>(env: &Env, work: impl Future<Output = T>) -> T {
    ENV.scope(env.clone(), work).await
}

/// A moment by the clock of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EnvInstant(tokio::time::Instant);

impl openraft::Instant for EnvInstant {
    #[allow(
        clippy::disallowed_methods,
        reason = "what openraft does for a caller outside `within` decides nothing"
    )]
    fn now() -> Self {
        Self(ENV.try_with(|env| env.clock.now()).unwrap_or_else(|_| tokio::time::Instant::now()))
    }
}

impl Add<Duration> for EnvInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for EnvInstant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for EnvInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for EnvInstant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for EnvInstant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

#[derive(Default, PartialEq, Eq)]
pub(crate) struct EnvRuntime;

impl fmt::Debug for EnvRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvRuntime")
    }
}

impl AsyncRuntime for EnvRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = EnvInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match ENV.try_with(Env::clone) {
            Ok(env) => tokio::spawn(ENV.scope(env, future)),
            Err(_) => tokio::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        // tokio's clock may run beside the host's, so only differences carry over.
        tokio::time::sleep(remaining(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(remaining(deadline), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        TokioRuntime::oneshot()
    }
}

fn remaining(deadline: EnvInstant) -> Duration {
    deadline.0.saturating_duration_since(<EnvInstant as openraft::Instant>::now().0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::Instant;
    use polybolos_env::Clock;

    use super::*;

    struct Stopped(tokio::time::Instant);

    impl Clock for Stopped {
        fn now(&self) -> tokio::time::Instant {
            self.0
        }

        fn wall(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[tokio::test]
    async fn spawned_tasks_read_the_clock_of_their_env() {
        let long_ago = EnvInstant::now() - Duration::from_millis(5);
        let env = Env { clock: Arc::new(Stopped(long_ago.0)), ..Env::production(1).unwrap() };
        let inner = async { EnvInstant::now() };
        let outer = async { EnvRuntime::spawn(inner).await.unwrap() };
        let seen = within(&env, async { EnvRuntime::spawn(outer).await.unwrap() }).await;
        assert_eq!(seen, long_ago);
        assert!(EnvInstant::now() > long_ago);
    }
}
