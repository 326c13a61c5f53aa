//! What a parent tells a child, on its standard input.
//!
//! A head of fixed length, then the schedule as TOML. The head is read into the stack, so that what differs between two
//! looks at the same run (whether lines are wanted) leaves the heap as it is.

use std::io::{self, Read, Write};

use crate::schedule::Schedule;

const HEAD_BYTES: usize = 141;
const MAGIC: &str = "polybolos-sim";
const VERSION: &str = "1";
/// In place of a name.
const NONE: &str = "-";

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub schedule: Schedule,
    /// The planted bug to switch on.
    pub mutant: Option<String>,
}

impl Order {
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, mutant: None }
    }
}

/// The head. Everything here has its length in common with every other head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) schedule_bytes: usize,
    pub(super) with_lines: bool,
    /// Also in the schedule, but needed before that is read.
    pub(super) seed: u64,
    pub(super) mutant: Option<&'a str>,
    pub(super) build: &'a str,
}

impl<'a> Head<'a> {
    fn parse(bytes: &'a [u8; HEAD_BYTES]) -> Option<Self> {
        let mut fields = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace();
        if fields.next()? != MAGIC || fields.next()? != VERSION {
            return None;
        }
        Some(Self {
            schedule_bytes: fields.next()?.parse().ok()?,
            with_lines: fields.next()? == "1",
            seed: fields.next()?.parse().ok()?,
            mutant: Some(fields.next()?).filter(|name| *name != NONE),
            build: fields.next()?,
        })
    }
}

/// Writes an order.
pub(super) fn send(mut to: impl Write, order: &Order, with_lines: bool, build: &str) -> io::Result<()> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let schedule = order.schedule.to_toml().map_err(|error| invalid(error.to_string()))?;
    let (bytes, seed) = (schedule.len(), order.schedule.seed);
    let (lines, mutant) = (u8::from(with_lines), order.mutant.as_deref().unwrap_or(NONE));
    let head = format!("{MAGIC} {VERSION} {bytes:010} {lines} {seed:020} {mutant:48} {build:40} \n");
    if head.len() != HEAD_BYTES {
        return Err(invalid(format!("'{mutant}' is too long a name of a mutant")));
    }
    to.write_all(head.as_bytes())?;
    to.write_all(schedule.as_bytes())?;
    to.flush()
}

/// Reads a head, and hands it over before it reads the schedule.
pub(super) fn receive<T>(
    mut from: impl Read,
    begin: impl FnOnce(Head<'_>) -> T,
) -> io::Result<(T, Schedule)> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = [0; HEAD_BYTES];
    from.read_exact(&mut bytes)?;
    let head =
        Head::parse(&bytes).ok_or_else(|| invalid("no order of the simulator's command".to_owned()))?;
    let begun = begin(head);
    let mut schedule = vec![0; head.schedule_bytes];
    from.read_exact(&mut schedule)?;
    let text = String::from_utf8(schedule).map_err(|error| invalid(error.to_string()))?;
    Ok((begun, Schedule::parse(&text).map_err(|error| invalid(error.to_string()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: &str = "seed = 7\n[cluster]\nschedulers = 3\nslots = [1]\nmemory_mib = 1\nclients = 1\n\
        min_latency_us = 1\nmax_latency_us = 2\ntcp_capacity = 3\nclock_offset_ms = 4\ndisk_latency_us = 5\n\
        batch_cost_us = 6\nsnapshot_every = 7\n[phases]\nheal_at_ms = 1\nliveness_ms = 2\n";

    #[test]
    fn an_order_arrives_as_it_was_sent() -> Result<(), Box<dyn std::error::Error>> {
        let mut order = Order::new(Schedule::parse(SCHEDULE)?);
        let mut heads = Vec::new();
        for (mutant, with_lines) in [(None, true), (None, false), (Some("skip-flush"), false)] {
            order.mutant = mutant.map(str::to_owned);
            let mut sent = Vec::new();
            send(&mut sent, &order, with_lines, "b01d")?;
            let (head, schedule) = receive(sent.as_slice(), |head| {
                (head.seed, head.with_lines, head.mutant.map(str::to_owned), head.build.to_owned())
            })?;
            assert_eq!(head, (7, with_lines, order.mutant.clone(), "b01d".to_owned()));
            assert_eq!(schedule, order.schedule);
            heads.push(sent.len());
        }
        assert!(heads.iter().all(|length| *length == heads[0]), "{heads:?}");
        order.mutant = Some("x".repeat(49));
        assert!(send(Vec::new(), &order, false, "b01d").is_err());
        Ok(())
    }
}
