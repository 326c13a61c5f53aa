//! `status` and `jobs`: what the cluster says of itself, as tables or JSON.

mod cluster;
mod faults;
mod job;
mod timeline;

use polybolos_client::{Client, ClientError, Consistency, Freshness};
use polybolos_env::Env;
use serde_json::{Value, json};

use self::{
    cluster::{status_json, status_table},
    faults::{faults_json, faults_table},
    job::{job_json, jobs_table, state_name, summary_json},
    timeline::{timeline_json, timeline_table},
};
use super::{
    args::{ExportArgs, JobArgs, ListArgs, ListFormat, ReadArgs, ShowArgs},
    error::CliError,
    files, output, text,
};

pub(crate) use job::{job_table, waits};

fn connect(args: &ListArgs) -> Result<Client, CliError> {
    let env = Env::production(1).map_err(CliError::Threads)?;
    Ok(Client::connect(args.cluster.schedulers.clone(), env)?)
}

fn show(
    format: ListFormat,
    table: impl FnOnce() -> String,
    json: impl FnOnce() -> Value,
) -> Result<(), CliError> {
    match format {
        ListFormat::Table => output::print(&table()),
        ListFormat::Json => output::print(&format!("{:#}\n", json())),
    }
}

fn consistency(args: &ReadArgs) -> Consistency {
    if args.stale { Consistency::Stale } else { Consistency::Linearizable }
}

/// Without a quorum an operator still wants to see what there is.
fn no_answer(error: ClientError) -> CliError {
    match error {
        ClientError::NoQuorum { .. } => CliError::NoFreshAnswer(error),
        error => error.into(),
    }
}

/// An answer that may be out of date says so, beside the result.
fn tell_age(freshness: Option<&Freshness>) {
    if let Some(freshness) = freshness.filter(|freshness| !freshness.linearizable) {
        let age = match freshness.age_ms {
            u64::MAX => "which has heard of no leader since it started".to_owned(),
            ms => format!("which may lack the last {}", text::milliseconds(ms as f64)),
        };
        eprintln!("the answer is that of replica {}, {age}", freshness.replica);
    }
}

fn freshness_json(freshness: Option<&Freshness>) -> Value {
    freshness.map_or(Value::Null, |freshness| {
        let age_ms = (freshness.age_ms < u64::MAX).then_some(freshness.age_ms);
        json!({"linearizable": freshness.linearizable, "age_ms": age_ms, "replica": freshness.replica})
    })
}

pub(crate) async fn status(args: ReadArgs) -> Result<(), CliError> {
    let status = connect(&args.list)?.status_with(consistency(&args)).await.map_err(no_answer)?;
    tell_age(status.freshness.as_ref());
    show(args.list.format, || status_table(&status), || status_json(&status))
}

pub(crate) async fn list(args: ReadArgs) -> Result<(), CliError> {
    let answer = connect(&args.list)?.jobs_with(consistency(&args)).await.map_err(no_answer)?;
    tell_age(answer.freshness.as_ref());
    show(args.list.format, || jobs_table(&answer.jobs), || answer.jobs.iter().map(summary_json).collect())
}

pub(crate) async fn job(args: ShowArgs) -> Result<(), CliError> {
    let client = connect(&args.read.list)?;
    let job = client.job_with(args.id, consistency(&args.read)).await.map_err(no_answer)?;
    tell_age(job.freshness.as_ref());
    show(args.read.list.format, || job_table(&job), || job_json(&job))
}

pub(crate) async fn timeline(args: ShowArgs) -> Result<(), CliError> {
    let client = connect(&args.read.list)?;
    let job = client.job_with(args.id, consistency(&args.read)).await.map_err(no_answer)?;
    tell_age(job.freshness.as_ref());
    show(args.read.list.format, || timeline_table(&job), || timeline_json(&job))
}

pub(crate) async fn faults(args: ShowArgs) -> Result<(), CliError> {
    let client = connect(&args.read.list)?;
    let job = client.job_with(args.id, consistency(&args.read)).await.map_err(no_answer)?;
    tell_age(job.freshness.as_ref());
    show(args.read.list.format, || faults_table(&job), || faults_json(&job))
}

pub(crate) async fn export(args: ExportArgs) -> Result<(), CliError> {
    let ExportArgs { id, out, cluster, stale } = args;
    let env = Env::production(1).map_err(CliError::Threads)?;
    let client = Client::connect(cluster.schedulers, env)?;
    let consistency = if stale { Consistency::Stale } else { Consistency::Linearizable };
    let recorded = client.export_job(id, consistency).await.map_err(no_answer)?;
    let writing = |source| CliError::File { action: "writing", path: out.clone(), source };
    files::write_durably(&out, &recorded).map_err(writing)?;
    output::print(&format!(
        "{}: query {id}, {}; it holds SQL and schemas, no rows. Run it in a simulation by `polybolos-sim replay {}`\n",
        out.display(),
        text::bytes(recorded.len() as u64),
        out.display(),
    ))
}

pub(crate) async fn cancel(args: JobArgs) -> Result<(), CliError> {
    let client = connect(&args.list)?;
    client.cancel(args.id, "cancelled by `polybolos jobs cancel`").await?;
    let job = client.job(args.id).await?;
    let summary = job.summary.unwrap_or_default();
    let state = state_name(summary.state);
    show(
        args.list.format,
        || format!("query {} is {state}\n", args.id),
        || json!({"job_id": args.id.to_string(), "state": state}),
    )
}
