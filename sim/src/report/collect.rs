//! Goes through the lines once and hands each to whoever keeps that kind of thing.

use super::{
    chart::{Chart, Columns, KINDS, Meta, Net, Violation},
    faults::Faults,
    hosts::Hosts,
    lives::Lives,
    ops::Ops,
    words::Words,
    work::Work,
};
use crate::{
    scenario,
    trace::{Header, Line, Seen, Trace},
};

pub(super) fn chart(trace: &Trace) -> Chart {
    let hosts = Hosts::of(trace);
    let end = trace.lines.iter().map(|line| line.at_us).max().unwrap_or_default();
    let (mut lives, mut faults, mut words) = (Lives::default(), Faults::default(), Words::default());
    let (mut work, mut ops, mut messages) = (Work::default(), Ops::default(), Messages::default());
    let mut violation = None;
    for line in &trace.lines {
        let host = hosts.index(&line.host);
        lives.on(line, host);
        faults.on(line, &hosts);
        ops.on(line, host, &mut work);
        work.on(line, host);
        words.on(line, host);
        messages.on(line, &hosts);
        if let Seen::Violation { oracle, what } = &line.seen {
            violation = Some(Violation { oracle: oracle.clone(), what: what.clone(), at_us: line.at_us });
        }
    }
    let (lives, reigns) = lives.finish(end);
    let (faults, phases) = faults.finish(end);
    let (jobs, stages, attempts) = work.finish(end);
    let (events, texts) = words.finish();
    Chart {
        meta: meta(trace, end),
        columns: Columns::default(),
        kinds: KINDS.to_vec(),
        violation,
        hosts: hosts.into_lanes(),
        lives,
        reigns,
        faults,
        phases,
        attempts,
        jobs,
        stages,
        ops: ops.finish(end),
        net: messages.net,
        events,
        texts,
    }
}

fn meta(trace: &Trace, end_us: u64) -> Meta {
    let header = &trace.header;
    Meta {
        seed: header.seed.to_string(),
        scenario: header.scenario.clone(),
        build: header.build.clone(),
        mutant: header.mutant.clone(),
        replay: replay(header),
        schedule: header.schedule.to_toml().unwrap_or_else(|error| format!("# {error}\n")),
        lines: trace.lines.len() + 1,
        end_us,
    }
}

/// The seed alone tells what ran only if a shipped scenario still expands to this schedule, which was not shrunk or
/// changed since; else the schedule has to be saved from the page.
fn replay(header: &Header) -> String {
    let (seed, name) = (header.seed, &header.scenario);
    let is_shipped = scenario::all().iter().any(|shipped| shipped.name == name);
    let command = if is_shipped && scenario::expand(name, seed).is_ok_and(|it| it == header.schedule) {
        format!("run --seed {seed} --scenario {name}")
    } else {
        format!("replay seed-{seed}.toml")
    };
    header.mutant.as_ref().map_or(command.clone(), |mutant| format!("{command} --mutant {mutant}"))
}

#[derive(Debug, Default)]
struct Messages {
    net: Net,
    last_us: u64,
}

impl Messages {
    fn on(&mut self, line: &Line, hosts: &Hosts) {
        let Seen::Net { peer, net, bytes } = &line.seen else { return };
        let kind = match net.as_str() {
            "connected" => 0,
            "refused" => 1,
            "sent" => 2,
            _ => 3,
        };
        self.net.at.push(line.at_us.saturating_sub(self.last_us));
        self.last_us = self.last_us.max(line.at_us);
        self.net.from.push(hosts.index(&line.host));
        self.net.to.push(hosts.index(peer));
        self.net.kind.push(kind);
        self.net.bytes.push(*bytes);
    }
}
