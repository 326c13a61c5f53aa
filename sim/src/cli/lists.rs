//! `scenarios`: what there is.

use super::{CliError, Verdict};
use crate::scenario;

pub(super) fn scenarios() -> Result<Verdict, CliError> {
    let all = scenario::all();
    let width = all.iter().map(|shipped| shipped.name.len()).max().unwrap_or_default();
    for shipped in all {
        say!("{:width$}  {}", shipped.name, shipped.about);
    }
    Ok(Verdict::Kept)
}
