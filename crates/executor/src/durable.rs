//! From `--shuffle-durable` to the place where copies of shuffle outputs outlive their executor.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::{ObjectStore, local::LocalFileSystem, path::Path};
use polybolos_env::Env;
use polybolos_model::{SHUFFLE_DURABLE_LABEL, SHUFFLE_DURABLE_MODE_LABEL};
use polybolos_planner::Extensions;
use polybolos_shuffle::{Compression, DurableShuffle};
use url::Url;

use crate::{DurableMode, config::ShuffleDurable, object_stores::LazyObjectStores};

/// The URL is no place for durable shuffle outputs.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    #[error("durable shuffle at '{url}': {reason}")]
    Url { url: Url, reason: String },
    #[error(
        "durable shuffle: the folder {} can't be used: {source}; mount the shared folder, and let each executor write to it",
        path.display()
    )]
    Folder { path: PathBuf, source: io::Error },
}

/// # Errors
/// There is no store for the URL, or its folder can't be made.
pub(crate) async fn open(
    env: &Env,
    durable: &ShuffleDurable,
    extensions: &Extensions,
    compression: Compression,
) -> Result<Arc<DurableShuffle>, DurableError> {
    let url = &durable.url;
    let (store, prefix) = match url.scheme() {
        "file" => (folder(env, url).await?, Path::default()),
        _ => {
            let stores = LazyObjectStores::default().with_own(&extensions.object_stores);
            let store = stores.get_store(url).map_err(|error| wrong(url, error.strip_backtrace()))?;
            (store, Path::from_url_path(url.path()).map_err(|error| wrong(url, error.to_string()))?)
        }
    };
    Ok(DurableShuffle::new(env, store, prefix, url.to_string(), compression))
}

/// Folders that become empty are removed, up to this one.
async fn folder(env: &Env, url: &Url) -> Result<Arc<dyn ObjectStore>, DurableError> {
    let path =
        url.to_file_path().map_err(|()| wrong(url, "it names no folder of this machine".to_owned()))?;
    let made = env.disk.create_dir_all(&path).await;
    made.map_err(|source| DurableError::Folder { path: path.clone(), source })?;
    let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| wrong(url, error.to_string()))?;
    Ok(Arc::new(store.with_automatic_cleanup(true)))
}

fn wrong(url: &Url, reason: String) -> DurableError {
    DurableError::Url { url: url.clone(), reason }
}

/// The scheduler learns by a label who can read durable outputs.
pub(crate) fn label(
    mut labels: BTreeMap<String, String>,
    durable: Option<&ShuffleDurable>,
) -> BTreeMap<String, String> {
    labels.remove(SHUFFLE_DURABLE_LABEL);
    labels.remove(SHUFFLE_DURABLE_MODE_LABEL);
    if let Some(durable) = durable {
        let mode = match durable.mode {
            DurableMode::Background => "background",
            DurableMode::Before => "before",
        };
        labels.insert(SHUFFLE_DURABLE_LABEL.to_owned(), durable.url.to_string());
        labels.insert(SHUFFLE_DURABLE_MODE_LABEL.to_owned(), mode.to_owned());
    }
    labels
}

#[cfg(test)]
mod tests {
    use polybolos_shuffle::Compression;

    use super::*;

    async fn open_at(url: &str) -> Result<Arc<DurableShuffle>, DurableError> {
        let durable = ShuffleDurable { url: Url::parse(url).unwrap(), mode: DurableMode::Before };
        let env = Env::production(1).unwrap();
        open(&env, &durable, &Extensions::default(), Compression::None).await
    }

    #[tokio::test]
    async fn a_folder_is_made_and_wrong_urls_say_what_would_work() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let url = Url::from_directory_path(&folder).unwrap();
        assert_eq!(open_at(url.as_str()).await.unwrap().url(), url.as_str());
        assert!(folder.is_dir());
        let error = open_at("gs://bucket/x").await.unwrap_err().to_string();
        assert!(error.contains("gs://bucket") && error.contains("s3://"), "{error}");
        let file = dir.path().join("file");
        Env::production(1).unwrap().disk.create(&file).await.unwrap().finish(false).await.unwrap();
        let below = Url::from_file_path(file.join("x")).unwrap();
        let error = open_at(below.as_str()).await.unwrap_err().to_string();
        assert!(error.contains("shared folder"), "{error}");
    }

    #[test]
    fn the_label_is_the_executors_own() {
        let given = BTreeMap::from([(SHUFFLE_DURABLE_LABEL.to_owned(), "mine".to_owned())]);
        assert_eq!(label(given.clone(), None), BTreeMap::new());
        let durable = ShuffleDurable { url: Url::parse("s3://b/p").unwrap(), mode: DurableMode::Background };
        assert_eq!(label(given, Some(&durable)).values().collect::<Vec<_>>(), ["s3://b/p", "background"]);
    }
}
