//! How much memory the nodes take, by what the kernel says of their processes.

use std::{collections::BTreeMap, fs};

/// In KiB, as `/proc/PID/status` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) now_kib: u64,
    /// The most since the process began.
    pub(crate) peak_kib: u64,
}

impl Resident {
    /// `None` if the process is gone.
    pub(crate) fn of(process: u32) -> Option<Self> {
        parse(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
    }
}

fn parse(status: &str) -> Option<Resident> {
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Resident { now_kib: of("VmRSS")?, peak_kib: of("VmHWM")? })
}

/// Tells of a node when its peak has grown, or after a while.
#[derive(Debug, Default)]
pub(crate) struct Watched(BTreeMap<String, (u32, u64, u64)>);

/// A peak that has grown by less is no news.
const GROWTH_PERCENT: u64 = 5;
const EVERY_MS: u64 = 5_000;

impl Watched {
    /// Whether what `node` takes is worth a line.
    pub(crate) fn is_news(&mut self, node: &str, process: u32, now_ms: u64, resident: Resident) -> bool {
        let peak = resident.peak_kib;
        if let Some((of, told_ms, told_kib)) = self.0.get(node)
            && *of == process
            && now_ms.saturating_sub(*told_ms) < EVERY_MS
            && peak.saturating_mul(100) <= told_kib.saturating_mul(100 + GROWTH_PERCENT)
        {
            return false;
        }
        self.0.insert(node.to_owned(), (process, now_ms, peak));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let own = Resident::of(std::process::id()).unwrap();
        assert!(own.now_kib > 0 && own.peak_kib >= own.now_kib, "{own:?}");
        assert_eq!(
            parse("VmHWM:\t  200 kB\nVmRSS:\t 100 kB\n"),
            Some(Resident { now_kib: 100, peak_kib: 200 })
        );
        assert_eq!(parse("Name: zombie\n"), None);
    }

    #[test]
    fn growth_is_news_and_a_new_life_too() {
        let mut watched = Watched::default();
        let of = |peak_kib| Resident { now_kib: 1, peak_kib };
        assert!(watched.is_news("a", 1, 0, of(1_000)));
        assert!(!watched.is_news("a", 1, 100, of(1_040)));
        assert!(watched.is_news("a", 1, 200, of(1_051)));
        assert!(watched.is_news("a", 2, 300, of(10)) && watched.is_news("b", 3, 300, of(10)));
        assert!(watched.is_news("a", 2, 5_300, of(10)));
    }
}
