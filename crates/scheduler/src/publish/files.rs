//! The files of one statement in the store that it writes to.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    CopyMode, CopyOptions, Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, path::Path,
};
use polybolos_env::Env;
use polybolos_model::{JobId, STAGED_SUFFIX, STAGING_FOLDER, WriteTarget};
use tokio::time::timeout;
use url::Url;

use super::{
    Winner,
    error::{PublishError, io_error},
};
use crate::{front::Options, shared::Shared};

/// Requests of one statement that are under way at once.
const MAX_REQUESTS: usize = 16;
/// A folder is listed, or its files are deleted, within so long; one file is copied within so long.
const LIST_DEADLINE: Duration = Duration::from_secs(120);
const COPY_DEADLINE: Duration = Duration::from_secs(300);

type Result<T> = std::result::Result<T, PublishError>;

pub(super) struct Files {
    job: JobId,
    target: WriteTarget,
    store: Arc<dyn ObjectStore>,
    /// For folders of this machine, or shared with it.
    env: Env,
    is_local: bool,
}

/// A file that has won, and its final name.
struct Publication {
    from: Path,
    to: Url,
    bytes: u64,
}

impl Files {
    pub(super) fn open(job: JobId, target: &WriteTarget, options: &Options, shared: &Shared) -> Result<Self> {
        let url = parse(&target.url)?;
        let opened = shared.front.store(&url, options);
        let store = opened.map_err(|error| PublishError::no_store(&target.url, &error))?;
        Self::new(job, target.clone(), store, shared.env.clone())
    }

    pub(super) fn new(
        job: JobId,
        target: WriteTarget,
        store: Arc<dyn ObjectStore>,
        env: Env,
    ) -> Result<Self> {
        let is_local = parse(&target.url)?.scheme() == "file";
        Ok(Self { job, target, store, env, is_local })
    }

    /// Gives the files of `winners` their final names, and returns how many there are. What has its name already keeps
    /// it.
    pub(super) async fn publish(&self, winners: &[Winner]) -> Result<usize> {
        let staging = path_of(&parse(&self.target.staging(self.job))?)?;
        let staged = self.list(&staging).await?;
        let mut publications = Vec::new();
        for winner in winners {
            publications.extend(self.publications(winner, &staged).await?);
        }
        let files = publications.len();
        stream::iter(publications)
            .map(|publication| self.give_name(publication))
            .buffer_unordered(MAX_REQUESTS)
            .try_collect::<()>()
            .await?;
        Ok(files)
    }

    /// The files of a winner that are still staged: all of them, or those that an earlier leader has not moved.
    async fn publications(&self, winner: &Winner, staged: &[ObjectMeta]) -> Result<Vec<Publication>> {
        let Winner { partition, attempt, bytes } = *winner;
        let folder = path_of(&parse(&self.target.staged_by(self.job, partition, attempt))?)?;
        let mut own = Vec::new();
        let mut found = 0;
        for file in staged {
            if let Some(name) = below(&file.location, &folder)
                && name.ends_with(STAGED_SUFFIX)
            {
                found += file.size;
                let to = parse(&self.final_name(partition, &name))?;
                own.push(Publication { from: file.location.clone(), to, bytes: file.size });
            }
        }
        if polybolos_model::mutant!("publish-loser") {
            own.extend(self.losers(winner, staged)?);
        }
        if found != bytes {
            self.check_rest(partition, found, bytes, &own).await?;
        }
        Ok(own)
    }

    fn final_name(&self, partition: u32, name: &str) -> String {
        let url = self.target.published(self.job, partition, name);
        if !self.target.single_file && polybolos_model::mutant!("publish-twice") {
            let drawn = self.env.random.next_u64();
            return url.replacen(&self.target.extension, &format!("-{drawn:x}{}", self.target.extension), 1);
        }
        url
    }

