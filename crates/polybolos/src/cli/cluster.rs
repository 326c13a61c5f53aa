//! `cluster`: operating the set of scheduler replicas.
//!
//! ```text
//!   status, add, remove, transfer, snapshot ──▶ Client ──▶ the leader
//!   restore, recover ──▶ polybolos_consensus ──▶ a data folder that no process uses
//! ```

use std::{
    io::{BufRead, IsTerminal},
    path::Path,
};

use polybolos_client::Client;
use polybolos_consensus::{RestoreTarget, recover as recover_folder, restore as restore_folder};
use polybolos_env::Env;
use polybolos_model::ReplicaId;

use super::{
    args::{
        AddArgs, ClusterArgs, RecoverArgs, RemoveArgs, ReplicasArgs, ReplicasCommand, RestoreArgs,
        SnapshotArgs, TransferArgs,
    },
    error::CliError,
    files, local, output, status, text,
};

/// What an operator types to have a recovery done.
const CONSENT: &str = "recover";

pub(crate) async fn run(args: ReplicasArgs) -> Result<(), CliError> {
    match args.command {
        ReplicasCommand::Status(args) => status::status(args).await,
        ReplicasCommand::Add(args) => add(args).await,
        ReplicasCommand::Remove(args) => remove(args).await,
        ReplicasCommand::Transfer(args) => transfer(args).await,
        ReplicasCommand::Snapshot(args) => snapshot(args).await,
        ReplicasCommand::Restore(args) => restore(args).await,
        ReplicasCommand::Recover(args) => recover(args).await,
    }
}

fn connect(args: ClusterArgs) -> Result<Client, CliError> {
    Ok(Client::connect(args.schedulers, local::client_env()?)?)
}

async fn add(args: AddArgs) -> Result<(), CliError> {
    let client = connect(args.cluster)?;
    eprintln!("waiting until replica {} at {} has caught up", args.id, args.address);
    client.add_replica(ReplicaId(args.id), args.address).await?;
    output::print(&format!("replica {} votes\n", args.id))
}

async fn remove(args: RemoveArgs) -> Result<(), CliError> {
    connect(args.cluster)?.remove_replica(ReplicaId(args.id)).await?;
    output::print(&format!("replica {} is no member any more; its id is never used again\n", args.id))
}

async fn transfer(args: TransferArgs) -> Result<(), CliError> {
    let (leader, term) = connect(args.cluster)?.transfer_leadership(args.to.map(ReplicaId)).await?;
    if let Some(to) = args.to.filter(|to| *to != leader.0) {
        return Err(CliError::OtherLeads { to, leader, term });
    }
    output::print(&format!("replica {leader} leads, in term {term}\n"))
}

async fn snapshot(args: SnapshotArgs) -> Result<(), CliError> {
    let backup = connect(args.cluster)?.backup().await?;
    let writing = |source| CliError::File { action: "writing", path: args.out.clone(), source };
    files::write_durably(&args.out, &backup).map_err(writing)?;
    output::print(&format!("{}: {}\n", args.out.display(), text::bytes(backup.len() as u64)))
}

async fn restore(args: RestoreArgs) -> Result<(), CliError> {
    let RestoreArgs { from, data_dir, id, address } = args;
    let reading = |source| CliError::File { action: "reading", path: from.clone(), source };
    let backup = files::read(&from).map_err(reading)?;
    let target = RestoreTarget { data_dir: data_dir.clone(), id: ReplicaId(id), address: address.clone() };
    let restored = restore_folder(&backup, target, &offline_env()?).await;
    let restored = restored.map_err(|source| CliError::Restore {
        backup: from.clone(),
        data_dir: data_dir.clone(),
        source: Box::new(source),
    })?;
    output::print(&format!(
        "replica {id} of the new cluster {}, with entries up to {}; start it by:\n  polybolos scheduler --id {id} \
         --listen {address} --cluster {id}={address} --data-dir {}\n",
        restored.cluster_id,
        restored.index,
        data_dir.display()
    ))
}

async fn recover(args: RecoverArgs) -> Result<(), CliError> {
    eprintln!("{}", warning(&args.force_from));
    if !args.yes {
        consent(std::io::stdin().is_terminal(), &mut std::io::stdin().lock())?;
    }
    let recovered = recover_folder(&args.force_from, &offline_env()?).await;
    let recovered = recovered.map_err(|source| CliError::Recover {
        data_dir: args.force_from.clone(),
        source: Box::new(source),
    })?;
    let lost: Vec<String> = recovered.lost.iter().map(ToString::to_string).collect();
    if !lost.is_empty() {
        eprintln!("lost for good, never to be started again: replica {}", lost.join(", "));
    }
    output::print(&format!(
        "replica {} is the only one of cluster {}, with entries up to {}; start it, then add others under new ids\n",
        recovered.id, recovered.cluster_id, recovered.index
    ))
}

fn warning(data_dir: &Path) -> String {
    format!(
        "This makes {} the only replica of its cluster, whatever the others hold:\n\
         - What was committed and had not reached this folder is lost: queries, tables and results may be missing\n\
         \x20 although their clients were told that they are safe.\n\
         - The data folders of all other replicas must never be started again: there would be two clusters of one\n\
         \x20 name. Delete them, and add new replicas with `polybolos cluster add` under new ids.\n\
         It is written down in the log, and `polybolos status` shows it.",
        data_dir.display()
    )
}

/// # Errors
/// Nobody is there to consent, or they don't.
fn consent(on_terminal: bool, answer: &mut impl BufRead) -> Result<(), CliError> {
    let missing = |reason: &str| Err(CliError::Flag { flag: "--yes", reason: reason.to_owned() });
    if !on_terminal {
        return missing("there is no terminal to ask on; give it to go on");
    }
    eprint!("Type '{CONSENT}' to go on: ");
    let mut line = String::new();
    answer.read_line(&mut line).map_err(CliError::Output)?;
    if line.trim() == CONSENT { Ok(()) } else { missing("nothing was done, as nobody agreed") }
}

fn offline_env() -> Result<Env, CliError> {
    Env::production(1).map_err(CliError::Threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_says_what_is_lost_and_what_must_not_be_done() {
        let warning = warning(Path::new("/data/1"));
        for part in ["/data/1", "is lost", "never be started again", "new ids"] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
    }

    #[test]
    fn nothing_is_recovered_without_consent() {
        let asked = |on_terminal, answer: &str| consent(on_terminal, &mut answer.as_bytes());
        assert!(asked(true, "recover\n").is_ok());
        for (on_terminal, answer) in [(true, "yes\n"), (true, ""), (false, "recover\n")] {
            let error = asked(on_terminal, answer).unwrap_err();
            assert!(error.to_string().starts_with("--yes") && error.exit_code() == 2, "{error}");
        }
    }
}
