//! `verify-determinism`: each seed in two processes, whose traces must not differ in a byte.

use super::{CliError, Verdict, args, failure, source};
use crate::{
    process::{self, Flow, Order},
    scenario::{self, SWARM},
};

/// Both traces of a seed, without their common beginning if they are equal.
struct Pair {
    order: Order,
    scenario: String,
    lines: u64,
    /// Their texts, if they differ.
    differ: Option<(Vec<u8>, Vec<u8>)>,
}

pub(super) fn verify(args: &args::Verify) -> Result<Verdict, CliError> {
    let names: Vec<&str> = match &args.scenario {
        Some(scenario) => vec![scenario.as_str()],
        None => {
            let others = scenario::all().iter().map(|shipped| shipped.name).filter(|name| *name != SWARM);
            [SWARM].into_iter().chain(others).collect()
        }
    };
    let pairs = names.iter().flat_map(|name| args.seeds.iter().map(move |seed| (*name, seed)));
    let (mut equal, mut lines, mut verdict, mut failed) = (0_u64, 0_u64, Verdict::Kept, None);
    process::many(
        pairs,
        args.jobs,
        |(name, seed)| pair(name, seed),
        |done| {
            let told = done.and_then(|pair| {
                lines += pair.lines;
                tell(&pair, args)
            });
            match told {
                Ok(Verdict::Kept) => {
                    equal += 1;
                    Flow::More
                }
                Ok(Verdict::Broken) => {
                    verdict = Verdict::Broken;
                    Flow::More
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    Flow::Enough
                }
            }
        },
    );
    say!(
        "{equal} runs of {} scenarios were the same in two processes: {lines} lines, build {}",
        names.len(),
        process::build_id()
    );
    failed.map_or(Ok(verdict), Err)
}

fn pair(scenario: &str, seed: u64) -> Result<Pair, CliError> {
    let order = source::of_seed(scenario, seed, None)?;
    let (first, second) = (trace(&order)?, trace(&order)?);
    let lines = first.iter().filter(|byte| **byte == b'\n').count() as u64;
    let differ = (first != second).then_some((first, second));
    Ok(Pair { order, scenario: scenario.to_owned(), lines, differ })
}

/// A whole trace, and the digest and end of the run as its last line.
fn trace(order: &Order) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    let outcome = process::follow(order, &mut |line| {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        Flow::More
    })?;
    let end = format!("{:?} {:?}\n", outcome.digest, outcome.summary);
    text.extend_from_slice(end.as_bytes());
    Ok(text)
}

fn tell(pair: &Pair, args: &args::Verify) -> Result<Verdict, CliError> {
    let Some((first, second)) = &pair.differ else { return Ok(Verdict::Kept) };
    let schedule = &pair.order.schedule;
    say!("seed {} of {} differs between two processes", schedule.seed, pair.scenario);
    let mut paths = Vec::new();
    for (text, end) in [(first, ".first.jsonl"), (second, ".second.jsonl")] {
        let path = source::place(args.out.as_ref(), schedule, end)?;
        std::fs::write(&path, text).map_err(|error| source::file(&path, error))?;
        paths.push(source::text(&path));
    }
    if let Some((number, one, other)) = first_difference(first, second) {
        say!("  line {number} of {}: {}", paths.join(" and "), cut(&one));
        say!("  and                 {}", cut(&other));
    }
    say!(
        "  again: {} verify-determinism --seeds {seed}..{seed} --scenario {}",
        failure::program(),
        pair.scenario,
        seed = schedule.seed
    );
    Ok(Verdict::Broken)
}

/// The first line that differs, counted from 1.
fn first_difference(first: &[u8], second: &[u8]) -> Option<(usize, String, String)> {
    let text = |line: Option<&[u8]>| String::from_utf8_lossy(line.unwrap_or(b"(nothing)")).into_owned();
    let (mut first, mut second) = (first.split(|byte| *byte == b'\n'), second.split(|byte| *byte == b'\n'));
    for number in 1.. {
        match (first.next(), second.next()) {
            (None, None) => return None,
            (one, other) if one != other => return Some((number, text(one), text(other))),
            _ => {}
        }
    }
    None
}

fn cut(line: &str) -> String {
    const MAX_CHARS: usize = 400;
    line.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_found() {
        assert_eq!(first_difference(b"a\nb\n", b"a\nb\n"), None);
        let found = first_difference(b"a\nb\nc\n", b"a\nx\nc\n");
        assert_eq!(found, Some((2, "b".to_owned(), "x".to_owned())));
        assert_eq!(first_difference(b"a", b"a\nb"), Some((2, "(nothing)".to_owned(), "b".to_owned())));
    }
}
