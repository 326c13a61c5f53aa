//! Processes from start to death, and who led in which term.

use super::chart::{HostIndex, Life, LifeEnd, Reign};
use crate::trace::{Line, Seen};

#[derive(Debug, Default)]
pub(super) struct Lives {
    lives: Vec<Life>,
    reigns: Vec<Reign>,
}

impl Lives {
    pub(super) fn on(&mut self, line: &Line, host: HostIndex) {
        let at = line.at_us;
        match &line.seen {
            Seen::Up { life } => {
                self.end(host, at, LifeEnd::Exited, "");
                let end = LifeEnd::Open as u8;
                self.lives.push(Life { host, life: *life, from: at, to: at, end, why: String::new() });
            }
            Seen::Down { power_loss: true } => self.end(host, at, LifeEnd::PowerLost, ""),
            Seen::Down { power_loss: false } => self.end(host, at, LifeEnd::Crashed, ""),
            Seen::Exited { reason } => self.end(host, at, LifeEnd::Exited, reason),
            Seen::Refused { reason } => self.end(host, at, LifeEnd::RefusedToRun, reason),
            Seen::Elected { term, last_term, last_index } => {
                self.depose(at, &format!("term {term} had a leader"), |reign| reign.term < *term);
                let (term, last_term, last_index) = (*term, *last_term, *last_index);
                self.reigns.push(Reign {
                    host,
                    term,
                    from: at,
                    to: at,
                    last_term,
                    last_index,
                    until: String::new(),
                });
            }
            _ => {}
        }
    }

    fn end(&mut self, host: HostIndex, at: u64, end: LifeEnd, why: &str) {
        let open = |life: &&mut Life| life.host == host && life.end == LifeEnd::Open as u8;
        if let Some(life) = self.lives.iter_mut().find(open) {
            life.to = at;
            life.end = end as u8;
            why.clone_into(&mut life.why);
        }
        self.depose(at, "its process ended", |reign| reign.host == host);
    }

    fn depose(&mut self, at: u64, until: &str, is_over: impl Fn(&Reign) -> bool) {
        for reign in self.reigns.iter_mut().filter(|reign| reign.until.is_empty() && is_over(reign)) {
            reign.to = at;
            until.clone_into(&mut reign.until);
        }
    }

    /// What is still open goes on until the end.
    pub(super) fn finish(mut self, end: u64) -> (Vec<Life>, Vec<Reign>) {
        for life in self.lives.iter_mut().filter(|life| life.end == LifeEnd::Open as u8) {
            life.to = end;
        }
        self.depose(end, "the end of the trace", |_| true);
        (self.lives, self.reigns)
    }
}
