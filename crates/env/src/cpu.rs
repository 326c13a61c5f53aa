//! CPU work, kept off the threads that serve the network.

use std::{
    future::Future,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinError, JoinHandle},
};

/// Where query execution runs.
pub trait Cpu: Send + Sync {
    /// Starts `work`; dropping the returned task stops it at its next await.
    fn spawn(&self, work: BoxFuture<'static, ()>) -> CpuTask;

    /// What is to be awaited after work on `bytes` of rows, so that it takes time in a simulation too. `None` on a real
    /// machine, where work takes its own time.
    fn charge(&self, _bytes: usize) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// Work under way. Ends the work when dropped.
#[derive(Debug)]
pub struct CpuTask(JoinHandle<()>);

impl CpuTask {
    pub fn new(handle: JoinHandle<()>) -> Self {
        Self(handle)
    }

    /// Asks the work to stop at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl Future for CpuTask {
    /// An error if the work panicked or was stopped.
    type Output = Result<(), JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl Drop for CpuTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Of each thread for CPU work: trees of statements and plans are followed, copied and dropped by recursion. Only what of
/// it is used takes memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// A runtime of its own for CPU work.
pub(crate) struct CpuPool {
    // Taken on drop: a runtime must not be dropped inside another one by blocking.
    runtime: Mutex<Option<Runtime>>,
    handle: tokio::runtime::Handle,
}

impl CpuPool {
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("cpu")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) })
    }
}

impl Cpu for CpuPool {
    fn spawn(&self, work: BoxFuture<'static, ()>) -> CpuTask {
        CpuTask::new(self.handle.spawn(work))
    }
}

impl Drop for CpuPool {
    fn drop(&mut self) {
        if let Ok(mut slot) = self.runtime.lock()
            && let Some(runtime) = slot.take()
        {
            runtime.shutdown_background();
        }
    }
}
