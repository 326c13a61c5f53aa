//! `QueryService.Submit`: plan, commit, tell the job's id. A replica that does not lead does it through the leader
//! ([`anywhere`]).

use bytes::Bytes;
use polybolos_model::{IdempotencyKey, JobId, SessionId, Term, settings::ADAPTIVE};
use polybolos_proto::v1::{
    InlineResult, JobAccepted, PlanAt, PlanElsewhere, SubmitRequest, SubmitResponse, submit_request,
    submit_response::Answer,
};
use polybolos_state::{Change, ClusterState, Command, Job, Rejection, Relation};
use tonic::{Code, Status};

use super::{anywhere, optional_name, statement_status, watch};
use crate::{
    error::{PlanningError, RequestError},
    front::{Destination, JobPlan, Planned, Request, Statement, Surroundings, encode_schema},
    input::Refusal,
    shared::Shared,
};

/// Serves a submit, on any replica. One that does not lead serves those that say [`PlanAt::Any`].
///
/// # Errors
/// What is wrong with the statement, why the cluster takes no job now, who leads, or that the outcome is unknown: then it
/// is repeated with the same key, at whichever replica.
pub(crate) async fn submit(shared: &Shared, request: SubmitRequest) -> Result<SubmitResponse, Status> {
    if !shared.serves() {
        return anywhere::submit(shared, request).await;
    }
    let may_go_elsewhere = request.plan_at() == PlanAt::LeaderUnlessBusy;
    let (submit, to_plan) = Submit::read(request)?;
    if to_plan.statement.is_job() && submit.known_job(shared).is_none() {
        submit.find_a_place(shared).await?;
    }
    if may_go_elsewhere && to_plan.statement.is_planned_anywhere() && is_busy(shared) {
        polybolos_model::sometimes!("a busy leader had another replica plan");
        return Ok(answer(Answer::Elsewhere(PlanElsewhere {})));
    }
    // What it is planned against must be as of now, and a repeated submit finds its job. A query is planned meanwhile.
    let mut ahead = None;
    if to_plan.statement.is_query() && submit.known_job(shared).is_none() {
        let around = surroundings(shared, &to_plan);
        let planning = shared.front.plan(to_plan.clone(), around.clone());
        // A replica that does not lead says so at once, however long the planning takes.
        let (_, planned) = tokio::try_join!(shared.fresh(false), async { Ok(planning.await) })?;
        ahead = Some((around, planned));
    } else {
        shared.fresh(false).await?;
    }
    // A repeated submit is not planned again.
    if let Some(known) = submit.known_job(shared) {
        polybolos_model::sometimes!("a repeated submit found its job");
        return Ok(job(known));
    }
    let around = surroundings(shared, &to_plan);
    let planned = match ahead {
        Some((before, planned)) if around.are_as(&before) => planned?,
        _ => shared.front.plan(to_plan, around).await?,
    };
    match planned {
        Planned::Inline(arrow_stream) => Ok(inline(arrow_stream)),
        Planned::Commit(command) => {
            change(shared, command).await?;
            let no_columns = encode_schema(&arrow::datatypes::Schema::empty());
            Ok(inline(no_columns.map_err(PlanningError::from)?))
        }
        Planned::Job(plan) => commit(shared, None, submit.command(shared, *plan)).await,
    }
}

fn is_busy(shared: &Shared) -> bool {
    shared.front.is_busy() || polybolos_model::buggify!("scheduler.plan_elsewhere")
}

pub(super) fn surroundings(shared: &Shared, request: &Request) -> Surroundings {
    shared.read(|state| shared.front.surroundings(state, request.session.as_ref()))
}

/// The job that an earlier submit of this key has made.
pub(super) fn known_job(shared: &Shared, key: Option<&IdempotencyKey>) -> Option<JobAccepted> {
    let key = key.filter(|_| !polybolos_model::mutant!("forget-keys"))?;
    shared.read(|state| state.job_by_key(key).map(|job| accepted(state, job)))
}

/// What a submit says of its job beside the statement.
pub(super) struct Submit {
    pub(super) key: Option<IdempotencyKey>,
    session: Option<SessionId>,
    cancel_when_unwatched_ms: u64,
}

