//! Object stores by URL: local files always, S3-compatible stores made when a plan first names their bucket.
//!
//! A plan carries URLs only. What a store needs beside its URL comes from the `AWS_…` variables of the process and,
//! over them, from options of the job: `polybolos.object_store.<url>/<option>`, for example
//! `polybolos.object_store.s3://bucket/endpoint`. Stores of an embedding program are registered and come first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::{
        object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry},
        runtime_env::RuntimeEnv,
    },
};
use object_store::{
    ClientConfigKey, ObjectStore,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
};
use url::Url;

/// Options of a job that start so are for object stores, and no DataFusion options.
pub const OBJECT_STORE_OPTIONS: &str = "polybolos.object_store.";

/// Most S3 buckets whose clients are kept; one more replaces them all.
const MAX_BUCKETS: usize = 1_000;

/// A URL or its options don't make an object store.
#[derive(Debug, thiserror::Error)]
pub enum ObjectStoreError {
    #[error(
        "there is no object store for '{url}': use file://, s3:// or s3a://, or register a store for it on every node"
    )]
    Scheme { url: String },
    #[error(
        "'{option}' is no option of an S3 store; for example endpoint, region, access_key_id, secret_access_key, allow_http"
    )]
    Option { option: String },
    #[error("the S3 store for '{url}' can't be set up: {source}")]
    Setup { url: String, source: object_store::Error },
}

impl From<ObjectStoreError> for DataFusionError {
    fn from(error: ObjectStoreError) -> Self {
        Self::Configuration(error.to_string())
    }
}

/// The name under which `option` of the store at `url` travels with a job.
pub fn option_key(url: &Url, option: &str) -> String {
    format!("{OBJECT_STORE_OPTIONS}{}/{option}", base_of(url))
}

/// Makes the store that `url` names and registers it with `runtime`. `options` are named as `CREATE EXTERNAL TABLE`
/// names them (`aws.region`, `region`, `endpoint`, …). Local files need no registration.
///
/// # Errors
/// [`ObjectStoreError`] if the scheme isn't known, or an option isn't or can't be used.
pub fn register_object_store(
    runtime: &RuntimeEnv,
    url: &Url,
    options: &BTreeMap<String, String>,
) -> Result<(), ObjectStoreError> {
    if url.scheme() != "file" {
        runtime.register_object_store(url, build(url, options)?);
    }
    Ok(())
}

/// A registry that makes S3 stores for buckets as plans name them.
#[derive(Debug, Default)]
pub struct LazyObjectStores {
    registered: DefaultObjectStoreRegistry,
    /// Made here, by base URL.
    made: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
    /// Options of stores, by base URL, then by option.
    options: BTreeMap<String, BTreeMap<String, String>>,
}

impl LazyObjectStores {
    /// `options` are those of a job; the ones that aren't for object stores are skipped.
    ///
    /// # Errors
    /// [`ObjectStoreError::Option`] if one names no store or no option.
    pub fn with_options(options: &BTreeMap<String, String>) -> Result<Self, ObjectStoreError> {
        let mut by_base = BTreeMap::<String, BTreeMap<String, String>>::new();
        for (key, value) in options {
            let Some(rest) = key.strip_prefix(OBJECT_STORE_OPTIONS) else { continue };
            let parsed =
                rest.rsplit_once('/').and_then(|(base, option)| Some((Url::parse(base).ok()?, option)));
            let Some((url, option)) = parsed else {
                return Err(ObjectStoreError::Option { option: key.clone() });
            };
            by_base.entry(base_of(&url)).or_default().insert(option.to_owned(), value.clone());
        }
        Ok(Self { options: by_base, ..Self::default() })
    }
}

impl LazyObjectStores {
    /// With the stores of an embedding program, by the scheme and host of their URLs.
    #[must_use]
    pub fn with_own(self, own: &[(Url, Arc<dyn ObjectStore>)]) -> Self {
        for (url, store) in own {
            self.registered.register_store(url, Arc::clone(store));
        }
        self
    }
}

