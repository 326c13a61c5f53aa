//! `run`: one seed.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{CliError, Verdict, args, failure, source};
use crate::{
    process::{self, Flow, Order, Outcome},
    run::Summary,
    trace,
};

pub(super) fn run(args: &args::Run) -> Result<Verdict, CliError> {
    let common = &args.common;
    let order = source::judged(source::of_seed(&args.scenario, args.seed, common.mutant())?, &common.judge)?;
    if let Some(path) = &args.schedule {
        source::write(path, &order.schedule)?;
    }
    let outcome = match &args.trace {
        None => process::simulate(&order)?,
        Some(path) => traced(&order, path, args.verbose, &mut |_| Flow::More)?,
    };
    say!("{}", sentence(&outcome));
    failure::tell(&order, &outcome, common.out.as_ref())
}

/// Runs an order, writes its trace to `path` and hands over each line of it. Without `verbose` details are left out.
pub(super) fn traced(
    order: &Order,
    path: &Path,
    verbose: bool,
    on_line: &mut (dyn FnMut(&str) -> Flow + Send),
) -> Result<Outcome, CliError> {
    let mut to = BufWriter::new(File::create(path).map_err(|error| source::file(path, error))?);
    let mut written: io::Result<()> = Ok(());
    let outcome = process::follow(order, &mut |line| {
        if written.is_ok() && (verbose || !trace::is_detail(line)) {
            written = writeln!(to, "{line}");
        }
        if written.is_err() { Flow::Enough } else { on_line(line) }
    })?;
    written.and_then(|()| to.flush()).map_err(|error| source::file(path, error))?;
    Ok(outcome)
}

/// What a run did, in three lines.
pub(super) fn sentence(outcome: &Outcome) -> String {
    let Summary { seed, scenario, schedulers, executors, clients, .. } = &outcome.summary;
    let Summary { elapsed_ms, ops, answers, rows, failed, faults, skipped, .. } = &outcome.summary;
    let counted = faults.iter().map(|(name, count)| match count {
        1 => name.clone(),
        more => format!("{more} × {name}"),
    });
    let faults = match counted.collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        some => some.join(", "),
    };
    let skipped: u64 = skipped.values().sum();
    format!(
        "seed {seed} of {scenario}: {schedulers} schedulers, {executors} executors, {clients} clients, {:.3} s simulated \
         in {:.2} s\n  {ops} ops: {answers} queries answered with {rows} rows, {failed} ops failed\n  faults: {faults}\
         {}",
        *elapsed_ms as f64 / 1e3,
        outcome.wall.as_secs_f64(),
        if skipped > 0 { format!("; {skipped} could not act") } else { String::new() },
    )
}
