//! A query that succeeds has no larger result than it allows, whoever led when its last tasks were done.
//! From: docs/failure-contract.md, "more bytes than its `polybolos.max_result_bytes`".

use polybolos_model::settings::RESULT_BYTES;
use polybolos_state::{Change, Command};

use super::{Check, Commit, Oracle};

#[derive(Debug)]
pub(super) struct ResultsFit;

impl Oracle for ResultsFit {
    fn name(&self) -> &'static str {
        "results-fit"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            let Ok(Change::TaskCompleted { task, job_ended: true, .. }) = outcome else { continue };
            let Some(job) = commit.after.job(task.job) else { continue };
            // One that had succeeded is whole again, of which no limit is kept.
            let is_first = commit.before.job(task.job).is_none_or(|job| !job.status.is_ended());
            let limit_bytes = RESULT_BYTES.bytes_in(&job.options);
            let bytes: u64 =
                job.results().flat_map(|(_, done)| &done.outputs).map(|output| output.bytes).sum();
            let completes = matches!(command, Command::CompleteTask { .. } | Command::CompleteTaskIn { .. });
            if completes && is_first && commit.after.version() >= 3 && limit_bytes > 0 && bytes > limit_bytes
            {
                return Err(format!(
                    "index {}: job {} succeeded with a result of {bytes} bytes, and allows {limit_bytes}",
                    commit.index, job.id
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{PartitionStats, ReplicaId};

    use super::{super::testing::*, *};

    /// How [`JOB`] ends whose result has 80 bytes.
    fn end(limit_bytes: &str) -> Check {
        let mut lab = Lab::new(ResultsFit);
        let replica = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 3 };
        lab.commit(vec![replica, Command::RaiseVersion { to: 3 }]).unwrap();
        let mut limited = submit(JOB, None);
        if let Command::SubmitJob { options, .. } = &mut limited {
            options.insert("polybolos.max_result_bytes".to_owned(), limit_bytes.to_owned());
        }
        lab.commit(vec![register(1, 1), limited]).unwrap();
        let mut completions = complete_all();
        for command in &mut completions {
            if let Command::CompleteTask { outputs, .. } = command {
                outputs.fill(PartitionStats { rows: 1, bytes: 40 });
            }
        }
        lab.commit(completions)
    }

    #[test]
    fn a_success_beyond_the_limit_is_found() {
        assert!(end("79").is_err());
        end("80").unwrap();
        end("0").unwrap();
    }
}
