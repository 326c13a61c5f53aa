//! `QueryService.Submit` at a replica that does not lead: it plans, and the leader commits.
//!
//! ```text
//!   Submit ─┬─ a query ─▶ plan by the own state ─┬─ a job ─▶ hand it on, with what it was planned against ─▶ the leader's answer
//!           │                  ▲                 │                       │ out of date
//!           │                  └── catch up ◀────┼───────────────────────┘
//!           │                                    └─ rows, or an error ─▶ catch up: nothing has changed? ─▶ that is it
//!           └─ anything else ──▶ relay to the leader
//! ```
//!
//! A job needs no look at how far this replica is behind, since the leader compares what went into the plan. What this
//! replica answers itself does.

use polybolos_proto::v1::{PlanAt, SubmitRequest, SubmitResponse, planned_answer::Outcome};
use polybolos_state::Entry;
use tonic::Status;

use super::{
    planning::commit_planned,
    submit::{self, Submit, surroundings},
};
use crate::{
    error::RequestError,
    front::{JobPlan, Planned, Surroundings},
    shared::Shared,
};

/// How often one statement is planned here. If what it is planned against changes as often meanwhile, the leader plans it.
const MAX_PLANS: u32 = 3;

/// # Errors
/// As [`submit::submit`]; [`RequestError::NotLeader`] also if the leader can't do its part, or the request wants it alone.
pub(super) async fn submit(shared: &Shared, request: SubmitRequest) -> Result<SubmitResponse, Status> {
    if request.plan_at() != PlanAt::Any || !shared.is_serving() {
        return Err(shared.not_serving().into());
    }
    let leader = shared.leader_elsewhere()?;
    let answer = serve(shared, request).await?;
    Ok(SubmitResponse { leader, ..answer })
}

async fn serve(shared: &Shared, request: SubmitRequest) -> Result<SubmitResponse, Status> {
    let (submit, to_plan) = Submit::read(request.clone())?;
    if !to_plan.statement.is_planned_anywhere() {
        return shared.relay(request).await;
    }
    for _ in 0..MAX_PLANS {
        let around = surroundings(shared, &to_plan);
        let planned = match shared.front.plan(to_plan.clone(), around.clone()).await {
            Ok(Planned::Job(plan)) => {
                match hand_on(shared, &submit, *plan, &around).await? {
                    Some(answer) => return Ok(answer),
                    None => shared.caught_up().await?,
                }
                continue;
            }
            planned => planned,
        };
        shared.caught_up().await?;
        if let Some(known) = submit::known_job(shared, submit.key.as_ref()) {
            return Ok(submit::job(known));
        }
        if surroundings(shared, &to_plan).are_as(&around) {
            return match planned? {
                Planned::Inline(arrow_stream) => Ok(submit::inline(arrow_stream)),
                // Handed on above, if it is a job.
                Planned::Commit(_) | Planned::Job(_) => shared.relay(request).await,
            };
        }
        polybolos_model::sometimes!("a replica that was behind planned again");
    }
    Err(shared.not_serving().into())
}

/// `None` if it must be planned anew.
async fn hand_on(
    shared: &Shared,
    submit: &Submit,
    plan: JobPlan,
    around: &Surroundings,
) -> Result<Option<SubmitResponse>, Status> {
    let (against, command) = (around.facts(), submit.command(shared, plan));
    // It has come to lead meanwhile.
    if shared.serves() {
        return match commit_planned(shared, command, &against).await? {
            Outcome::Answer(answer) => Ok(Some(answer)),
            Outcome::Stale(_) => Ok(None),
        };
    }
    let (version, term) = shared.read(|state| (state.version(), state.term()));
    let entry = Entry::new(version, term, 0, vec![command]).encode();
    let entry = entry.map_err(|error| RequestError::NotCommitted { reason: error.to_string() })?;
    shared.hand_on(entry, against).await
}
