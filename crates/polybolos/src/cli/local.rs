//! `local` and `sql`: statements on a cluster, in this process or elsewhere.

use std::path::Path;

use polybolos::{EmbeddedCluster, EmbeddedConfig};
use polybolos_client::Client;
use polybolos_env::Env;
use polybolos_planner::Extensions;
use tokio::runtime::Runtime;

use super::{
    args::{LocalArgs, ScriptArgs, SqlArgs},
    error::CliError,
    files, repl, serve,
    session::Session,
    tables,
};

/// Runs SQL on a cluster inside this process.
pub(crate) fn local(runtime: &Runtime, args: LocalArgs) -> Result<(), CliError> {
    // Wrong paths are told before anything starts.
    let creates = args.tables.iter().map(tables::create_statement).collect::<Result<Vec<_>, _>>()?;
    let script = script(&args.script)?;
    let slots = args.slots.unwrap_or_else(|| (serve::cores() / args.executors).max(1));
    let cluster = runtime.block_on(start(args.schedulers, args.executors, slots))?;
    let session = Session::new(cluster.client(), client_env()?, args.script.format, None);
    let done = runtime
        .block_on(async {
            for create in &creates {
                session.client.query(create.as_str()).await?;
            }
            Ok(())
        })
        .and_then(|()| serve_statements(runtime, &session, script));
    runtime.block_on(cluster.shutdown());
    done
}

/// Runs SQL on a running cluster.
pub(crate) fn sql(runtime: &Runtime, args: SqlArgs) -> Result<(), CliError> {
    let script = script(&args.script)?;
    let env = client_env()?;
    let client = Client::connect(args.cluster.schedulers, env.clone())?;
    let session = Session::new(client, env, args.script.format, Some(args.timeout));
    let done = serve_statements(runtime, &session, script);
    // Without a scheduler there is nobody to say goodbye to.
    if !matches!(&done, Err(error) if error.exit_code() == super::error::EXIT_UNREACHABLE) {
        runtime.block_on(session.close());
    }
    done
}

/// An embedded cluster of `schedulers` and `executors`, each of these with `slots`.
pub(crate) async fn start(schedulers: u32, executors: u32, slots: u32) -> Result<EmbeddedCluster, CliError> {
    let config = EmbeddedConfig { schedulers, executors, slots, ..EmbeddedConfig::default() };
    Ok(EmbeddedCluster::start(config, Extensions::default()).await?)
}

/// A client needs the network, a clock and randomness, and next to no CPU work.
pub(crate) fn client_env() -> Result<Env, CliError> {
    Env::production(1).map_err(CliError::Threads)
}

fn script(args: &ScriptArgs) -> Result<Option<String>, CliError> {
    match (&args.sql, &args.file) {
        (Some(sql), _) => Ok(Some(sql.clone())),
        (None, Some(path)) => {
            let text = if path == Path::new("-") { files::read_stdin() } else { files::read_to_string(path) };
            text.map(Some).map_err(|source| CliError::Script { path: path.clone(), source })
        }
        (None, None) => Ok(None),
    }
}

fn serve_statements(runtime: &Runtime, session: &Session, script: Option<String>) -> Result<(), CliError> {
    match script {
        Some(script) => runtime.block_on(session.run_script(&script)),
        None => repl::run(runtime, session),
    }
}
