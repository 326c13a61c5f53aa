//! `replay`: a run once more, this time looked at.

use super::{CliError, Verdict, args, failure, run, show, source};
use crate::{
    process::{self, Flow, Order, Outcome},
    trace::{Line, Seen},
};

pub(super) fn replay(args: &args::Replay) -> Result<Verdict, CliError> {
    let mut verdict = Verdict::Kept;
    for what in &args.what {
        let common = &args.common;
        let order = source::of(what, &args.scenario, args.seed, common.mutant())?;
        let order = source::judged(order, &common.judge)?;
        if let Some(path) = &args.schedule {
            source::write(path, &order.schedule)?;
        }
        let (outcome, stopped) = watched(&order, args)?;
        if stopped {
            say!("stopped as asked; the run is not over");
            continue;
        }
        say!("{}", run::sentence(&outcome));
        if failure::tell(&order, &outcome, common.out.as_ref())? == Verdict::Broken {
            verdict = Verdict::Broken;
        }
    }
    Ok(verdict)
}

fn watched(order: &Order, args: &args::Replay) -> Result<(Outcome, bool), CliError> {
    let mut stopped = false;
    let mut on_line = |text: &str| {
        // The header has no time.
        let Ok(line) = serde_json::from_str::<Line>(text) else { return Flow::More };
        let is_last = matches!(line.seen, Seen::Violation { .. } | Seen::End(_));
        if !is_last && args.until.is_some_and(|until| line.at_us > until.us) {
            stopped = true;
            return Flow::Enough;
        }
        if !args.quiet && line.at_us >= args.from.us && (args.verbose || !show::is_noise(&line)) {
            say!("{}", show::line(&line));
        }
        Flow::More
    };
    let outcome = match &args.trace {
        Some(path) => run::traced(order, path, args.verbose, &mut on_line)?,
        None if args.quiet && args.until.is_none() => process::simulate(order)?,
        None => process::follow(order, &mut on_line)?,
    };
    Ok((outcome, stopped))
}
