//! `report`: a trace as a page.

use std::{fs::File, io::BufReader};

use super::{CliError, Verdict, args, source};
use crate::report;

pub(super) fn report(args: &args::Report) -> Result<Verdict, CliError> {
    let trace = File::open(&args.trace).map_err(|error| source::file(&args.trace, error))?;
    let page = report::page(BufReader::new(trace))
        .map_err(|error| CliError::Report { path: source::text(&args.trace), error })?;
    std::fs::write(&args.out, page).map_err(|error| source::file(&args.out, error))?;
    say!("{}", args.out.display());
    Ok(Verdict::Kept)
}
