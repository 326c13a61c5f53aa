//! A host that stands still, and costs that are too small for a timer.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// How often a paused host looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// Whether a host is paused. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Pause(Arc<AtomicBool>);

impl Pause {
    pub fn set(&self, paused: bool) {
        self.0.store(paused, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns once the host runs.
    pub(super) async fn wait(&self) {
        while self.is_set() {
            sleep(LOOK).await;
        }
    }

    /// `work`, which is not polled while the host is paused.
    pub(super) fn gate<F: Future + Unpin>(&self, work: F) -> Gated<F> {
        Gated { pause: self.clone(), work, look: None }
    }
}

/// See [`Pause::gate`].
pub(super) struct Gated<F> {
    pause: Pause,
    work: F,
    look: Option<Pin<Box<Sleep>>>,
}

impl<F: Future + Unpin> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while self.pause.is_set() {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            std::task::ready!(look.as_mut().poll(cx));
            self.look = None;
        }
        self.look = None;
        Pin::new(&mut self.work).poll(cx)
    }
}

/// Costs below a millisecond, the finest step of tokio's timers, add up here until they make one.
#[derive(Debug, Default)]
pub(super) struct Debt(AtomicU64);

impl Debt {
    /// Adds a cost, and takes the whole milliseconds that are due.
    pub(super) fn owe(&self, us: u64) -> Duration {
        let due = self.0.load(Ordering::Relaxed).saturating_add(us);
        self.0.store(due % 1_000, Ordering::Relaxed);
        Duration::from_millis(due / 1_000)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test measures paused time")]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_runs_while_the_host_is_paused() {
        let pause = Pause::default();
        pause.set(true);
        let work = pause.gate(Box::pin(async { Instant::now() }));
        let (resume, started) = (pause.clone(), Instant::now());
        tokio::spawn(async move {
            sleep(Duration::from_millis(52)).await;
            resume.set(false);
        });
        let ran = work.await.duration_since(started);
        assert!(ran >= Duration::from_millis(52) && ran <= Duration::from_millis(60), "{ran:?}");
    }

    #[test]
    fn small_costs_add_up() {
        let debt = Debt::default();
        let due: Vec<u128> = (0..4).map(|_| debt.owe(400).as_millis()).collect();
        assert_eq!(due, [0, 0, 1, 0]);
        assert_eq!(debt.owe(2_400), Duration::from_millis(3));
    }
}
