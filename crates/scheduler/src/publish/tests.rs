//! Files of a statement, published and swept, in memory and in folders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, memory::InMemory, path::Path};
use polybolos_env::Env;
use polybolos_model::{AttemptId, JobId, Term, WriteTarget};
use tempfile::TempDir;
use url::Url;

use super::{Winner, error::PublishError, files::Files};

const JOB: JobId = JobId(0xab);
const OTHER: JobId = JobId(0xcd);

/// A folder that a job writes to.
struct Place {
    store: Arc<dyn ObjectStore>,
    target: WriteTarget,
    folder: Option<TempDir>,
}

fn attempt(counter: u64) -> AttemptId {
    AttemptId { term: Term(1), counter }
}

fn target(url: String) -> WriteTarget {
    WriteTarget { single_file: !url.ends_with('/'), url, extension: ".csv".to_owned() }
}

fn won(partition: u32, counter: u64, bytes: u64) -> Winner {
    Winner { partition, attempt: attempt(counter), bytes }
}

impl Place {
    fn in_memory() -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        Self { store, target: target("mem://b/t/".to_owned()), folder: None }
    }

    fn local(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(folder.path()).unwrap().join(name).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        Self { store, target: target(url.to_string()), folder: Some(folder) }
    }

    fn files(&self) -> Files {
        let env = Env::production(1).unwrap();
        Files::new(JOB, self.target.clone(), Arc::clone(&self.store), env).unwrap()
    }

    async fn put(&self, url: &str, text: &'static str) {
        let path = Path::from_url_path(Url::parse(url).unwrap().path()).unwrap();
        self.store.put(&path, Bytes::from_static(text.as_bytes()).into()).await.unwrap();
    }

    async fn stage(&self, partition: u32, counter: u64, name: &str, text: &'static str) {
        let folder = self.target.staged_by(JOB, partition, attempt(counter));
        self.put(&format!("{folder}{name}.csv.staged"), text).await;
    }

    /// Names below the target's folder and what they hold, ascending.
    async fn holds(&self) -> Vec<String> {
        let root = Path::from_url_path(Url::parse(self.target.folder()).unwrap().path()).unwrap();
        let listed: Vec<_> = self.store.list(Some(&root)).try_collect().await.unwrap();
        let mut all = Vec::new();
        for file in listed {
            let bytes = self.store.get(&file.location).await.unwrap().bytes().await.unwrap();
            let name = file.location.as_ref().strip_prefix(root.as_ref()).unwrap().trim_start_matches('/');
            all.push(format!("{name}: {}", String::from_utf8_lossy(&bytes)));
        }
        all.sort();
        all
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }
}

#[tokio::test]
async fn exactly_the_files_of_winners_are_published() {
    for place in [Place::in_memory(), Place::local("t/")] {
        place.stage(0, 1, "0", "lost").await;
        place.stage(0, 3, "0", "won").await;
        place.stage(0, 3, "1", "too").await;
        place.stage(1, 2, "k=a%252Fb/0", "in a folder").await;
        place.put(&format!("{}there.csv", place.target.url), "before").await;
        let winners = [won(0, 3, 6), won(1, 2, 11), won(2, 4, 0)];
        let published = [
            "00000000000000ab-00000-0.csv: won",
            "00000000000000ab-00000-1.csv: too",
            "k=a%2Fb/00000000000000ab-00001-0.csv: in a folder",
            "there.csv: before",
        ];
        // A leader may die after any step, and the next one begins from the first.
        for _ in 0..2 {
            assert_eq!(place.files().publish(&winners).await.unwrap(), 3);
            let seen: Vec<_> =
                place.holds().await.into_iter().filter(|file| !file.starts_with('.')).collect();
            assert_eq!(seen, published);
        }
        assert_eq!(place.files().sweep(false).await.unwrap(), 4);
        assert_eq!(place.holds().await, published);
        assert_eq!(place.files().sweep(false).await.unwrap(), 0);
        // Swept by another leader, which had committed it: this one was only slow.
        assert_eq!(place.files().publish(&winners).await.unwrap(), 0);
        assert_eq!(place.files().sweep(true).await.unwrap(), 3);
        assert_eq!(place.holds().await, ["there.csv: before"]);
    }
}

