//! How much memory processes have had, as the kernel keeps it (`proc(5)`).

use std::path::{Path, PathBuf};

use super::super::{error::CliError, files};

/// The most that each of the processes and of all that they have started had at once, in bytes, in all.
///
/// # Errors
/// One of `roots` has ended.
pub(super) fn of_all(roots: &[u32]) -> Result<u64, CliError> {
    let mut sum = 0;
    let mut left: Vec<(u32, bool)> = roots.iter().map(|root| (*root, true)).collect();
    while let Some((process, is_root)) = left.pop() {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let path = folder.join("status");
        match files::read_to_string(&path) {
            Ok(status) => sum += high_water_mark(&status),
            Err(source) if is_root => return Err(CliError::File { action: "reading", path, source }),
            // It has ended meanwhile.
            Err(_) => continue,
        }
        left.extend(children(&folder).into_iter().map(|child| (child, false)));
    }
    Ok(sum)
}

/// The most that this process has had, in bytes, without those that it has started.
pub(super) fn of_this() -> Result<u64, CliError> {
    let path = Path::new("/proc/self/status");
    let reading = |source| CliError::File { action: "reading", path: path.to_owned(), source };
    Ok(high_water_mark(&files::read_to_string(path).map_err(reading)?))
}

/// Has the kernel forget what this process has had before. Some kernels can't: then that counts on.
pub(super) fn forget_this() {
    const RESET_PEAK: &str = "5";
    if let Err(error) = files::overwrite(Path::new("/proc/self/clear_refs"), RESET_PEAK) {
        tracing::debug!(%error, "the peak of memory is that of all the time");
    }
}

/// `VmHWM`, in bytes.
fn high_water_mark(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processes that its threads have started.
fn children(folder: &Path) -> Vec<u32> {
    let threads = folder.join("task");
    let of_thread = |thread: String| files::read_to_string(&threads.join(thread).join("children")).ok();
    let lists: Vec<String> =
        files::names(&threads).unwrap_or_default().into_iter().filter_map(of_thread).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|child| child.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_and_what_it_started_count() {
        assert_eq!(high_water_mark("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), 2048 * 1024);
        let alone = of_all(&[std::process::id()]).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert!(children(Path::new("/proc/self")).contains(&child.id()));
        assert!(of_all(&[std::process::id()]).unwrap() >= alone);
        forget_this();
        let this = of_this().unwrap();
        assert!(this > 0 && this <= of_all(&[std::process::id()]).unwrap());
        drop(child.stdin.take());
        let ended = child.id();
        child.wait().unwrap();
        of_all(&[ended]).unwrap_err();
    }
}
