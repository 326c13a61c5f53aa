//! `PlanningService`: what the leader does for replicas that serve clients through it.

use std::sync::Arc;

use polybolos_model::{IdempotencyKey, ReplicaId, SessionId};
use polybolos_proto::v1::{
    PlannedAgainst, PlannedAnswer, PlannedSubmit, ReadIndexRequest, ReadIndexResponse, StalePlan,
    planned_answer::Outcome, planning_service_server::PlanningService,
};
use polybolos_state::{Command, Entry};
use tonic::{Request, Response, Status};

use super::submit;
use crate::shared::Shared;

pub(crate) struct PlanningRpc {
    shared: Arc<Shared>,
}

impl PlanningRpc {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The network knows nobody, so this keeps out mistakes, as a replica of another cluster, and no attackers.
    fn check_replica(&self, cluster_id: &str, replica: u64) -> Result<(), Status> {
        let is_one = self.shared.read(|state| {
            let id = ReplicaId(replica);
            state.cluster_id() == cluster_id && state.replica(id).is_some() && !state.is_retired(id)
        });
        match is_one {
            true => Ok(()),
            false => Err(Status::failed_precondition(format!(
                "replica {replica} of cluster '{cluster_id}' is none of this cluster"
            ))),
        }
    }
}

#[tonic::async_trait]
impl PlanningService for PlanningRpc {
    async fn submit_planned(
        &self,
        request: Request<PlannedSubmit>,
    ) -> Result<Response<PlannedAnswer>, Status> {
        let PlannedSubmit { cluster_id, replica, entry, against } = request.into_inner();
        self.shared.require_leader()?;
        self.check_replica(&cluster_id, replica)?;
        let command = the_submit(&entry)?;
        let outcome = commit_planned(&self.shared, command, &against.unwrap_or_default()).await?;
        Ok(Response::new(PlannedAnswer { outcome: Some(outcome) }))
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexResponse>, Status> {
        let ReadIndexRequest { cluster_id, replica } = request.into_inner();
        self.check_replica(&cluster_id, replica)?;
        self.shared.fresh(false).await?;
        let index = *self.shared.log.applied().borrow();
        Ok(Response::new(ReadIndexResponse { index }))
    }
}

/// What this program can't read, a newer one has sent: the client is to ask the leader itself then.
fn the_submit(entry: &[u8]) -> Result<Command, Status> {
    let entry = Entry::decode(entry).map_err(|error| Status::unimplemented(error.to_string()))?;
    let mut commands = entry.commands.into_iter();
    match (commands.next(), commands.next()) {
        (Some(command @ (Command::SubmitJob { .. } | Command::SubmitWrite { .. })), None) => Ok(command),
        _ => Err(Status::unimplemented("the entry is not one command that submits a job")),
    }
}

fn names(command: &Command) -> (Option<&IdempotencyKey>, Option<&SessionId>) {
    match command {
        Command::SubmitJob { key, session, .. } | Command::SubmitWrite { key, session, .. } => {
            (key.as_ref(), session.as_ref())
        }
        _ => (None, None),
    }
}

/// Commits a job that was planned `against` what another replica knew, if it is what this leader knows.
///
/// No majority is asked first. Everything that was acknowledged before this leader looks is in what it looks at, if it
/// still leads in the same term when the entry is committed; and otherwise the entry is not.
///
/// # Errors
/// As `QueryService.Submit`.
pub(super) async fn commit_planned(
    shared: &Shared,
    command: Command,
    against: &PlannedAgainst,
) -> Result<Outcome, Status> {
    let (key, session) = names(&command);
    // Planning a repeated submit anew may fail, as of a table that was dropped since.
    if submit::known_job(shared, key).is_some() {
        shared.fresh(false).await?;
        if let Some(known) = submit::known_job(shared, key) {
            return Ok(Outcome::Answer(submit::job(known)));
        }
    }
    let leadership = shared.log.leadership().borrow().clone();
    shared.require_leader()?;
    let now = shared.read(|state| shared.front.surroundings(state, session).facts());
    if now != *against {
        polybolos_model::sometimes!("a plan of another replica was out of date");
        return Ok(Outcome::Stale(StalePlan {}));
    }
    polybolos_model::sometimes!("a plan of another replica was committed");
    submit::commit(shared, Some(leadership.term), command).await.map(Outcome::Answer)
}

#[cfg(test)]
mod tests {
    use polybolos_model::{JobId, Term};
    use tonic::Code;

    use super::*;

    #[test]
    fn nothing_but_one_submit_is_taken() {
        let encoded = |commands| Entry::new(1, Term(0), 0, commands).encode().unwrap();
        let release = Command::ReleaseJob { job: JobId(1) };
        for bad in [
            encoded(vec![]),
            encoded(vec![release.clone()]),
            encoded(vec![release.clone(), release]),
            vec![7],
        ] {
            assert_eq!(the_submit(&bad).unwrap_err().code(), Code::Unimplemented);
        }
    }
}
