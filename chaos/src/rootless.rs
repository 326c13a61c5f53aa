//! Network namespaces without root: this program starts itself again within namespaces of its own, where it may make them.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

/// Says that this is the second start.
const INSIDE: &str = "POLYBOLOS_CHAOS_INSIDE";
const NAMESPACES: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];
/// `ip netns` keeps its names below `/run`, and nothing of the machine's may be touched there.
const SCRIPT: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$0\" \"$@\"";

/// Does not come back if it can start itself so. It comes back for root, and where the machine forbids it: then the nodes
/// are connected by relays, which the probe tells.
pub(crate) fn enter() {
    let is_root = || {
        let output = Command::new("id").arg("-u").output();
        output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
    };
    if std::env::var_os(INSIDE).is_some() || is_root() {
        return;
    }
    let quiet = |command: &mut Command| {
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ended.is_ok_and(|status| status.success())
    };
    let tried = "mount -t tmpfs tmpfs /run && ip link set lo up && ip netns add probe";
    if !quiet(Command::new("unshare").args(NAMESPACES).args(["sh", "-c", tried])) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new("unshare");
    command.args(NAMESPACES).args(["sh", "-c", SCRIPT]).arg(program).args(std::env::args_os().skip(1));
    let error = command.env(INSIDE, "1").exec();
    eprintln!("this program could not start itself in namespaces of its own: {error}");
}
