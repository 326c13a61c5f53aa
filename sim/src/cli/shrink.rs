//! `shrink`: a failing schedule made smaller.

use std::time::{Duration, Instant};

use super::{CliError, Verdict, args, failure, source};
use crate::{
    process::{self, Order},
    schedule::Schedule,
    shrink::{self, Budget},
};

pub(super) fn shrink(args: &args::Shrink) -> Result<Verdict, CliError> {
    let order = source::of(&args.what, &args.scenario, None, args.mutant.as_deref())?;
    let Some(broken) = process::simulate(&order)?.summary.violation else {
        say!("it breaks no promise, so there is nothing to make smaller");
        return Ok(Verdict::Kept);
    };
    let mut failed = None;
    let mut run = |schedule: &Schedule| {
        let order = Order { schedule: schedule.clone(), mutant: order.mutant.clone() };
        match process::simulate(&order) {
            Ok(outcome) => outcome.summary.violation.map(|broken| broken.oracle),
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        }
    };
    let (begun, limit) = (Instant::now(), Duration::from_secs_f64(args.minutes.clamp(0.0, 1e6) * 60.0));
    let budget = Budget { runs: args.runs, is_over: Box::new(move || begun.elapsed() > limit) };
    let small = shrink::shrink(&order.schedule, &broken.oracle, &mut run, budget);
    if let Some(error) = failed {
        return Err(error.into());
    }
    let path = match &args.out {
        Some(path) => path.clone(),
        None => source::place(None, &small, ".small.toml")?,
    };
    source::write(&path, &small)?;
    say!("{}\n  as small: {}", size(&order.schedule), size(&small));
    say!("  replay it: {} replay {}{}", failure::program(), path.display(), failure::with_mutant(&order));
    // That it still fails is what was asked for.
    Ok(Verdict::Kept)
}

fn size(schedule: &Schedule) -> String {
    format!(
        "{} schedulers, {} executors, {} clients, {} tables, {} ops, {} faults, {} failpoints",
        schedule.cluster.schedulers,
        schedule.cluster.slots.len(),
        schedule.cluster.clients,
        schedule.tables.len(),
        schedule.ops.len(),
        schedule.faults.len(),
        schedule.failpoints.len(),
    )
}
