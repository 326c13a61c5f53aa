//! `mutants`: how soon the planted bugs are found, and by which check.

use super::{CliError, Verdict, args};
use crate::mutants::{self, Hunt, MUTANTS, Mutant};

pub(super) fn mutants(args: &args::Mutants) -> Result<Verdict, CliError> {
    let chosen = chosen(&args.names)?;
    if args.list {
        for mutant in &chosen {
            say!("{:26}  {}", mutant.name, mutant.about);
        }
        return Ok(Verdict::Kept);
    }
    let mut hunt = Hunt::new(chosen, &(args.seeds.first..=args.seeds.last));
    hunt.carry_out(args.jobs, &mut |task, verdict| {
        if let mutants::Verdict::Broken { check, .. } = verdict {
            eprintln!("{} is found under seed {} by {check}", task.mutant, task.seed);
        }
    })?;
    say!("{}", hunt.to_string().trim_end());
    let (found, all, _) = hunt.totals();
    Ok(if found == all { Verdict::Kept } else { Verdict::Broken })
}

fn chosen(names: &[String]) -> Result<Vec<Mutant>, CliError> {
    if names.is_empty() {
        return Ok(MUTANTS.to_vec());
    }
    let find = |name: &String| mutants::find(name).copied().ok_or_else(|| CliError::NoMutant(name.clone()));
    names.iter().map(find).collect()
}
