//! The state that each link between two hosts should have, from all effects that are there, and what has changed.
//!
//! turmoil knows one state for each direction, and some of its changes undo others: a repair of both directions frees
//! held messages or not, a random loss heals a cut. So each link that changes is set anew as a whole.

use std::{collections::BTreeMap, time::Duration};

use turmoil::Sim;

use super::effect::LinkEffect;

/// Of one direction. The strongest one wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flow {
    #[default]
    Open,
    Held,
    Cut,
}

/// Of one link.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Link {
    pub(super) there: Flow,
    pub(super) back: Flow,
    /// Instead of the cluster's bounds.
    pub(super) latency_ms: Option<u64>,
    pub(super) loss: f64,
}

/// A link that is not any more as it was.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) one: String,
    pub(super) other: String,
    pub(super) was: Link,
    pub(super) is: Link,
}

pub(super) struct Links {
    hosts: Vec<String>,
    present: BTreeMap<(usize, usize), Link>,
}

impl Links {
    pub(super) fn new(hosts: Vec<String>) -> Self {
        Self { hosts, present: BTreeMap::new() }
    }

    /// What is to be done so that exactly `effects` hold.
    pub(super) fn settle<'a>(
        &mut self,
        effects: impl Iterator<Item = &'a LinkEffect> + Clone,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (i, one) in self.hosts.iter().enumerate() {
            for (j, other) in self.hosts.iter().enumerate().skip(i + 1) {
                let is = wanted(one, other, effects.clone());
                let was = self.present.insert((i, j), is).unwrap_or_default();
                if was != is {
                    changes.push(Change { one: one.clone(), other: other.clone(), was, is });
                }
            }
        }
        changes
    }
}

fn wanted<'a>(one: &String, other: &String, effects: impl Iterator<Item = &'a LinkEffect>) -> Link {
    let mut link = Link::default();
    for effect in effects {
        match effect {
            LinkEffect::Cut { from, to } => {
                if from.contains(one) && to.contains(other) {
                    link.there = Flow::Cut;
                }
                if from.contains(other) && to.contains(one) {
                    link.back = Flow::Cut;
                }
            }
            LinkEffect::Hold { host } if host == one || host == other => {
                (link.there, link.back) = (link.there.max(Flow::Held), link.back.max(Flow::Held));
            }
            LinkEffect::Slow { host, latency_ms } if host == one || host == other => {
                link.latency_ms = link.latency_ms.max(Some(*latency_ms));
            }
            LinkEffect::Lossy { host, rate } if host == one || host == other => {
                link.loss = link.loss.max(rate.clamp(0.0, 1.0));
            }
            LinkEffect::Hold { .. } | LinkEffect::Slow { .. } | LinkEffect::Lossy { .. } => {}
        }
    }
    if link.there.max(link.back) != Flow::Open {
        // turmoil takes a link that a random loss has broken for healthy again, whatever was cut before.
        link.loss = 0.0;
    }
    link
}

/// `min` and `max` are the cluster's bounds of the latency.
pub(super) fn apply(sim: &mut Sim<'_>, change: &Change, min: Duration, max: Duration) {
    let Change { one, other, was, is } = change;
    let (one, other) = (one.as_str(), other.as_str());
    if (was.there, was.back) != (is.there, is.back) || was.loss != is.loss {
        if is.there.max(is.back) == Flow::Open || (is.there != Flow::Held && is.back != Flow::Held) {
            // Delivers what was held, and makes both directions healthy.
            sim.release(one, other);
        } else {
            sim.hold(one, other);
        }
        if is.there == Flow::Cut {
            sim.partition_oneway(one, other);
        }
        if is.back == Flow::Cut {
            sim.partition_oneway(other, one);
        }
        sim.set_link_fail_rate(one, other, is.loss);
    }
    if was.latency_ms != is.latency_ms {
        sim.set_link_latency(one, other, is.latency_ms.map_or(min, Duration::from_millis));
        if is.latency_ms.is_none() {
            sim.set_link_max_message_latency(one, other, max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn cut(from: &[&str], to: &[&str]) -> LinkEffect {
        LinkEffect::Cut { from: group(from), to: group(to) }
    }

    fn settled(links: &mut Links, effects: &[LinkEffect]) -> Vec<String> {
        let change = |change: Change| {
            let Link { there, back, latency_ms, loss } = change.is;
            let latency = latency_ms.map(|ms| format!(" {ms} ms")).unwrap_or_default();
            let loss = if loss > 0.0 { format!(" loses {loss}") } else { String::new() };
            format!("{}-{} {there:?} {back:?}{latency}{loss}", change.one, change.other)
        };
        links.settle(effects.iter()).into_iter().map(change).collect()
    }

    #[test]
    fn a_link_is_repaired_when_the_last_fault_that_cuts_it_ends() {
        let mut links = Links::new(group(&["a", "b", "c"]));
        let all = cut(&["a"], &["b", "c"]);
        assert_eq!(settled(&mut links, std::slice::from_ref(&all)), ["a-b Cut Open", "a-c Cut Open"]);
        let back = cut(&["b"], &["a"]);
        assert_eq!(settled(&mut links, &[all, back.clone(), back.clone()]), ["a-b Cut Cut"]);
        assert_eq!(settled(&mut links, &[back.clone(), back.clone()]), ["a-b Open Cut", "a-c Open Open"]);
        assert!(settled(&mut links, &[back]).is_empty());
        assert_eq!(settled(&mut links, &[]), ["a-b Open Open"]);
    }

    #[test]
    fn a_cut_wins_over_a_hold_and_either_over_a_loss() {
        let mut links = Links::new(group(&["a", "b"]));
        let hold = LinkEffect::Hold { host: "a".to_owned() };
        let lossy = LinkEffect::Lossy { host: "b".to_owned(), rate: 0.25 };
        assert_eq!(settled(&mut links, std::slice::from_ref(&lossy)), ["a-b Open Open loses 0.25"]);
        assert_eq!(settled(&mut links, &[hold.clone(), lossy.clone()]), ["a-b Held Held"]);
        let both = [hold, cut(&["a"], &["b"]), lossy.clone()];
        assert_eq!(settled(&mut links, &both), ["a-b Cut Held"]);
        assert_eq!(settled(&mut links, &[lossy]), ["a-b Open Open loses 0.25"]);
    }

    #[test]
    fn the_slowest_of_several_faults_counts() {
        let mut links = Links::new(group(&["a", "b", "c"]));
        let slow = |host: &str, latency_ms| LinkEffect::Slow { host: host.to_owned(), latency_ms };
        let effects = [slow("a", 50), slow("b", 200)];
        let expected = ["a-b Open Open 200 ms", "a-c Open Open 50 ms", "b-c Open Open 200 ms"];
        assert_eq!(settled(&mut links, &effects), expected);
    }
}
