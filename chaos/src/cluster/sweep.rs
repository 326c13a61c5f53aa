//! What runs that were killed left on the machine, by names that begin with `pbc` and the number of their process.

use std::{fs, path::Path};

use crate::os::run;

const MARK: &str = "pbc";

/// How the names of this process's namespaces, links, mounts and groups begin. Links may have 15 characters.
pub fn prefix() -> String {
    format!("{MARK}{}", std::process::id())
}

/// Whose name this is, if it is one of ours: the number of the process.
fn owner(name: &str) -> Option<u32> {
    let digits: String = name.strip_prefix(MARK)?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn is_stale(name: &str) -> bool {
    owner(name).is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}

/// Ends and takes away what dead runs left, and tells what that was. Whatever can't be taken away stays.
pub async fn sweep() -> Vec<String> {
    let mut swept = Vec::new();
    for name in run("ip", &["netns", "list"]).await.unwrap_or_default().lines() {
        let name = name.split(' ').next().unwrap_or_default();
        if is_stale(name) {
            // Nodes end with the run that started them, but one that is stopped can't.
            for process in run("ip", &["netns", "pids", name]).await.unwrap_or_default().lines() {
                let _killed = run("kill", &["-s", "KILL", process]).await;
            }
            if run("ip", &["netns", "del", name]).await.is_ok() {
                swept.push(format!("namespace {name}"));
            }
        }
    }
    for line in run("ip", &["-o", "link"]).await.unwrap_or_default().lines() {
        let name = line.split(": ").nth(1).unwrap_or_default().split('@').next().unwrap_or_default();
        if is_stale(name) && run("ip", &["link", "del", name]).await.is_ok() {
            swept.push(format!("link {name}"));
        }
    }
    for line in fs::read_to_string("/proc/mounts").unwrap_or_default().lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(at)) = (words.next(), words.next())
            && is_stale(name)
            && run("umount", &["-l", at]).await.is_ok()
        {
            swept.push(format!("mount {at}"));
        }
    }
    for root in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_stale(&name) && fs::remove_dir(entry.path()).is_ok() {
                swept.push(format!("control group {name}"));
            }
        }
    }
    swept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_runs_are_stale() {
        assert_eq!(owner("pbc123n4"), Some(123));
        assert_eq!((owner("pbcbr"), owner("eth0"), owner("pb1")), (None, None, None));
        assert!(!is_stale(&format!("{}n1", prefix())) && is_stale("pbc4294967295n1") && !is_stale("eth0"));
    }
}