    /// The planted bug `publish-loser`: whatever any attempt of the partition has written.
    fn losers(&self, winner: &Winner, staged: &[ObjectMeta]) -> Result<Vec<Publication>> {
        let staging = path_of(&parse(&self.target.staging(self.job))?)?;
        let (of_partition, won) =
            (format!("{}-", winner.partition), format!("{}-{}", winner.partition, winner.attempt));
        let mut losers = Vec::new();
        for file in staged {
            let Some(name) = below(&file.location, &staging) else { continue };
            let Some((folder, name)) = name.split_once('/') else { continue };
            if folder.starts_with(&of_partition) && folder != won && name.ends_with(STAGED_SUFFIX) {
                let to = self.target.published(self.job, winner.partition, name);
                let attempt = folder.trim_start_matches(&of_partition);
                let to =
                    to.replacen(&self.target.extension, &format!("-{attempt}{}", self.target.extension), 1);
                losers.push(Publication { from: file.location.clone(), to: parse(&to)?, bytes: file.size });
            }
        }
        Ok(losers)
    }

    /// What is not staged any more must be published already: by a leader that could only rename, or whose later entries
    /// were lost in a forced recovery.
    async fn check_rest(
        &self,
        partition: u32,
        staged_bytes: u64,
        expected: u64,
        staged: &[Publication],
    ) -> Result<()> {
        let still_staged: Vec<Path> =
            staged.iter().map(|publication| path_of(&publication.to)).collect::<Result<_>>()?;
        let of_partition = format!("{}{partition:05}-", self.target.published_prefix(self.job));
        let published = self.published().await?;
        let is_rest = |file: &&ObjectMeta| {
            let name = file.location.filename().unwrap_or_default();
            let is_own = self.target.single_file || name.starts_with(&of_partition);
            is_own && !still_staged.contains(&file.location)
        };
        let rest: u64 = published.iter().filter(is_rest).map(|file| file.size).sum();
        let found = staged_bytes + rest;
        if found == expected {
            return Ok(());
        }
        let folder = self.target.staging(self.job);
        Err(PublishError::Incomplete { partition, folder, expected, found })
    }

    async fn give_name(&self, publication: Publication) -> Result<()> {
        polybolos_model::failpoint!("scheduler.mid_publish");
        let Publication { from, to, bytes } = publication;
        let path = path_of(&to)?;
        // A local copy is another link to the file; to a new name it is made in one step, with nothing left half-way.
        let mode =
            if self.is_local && !self.target.single_file { CopyMode::Create } else { CopyMode::Overwrite };
        let options = CopyOptions::new().with_mode(mode);
        match in_time("copying", &from, COPY_DEADLINE, self.store.copy_opts(&from, &path, options)).await? {
            Ok(()) => Ok(()),
            Err(StoreError::AlreadyExists { .. }) => self.is_this_one(&path, bytes).await,
            Err(error) if self.is_local && !matches!(error, StoreError::NotFound { .. }) => {
                self.rename(&from, &to, error).await
            }
            Err(source) => Err(PublishError::Store { what: "can't copy", path: from.to_string(), source }),
        }
    }

    /// The name holds the job and the partition: what has it is this very file, published before, or in the way.
    async fn is_this_one(&self, path: &Path, bytes: u64) -> Result<()> {
        let what = "can't look at";
        let failed = |source| PublishError::Store { what, path: path.to_string(), source };
        let there =
            in_time("looking at", path, LIST_DEADLINE, self.store.head(path)).await?.map_err(failed)?;
        match there.size == bytes {
            true => Ok(()),
            false => {
                Err(PublishError::InTheWay { path: path.to_string(), found: there.size, expected: bytes })
            }
        }
    }

    /// Not every file system has links.
    pub(super) async fn rename(&self, from: &Path, to: &Url, error: StoreError) -> Result<()> {
        let path = from.to_string();
        if io_error(&error).is_none() {
            return Err(PublishError::Store { what: "can't copy", path, source: error });
        }
        let from = PathBuf::from(format!("/{from}"));
        let to = folder_of(to)?;
        let renamed = async {
            if let Some(parent) = to.parent() {
                self.env.disk.create_dir_all(parent).await?;
            }
            self.env.disk.rename(&from, &to).await
        };
        renamed.await.map_err(|source| PublishError::Disk { what: "can't rename", path, source })
    }