impl ObjectStoreRegistry for LazyObjectStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registered.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.registered.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Ok(store) = self.registered.get_store(url) {
            return Ok(store);
        }
        let base = base_of(url);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = made.get(&base) {
            return Ok(Arc::clone(store));
        }
        let none = BTreeMap::new();
        let store = build(url, self.options.get(&base).unwrap_or(&none))?;
        if made.len() >= MAX_BUCKETS {
            made.clear();
        }
        made.insert(base, Arc::clone(&store));
        Ok(store)
    }
}

/// Scheme, host and port.
fn base_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), &url[url::Position::BeforeHost..url::Position::AfterPort])
}

fn build(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, ObjectStoreError> {
    if !matches!(url.scheme(), "s3" | "s3a") || url.host_str().is_none_or(str::is_empty) {
        return Err(ObjectStoreError::Scheme { url: url.to_string() });
    }
    let mut builder = AmazonS3Builder::from_env().with_url(base_of(url));
    for (option, value) in options {
        let name = option.to_ascii_lowercase().replace('.', "_");
        let name = name.strip_prefix("s3_").unwrap_or(&name);
        let key: AmazonS3ConfigKey =
            name.parse().map_err(|_| ObjectStoreError::Option { option: option.clone() })?;
        builder = builder.with_config(key, value);
    }
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    if endpoint.starts_with("http://") {
        // Whoever names a plain endpoint means it.
        builder = builder.with_config(allow_http, "true");
    }
    let store = builder.build().map_err(|source| ObjectStoreError::Setup { url: base_of(url), source })?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn local_files_need_nothing() {
        let stores = LazyObjectStores::default();
        assert!(stores.get_store(&Url::parse("file:///tmp/x.parquet").unwrap()).is_ok());
    }

    #[test]
    fn a_bucket_is_made_once_with_the_options_of_its_job() {
        let url = Url::parse("s3://a.bucket/t/x.parquet").unwrap();
        let key = option_key(&url, "aws.endpoint");
        assert_eq!(key, "polybolos.object_store.s3://a.bucket/aws.endpoint");
        let other = option_key(&url, "region");
        let given =
            options(&[(&key, "http://127.0.0.1:9"), (&other, "x"), ("datafusion.execution.batch_size", "1")]);
        let stores = LazyObjectStores::with_options(&given).unwrap();
        let store = stores.get_store(&url).unwrap();
        assert!(Arc::ptr_eq(&store, &stores.get_store(&Url::parse("s3://a.bucket/other").unwrap()).unwrap()));
        assert!(format!("{store:?}").contains("http://127.0.0.1:9"), "{store:?}");
    }

    #[test]
    fn stores_of_the_program_come_first() {
        let own: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let url = Url::parse("s3://mine").unwrap();
        let stores = LazyObjectStores::default().with_own(&[(url, Arc::clone(&own))]);
        let found = stores.get_store(&Url::parse("s3://mine/t/x.parquet").unwrap()).unwrap();
        assert!(Arc::ptr_eq(&found, &own));
        let other = stores.get_store(&Url::parse("s3://other/t/x.parquet").unwrap()).unwrap();
        assert!(!Arc::ptr_eq(&other, &own));
    }

    #[test]
    fn a_wrong_scheme_or_option_says_what_would_work() {
        let stores = LazyObjectStores::default();
        let error = stores.get_store(&Url::parse("gs://bucket/x").unwrap()).unwrap_err().to_string();
        assert!(error.contains("gs://bucket") && error.contains("s3://"), "{error}");
        let url = Url::parse("s3://bucket/").unwrap();
        let error =
            register_object_store(&RuntimeEnv::default(), &url, &options(&[("colour", "red")])).unwrap_err();
        assert!(error.to_string().contains("'colour'"), "{error}");
        assert!(LazyObjectStores::with_options(&options(&[("polybolos.object_store.x", "1")])).is_err());
    }
}
