//! Faults from their begin to their end, and the phases of the run.

use super::{
    chart::{Fault, Phase},
    hosts::Hosts,
};
use crate::trace::{Line, Seen};

const TABLES: &str = "tables are there";
const SAFETY: &str = "safety: things go wrong";

#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    phases: Vec<(String, u64)>,
}

impl Faults {
    pub(super) fn on(&mut self, line: &Line, hosts: &Hosts) {
        let at = line.at_us;
        match &line.seen {
            Seen::FaultBegins { id, name, target } => self.faults.push(Fault {
                id: *id,
                name: name.clone(),
                target: target.clone(),
                from: at,
                to: at,
                hosts: hosts.named_in(target),
                open: true,
            }),
            Seen::FaultEnds { id, .. } => {
                if let Some(fault) = self.faults.iter_mut().rev().find(|fault| fault.id == *id && fault.open)
                {
                    fault.to = at;
                    fault.open = false;
                }
            }
            Seen::Phase { phase } => self.phases.push((phase.clone(), at)),
            _ => {}
        }
    }

    /// What is still open goes on until the end.
    pub(super) fn finish(mut self, end: u64) -> (Vec<Fault>, Vec<Phase>) {
        for fault in self.faults.iter_mut().filter(|fault| fault.open) {
            fault.to = end;
        }
        let mut phases = Vec::new();
        let has_setup = self.phases.iter().any(|(name, _)| name == TABLES);
        let mut before = (if has_setup { "setup" } else { SAFETY }, 0);
        for (name, at) in self.phases {
            let next = match name.as_str() {
                TABLES => SAFETY,
                "healed" => "liveness: healed, everything must end",
                "at rest" => "at rest: nothing may be left over",
                _ => continue,
            };
            phases.push(Phase { name: before.0, from: before.1, to: at });
            before = (next, at);
        }
        phases.push(Phase { name: before.0, from: before.1, to: end });
        (self.faults, phases)
    }
}