impl Submit {
    /// That, and what is to be planned.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(super) fn read(request: SubmitRequest) -> Result<(Self, Request), Status> {
        let key: Option<IdempotencyKey> = optional_name(&request.idempotency_key)?;
        let session: Option<SessionId> = optional_name(&request.session_id)?;
        let statement = match request.statement {
            Some(submit_request::Statement::Sql(sql)) => Statement::Sql(sql),
            Some(submit_request::Statement::LogicalPlan(plan)) => Statement::LogicalPlan(plan),
            None => return Err(statement_status(Code::InvalidArgument, "the request has no statement")),
        };
        let options = request.options.into_iter().collect();
        let to_plan = Request { statement, session: session.clone(), options };
        let cancel_when_unwatched_ms = request.cancel_when_unwatched_ms;
        Ok((Self { key, session, cancel_when_unwatched_ms }, to_plan))
    }

    fn known_job(&self, shared: &Shared) -> Option<JobAccepted> {
        known_job(shared, self.key.as_ref())
    }

    /// Nothing is planned for a queue that is full. That decides only what it refuses: the run loop looks again, and more
    /// closely, when the plan is there.
    ///
    /// # Errors
    /// [`RequestError::QueueFull`], by a replica that leads and knows every key; otherwise why it can't tell.
    async fn find_a_place(&self, shared: &Shared) -> Result<(), RequestError> {
        if shared.queue_full().is_none() {
            return Ok(());
        }
        shared.fresh(false).await?;
        match shared.queue_full().filter(|_| self.known_job(shared).is_none()) {
            Some(full) => Err(full.into()),
            None => Ok(()),
        }
    }

    /// What submits the planned job.
    pub(super) fn command(&self, shared: &Shared, plan: JobPlan) -> Command {
        let Self { key, session, cancel_when_unwatched_ms } = self;
        let (key, session, cancel_when_unwatched_ms) =
            (key.clone(), session.clone(), *cancel_when_unwatched_ms);
        let job = JobId(shared.env.random.next_u64());
        let JobPlan { sql, graph, options, schema, ordered, explain_analyze, write, .. } = plan;
        let may_adapt =
            ADAPTIVE.switch_in(&options) && shared.read(ClusterState::version) >= Command::ADAPT_VERSION;
        let graph = if may_adapt { graph } else { graph.as_planned() };
        match write {
            Some(Destination { target, table, .. }) => Command::SubmitWrite {
                job,
                key,
                session,
                sql,
                graph,
                options,
                schema,
                cancel_when_unwatched_ms,
                target,
                table,
            },
            None => Command::SubmitJob {
                job,
                key,
                session,
                sql,
                graph,
                options,
                explain_analyze,
                ordered,
                schema,
                cancel_when_unwatched_ms,
            },
        }
    }
}

/// Commits what submits a job, in `term` alone if there is one, and tells the client of it.
///
/// # Errors
/// As [`submit`].
pub(super) async fn commit(
    shared: &Shared,
    term: Option<Term>,
    command: Command,
) -> Result<SubmitResponse, Status> {
    let Some((id, submitted)) = of_submit(&command) else {
        return Err(statement_status(Code::InvalidArgument, "the command submits no job"));
    };
    match shared.request_in(term, command).await? {
        // The first submit's answer, though its job may have been forgotten since.
        Change::Duplicate { job: first } if !polybolos_model::mutant!("duplicate-answered-anew") => {
            match shared.read(|state| state.job(first).map(|job| accepted(state, job))) {
                Some(first) => Ok(job(first)),
                None => Err(RequestError::JobNotFound { job: first.to_string() }.into()),
            }
        }
        _ => Ok(job(JobAccepted { ended: watch::at_the_end(shared, id), ..submitted })),
    }
}

/// The job of a command that submits one.
fn of_submit(command: &Command) -> Option<(JobId, JobAccepted)> {
    // The answer of a statement that writes, too, is one that the schedulers give once it has succeeded.
    let (job, schema, explain_analyze, ordered) = match command {
        Command::SubmitJob { job, schema, explain_analyze, ordered, .. } => {
            (*job, schema, explain_analyze.is_some(), *ordered)
        }
        Command::SubmitWrite { job, schema, .. } => (*job, schema, true, false),
        _ => return None,
    };
    let schema = Bytes::from(schema.clone());
    Some((job, JobAccepted { job_id: job.to_string(), schema, explain_analyze, ordered, ended: None }))
}

/// A change of the catalogue or of a session. Unlike a job it has no key, so a repetition of one that was done after
/// all may be refused: then the answers say so.
async fn change(shared: &Shared, command: Command) -> Result<(), Status> {
    let wanted = created(&command);
    let repeatable = is_repeatable(&command);
    match shared.request(command).await {
        Ok(_) => Ok(()),
        Err(Refusal::Unserved(RequestError::Unknown)) if !repeatable => {
            Err(RequestError::UnknownStatement.into())
        }
        Err(Refusal::Rejected(Rejection::RelationExists { name, kind })) => {
            let there = shared.read(|state| state.catalogue().relations.get(&name).cloned());
            let is_the_same = wanted.is_some() && wanted == there;
            let rejection = Rejection::RelationExists { name, kind };
            if !is_the_same {
                return Err(Refusal::Rejected(rejection).into());
            }
            let message = format!(
                "{rejection}, just as this statement defines it (an earlier try of the statement may have created it)"
            );
            Err(statement_status(Code::AlreadyExists, message))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// What a `CREATE` makes.
fn created(command: &Command) -> Option<Relation> {
    if let Command::CreateTable { table, .. } = command {
        return Some(Relation::Table(table.clone()));
    }
    if let Command::CreateView { sql, .. } = command {
        return Some(Relation::View { sql: sql.clone() });
    }
    None
}

/// Whether it may be done twice without an error.
fn is_repeatable(command: &Command) -> bool {
    !matches!(
        command,
        Command::CreateTable { or_replace: false, if_not_exists: false, .. }
            | Command::CreateView { or_replace: false, if_not_exists: false, .. }
            | Command::DropRelation { if_exists: false, .. }
    )
}

fn accepted(state: &ClusterState, job: &Job) -> JobAccepted {
    JobAccepted {
        job_id: job.id.to_string(),
        schema: Bytes::from(job.schema.clone()),
        explain_analyze: job.explain_analyze.is_some() || state.write(job.id).is_some(),
        ordered: job.ordered,
        ended: None,
    }
}

pub(super) fn job(accepted: JobAccepted) -> SubmitResponse {
    answer(Answer::Job(accepted))
}

pub(super) fn inline(arrow_stream: Vec<u8>) -> SubmitResponse {
    answer(Answer::Inline(InlineResult { arrow_stream: Bytes::from(arrow_stream) }))
}

fn answer(answer: Answer) -> SubmitResponse {
    SubmitResponse { answer: Some(answer), leader: String::new() }
}