#[tokio::test]
async fn a_sweep_leaves_alone_what_is_of_others() {
    for place in [Place::in_memory(), Place::local("t/")] {
        place.stage(0, 1, "0", "own").await;
        let other = format!("{}0.csv.staged", place.target.staged_by(OTHER, 0, attempt(1)));
        place.put(&other, "of another statement").await;
        place.put(&place.target.published(OTHER, 0, "0.csv.staged"), "published by it").await;
        assert_eq!(place.files().sweep(true).await.unwrap(), 1);
        assert_eq!(place.holds().await.len(), 2);
    }
}

#[tokio::test]
async fn no_folder_stays_when_it_is_empty() {
    let place = Place::local("t/");
    place.stage(0, 1, "k=1/0", "x").await;
    // Half a file, as a killed process leaves it; stores don't list such.
    std::fs::write(place.path("t/.polybolos-staging/00000000000000ab/0-1.1/1.csv.staged#1"), "ha").unwrap();
    place.files().sweep(false).await.unwrap();
    assert!(!place.path("t/.polybolos-staging").exists());
    // Nothing was ever staged.
    let place = Place::local("elsewhere/");
    assert_eq!(place.files().sweep(true).await.unwrap(), 0);
    assert_eq!(place.files().publish(&[won(0, 1, 0)]).await.unwrap(), 0);
}

#[tokio::test]
async fn files_that_are_gone_or_changed_are_not_passed_over() {
    for place in [Place::in_memory(), Place::local("t/")] {
        place.stage(0, 1, "0", "abc").await;
        for bytes in [2, 4] {
            let error = place.files().publish(&[won(0, 1, bytes)]).await.unwrap_err();
            assert!(matches!(error, PublishError::Incomplete { found: 3, .. }), "{error}");
            assert!(error.is_permanent());
        }
        let error = place.files().publish(&[won(7, 1, 3)]).await.unwrap_err();
        assert!(
            error.to_string().contains("of partition 7 3 bytes were written, and 0 are there"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_single_file_takes_the_place_of_what_was_there() {
    let place = Place::local("out.csv");
    place.put(&place.target.url, "before").await;
    place.stage(0, 2, "0", "now").await;
    for _ in 0..2 {
        assert_eq!(place.files().publish(&[won(0, 2, 3)]).await.unwrap(), 1);
    }
    assert_eq!(place.files().sweep(true).await.unwrap(), 1);
    assert_eq!(place.holds().await, ["out.csv: now"]);
    assert_eq!(place.files().publish(&[won(0, 2, 3)]).await.unwrap(), 0, "it is there");
}

#[tokio::test]
async fn without_links_files_are_renamed() {
    let place = Place::local("t/");
    place.stage(0, 1, "k=a b/0", "abc").await;
    place.stage(0, 1, "1", "d").await;
    let renamed = ["00000000000000ab-00000-1.csv: d", "k=a b/00000000000000ab-00000-0.csv: abc"];
    let files = place.files();
    for staged in ["k=a b/0.csv.staged", "1.csv.staged"] {
        let from = format!("{}{staged}", place.target.staged_by(JOB, 0, attempt(1)));
        let from = Path::from_url_path(Url::parse(&from).unwrap().path()).unwrap();
        let to = Url::parse(&place.target.published(JOB, 0, staged)).unwrap();
        let refused = std::io::Error::from(std::io::ErrorKind::Unsupported);
        let error = object_store::Error::Generic { store: "test", source: Box::new(refused) };
        files.rename(&from, &to, error).await.unwrap();
    }
    let seen: Vec<_> = place.holds().await.into_iter().filter(|file| !file.starts_with('.')).collect();
    assert_eq!(seen, renamed);
    // The next leader finds the one where it is, and the other where it was.
    place.stage(1, 5, "0", "ef").await;
    assert_eq!(place.files().publish(&[won(0, 1, 4), won(1, 5, 2)]).await.unwrap(), 1);
}
