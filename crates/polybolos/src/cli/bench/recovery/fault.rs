//! What is done to executors in the middle of a query, and how it is made good again.

use std::{path::PathBuf, time::Duration};

use polybolos_env::Env;
use tokio::{process::Command, time::sleep};

use super::super::super::{
    args::RecoveryFault,
    error::CliError,
    files,
    processes::{Fleet, Node},
};

/// How long a stopped executor stays so: longer than a cluster waits for a silent one.
const STOPPED: Duration = Duration::from_secs(10);
/// The size of a disk that is filled. Without filler it holds what an executor writes at scale 1.
const DISK: &str = "size=1G";
/// Of the outputs of an executor whose files are meddled with: next to nothing stays in memory.
const IN_FILES: [&str; 2] = ["--shuffle-memory", "64KiB"];

/// The disks that were mounted; taken away when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Disks(Vec<PathBuf>);

impl Drop for Disks {
    fn drop(&mut self) {
        for at in &self.0 {
            // Lazily: the process that has files open there is killed a moment later.
            let unmounted = std::process::Command::new("umount").arg("-l").arg(at).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("the small disk at {} could not be unmounted", at.display());
            }
        }
    }
}

/// Makes a fleet that is not started ready for the fault.
///
/// # Errors
/// A small disk can't be mounted, as only root may.
pub(super) async fn prepare(fleet: &mut Fleet, fault: RecoveryFault) -> Result<Disks, CliError> {
    let mut disks = Disks::default();
    if matches!(fault, RecoveryFault::DeleteFiles | RecoveryFault::FullDisk) {
        fleet.executors.iter_mut().for_each(|node| node.add_args(&IN_FILES));
    }
    if fault == RecoveryFault::FullDisk {
        for node in &fleet.executors {
            let making = |source| CliError::File { action: "making", path: node.folder.clone(), source };
            files::create_dir_all(&node.folder).map_err(making)?;
            let at = node.folder.to_string_lossy().into_owned();
            command("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs", &at], node).await?;
            disks.0.push(node.folder.clone());
        }
    }
    Ok(disks)
}

/// Does it. When, in ms since the Unix epoch: before it acts, so that no detection is shown shorter than it was.
pub(super) async fn strike(
    nodes: &mut [Node],
    victim: usize,
    fault: RecoveryFault,
    env: &Env,
) -> Result<f64, CliError> {
    let at_ms = env.clock.wall_ms() as f64;
    let node = &mut nodes[victim];
    let meddling = |source| CliError::File { action: "meddling with", path: node.folder.clone(), source };
    match fault {
        RecoveryFault::Kill => node.kill().await?,
        RecoveryFault::KillAll => {
            for node in &mut *nodes {
                node.kill().await?;
            }
            for node in nodes {
                node.start()?;
            }
        }
        RecoveryFault::Stop => {
            signal(node, "-STOP").await?;
            sleep(STOPPED).await;
            signal(node, "-CONT").await?;
        }
        RecoveryFault::DeleteFiles => files::remove_dir_all(&node.folder).map_err(meddling)?,
        RecoveryFault::FullDisk => files::fill(&filler(node)).map_err(meddling)?,
    }
    Ok(at_ms)
}

/// Whether the cluster notices the loss of the victim. One that comes back at once may be a new life before.
pub(super) fn is_noticed(fault: RecoveryFault) -> bool {
    matches!(fault, RecoveryFault::Kill | RecoveryFault::Stop)
}

/// Until the next run all is as it was.
pub(super) async fn heal(fleet: &mut Fleet, victim: usize, fault: RecoveryFault) -> Result<(), CliError> {
    let node = &mut fleet.executors[victim];
    let freeing = |source| CliError::File { action: "freeing", path: node.folder.clone(), source };
    match fault {
        RecoveryFault::Kill => node.start()?,
        RecoveryFault::KillAll | RecoveryFault::Stop => {}
        RecoveryFault::DeleteFiles => {
            node.kill().await?;
            node.start()?;
        }
        RecoveryFault::FullDisk => files::remove(&filler(node)).map_err(freeing)?,
    }
    fleet.all_live().await
}

fn filler(node: &Node) -> PathBuf {
    node.folder.join("filler")
}

async fn signal(node: &Node, signal: &str) -> Result<(), CliError> {
    // One that has ended is found by whoever waits for it.
    let Some(process) = node.process() else { return Ok(()) };
    command("kill", &[signal, &process.to_string()], node).await
}

async fn command(program: &str, args: &[&str], node: &Node) -> Result<(), CliError> {
    let failed = |log: String| CliError::Node {
        name: node.name.clone(),
        what: format!("`{program} {}` failed", args.join(" ")),
        log,
    };
    let output =
        Command::new(program).args(args).output().await.map_err(|error| failed(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}
