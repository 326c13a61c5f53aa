//! How long processes have run, as the kernel counts it (`proc(5)`).

use std::{path::PathBuf, time::Duration};

use super::super::super::{error::CliError, files};

/// Of `utime` and `stime`: `sysconf(_SC_CLK_TCK)` is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);
/// Fields between the name of a process and its `utime`.
const FIELDS_BEFORE: usize = 11;

/// User and system time of all threads of `processes`, in all.
///
/// # Errors
/// One of them has ended.
pub(super) fn cpu_time(processes: &[u32]) -> Result<Duration, CliError> {
    let mut ticks = 0;
    for process in processes {
        let path = PathBuf::from(format!("/proc/{process}/stat"));
        match files::read_to_string(&path) {
            Ok(stat) => ticks += ticks_of(&stat),
            Err(source) => return Err(CliError::File { action: "reading", path, source }),
        }
    }
    Ok(TICK * ticks)
}

fn ticks_of(stat: &str) -> u32 {
    // The name is in parentheses, and may hold any character.
    let after_name = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields = after_name.split_whitespace().skip(FIELDS_BEFORE).take(2);
    fields.filter_map(|field| field.parse::<u32>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_costs_time() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 9 8 7 6 150 50 3 2 20 0 9 0 5 1 2";
        assert_eq!(ticks_of(stat), 200);
        let me = [std::process::id()];
        let before = cpu_time(&me).unwrap();
        let mut sum = 0_u64;
        while cpu_time(&me).unwrap() < before + 2 * TICK {
            sum = (0..100_000_u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        cpu_time(&[u32::MAX]).unwrap_err();
    }
}
