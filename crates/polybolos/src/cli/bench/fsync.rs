//! What an fsync costs on the disk that the logs are on.

use std::{io::Write, path::Path, time::Duration};

use polybolos_env::Env;
use tokio::sync::oneshot;

use super::super::{error::CliError, files, tpch::Times};

/// As much as a small entry: a page.
const APPEND_BYTES: usize = 4 * 1024;

/// Appends and syncs to a file in `folder` for as long as `lasting`, and adds how long each took.
pub(super) async fn measure(
    env: &Env,
    folder: &Path,
    lasting: Duration,
    times: &mut Times,
) -> Result<(), CliError> {
    let path = folder.join("fsync");
    let failed = |source| CliError::File { action: "syncing", path: path.clone(), source };
    let (sender, receiver) = oneshot::channel();
    let (clock, file) = (env.clock.clone(), files::append(&path).map_err(failed)?);
    // On a thread for work that does not wait for the network.
    let task = env.cpu.spawn(Box::pin(async move {
        let started = clock.now();
        let mut each = Vec::new();
        let done = loop {
            let begun = clock.now();
            if begun - started >= lasting {
                break Ok(each);
            }
            if let Err(error) = (&file).write_all(&[7; APPEND_BYTES]).and_then(|()| file.sync_all()) {
                break Err(error);
            }
            each.push(clock.now() - begun);
        };
        // The receiver lives as long as this task.
        let _heard = sender.send(done);
    }));
    let each = receiver.await.map_err(|_| CliError::Stopped)?.map_err(failed)?;
    drop(task);
    each.into_iter().for_each(|elapsed| times.add(elapsed));
    Ok(())
}
