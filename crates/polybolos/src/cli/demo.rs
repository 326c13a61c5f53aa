//! `demo`: a cluster, data, a query, and an account of what happened.

use futures::{StreamExt, TryStreamExt};
use polybolos_client::{Answer, Client, ClientError, SubmitOptions};

use super::{
    args::{DemoArgs, Format, ParquetCompression},
    error::CliError,
    local,
    output::{self, Printer},
    progress, status, text, tpch,
};

const EXECUTORS: u32 = 2;
/// Local suppliers' revenue by nation: six tables, five joins, a grouping and an order.
const QUERY: u32 = 5;

pub(crate) async fn run(args: DemoArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let started = env.clock.now();
    let since = || text::milliseconds((env.clock.now() - started).as_secs_f64() * 1_000.0);
    let folder = tempfile::Builder::new().prefix("polybolos-demo-").tempdir();
    let making = |source| CliError::File { action: "making a folder in", path: std::env::temp_dir(), source };
    let folder = folder.map_err(making)?;

    eprintln!("1. Making TPC-H data at scale {} in {}", args.scale, folder.path().display());
    let writing = tpch::Writing { scale: args.scale, files: None, compression: ParquetCompression::Snappy };
    tpch::write_tables(folder.path(), writing, |line| eprintln!("   {line}")).await?;

    eprintln!("\n2. Starting a scheduler and {EXECUTORS} executors on loopback ({})", since());
    let slots = (super::serve::cores() / EXECUTORS).max(1);
    let cluster = local::start(EXECUTORS, slots).await?;
    let client = cluster.client();
    let done = show(&client, folder.path(), &since).await;
    cluster.shutdown().await;
    done?;
    eprintln!("\nDone in {}. Next: polybolos local --table NAME=FILE", since());
    Ok(())
}

async fn show(client: &Client, data: &std::path::Path, since: &impl Fn() -> String) -> Result<(), CliError> {
    for statement in tpch::register_statements(data)? {
        client.query(statement).await?;
    }
    for executor in client.status().await?.executors {
        eprintln!("   {} at {}, {} slots", executor.executor_id, executor.address, executor.slots);
    }
    let sql = polybolos_planner::tpch_query(QUERY).ok_or(CliError::NoSuchQuery(QUERY))?;
    eprintln!("\n3. Running TPC-H query {QUERY} ({})\n{}\n", since(), sql.trim());
    let job = match client.submit(sql, SubmitOptions::default()).await? {
        Answer::Job(job) => job,
        Answer::Inline(_) => {
            return Err(
                ClientError::Protocol { what: "a query was answered without a job".to_owned() }.into()
            );
        }
    };
    let watching = async {
        let mut last = String::new();
        let mut updates = job.watch();
        while let Some(update) = updates.next().await {
            let update = update?;
            let line = progress::line(&update);
            if line != last {
                eprintln!("   {line}, after {} ms", update.elapsed_ms);
                last = line;
            }
        }
        Ok::<_, CliError>(())
    };
    let reading = async { job.stream().try_collect::<Vec<_>>().await.map_err(CliError::from) };
    let ((), batches) = tokio::try_join!(watching, reading)?;
    // Once more: the account is complete only when the job has ended.
    let detail = client.job(job.id()).await?;
    eprintln!("\n4. The answer, and what ran where");
    let mut printer = Printer::new(Format::Table, job.schema(), std::io::stdout());
    batches.iter().try_for_each(|batch| printer.write(batch))?;
    printer.finish()?;
    output::print(&format!("\n{}", status::job_table(&detail)))
}
