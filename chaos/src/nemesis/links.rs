//! Links that are cut, slow, narrow or lossy.

use std::time::Duration;

use tokio::time::sleep;

use super::{Acted, Nemesis, Outcome, find, of_role, told};
use crate::{
    cluster::Fleet,
    fault::{Fault, Way},
    net::{CLIENTS, LinkFault, Rule, Toll},
    schedule::Planned,
};

impl Nemesis {
    /// Any fault of the network. Evidence is what the network counted meanwhile, of other faults at the same time too.
    pub(super) async fn links(&self, fleet: &Fleet, planned: &Planned, target: &str) -> Acted {
        let host = find(fleet, target).await?.lock().await.host;
        let before = fleet.toll().await.map_err(told)?;
        let fault = self.link_fault(fleet, planned, host).await?;
        if let Fault::Flap { period_ms, .. } = &planned.fault {
            self.flap(fleet, planned, &fault, Duration::from_millis((*period_ms).max(1))).await?;
        } else {
            if let Err(error) = fleet.cut(planned.id, fault).await {
                // Or the next fault would meet the same refusal.
                fleet.mend(planned.id).await.map_err(told)?;
                return Err(error.to_string());
            }
            self.hold(planned).await;
        }
        let after = fleet.toll().await.map_err(told)?;
        fleet.mend(planned.id).await.map_err(told)?;
        let toll = Toll {
            dropped: after.dropped.saturating_sub(before.dropped),
            shaped: after.shaped.saturating_sub(before.shaped),
            cut: after.cut.saturating_sub(before.cut),
        };
        let (count, what) = match &planned.fault {
            Fault::SlowLink { .. } | Fault::Bandwidth { .. } => (toll.shaped, "packets or bytes had to wait"),
            Fault::CutStreams { .. } => (toll.cut, "connections were cut"),
            _ => (toll.dropped, "packets were dropped, or bytes held back"),
        };
        Ok(Outcome::if_acted(count > 0, format!("{count} {what}")))
    }

    /// Down and up until its time is over.
    async fn flap(
        &self,
        fleet: &Fleet,
        planned: &Planned,
        fault: &LinkFault,
        period: Duration,
    ) -> Result<(), String> {
        let hold = self.hold(planned);
        tokio::pin!(hold);
        loop {
            for down in [true, false] {
                match down {
                    true => fleet.cut(planned.id, fault.clone()).await.map_err(told)?,
                    false => fleet.mend(planned.id).await.map_err(told)?,
                }
                tokio::select! {
                    () = &mut hold => return Ok(()),
                    () = sleep(period) => {}
                }
            }
        }
    }

    async fn link_fault(&self, fleet: &Fleet, planned: &Planned, host: usize) -> Result<LinkFault, String> {
        let all = |rule| LinkFault::All { host, rule };
        Ok(match &planned.fault {
            Fault::Isolate { way, .. } => LinkFault::Isolate { host, way: *way },
            Fault::LeaderInMinority => self.minority(fleet, planned, host).await,
            Fault::Bridge { .. } => bridge(fleet, host).await?,
            Fault::SlowLink { latency_ms, .. } => all(Rule { latency_ms: *latency_ms, ..Rule::default() }),
            Fault::LossyLink { rate, .. } => all(Rule { loss: *rate, ..Rule::default() }),
            Fault::CutStreams { rate, .. } => all(Rule { cut: *rate, ..Rule::default() }),
            Fault::Bandwidth { kbit, .. } => all(Rule { kbit: Some(*kbit), ..Rule::default() }),
            _ => LinkFault::Isolate { host, way: Way::Both },
        })
    }

    /// The leader with one executor.
    async fn minority(&self, fleet: &Fleet, planned: &Planned, leader: usize) -> LinkFault {
        let executors = of_role(fleet, false).await;
        let count = executors.len().max(1) as u64;
        let mut left = vec![CLIENTS, leader];
        if let Some(executor) = executors.get((self.seed_of(planned) % count) as usize) {
            left.push(executor.lock().await.host);
        }
        let others = (1..=fleet.nodes().len()).filter(|host| !left.contains(host));
        LinkFault::Split { right: others.chain([CLIENTS]).collect(), left }
    }
}

/// The other schedulers in two halves, and the target in both.
async fn bridge(fleet: &Fleet, host: usize) -> Result<LinkFault, String> {
    let mut others = Vec::new();
    for node in of_role(fleet, true).await {
        let other = node.lock().await.host;
        if other != host {
            others.push(other);
        }
    }
    if others.len() < 2 {
        return Err("a bridge needs three schedulers".to_owned());
    }
    let right = others.split_off(others.len() / 2);
    Ok(LinkFault::Split { left: others, right })
}
