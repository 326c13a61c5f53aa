//! Log entries in a few words: each command's name, and whom it is about.

use polybolos_state::{Command, Entry};

/// Empty for openraft's own entries.
pub(super) fn of(entry: &[u8]) -> Vec<String> {
    if entry.is_empty() {
        return Vec::new();
    }
    match Entry::decode(entry) {
        Ok(entry) => entry.commands.iter().map(text).collect(),
        Err(error) => vec![format!("unreadable: {error}")],
    }
}

fn text(command: &Command) -> String {
    match command {
        Command::SubmitJob { job, key, .. } => match key {
            Some(key) => format!("submit-job {job} {key}"),
            None => format!("submit-job {job}"),
        },
        Command::CancelJob { job, .. } => format!("cancel-job {job}"),
        Command::FailJob { job, .. } => format!("fail-job {job}"),
        Command::ReleaseJob { job } => format!("release-job {job}"),
        Command::ExpireJobs => "expire-jobs".to_owned(),
        Command::CompleteTask { executor, task, attempt, .. }
        | Command::CompleteTaskIn { executor, task, attempt, .. } => {
            format!("complete-task {task} {attempt} {executor}")
        }
        Command::FailTask { executor, task, attempt, .. } => format!("fail-task {task} {attempt} {executor}"),
        Command::RegisterExecutor { executor, .. } => format!("register-executor {executor}"),
        Command::DrainExecutor { executor } => format!("drain-executor {executor}"),
        Command::LoseExecutor { executor, incarnation, .. } => {
            format!("lose-executor {executor} {incarnation}")
        }
        Command::SuspectExecutor { executor, incarnation } => {
            format!("suspect-executor {executor} {incarnation}")
        }
        Command::Heartbeats { beats } => {
            let executors = beats.iter().map(|beat| beat.executor.as_str());
            executors.fold("heartbeats".to_owned(), |text, executor| text + " " + executor)
        }
        Command::CreateTable { name, .. } => format!("create-table {name}"),
        Command::CreateView { name, .. } => format!("create-view {name}"),
        Command::DropRelation { name, .. } => format!("drop-relation {name}"),
        Command::SetSession { session, key, .. } => format!("set-session {session} {key}"),
        Command::ResetSession { session, key } => format!("reset-session {session} {key}"),
        Command::CloseSession { session } => format!("close-session {session}"),
        Command::FoundCluster { cluster_id } => format!("found-cluster {cluster_id}"),
        Command::RegisterReplica { replica, .. } => format!("register-replica {replica}"),
        Command::RetireReplica { replica } => format!("retire-replica {replica}"),
        Command::RaiseVersion { to } => format!("raise-version {to}"),
        Command::RestartCluster { replica, .. } => format!("restart-cluster {replica}"),
        Command::TasksDied { executor, incarnation, tasks } => {
            let tasks = tasks.iter().map(|(task, _)| task.to_string());
            tasks.fold(format!("tasks-died {executor} {incarnation}"), |text, task| text + " " + &task)
        }
        Command::OutputDurable { executor, task, attempt, .. } => {
            format!("output-durable {task} {attempt} {executor}")
        }
        Command::ReopenJob { job, unreadable } => {
            let partitions = unreadable.iter().map(|(partition, attempt)| format!(" {partition}:{attempt}"));
            partitions.fold(format!("reopen-job {job}"), |text, partition| text + &partition)
        }
        Command::BeginDrain { executor, incarnation, deadline_ms } => {
            format!("begin-drain {executor} {incarnation} {deadline_ms}")
        }
        Command::OutputMoved { executor, task, attempt, from, .. } => {
            format!("output-moved {task} {attempt} {from} {executor}")
        }
        Command::ExecutorLeft { executor, incarnation, .. } => {
            format!("executor-left {executor} {incarnation}")
        }
        Command::SubmitWrite { job, key, .. } => match key {
            Some(key) => format!("submit-write {job} {key}"),
            None => format!("submit-write {job}"),
        },
        Command::Published { job } => format!("published {job}"),
        Command::AbandonWrite { job, .. } => format!("abandon-write {job}"),
        Command::Swept { job } => format!("swept {job}"),
        Command::JobsStarted { jobs } => {
            jobs.iter().fold("jobs-started".to_owned(), |text, job| format!("{text} {job}"))
        }
        Command::AdaptStage { job, stage, .. } => format!("adapt-stage {job} {stage}"),
        Command::RefusedCommands { counts } => format!("refused-commands of {} executors", counts.len()),
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{JobId, Term};

    use super::*;

    #[test]
    fn entries_become_words() -> Result<(), polybolos_state::CodecError> {
        let commands = vec![Command::ExpireJobs, Command::ReleaseJob { job: JobId(0xa1) }];
        let entry = Entry::new(1, Term(1), 0, commands).encode()?;
        assert_eq!(of(&entry), ["expire-jobs", "release-job 00000000000000a1"]);
        assert!(of(&[]).is_empty());
        assert!(of(&[9, 9]).concat().starts_with("unreadable"));
        Ok(())
    }
}
