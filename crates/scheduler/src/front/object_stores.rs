//! Object stores, made from their URL when a table first needs them.
//!
//! `file://` is the local file system; `s3://` and `s3a://` are S3-compatible stores, configured by the `AWS_…` variables
//! of the process and, over them, by the `OPTIONS` of `CREATE EXTERNAL TABLE`. What a table sets for its bucket goes with
//! each job that reads the bucket, so that executors reach it in the same way. Stores of an embedding program come first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::object_store::ObjectStoreRegistry,
};
use object_store::{
    ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
};
use url::{Position, Url};

/// Job options of this prefix are followed by `<scheme://bucket>/<option>`, the option as in `OPTIONS` (`aws.region`).
pub(crate) const STORE_OPTION_PREFIX: &str = "polybolos.object_store.";

/// Buckets that one replica keeps open at once; the one that was made first is closed for another.
const MAX_OPEN_STORES: usize = 256;

/// A store that does not answer is asked so often, within this time: somebody waits for the plan.
const MAX_RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

/// Options that users of DataFusion's command line give without a namespace, which its SQL planner then puts
/// under `format.`.
const BARE_OPTIONS: [&str; 9] = [
    "access_key_id",
    "secret_access_key",
    "session_token",
    "region",
    "endpoint",
    "endpoint_url",
    "allow_http",
    "skip_signature",
    "virtual_hosted_style_request",
];

/// An option, or a URL, that no object store can be made of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(
        "'{key}' is not an option of S3 stores; known are aws.access_key_id, aws.secret_access_key, aws.session_token, aws.region, aws.endpoint, aws.allow_http, aws.skip_signature and others that object_store documents"
    )]
    UnknownOption { key: String },
    #[error("there is no object store for '{url}': use a local path, file://, s3:// or s3a://")]
    Scheme { url: String },
    #[error("'{url}' names no bucket; expected s3://BUCKET/PATH")]
    Bucket { url: String },
    #[error(
        "the endpoint '{endpoint}' is not encrypted; set the option 'aws.allow_http' to 'true' to allow that"
    )]
    PlainHttp { endpoint: String },
}

impl From<StoreError> for DataFusionError {
    fn from(error: StoreError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Takes the options of object stores out of a table's, as `aws.<name>`; what remains is for the file format.
///
/// # Errors
/// An `aws.` option that S3 stores don't have.
pub(crate) fn take_store_options(
    options: &mut HashMap<String, String>,
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut taken = BTreeMap::new();
    let keys: Vec<String> = options.keys().cloned().collect();
    for key in keys {
        let bare = key.strip_prefix("format.").filter(|name| BARE_OPTIONS.contains(name));
        let Some(name) = key.strip_prefix("aws.").or(bare) else { continue };
        if name.parse::<AmazonS3ConfigKey>().is_err() {
            return Err(StoreError::UnknownOption { key });
        }
        let full = format!("aws.{name}");
        if let Some(value) = options.remove(&key) {
            taken.insert(full, value);
        }
    }
    Ok(taken)
}

/// Takes the options of object stores out of a statement's, in the form in which they go with a job, and sets them.
/// So a program that submits a logical plan tells the cluster how to reach what the plan reads.
///
/// # Errors
/// One names no store, or no option of S3 stores.
pub(crate) fn take_job_options(
    options: &mut BTreeMap<String, String>,
    stores: &ObjectStores,
) -> Result<(), StoreError> {
    let mut by_store: BTreeMap<Url, BTreeMap<String, String>> = BTreeMap::new();
    let is_ours = |key: &String| key.starts_with(STORE_OPTION_PREFIX);
    let keys: Vec<String> = options.keys().filter(|key| is_ours(key)).cloned().collect();
    for key in keys {
        let unknown = || StoreError::UnknownOption { key: key.clone() };
        let rest = key.strip_prefix(STORE_OPTION_PREFIX).unwrap_or_default();
        let (store, option) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let url = Url::parse(store).map_err(|_| unknown())?;
        let name = option.strip_prefix("aws.").unwrap_or(option);
        name.parse::<AmazonS3ConfigKey>().map_err(|_| unknown())?;
        if let Some(value) = options.remove(&key) {
            by_store.entry(url).or_default().insert(format!("aws.{name}"), value);
        }
    }
    for (url, options) in by_store {
        stores.configure(&url, &options);
    }
    Ok(())
}

/// True for options whose value must not be shown.
pub(crate) fn is_secret(option: &str) -> bool {
    ["secret", "token", "password", "customer_key"].iter().any(|word| option.contains(word))
}

/// `scheme://bucket` of a URL.
pub(crate) fn store_key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort])
}

