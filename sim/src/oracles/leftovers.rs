//! At rest nothing is left over: no job is active, every healthy executor is registered and says that it runs nothing and
//! holds no memory, and keeps outputs, in memory or in files, only of jobs whose results may still be fetched.
//! From: issue 4, "no task, slot, memory or file left over at rest".
//!
//! A file that a failing disk did not let go of stays until the next start ("it could not be deleted").

use std::collections::BTreeSet;

use polybolos_model::JobId;
use polybolos_state::{ClusterState, Executor};

use super::{Check, Oracle, Reference, Rest, disruptions::Disruptions};
use crate::moment::{Moment, What};

/// What every shuffle file's name begins with; the job's id follows.
const SHUFFLE_FILE: &str = "shuffle-";
/// What can't be deleted then stays.
const STORE_FAULTS: &[&str] = &["store-errors"];
const DISK_FAULTS: &[&str] = &["disk-errors", "disk-full"];

#[derive(Debug, Default)]
pub(super) struct Leftovers {
    disruptions: Disruptions,
}

impl Oracle for Leftovers {
    fn name(&self) -> &'static str {
        "leftovers"
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        if matches!(moment.what, What::FaultBegins { .. }) {
            self.disruptions.on(moment);
        }
        Ok(())
    }

    fn at_rest(&mut self, rest: &Rest, reference: &Reference) -> Check {
        let state = reference.state();
        if let Some(job) = state.active_jobs().next() {
            return Err(format!("job {} is still {}: {}", job.id, job.status, job.sql));
        }
        for host in rest.healthy.iter().filter(|host| host.starts_with("executor-")) {
            check_executor(state, host)?;
        }
        rest.executor_files.iter().try_for_each(|file| self.check_file(state, file))?;
        // One that is cut off for good may go on writing, and reads no word of the job's end.
        if state.executors().all(|known| rest.healthy.iter().any(|host| host == known.id.as_str())) {
            rest.durable_outputs.iter().try_for_each(|path| self.check_durable(state, path))?;
        }
        Ok(())
    }
}

impl Leftovers {
    fn check_durable(&self, state: &ClusterState, path: &str) -> Check {
        let job = path.split('/').nth(2).and_then(|job| job.parse::<JobId>().ok());
        let is_kept = job.is_some_and(|job| state.unfetched_jobs().any(|kept| kept.id == job));
        if is_kept || self.disruptions.ever_of(STORE_FAULTS) {
            return Ok(());
        }
        Err(format!("a durable copy is left over: {path}"))
    }

    /// `file` is `host: path`.
    fn check_file(&self, state: &ClusterState, file: &str) -> Check {
        let (host, path) = file.split_once(": ").unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let job = name.strip_prefix(SHUFFLE_FILE).and_then(|rest| rest.get(..16)?.parse::<JobId>().ok());
        let is_kept = job.is_some_and(|job| state.unfetched_jobs().any(|kept| kept.id == job));
        if is_kept || self.disruptions.ever_hit(&host.into(), DISK_FAULTS) {
            return Ok(());
        }
        Err(format!("a file is left over on {file}"))
    }
}

fn check_executor(state: &ClusterState, host: &str) -> Check {
    let known = state.executors().find(|executor| executor.id.as_str() == host);
    let Some(executor) =
        known.filter(|executor| executor.is_present() && executor.suspect_since_ms.is_none())
    else {
        return Err(format!("{host} is well and is not registered"));
    };
    let usage = &executor.usage;
    if usage.running_tasks > 0 || usage.memory_used_bytes > 0 {
        let (tasks, bytes) = (usage.running_tasks, usage.memory_used_bytes);
        return Err(format!("{host} says that it runs {tasks} tasks with {bytes} bytes of memory"));
    }
    if usage.shuffle_bytes > 0 && !holds_results(state, executor) {
        return Err(format!("{host} holds {} bytes of outputs that nobody may fetch", usage.shuffle_bytes));
    }
    Ok(())
}

/// Whether any output of a job whose results may be fetched was made there.
fn holds_results(state: &ClusterState, executor: &Executor) -> bool {
    let makers: BTreeSet<_> = state
        .unfetched_jobs()
        .flat_map(|job| &job.runs)
        .flat_map(|run| run.completed())
        .map(|(_, done)| &done.executor)
        .collect();
    makers.contains(&executor.id)
}

#[cfg(test)]
mod tests {
    use polybolos_state::Command;

    use super::{super::testing::*, *};

    fn rest(files: &[&str]) -> Rest {
        let healthy = vec!["executor-1".to_owned(), "scheduler-1".to_owned()];
        Rest {
            healthy,
            executor_files: files.iter().map(|file| (*file).to_owned()).collect(),
            ..Rest::default()
        }
    }

    /// With the one job done and released.
    fn lab() -> Lab<Leftovers> {
        let mut lab = Lab::with_job(Leftovers::default());
        assert!(lab.at_rest(&rest(&[])).is_err(), "the job is active");
        lab.commit(complete_all()).unwrap();
        lab.commit(vec![beat(1, 1, 0, 10)]).unwrap();
        lab.at_rest(&rest(&["executor-1: /work/shuffle/shuffle-0000000000000001-0-0-1.1.data"])).unwrap();
        lab.commit(vec![Command::ReleaseJob { job: JOB }]).unwrap();
        lab
    }

    #[test]
    fn outputs_of_released_jobs_are_found() {
        let mut lab = lab();
        assert!(lab.at_rest(&rest(&[])).is_err());
        lab.commit(vec![beat(1, 1, 0, 0)]).unwrap();
        lab.at_rest(&rest(&[])).unwrap();
        let file = "executor-1: /work/shuffle/shuffle-0000000000000001-0-0-1.1.data";
        assert!(lab.at_rest(&rest(&[file])).is_err());
        assert!(lab.at_rest(&rest(&["executor-1: /work/spill/a"])).is_err());
        lab.fault(1, "disk-errors", "executor-1").unwrap();
        lab.at_rest(&rest(&[file])).unwrap();
    }

    #[test]
    fn busy_slots_and_missing_executors_are_found() {
        let mut lab = lab();
        lab.commit(vec![beat(1, 1, 1, 0)]).unwrap();
        assert!(lab.at_rest(&rest(&[])).is_err());
        lab.commit(vec![lose(1, 1)]).unwrap();
        assert!(lab.at_rest(&rest(&[])).is_err());
        lab.commit(vec![register(1, 5)]).unwrap();
        lab.at_rest(&rest(&[])).unwrap();
    }
}
