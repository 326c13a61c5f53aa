//! `executor drain`: an executor is asked to leave, and waited for.
//!
//! ```text
//!   drain_executor ─▶ its life ─▶ status, again and again ─▶ left, or a later life ─▶ done
//!                                                        └─▶ lost ─▶ an error
//! ```

use std::time::Duration;

use polybolos_client::{Client, ExecutorStatus};
use polybolos_model::Incarnation;

use super::{args::DrainArgs, error::CliError, local, output};

const POLL: Duration = Duration::from_millis(100);
/// How long after its deadline an executor may need: for outputs on their way, and for a change of the leader.
const GRACE: Duration = Duration::from_secs(20);

pub(crate) async fn run(args: DrainArgs) -> Result<(), CliError> {
    let DrainArgs { executor, cluster, deadline, no_wait } = args;
    let env = local::client_env()?;
    let client = Client::connect(cluster.schedulers, env.clone())?;
    let life = client.drain_executor(&executor, deadline).await?;
    if no_wait {
        return output::print(&format!("executor {executor} drains\n"));
    }
    let (asked, limit) = (env.clock.now(), deadline + GRACE);
    let mut told = String::new();
    while env.clock.now() - asked < limit {
        let status = client.status().await?;
        let row = status.executors.iter().find(|row| row.executor_id == executor.as_str());
        match standing(row, life) {
            Standing::Left(why) => return output::print(&format!("executor {executor} has left: {why}\n")),
            Standing::Lost(why) => return Err(CliError::DrainLost { executor, why }),
            Standing::Drains(progress) if progress != told => {
                eprintln!("executor {executor}: {progress}");
                told = progress;
            }
            Standing::Drains(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
    Err(CliError::NotInTime { what: format!("executor {executor} has not left"), waited: limit })
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// In these words.
    Drains(String),
    Left(String),
    Lost(String),
}

fn standing(row: Option<&ExecutorStatus>, life: Incarnation) -> Standing {
    let Some(row) = row.filter(|row| row.incarnation == life.0) else {
        // Forgotten, or started again under its name.
        return Standing::Left("it was drained".to_owned());
    };
    match row.state.as_str() {
        "left" => Standing::Left(row.reason.clone()),
        "lost" => Standing::Lost(row.reason.clone()),
        _ => Standing::Drains(format!(
            "{} tasks run, {} outputs to hand over, {} handed over",
            row.busy_slots, row.drain_outputs, row.drain_moved
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_waited_for_until_it_is_over() {
        let row = |incarnation, state: &str, reason: &str| ExecutorStatus {
            incarnation,
            state: state.into(),
            reason: reason.into(),
            busy_slots: 1,
            drain_outputs: 2,
            drain_moved: 3,
            ..Default::default()
        };
        let check = |row: Option<ExecutorStatus>| standing(row.as_ref(), Incarnation(4));
        let drains = "1 tasks run, 2 outputs to hand over, 3 handed over";
        assert_eq!(check(Some(row(4, "draining", ""))), Standing::Drains(drains.into()));
        assert_eq!(check(Some(row(4, "left", "it was drained"))), Standing::Left("it was drained".into()));
        assert_eq!(check(Some(row(4, "lost", "silent"))), Standing::Lost("silent".into()));
        assert_eq!(check(Some(row(5, "live", ""))), Standing::Left("it was drained".into()));
        assert_eq!(check(None), Standing::Left("it was drained".into()));
    }
}
