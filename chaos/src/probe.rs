//! What this machine lets us do, tried out at the start and printed.

use std::{fmt, fs, path::PathBuf};

use crate::{os::run, shim};

/// How the processes are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Links {
    /// A network namespace a node: needs root, or user namespaces.
    Namespaces,
    /// Loopback, with relays between the nodes.
    Proxies,
}

/// See the module. A reason stands where a thing can't be had.
#[derive(Debug, Clone)]
pub struct Machine {
    pub namespaces: Result<(), String>,
    pub netem: Result<(), String>,
    pub tbf: Result<(), String>,
    pub mounts: Result<(), String>,
    /// The folder below which control groups with a memory limit can be made.
    pub memory_groups: Result<PathBuf, String>,
    /// The library that nodes are started with.
    pub shim: Result<PathBuf, String>,
}

impl Machine {
    /// `prefix` begins the names of what is made and taken away again; `folder` is one to try a mount in.
    pub async fn probe(prefix: &str, folder: &std::path::Path) -> Self {
        let name = format!("{prefix}p");
        let namespaces = links(&name).await;
        let (mut netem, mut tbf) = (namespaces.clone(), namespaces.clone());
        if namespaces.is_ok() {
            let of = ["-n", &name, "qdisc", "add", "dev", "lo", "root"];
            netem = text(run("tc", &[&of[..], &["netem", "delay", "1ms"][..]].concat()).await);
            if netem.is_ok() {
                // It is taken away with the namespace; the next try needs the place now.
                let _gone = run("tc", &["-n", &name, "qdisc", "del", "dev", "lo", "root"]).await;
            }
            let rate = ["tbf", "rate", "1mbit", "burst", "32kb", "latency", "400ms"];
            tbf = text(run("tc", &[&of[..], &rate[..]].concat()).await);
        }
        // There is none if the first step failed.
        let _gone = run("ip", &["netns", "del", &name]).await;
        let (mounts, shim) = (mounts(prefix, folder).await, shim::find(folder).await);
        Self { namespaces, netem, tbf, mounts, memory_groups: memory(prefix), shim }
    }
}

fn text<T>(tried: Result<T, crate::os::OsError>) -> Result<(), String> {
    tried.map(drop).map_err(|error| error.to_string())
}

/// A namespace in which a program can decide on packets.
async fn links(name: &str) -> Result<(), String> {
    text(run("ip", &["netns", "add", name]).await)?;
    text(run("ip", &["-n", name, "link", "set", "lo", "up"]).await)?;
    text(run("tc", &["-n", name, "qdisc", "add", "dev", "lo", "clsact"]).await)?;
    let program = ["handle", "1", "bpf", "da", "bytecode", "1,6 0 0 4294967295"];
    let filter = ["-n", name, "filter", "replace", "dev", "lo", "ingress", "prio", "1"];
    text(run("tc", &[&filter[..], &program[..]].concat()).await)?;
    text(run("ip", &["netns", "exec", name, "true"]).await)
}

async fn mounts(prefix: &str, folder: &std::path::Path) -> Result<(), String> {
    let at = folder.join("probe");
    fs::create_dir_all(&at).map_err(|error| error.to_string())?;
    let path = at.to_string_lossy();
    let mounted = text(run("mount", &["-t", "tmpfs", "-o", "size=1m", prefix, &path]).await);
    if mounted.is_ok() {
        text(run("umount", &[&path]).await)?;
    }
    // Left empty if it can't be removed.
    let _gone = fs::remove_dir(&at);
    mounted
}

/// Version 1 first, as machines that have both keep the memory controller there.
fn memory(prefix: &str) -> Result<PathBuf, String> {
    let mut reasons = Vec::new();
    for (root, limit) in [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
        ("/sys/fs/cgroup/unified", "memory.max"),
    ] {
        let at = PathBuf::from(root).join(format!("{prefix}p"));
        let tried = fs::create_dir(&at).and_then(|()| fs::metadata(at.join(limit)).map(drop));
        // There is none if the first step failed.
        let _gone = fs::remove_dir(&at);
        match tried {
            Ok(()) => return Ok(PathBuf::from(root)),
            Err(error) => reasons.push(format!("{root}: {error}")),
        }
    }
    Err(reasons.join("; "))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let can = |tried: &Result<(), String>| match tried {
            Ok(()) => "yes".to_owned(),
            Err(reason) => format!("no ({reason})"),
        };
        writeln!(f, "  network namespaces  {}", can(&self.namespaces))?;
        writeln!(f, "  delays (tc netem)   {}", can(&self.netem))?;
        writeln!(f, "  bandwidth (tc tbf)  {}", can(&self.tbf))?;
        writeln!(f, "  small disks (tmpfs) {}", can(&self.mounts))?;
        writeln!(f, "  memory limits       {}", can(&self.memory_groups.clone().map(drop)))?;
        write!(f, "  clocks, power cuts  {}", can(&self.shim.clone().map(drop)))
    }
}
