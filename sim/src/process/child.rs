//! The process of one run.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use polybolos_model::simulation;
use serde::{Deserialize, Serialize};

use super::{LayoutError, layout, order, shims};
use crate::{
    run::{self, Summary},
    trace::{self, Header, Scribe, TRACE_FORMAT},
};

/// The name of a child, as its only argument.
pub(super) const NAME: &str = "polybolos-sim-child";
/// How the last line begins, that of the result.
pub(super) const RESULT: &str = "{\"polybolos_result\":";
/// Flushed in this size, whatever the lines.
const OUT_BYTES: usize = 64 * 1024;

/// The last line of a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) polybolos_result: Summary,
    pub(super) digest: String,
}

/// A child could not run.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the order can't be read: {0}")]
    Order(io::Error),
    #[error("the lines can't be written: {0}")]
    Lines(io::Error),
}

/// Whether this process was started to run an order.
pub fn is_child() -> bool {
    std::env::args_os().eq([NAME])
}

/// Runs the order on standard input.
pub fn run_order() -> ExitCode {
    match carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody else can be told if standard error is gone.
            let _told = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes nothing at all to what nobody reads.
struct Out {
    wanted: bool,
    to: io::Stdout,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.wanted { self.to.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn carry_out() -> Result<(), ChildError> {
    layout::check()?;
    let begin = |head: order::Head<'_>| {
        shims::activate(head.seed);
        (head.with_lines, head.mutant.map(str::to_owned), head.build.to_owned(), shims::are_in_force())
    };
    let (begun, schedule) = order::receive(io::stdin().lock(), begin).map_err(ChildError::Order)?;
    let (wanted, mutant, build, in_force) = begun;
    if !in_force {
        return Err(LayoutError::Shims.into());
    }
    if let Some(mutant) = &mutant {
        simulation::plant(mutant.as_str());
    }
    trace::listen();
    let header = Header {
        polybolos_trace: TRACE_FORMAT,
        seed: schedule.seed,
        scenario: schedule.scenario.clone(),
        build,
        mutant,
        schedule: schedule.clone(),
    };
    let out = BufWriter::with_capacity(OUT_BYTES, Out { wanted, to: io::stdout() });
    let mut scribe = Scribe::new(out, &header);
    let polybolos_result = run::run(&schedule, &mut |moment| scribe.moment(moment));
    let digest = scribe.finish(&polybolos_result).map_err(ChildError::Lines)?.to_string();
    let last = serde_json::to_string(&Last { polybolos_result, digest }).map_err(io::Error::from);
    let mut out = io::stdout().lock();
    last.and_then(|last| writeln!(out, "{last}")).map_err(ChildError::Lines)
}