#[derive(Debug, Default)]
struct Bucket {
    options: BTreeMap<String, String>,
    store: Option<Arc<dyn ObjectStore>>,
    /// Ascending with the making of `store`.
    made: u64,
}

/// The lazy registry; see the module.
#[derive(Debug)]
pub(crate) struct ObjectStores {
    local: Arc<dyn ObjectStore>,
    /// Of the embedding program, by [`store_key`].
    own: BTreeMap<String, Arc<dyn ObjectStore>>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

impl ObjectStores {
    /// `own` are the stores of the embedding program.
    pub(crate) fn new(own: &[(Url, Arc<dyn ObjectStore>)]) -> Self {
        let own = own.iter().map(|(url, store)| (store_key(url), Arc::clone(store))).collect();
        Self { local: Arc::new(LocalFileSystem::new()), own, buckets: Mutex::default() }
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the options of a bucket and returns those before. The last table that sets any wins for all of the bucket;
    /// a table that sets none takes what is there.
    pub(crate) fn configure(
        &self,
        url: &Url,
        options: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut buckets = self.buckets();
        let before = buckets.get(&store_key(url)).map(|bucket| bucket.options.clone()).unwrap_or_default();
        if !options.is_empty() && before != *options {
            buckets.insert(store_key(url), Bucket { options: options.clone(), ..Bucket::default() });
        }
        before
    }

    /// Takes back what [`Self::configure`] set.
    pub(crate) fn restore(&self, url: &Url, before: BTreeMap<String, String>) {
        let mut buckets = self.buckets();
        if let Some(bucket) = buckets.get_mut(&store_key(url)).filter(|bucket| bucket.options != before) {
            *bucket = Bucket { options: before, ..Bucket::default() };
        }
    }

    /// The options of a bucket, as keys of a job's options.
    pub(crate) fn job_options(&self, url: &Url) -> Vec<(String, String)> {
        let key = store_key(url);
        let buckets = self.buckets();
        let options = buckets.get(&key).map(|bucket| &bucket.options);
        let named =
            |(name, value): (&String, &String)| (format!("{STORE_OPTION_PREFIX}{key}/{name}"), value.clone());
        options.into_iter().flatten().map(named).collect()
    }

    fn open(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = store_key(url);
        let mut buckets = self.buckets();
        if let Some(store) = buckets.get(&key).and_then(|bucket| bucket.store.clone()) {
            return Ok(store);
        }
        let options = buckets.get(&key).map(|bucket| bucket.options.clone()).unwrap_or_default();
        let store = make(url, &options)?;
        close_oldest(&mut buckets);
        let made = buckets.values().map(|bucket| bucket.made).max().unwrap_or(0) + 1;
        let bucket = buckets.entry(key).or_default();
        (bucket.store, bucket.made) = (Some(Arc::clone(&store)), made);
        Ok(store)
    }
}

fn close_oldest(buckets: &mut BTreeMap<String, Bucket>) {
    let open = buckets.values().filter(|bucket| bucket.store.is_some());
    if open.count() < MAX_OPEN_STORES {
        return;
    }
    if let Some(oldest) = buckets.values_mut().filter(|bucket| bucket.store.is_some()).min_by_key(|b| b.made)
    {
        oldest.store = None;
    }
}

fn make(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>> {
    if !matches!(url.scheme(), "s3" | "s3a") {
        return Err(StoreError::Scheme { url: url.to_string() }.into());
    }
    let Some(bucket) = url.host_str() else {
        return Err(StoreError::Bucket { url: url.to_string() }.into());
    };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (key, value) in options {
        let name = key.strip_prefix("aws.").unwrap_or(key);
        let key = name.parse().map_err(|_| StoreError::UnknownOption { key: key.clone() })?;
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let allow = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.starts_with("http://"))
        && !allow.is_some_and(|allow| allow.eq_ignore_ascii_case("true"))
    {
        return Err(StoreError::PlainHttp { endpoint }.into());
    }
    let retry =
        RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    Ok(Arc::new(builder.with_retry(retry).build()?))
}

impl ObjectStoreRegistry for ObjectStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.buckets().entry(store_key(url)).or_default().store.replace(store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let removed = self.buckets().remove(&store_key(url)).and_then(|bucket| bucket.store);
        removed.ok_or_else(|| StoreError::Scheme { url: url.to_string() }.into())
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Some(own) = self.own.get(&store_key(url)) {
            return Ok(Arc::clone(own));
        }
        if url.scheme() == "file" {
            let replaced = self.buckets().get(&store_key(url)).and_then(|bucket| bucket.store.clone());
            return Ok(replaced.unwrap_or_else(|| Arc::clone(&self.local)));
        }
        self.open(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn store_options_are_told_from_format_options() {
        let mut given =
            options(&[("aws.region", "eu-1"), ("format.endpoint", "http://x"), ("format.delimiter", ";")]);
        let taken = take_store_options(&mut given).unwrap();
        assert_eq!(taken.get("aws.region").map(String::as_str), Some("eu-1"));
        assert_eq!(taken.get("aws.endpoint").map(String::as_str), Some("http://x"));
        assert_eq!(given, options(&[("format.delimiter", ";")]));
        let unknown = take_store_options(&mut options(&[("aws.colour", "red")]));
        assert!(matches!(unknown, Err(StoreError::UnknownOption { key }) if key == "aws.colour"));
    }

    #[test]
    fn a_bucket_is_made_once_with_the_options_of_its_table() {
        let stores = ObjectStores::new(&[]);
        let url = Url::parse("s3://bucket/a/b").unwrap();
        let set = BTreeMap::from([("aws.endpoint".to_owned(), "http://127.0.0.1:1".to_owned())]);
        stores.configure(&url, &set);
        assert!(stores.get_store(&url).unwrap_err().to_string().contains("aws.allow_http"));
        let mut set = set;
        set.insert("aws.allow_http".to_owned(), "true".to_owned());
        stores.configure(&url, &set);
        let (first, second) = (stores.get_store(&url).unwrap(), stores.get_store(&url).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        let job = stores.job_options(&url);
        assert!(
            job.contains(&(
                "polybolos.object_store.s3://bucket/aws.allow_http".to_owned(),
                "true".to_owned()
            ))
        );
    }

    #[test]
    fn options_of_a_submitted_plan_reach_its_store() {
        let stores = ObjectStores::new(&[]);
        let key = "polybolos.object_store.s3://a.b/aws.region".to_owned();
        let mut options =
            BTreeMap::from([(key.clone(), "eu-1".to_owned()), ("x.y".to_owned(), "1".to_owned())]);
        take_job_options(&mut options, &stores).unwrap();
        assert_eq!(options.len(), 1);
        assert_eq!(stores.job_options(&Url::parse("s3://a.b/c").unwrap()), [(key, "eu-1".to_owned())]);
        let mut wrong =
            BTreeMap::from([("polybolos.object_store.s3://a.b/colour".to_owned(), String::new())]);
        assert!(matches!(take_job_options(&mut wrong, &stores), Err(StoreError::UnknownOption { .. })));
    }

    #[test]
    fn an_unknown_scheme_is_refused_by_name() {
        let stores = ObjectStores::new(&[]);
        let error = stores.get_store(&Url::parse("gopher://x/y").unwrap()).unwrap_err();
        assert!(error.to_string().contains("gopher://x/y"), "{error}");
        assert!(stores.get_store(&Url::parse("file:///tmp").unwrap()).is_ok());
    }
}
