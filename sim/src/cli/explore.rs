//! `explore`: many seeds.

use std::time::{Duration, Instant};

use super::{CliError, Verdict, args, failure, source, tally::Tally};
use crate::{
    process::{self, Flow, Order, Outcome},
    scenario,
};

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

pub(super) fn explore(args: &args::Explore) -> Result<Verdict, CliError> {
    let common = &args.common;
    let names: Vec<&str> = if args.all {
        scenario::all().iter().map(|shipped| shipped.name).collect()
    } else {
        vec![args.scenario.as_str()]
    };
    let begun = Instant::now();
    let deadline = args.minutes.map(|minutes| Duration::from_secs_f64(minutes.clamp(0.0, 1e6) * 60.0));
    let pairs = args.seeds.iter().flat_map(|seed| names.iter().map(move |name| (*name, seed)));
    let pairs = pairs.take_while(|_| deadline.is_none_or(|deadline| begun.elapsed() < deadline));

    let work = |(name, seed)| -> Result<(Order, Outcome), CliError> {
        let order = source::judged(source::of_seed(name, seed, common.mutant())?, &common.judge)?;
        let outcome = process::simulate(&order)?;
        Ok((order, outcome))
    };
    let (mut tally, mut failed) = (Tally::default(), None);
    let mut told = Instant::now();
    process::many(pairs, args.jobs, work, |done| {
        let verdict = done.and_then(|(order, outcome)| {
            tally.add(&outcome);
            failure::tell(&order, &outcome, common.out.as_ref())
        });
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            eprintln!(
                "{} runs, {} broken, {:.1} min",
                tally.runs(),
                tally.broken(),
                begun.elapsed().as_secs_f64() / 60.0
            );
        }
        match verdict {
            Ok(Verdict::Kept) => Flow::More,
            Ok(Verdict::Broken) if args.keep_going => Flow::More,
            Ok(Verdict::Broken) => Flow::Enough,
            Err(error) => {
                failed.get_or_insert(error);
                Flow::Enough
            }
        }
    });
    say!("{}", tally.text(begun.elapsed()).trim_end());
    match failed {
        Some(error) => Err(error),
        None if tally.broken() > 0 => Ok(Verdict::Broken),
        None => Ok(Verdict::Kept),
    }
}
