//! A network namespace for each node, all on one bridge, of which this process has a port.
//!
//! What is dropped is decided by a program at the node's own end of its link, both for what arrives and for what it
//! sends to the clients, so a matrix costs a call or two of `tc` a node. Delays come from netem, where the kernel has it,
//! the bandwidth from netem or tbf, at both ends of the link.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    CLIENTS, Matrix, Rule, Toll,
    bpf::{Side, program},
};
use crate::os::{OsError, run, run_blocking, turn};

/// The port that all nodes serve at; each has an address of its own.
const PORT: u16 = 7600;
const BURST: &str = "32kb";
/// How long a packet waits for bandwidth before it is dropped.
const QUEUE: &str = "500ms";

/// What is set up at a node's link now.
#[derive(Debug, Clone, Default, PartialEq)]
struct Setting {
    arriving: Option<String>,
    /// Only what goes to the clients: what goes to other nodes is dropped where it arrives.
    leaving: Option<String>,
    latency_ms: u64,
    kbit: Option<u64>,
}

pub struct Namespaces {
    /// Of this run: all names begin with it.
    prefix: String,
    network: [u8; 3],
    has_netem: bool,
    settings: BTreeMap<usize, Setting>,
    is_down: bool,
}

impl Namespaces {
    /// Makes the bridge and a namespace for each of `hosts` nodes.
    ///
    /// # Errors
    /// The machine refuses; what was made is taken away again.
    pub async fn make(prefix: &str, hosts: usize, has_netem: bool) -> Result<Self, OsError> {
        // Two runs that look at the same time would find the same one.
        let turn = turn().await?;
        let network = free_network(&run("ip", &["-4", "-o", "addr"]).await?);
        let mut made =
            Self { prefix: prefix.to_owned(), network, has_netem, settings: BTreeMap::new(), is_down: false };
        let bridge = made.bridge();
        run("ip", &["link", "add", &bridge, "type", "bridge"]).await?;
        run("ip", &["addr", "add", &format!("{}/24", made.ip(CLIENTS)), "dev", &bridge]).await?;
        drop(turn);
        run("ip", &["link", "set", &bridge, "up"]).await?;
        for _ in 0..hosts {
            made.add_host().await?;
        }
        Ok(made)
    }

    pub(super) async fn add_host(&mut self) -> Result<usize, OsError> {
        let host = self.settings.len() + 1;
        let (name, veth, bridge) = (self.name(host), self.veth(host), self.bridge());
        let address = format!("{}/24", self.ip(host));
        run("ip", &["netns", "add", &name]).await?;
        // Taken away even if the rest fails.
        self.settings.insert(host, Setting::default());
        run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &name]).await?;
        run("ip", &["link", "set", &veth, "master", &bridge, "up"]).await?;
        run("ip", &["-n", &name, "addr", "add", &address, "dev", "eth0"]).await?;
        run("ip", &["-n", &name, "link", "set", "eth0", "up"]).await?;
        run("ip", &["-n", &name, "link", "set", "lo", "up"]).await?;
        run("tc", &["-n", &name, "qdisc", "add", "dev", "eth0", "clsact"]).await?;
        Ok(host)
    }

    pub(super) fn name(&self, host: usize) -> String {
        format!("{}n{host}", self.prefix)
    }

    fn veth(&self, host: usize) -> String {
        format!("{}v{host}", self.prefix)
    }

    fn bridge(&self) -> String {
        format!("{}br", self.prefix)
    }

    fn ip(&self, host: usize) -> Ipv4Addr {
        let [a, b, c] = self.network;
        let last = if host == CLIENTS { 254 } else { u8::try_from(host).unwrap_or(253) };
        Ipv4Addr::new(a, b, c, last)
    }

    pub(super) fn address(&self, host: usize) -> String {
        format!("{}:{PORT}", self.ip(host))
    }

    pub(super) async fn apply(&mut self, matrix: &Matrix) -> Result<(), OsError> {
        let hosts: Vec<usize> = self.settings.keys().copied().collect();
        for host in hosts {
            let wanted = self.wanted(host, matrix);
            let present = self.settings.get(&host).cloned().unwrap_or_default();
            self.filter(host, "ingress", &present.arriving, &wanted.arriving).await?;
            self.filter(host, "egress", &present.leaving, &wanted.leaving).await?;
            if (present.latency_ms, present.kbit) != (wanted.latency_ms, wanted.kbit) {
                self.shape(host, &wanted).await?;
            }
            self.settings.insert(host, wanted);
        }
        Ok(())
    }

    fn wanted(&self, host: usize, matrix: &Matrix) -> Setting {
        let share = |rule: &Rule| if rule.drop { 1.0 } else { rule.loss };
        let arriving: Vec<(Ipv4Addr, f64)> = matrix
            .iter()
            .filter(|((_, to), _)| *to == host)
            .map(|((from, _), rule)| (self.ip(*from), share(rule)))
            .collect();
        let to_clients = matrix.get(&(host, CLIENTS)).map(|rule| (self.ip(CLIENTS), share(rule)));
        // Slow links are a host's as a whole: what all its peers have in common with it.
        let least = |of: fn(&Rule) -> u64| {
            let sent = matrix.iter().filter(|((from, _), _)| *from == host).map(|(_, rule)| of(rule));
            let peers = self.settings.len();
            if sent.clone().count() < peers { 0 } else { sent.min().unwrap_or(0) }
        };
        Setting {
            arriving: program(Side::From, &arriving),
            leaving: to_clients.and_then(|peer| program(Side::To, &[peer])),
            latency_ms: least(|rule| rule.latency_ms),
            kbit: Some(least(|rule| rule.kbit.unwrap_or(0))).filter(|kbit| *kbit > 0),
        }
    }

    async fn filter(
        &self,
        host: usize,
        way: &str,
        present: &Option<String>,
        wanted: &Option<String>,
    ) -> Result<(), OsError> {
        let name = self.name(host);
        let of = ["-n", &name, "filter"];
        let at = ["dev", "eth0", way, "prio", "1"];
        match wanted {
            _ if present == wanted => Ok(()),
            Some(code) => {
                let rest = ["handle", "1", "bpf", "da", "bytecode", code];
                run("tc", &[&of[..], &["replace"], &at[..], &rest[..]].concat()).await.map(drop)
            }
            None => run("tc", &[&of[..], &["del"], &at[..]].concat()).await.map(drop),
        }
    }

    /// Both ends of a host's link, so that both ways are slow.
    async fn shape(&self, host: usize, wanted: &Setting) -> Result<(), OsError> {
        let (name, veth) = (self.name(host), self.veth(host));
        for end in [&["-n", &name, "qdisc"][..], &["qdisc"][..]] {
            let device = if end.len() > 1 { "eth0" } else { veth.as_str() };
            let at = ["dev", device, "root"];
            if wanted.latency_ms == 0 && wanted.kbit.is_none() {
                run("tc", &[end, &["del"], &at[..]].concat()).await?;
                continue;
            }
            let (delay, rate) =
                (format!("{}ms", wanted.latency_ms), format!("{}kbit", wanted.kbit.unwrap_or(0)));
            let mut how = vec!["netem", "delay", &delay];
            if wanted.kbit.is_some() && self.has_netem {
                how.extend(["rate", &rate]);
            } else if wanted.kbit.is_some() {
                how = vec!["tbf", "rate", &rate, "burst", BURST, "latency", QUEUE];
            }
            run("tc", &[end, &["replace"], &at[..], &how[..]].concat()).await?;
        }
        Ok(())
    }

    pub(super) async fn toll(&self) -> Result<Toll, OsError> {
        let mut toll = Toll::default();
        for host in self.settings.keys() {
            let name = self.name(*host);
            count(&run("tc", &["-n", &name, "-s", "qdisc", "show", "dev", "eth0"]).await?, &mut toll);
            count(&run("tc", &["-s", "qdisc", "show", "dev", &self.veth(*host)]).await?, &mut toll);
        }
        Ok(toll)
    }
}

