//! Clocks that jump and disks that are slow: what the library in the nodes' processes does.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Acted, Nemesis, Outcome, Shared, find, told};
use crate::{
    cluster::{Fleet, Node},
    schedule::Planned,
    shim::Shim,
};

const POLL: Duration = Duration::from_millis(50);
/// Within this time a process looks at its wall clock, or the jump does not count.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

impl Nemesis {
    /// It has acted once the process has looked at the wrong clock.
    pub(super) async fn clock_jump(&self, fleet: &Fleet, target: &str, by_ms: i64) -> Acted {
        let node = find(fleet, target).await?;
        let before = {
            let node = node.lock().await;
            let shim = shim(&node)?;
            shim.jump(by_ms).map_err(told)?;
            shim.counts().reads
        };
        let began = Instant::now();
        loop {
            let reads = shim(&*node.lock().await)?.counts().reads.saturating_sub(before);
            // A jump may also have set it right.
            if reads > 0 || began.elapsed() > LOOK_LIMIT || self.is_healed() {
                let what = format!("it looked {reads} times at a clock that had jumped by {by_ms} ms");
                return Ok(Outcome::if_acted(reads > 0, what));
            }
            sleep(POLL).await;
        }
    }

    pub(super) async fn slow_disk(
        &self,
        fleet: &Fleet,
        planned: &Planned,
        target: &str,
        latency_ms: u64,
    ) -> Acted {
        let node = find(fleet, target).await?;
        let more_ms = i64::try_from(latency_ms).map_err(told)?;
        let before = slower(&node, more_ms).await?;
        self.hold(planned).await;
        let delayed = slower(&node, -more_ms).await?.saturating_sub(before);
        Ok(Outcome::if_acted(
            delayed > 0,
            format!("{delayed} calls that write or sync took {latency_ms} ms more"),
        ))
    }
}

/// Makes its disk slower, or again quicker, and tells how many calls were so up to now.
async fn slower(node: &Shared, by_ms: i64) -> Result<u64, String> {
    let node = node.lock().await;
    let shim = shim(&node)?;
    shim.slow(by_ms).map_err(told)?;
    Ok(shim.counts().delayed)
}

/// The library in the node's process, if it is there.
pub(super) fn shim(node: &Node) -> Result<&Shim, String> {
    let missing = "nothing can be loaded into programs of this machine, as was told at the start";
    let shim = node.shim.as_ref().ok_or(missing)?;
    match node.process() {
        // One that is just starting has not come so far.
        Some(process) if !shim.is_loaded(process) && node.is_ready() => {
            Err(format!("{} did not load the library: is it linked statically?", node.name))
        }
        _ => Ok(shim),
    }
}
