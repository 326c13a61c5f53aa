//! `QueryService`, but for what has a file of its own.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::Stream;
use polybolos_model::SessionId;
use polybolos_planner::{StageProfile, explain_analyze};
use polybolos_proto::v1::{
    CancelRequest, CancelResponse, CloseSessionRequest, CloseSessionResponse, ClusterStatusRequest,
    ClusterStatusResponse, ExportJobRequest, ExportJobResponse, GetJobRequest, InlineResult, JobDetail,
    JobUpdate, LeaderRequest, LeaderResponse, ListJobsRequest, ListJobsResponse, ListRelationsRequest,
    ListRelationsResponse, ProfileRequest, ReleaseRequest, ReleaseResponse, SubmitRequest, SubmitResponse,
    WatchRequest, query_service_server::QueryService,
};
use polybolos_state::{ClusterState, Command, Job, JobStatus, Rejection};
use tonic::{Code, Request, Response, Status};

use super::{done, export, job_id, optional_name, show, statement_status, status, submit, watch};
use crate::{error::RequestError, front, input::Refusal, shared::Shared};

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct QueryRpc {
    shared: Arc<Shared>,
}

impl QueryRpc {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl QueryService for QueryRpc {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<JobUpdate, Status>> + Send>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Answer<SubmitResponse> {
        submit::submit(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let request = request.into_inner();
        let job = job_id(&request.job_id)?;
        let updates = watch::watch(&self.shared, job, &request).await?;
        Ok(Response::new(Box::pin(updates)))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Answer<CancelResponse> {
        self.shared.require_leader()?;
        let CancelRequest { job_id: id, reason } = request.into_inner();
        let reason = if reason.is_empty() { "cancelled by the user".to_owned() } else { reason };
        match self.shared.request(Command::CancelJob { job: job_id(&id)?, reason }).await {
            Err(Refusal::Rejected(Rejection::JobEnded { .. })) => {}
            outcome => done(outcome)?,
        }
        Ok(Response::new(CancelResponse {}))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Answer<ReleaseResponse> {
        self.shared.require_leader()?;
        let job = job_id(&request.into_inner().job_id)?;
        done(self.shared.request(Command::ReleaseJob { job }).await)?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let freshness = self.shared.fresh(request.into_inner().stale).await?;
        let jobs = self.shared.read(|state| {
            let dispatcher = self.shared.dispatcher();
            state.jobs().rev().map(|job| show::summary(job, &dispatcher)).collect()
        });
        Ok(Response::new(ListJobsResponse { jobs, freshness: Some(freshness) }))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Answer<JobDetail> {
        let GetJobRequest { job_id: id, stale } = request.into_inner();
        let id = job_id(&id)?;
        let freshness = self.shared.fresh(stale).await?;
        let detail = self.shared.read(|state| {
            let dispatcher = self.shared.dispatcher();
            state.job(id).map(|job| {
                let runs = dispatcher.running_of(id).next().is_some();
                let waits_since_ms = self.shared.waits_since_ms(state, job, runs);
                let (leads, now_ms) = (self.shared.serves(), self.shared.now_ms(state));
                JobDetail { waits_since_ms, ..show::detail(state, job, &dispatcher, leads, now_ms) }
            })
        });
        let missing = || RequestError::JobNotFound { job: id.to_string() };
        Ok(Response::new(JobDetail { freshness: Some(freshness), ..detail.ok_or_else(missing)? }))
    }

    async fn profile(&self, request: Request<ProfileRequest>) -> Answer<InlineResult> {
        let id = job_id(&request.into_inner().job_id)?;
        self.shared.fresh(false).await?;
        let profile = self.shared.read(|state| state.job(id).map(|job| profile(state, job)));
        let arrow_stream = profile.ok_or_else(|| RequestError::JobNotFound { job: id.to_string() })??;
        Ok(Response::new(InlineResult { arrow_stream: Bytes::from(arrow_stream) }))
    }

    async fn cluster_status(&self, request: Request<ClusterStatusRequest>) -> Answer<ClusterStatusResponse> {
        status::cluster_status(&self.shared, &request.into_inner()).await.map(Response::new)
    }

    async fn list_relations(&self, request: Request<ListRelationsRequest>) -> Answer<ListRelationsResponse> {
        self.shared.fresh(request.into_inner().stale).await?;
        let names = self.shared.read(|state| self.shared.front.relation_names(state.catalogue()));
        Ok(Response::new(ListRelationsResponse { names }))
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Answer<LeaderResponse> {
        let leadership = self.shared.log.leadership().borrow().clone();
        let is_self = self.shared.serves();
        // Itself, too, by the address that the others know.
        let leader = leadership.leader.map(|(_, address)| address).unwrap_or_default();
        Ok(Response::new(LeaderResponse { leader, term: leadership.term.0, is_self }))
    }

    async fn close_session(&self, request: Request<CloseSessionRequest>) -> Answer<CloseSessionResponse> {
        self.shared.require_leader()?;
        let Some(session) = optional_name::<SessionId>(&request.into_inner().session_id)? else {
            return Err(statement_status(Code::InvalidArgument, "the request names no session"));
        };
        done(self.shared.request(Command::CloseSession { session }).await)?;
        Ok(Response::new(CloseSessionResponse {}))
    }

    async fn export_job(&self, request: Request<ExportJobRequest>) -> Answer<ExportJobResponse> {
        let ExportJobRequest { job_id: id, stale } = request.into_inner();
        let id = job_id(&id)?;
        self.shared.fresh(stale).await?;
        let recorded = export::export(&self.shared, id).await?;
        Ok(Response::new(ExportJobResponse { recorded: Bytes::from(recorded) }))
    }
}

/// The rows of an `EXPLAIN ANALYZE`, or how many a statement has written.
fn profile(cluster: &ClusterState, job: &Job) -> Result<Vec<u8>, Status> {
    let wrong = |expected| RequestError::JobState { job: job.id, state: state_name(job.status), expected };
    if cluster.write(job.id).is_some() {
        let rows = cluster.rows_written(job.id).filter(|_| job.status == JobStatus::Succeeded);
        let rows = rows.ok_or_else(|| wrong("its number of rows is there once it has succeeded"))?;
        return Ok(front::count_answer(rows)?);
    }
    let Some(texts) = &job.explain_analyze else {
        return Err(wrong("only an EXPLAIN ANALYZE has a profile").into());
    };
    if job.status != JobStatus::Succeeded {
        return Err(wrong("a profile is there once it has succeeded").into());
    }
    let analyzed = job.graph.stages.iter().zip(&job.runs).map(|(stage, run)| {
        let metrics = run.completed().map(|(_, done)| &done.metrics);
        let shares = cluster.shares_in_words(job.id, stage.id);
        StageProfile { stage, tasks: metrics.collect(), shares }
    });
    let analyzed = explain_analyze("", &analyzed.collect::<Vec<_>>());
    let timeline = show::timeline(cluster, job).to_string();
    Ok(front::profile(texts, &analyzed, &timeline)?)
}

fn state_name(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "queued",
        JobStatus::Running => "running",
        JobStatus::Succeeded => "complete",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
    }
}
