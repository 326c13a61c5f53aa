//! `QueryService.Submit`: plan, commit, tell the job's id.

use bytes::Bytes;
use polybolos_model::{IdempotencyKey, JobId, SessionId};
use polybolos_proto::v1::{
    InlineResult, JobAccepted, SubmitRequest, SubmitResponse, submit_request, submit_response::Answer,
};
use polybolos_state::{Change, ClusterState, Command, Job, Rejection, Relation};
use tonic::{Code, Status};

use super::{optional_name, statement_status};
use crate::{
    error::RequestError,
    front::{Destination, JobPlan, Planned, Request, Statement, encode_schema},
    input::Refusal,
    shared::Shared,
};

pub(crate) async fn submit(shared: &Shared, request: SubmitRequest) -> Result<SubmitResponse, Status> {
    // What it is planned against is as of now, and a repeated submit finds its job.
    shared.fresh(false).await?;
    let key: Option<IdempotencyKey> = optional_name(&request.idempotency_key)?;
    let session: Option<SessionId> = optional_name(&request.session_id)?;
    // A repeated submit is not planned again.
    if !polybolos_model::mutant!("forget-keys")
        && let Some(known) = key
            .as_ref()
            .and_then(|key| shared.read(|state| state.job_by_key(key).map(|job| accepted(state, job))))
    {
        polybolos_model::sometimes!("a repeated submit found its job");
        return Ok(answer(Answer::Job(known)));
    }
    let statement = match request.statement {
        Some(submit_request::Statement::Sql(sql)) => Statement::Sql(sql),
        Some(submit_request::Statement::LogicalPlan(plan)) => Statement::LogicalPlan(plan),
        None => return Err(statement_status(Code::InvalidArgument, "the request has no statement")),
    };
    let around = shared.read(|state| shared.front.surroundings(state, session.as_ref()));
    let options = request.options.into_iter().collect();
    let planned = shared.front.plan(Request { statement, session: session.clone(), options }, around).await?;
    match planned {
        Planned::Inline(arrow_stream) => Ok(inline(arrow_stream)),
        Planned::Commit(command) => {
            change(shared, command).await?;
            let no_columns = encode_schema(&arrow::datatypes::Schema::empty());
            Ok(inline(no_columns.map_err(crate::error::PlanningError::from)?))
        }
        Planned::Job(plan) => {
            let limit_ms = request.cancel_when_unwatched_ms;
            commit(shared, *plan, key, session, limit_ms).await
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

async fn commit(
    shared: &Shared,
    plan: JobPlan,
    key: Option<IdempotencyKey>,
    session: Option<SessionId>,
    cancel_when_unwatched_ms: u64,
) -> Result<SubmitResponse, Status> {
    let job = JobId(shared.env.random.next_u64());
    let JobPlan { sql, graph, options, schema, ordered, explain_analyze, write, .. } = plan;
    let submitted = JobAccepted {
        job_id: job.to_string(),
        schema: Bytes::from(schema.clone()),
        // Its answer, too, is one that the schedulers give once it has succeeded.
        explain_analyze: explain_analyze.is_some() || write.is_some(),
        ordered,
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
        _ => Ok(answer(Answer::Job(submitted))),
    }
}

fn accepted(state: &ClusterState, job: &Job) -> JobAccepted {
    JobAccepted {
        job_id: job.id.to_string(),
        schema: Bytes::from(job.schema.clone()),
        explain_analyze: job.explain_analyze.is_some() || state.write(job.id).is_some(),
        ordered: job.ordered,
    }
}

fn inline(arrow_stream: Vec<u8>) -> SubmitResponse {
    answer(Answer::Inline(InlineResult { arrow_stream: Bytes::from(arrow_stream) }))
}

fn answer(answer: Answer) -> SubmitResponse {
    SubmitResponse { answer: Some(answer) }
}
