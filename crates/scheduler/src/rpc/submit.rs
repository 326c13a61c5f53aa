//! `QueryService.Submit`: plan, commit, tell the job's id.

use bytes::Bytes;
use polybolos_model::{IdempotencyKey, JobId, SessionId};
use polybolos_proto::v1::{
    InlineResult, JobAccepted, SubmitRequest, SubmitResponse, submit_request, submit_response::Answer,
};
use polybolos_state::{Change, ClusterState, Command, Job, Rejection, Relation};
use tonic::{Code, Status};

use super::{optional_name, statement_status, watch};
use crate::{
    error::{PlanningError, RequestError},
    front::{Destination, JobPlan, Planned, Request, Statement, Surroundings, encode_schema},
    input::Refusal,
    shared::Shared,
};

pub(crate) async fn submit(shared: &Shared, request: SubmitRequest) -> Result<SubmitResponse, Status> {
    shared.require_leader()?;
    let key: Option<IdempotencyKey> = optional_name(&request.idempotency_key)?;
    let session: Option<SessionId> = optional_name(&request.session_id)?;
    let statement = match request.statement {
        Some(submit_request::Statement::Sql(sql)) => Statement::Sql(sql),
        Some(submit_request::Statement::LogicalPlan(plan)) => Statement::LogicalPlan(plan),
        None => return Err(statement_status(Code::InvalidArgument, "the request has no statement")),
    };
    let submit = Submit { key, session, cancel_when_unwatched_ms: request.cancel_when_unwatched_ms };
    let options = request.options.into_iter().collect();
    let to_plan = Request { statement, session: submit.session.clone(), options };
    if to_plan.statement.is_job() && submit.known_job(shared).is_none() {
        submit.find_a_place(shared).await?;
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
        return Ok(answer(Answer::Job(known)));
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
        Planned::Job(plan) => submit.commit(shared, *plan).await,
    }
}

fn surroundings(shared: &Shared, request: &Request) -> Surroundings {
    shared.read(|state| shared.front.surroundings(state, request.session.as_ref()))
}

/// What a submit says of its job beside the statement.
struct Submit {
    key: Option<IdempotencyKey>,
    session: Option<SessionId>,
    cancel_when_unwatched_ms: u64,
}

impl Submit {
    /// The job that an earlier submit of this key has made.
    fn known_job(&self, shared: &Shared) -> Option<JobAccepted> {
        let key = self.key.as_ref().filter(|_| !polybolos_model::mutant!("forget-keys"))?;
        shared.read(|state| state.job_by_key(key).map(|job| accepted(state, job)))
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

    async fn commit(self, shared: &Shared, plan: JobPlan) -> Result<SubmitResponse, Status> {
        let Self { key, session, cancel_when_unwatched_ms } = self;
        let job = JobId(shared.env.random.next_u64());
        let JobPlan { sql, graph, options, schema, ordered, explain_analyze, write, .. } = plan;
        let submitted = JobAccepted {
            job_id: job.to_string(),
            schema: Bytes::from(schema.clone()),
            // Its answer, too, is one that the schedulers give once it has succeeded.
            explain_analyze: explain_analyze.is_some() || write.is_some(),
            ordered,
            ended: None,
        };
        let command = match write {
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
        };
        match shared.request(command).await? {
            // The first submit's answer, though its job may have been forgotten since.
            Change::Duplicate { job } if !polybolos_model::mutant!("duplicate-answered-anew") => {
                match shared.read(|state| state.job(job).map(|job| accepted(state, job))) {
                    Some(first) => Ok(answer(Answer::Job(first))),
                    None => Err(RequestError::JobNotFound { job: job.to_string() }.into()),
                }
            }
            _ => Ok(answer(Answer::Job(JobAccepted { ended: watch::at_the_end(shared, job), ..submitted }))),
        }
    }
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

fn inline(arrow_stream: Vec<u8>) -> SubmitResponse {
    answer(Answer::Inline(InlineResult { arrow_stream: Bytes::from(arrow_stream) }))
}

fn answer(answer: Answer) -> SubmitResponse {
    SubmitResponse { answer: Some(answer) }
}