    /// Deletes what the job has staged and, with `unpublish`, what has a final name; returns how much there was.
    pub(super) async fn sweep(&self, unpublish: bool) -> Result<usize> {
        let url = parse(&self.target.staging(self.job))?;
        let mut found = self.list(&path_of(&url)?).await?;
        // The one file was there before, or never came.
        if unpublish && !self.target.single_file {
            found.extend(self.published().await?);
        }
        let count = found.len();
        let what = found.into_iter().map(|file| Ok(file.location));
        let mut deleted = self.store.delete_stream(stream::iter(what).boxed());
        let folder = path_of(&url)?;
        let deleting = async {
            while let Some(one) = deleted.next().await {
                match one {
                    // Somebody else deletes as well.
                    Ok(_) | Err(StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let failed =
            |source| PublishError::Store { what: "can't delete below", path: folder.to_string(), source };
        in_time("deleting below", &folder, LIST_DEADLINE, deleting).await?.map_err(failed)?;
        if self.is_local {
            self.remove_folders(&url).await?;
        }
        Ok(count)
    }

    /// Folders are files of their own there, and parts of files that were cut off are not listed.
    async fn remove_folders(&self, staging: &Url) -> Result<()> {
        let folder = folder_of(staging)?;
        let failed = |source| {
            let path = folder.display().to_string();
            PublishError::Disk { what: "can't remove the folder", path, source }
        };
        self.env.disk.remove_dir_all(&folder).await.map_err(failed)?;
        // Other statements may be at work in there, or have removed it.
        if let Some(all) = folder.parent()
            && let Err(error) = self.env.disk.remove_dir(all).await
            && !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound)
        {
            tracing::debug!(folder = %all.display(), %error, "an empty folder stays");
        }
        Ok(())
    }

    /// Files with final names of this job; of a single file that one, whosever it is.
    async fn published(&self) -> Result<Vec<ObjectMeta>> {
        if self.target.single_file {
            let path = path_of(&parse(&self.target.url)?)?;
            return match in_time("looking for", &path, LIST_DEADLINE, self.store.head(&path)).await? {
                Ok(file) => Ok(vec![file]),
                Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
                Err(source) => {
                    Err(PublishError::Store { what: "can't look for", path: path.to_string(), source })
                }
            };
        }
        let prefix = self.target.published_prefix(self.job);
        let mut all = self.list(&path_of(&parse(self.target.folder())?)?).await?;
        all.retain(|file| {
            let is_staged = file.location.parts().any(|part| part.as_ref() == STAGING_FOLDER);
            !is_staged && file.location.filename().is_some_and(|name| name.starts_with(&prefix))
        });
        Ok(all)
    }

    /// All files below a folder; none if it is not there.
    async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let listing = self.store.list(Some(folder)).try_collect::<Vec<_>>();
        match in_time("listing", folder, LIST_DEADLINE, listing).await? {
            Ok(files) => Ok(files),
            Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
            Err(source) => Err(PublishError::Store { what: "can't list", path: folder.to_string(), source }),
        }
    }
}

async fn in_time<T>(
    what: &'static str,
    path: &Path,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T> {
    let late = |_| PublishError::Deadline { what, path: path.to_string(), s: limit.as_secs() };
    timeout(limit, work).await.map_err(late)
}

fn parse(url: &str) -> Result<Url> {
    Url::parse(url).map_err(|error| PublishError::Url { url: url.to_owned(), reason: error.to_string() })
}

/// Within its store.
fn path_of(url: &Url) -> Result<Path> {
    let wrong = |error: object_store::path::Error| PublishError::Url {
        url: url.to_string(),
        reason: error.to_string(),
    };
    Path::from_url_path(url.path()).map_err(wrong)
}

/// Of this machine.
fn folder_of(url: &Url) -> Result<PathBuf> {
    let reason = "it names no folder of this machine".to_owned();
    url.to_file_path().map_err(|()| PublishError::Url { url: url.to_string(), reason })
}

/// The part of a path below `folder`, if it is below it.
fn below(path: &Path, folder: &Path) -> Option<String> {
    let rest = path.as_ref().strip_prefix(folder.as_ref())?.strip_prefix('/')?;
    Some(rest.to_owned())
}