impl Namespaces {
    /// Takes all of it away; the processes in it have ended. What can't be taken away now is found by the sweep of the
    /// next run.
    pub(super) fn take_down(&mut self) {
        if std::mem::replace(&mut self.is_down, true) {
            return;
        }
        for host in self.settings.keys() {
            // By its outer end, which takes the inner one with it: a namespace whose last process is just ending keeps its
            // links for a while, and the next run of this process uses the same names.
            let _gone = run_blocking("ip", &["link", "del", &self.veth(*host)]);
            let _gone = run_blocking("ip", &["netns", "del", &self.name(*host)]);
        }
        let _gone = run_blocking("ip", &["link", "del", &self.bridge()]);
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// Reads the numbers of `tc -s qdisc show`.
fn count(shown: &str, toll: &mut Toll) {
    let number = |text: &str, before: &str| {
        let (_, rest) = text.split_once(before)?;
        rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    for block in shown.split("qdisc ").skip(1) {
        let dropped = number(block, "(dropped").unwrap_or(0);
        match block.split(' ').next() {
            Some("clsact") => toll.dropped += dropped,
            // Packets that had to wait; those for which the queue was too long were dropped.
            Some("tbf") => toll.shaped += number(block, "overlimits").unwrap_or(0) + dropped,
            Some("netem") => {
                let (_, sent) = block.split_once("bytes ").unwrap_or_default();
                toll.shaped += number(&format!("#{sent}"), "#").unwrap_or(0);
            }
            _ => {}
        }
    }
}

/// A network that this machine has no address in.
fn free_network(addresses: &str) -> [u8; 3] {
    let taken = |third: u8| addresses.contains(&format!(" 10.213.{third}."));
    [10, 213, (1..=254).find(|third| !taken(*third)).unwrap_or(254)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counted_is_read() {
        let shown = "qdisc tbf 8001: root refcnt 3 rate 1Mbit burst 32Kb lat 400ms \n Sent 70 bytes 9 pkt (dropped 2, \
                     overlimits 5 requeues 0) \n backlog 0b 0p requeues 0\nqdisc clsact ffff: parent ffff:fff1 \n Sent 1026 \
                     bytes 20 pkt (dropped 15, overlimits 0 requeues 0) \nqdisc netem 1: root delay 5ms\n Sent 70 bytes 8 \
                     pkt (dropped 0, overlimits 0 requeues 0)";
        let mut toll = Toll::default();
        count(shown, &mut toll);
        assert_eq!(toll, Toll { dropped: 15, shaped: 15, cut: 0 });
    }

    #[test]
    fn a_network_that_is_taken_is_passed_over() {
        assert_eq!(free_network("1: lo inet 127.0.0.1/8\n2: x inet 10.213.1.254/24 brd"), [10, 213, 2]);
    }
}
