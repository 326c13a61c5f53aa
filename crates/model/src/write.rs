//! Where the files of a statement that writes are: under staging names while its tasks run, under final ones after.
//!
//! ```text
//!   s3://b/t/.polybolos-staging/JOB/PARTITION-ATTEMPT/year=2024/0.parquet.staged     each attempt, in a folder of its own
//!                        │ published, once it has won
//!                        ▼
//!   s3://b/t/year=2024/JOB-PARTITION-0.parquet                                       for everyone
//! ```
//!
//! Staged names hold the attempt, so that no attempt meets the files of another. Final names hold none, so that whoever
//! publishes again hits what was published before. Both hold the job, so that what a job leaves behind is found by name.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::{AttemptId, JobId};

/// What staged files end in, so that no reader that looks for an extension takes them for data.
pub const STAGED_SUFFIX: &str = ".staged";
/// The folder of staged files, inside the target's folder: one store can rename or copy within itself.
pub const STAGING_FOLDER: &str = ".polybolos-staging";

/// Where the rows of a statement go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteTarget {
    /// A folder's URL, which ends in `/`, or the URL of the one file.
    pub url: String,
    /// Of each file, with its dot: `.parquet`, `.csv.gz`.
    pub extension: String,
    pub single_file: bool,
}

impl WriteTarget {
    /// URL of the folder that gets the files; ends in `/`.
    pub fn folder(&self) -> &str {
        let end = self.url.rfind('/').map_or(self.url.len(), |slash| slash + 1);
        &self.url[..end]
    }

    /// URL of the folder that holds all that attempts of this job have written; ends in `/`.
    pub fn staging(&self, job: JobId) -> String {
        format!("{}{STAGING_FOLDER}/{job}/", self.folder())
    }

    /// URL of the folder that one attempt writes to, and no other; ends in `/`.
    pub fn staged_by(&self, job: JobId, partition: u32, attempt: AttemptId) -> String {
        format!("{}{partition}-{attempt}/", self.staging(job))
    }

    /// Name of an attempt's file, below the folders of its partition values.
    pub fn staged_name(&self, number: u32) -> String {
        format!("{number}{}{STAGED_SUFFIX}", self.extension)
    }

    /// Where a job's attempts stage their files and under which names they are published, for people: with words for what
    /// differs. `columns` are those by whose values rows are spread over folders.
    pub fn places(&self, columns: &[String]) -> (String, String) {
        let staged = format!("{}{STAGING_FOLDER}/JOB/PARTITION-ATTEMPT/", self.folder());
        if self.single_file {
            return (staged, self.url.clone());
        }
        let folders: String = columns.iter().map(|column| format!("{column}=VALUE/")).collect();
        let name = format!("JOB-PARTITION-NUMBER{}", self.extension);
        (staged, format!("{}{folders}{name}", self.folder()))
    }

    /// What the names of all files begin with that this job publishes to a folder.
    pub fn published_prefix(&self, job: JobId) -> String {
        format!("{job}-")
    }

    /// URL under which everyone finds a staged file.
    ///
    /// `staged` is the path below the attempt's folder as the store lists it: folders of partition values, then a name
    /// from [`Self::staged_name`]. The store's paths are no URLs, so what has a meaning there is escaped here.
    pub fn published(&self, job: JobId, partition: u32, staged: &str) -> String {
        if self.single_file {
            return self.url.clone();
        }
        let (folders, name) = match staged.rfind('/') {
            Some(slash) => staged.split_at(slash + 1),
            None => ("", staged),
        };
        let name = name.strip_suffix(STAGED_SUFFIX).unwrap_or(name);
        let prefix = self.published_prefix(job);
        format!("{}{}{prefix}{partition:05}-{}", self.folder(), escaped(folders), escaped(name))
    }
}

/// As the path of a URL.
fn escaped(path: &str) -> String {
    let mut url = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/=".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Term;

    const JOB: JobId = JobId(0xab);

    fn target(url: &str, single_file: bool) -> WriteTarget {
        WriteTarget { url: url.to_owned(), extension: ".csv.gz".to_owned(), single_file }
    }

    fn attempt(term: u64, counter: u64) -> AttemptId {
        AttemptId { term: Term(term), counter }
    }

    #[test]
    fn attempts_stage_apart_and_publish_alike() {
        let target = target("s3://b/t/", false);
        let (first, second) =
            (target.staged_by(JOB, 7, attempt(2, 3)), target.staged_by(JOB, 7, attempt(2, 4)));
        assert_eq!(first, "s3://b/t/.polybolos-staging/00000000000000ab/7-2.3/");
        assert_ne!(first, second);
        assert!(first.starts_with(&target.staging(JOB)));
        let staged = format!("year=2024/{}", target.staged_name(1));
        assert_eq!(staged, "year=2024/1.csv.gz.staged");
        let published = target.published(JOB, 7, &staged);
        assert_eq!(published, "s3://b/t/year=2024/00000000000000ab-00007-1.csv.gz");
        let name = published.rsplit('/').next().unwrap();
        assert!(name.starts_with(&target.published_prefix(JOB)));
    }

    #[test]
    fn places_are_told_as_they_are() {
        let job = JOB.to_string();
        let words = |real: &str, values: &[(&str, &str)]| {
            values.iter().fold(real.to_owned(), |text, (value, word)| text.replace(value, word))
        };
        let target = target("s3://b/t/", false);
        let (staged, published) = target.places(&["year".to_owned()]);
        let values = [(job.as_str(), "JOB"), ("/7-2.3/", "/PARTITION-ATTEMPT/")];
        assert_eq!(staged, words(&target.staged_by(JOB, 7, attempt(2, 3)), &values));
        let values = [(job.as_str(), "JOB"), ("2024", "VALUE"), ("00007-1", "PARTITION-NUMBER")];
        let real = target.published(JOB, 7, &format!("year=2024/{}", target.staged_name(1)));
        assert_eq!(published, words(&real, &values));
    }

    #[test]
    fn what_differs_stays_apart() {
        let target = target("file:///data/t/", false);
        let mut published = vec![];
        for (job, partition, staged) in [
            (JOB, 1, "0.csv.gz.staged"),
            (JOB, 1, "1.csv.gz.staged"),
            (JOB, 11, "0.csv.gz.staged"),
            (JobId(0xac), 1, "0.csv.gz.staged"),
            (JOB, 1, "a=1/0.csv.gz.staged"),
            (JOB, 1, "a=1/b=2/0.csv.gz.staged"),
        ] {
            published.push(target.published(job, partition, staged));
        }
        let all = published.len();
        published.sort();
        published.dedup();
        assert_eq!(published.len(), all);
    }

    #[test]
    fn one_file_is_staged_beside_itself() {
        let target = target("file:///data/out.csv.gz", true);
        assert_eq!(target.folder(), "file:///data/");
        assert_eq!(target.staging(JOB), "file:///data/.polybolos-staging/00000000000000ab/");
        assert_eq!(target.published(JOB, 0, "0.csv.gz.staged"), "file:///data/out.csv.gz");
        assert_eq!(target.places(&[]).1, "file:///data/out.csv.gz");
    }

    #[test]
    fn a_path_of_the_store_is_escaped_for_the_url() {
        let target = target("s3://b/", false);
        let published = target.published(JOB, 0, "k=a%2Fb c?#ü/0.csv.gz.staged");
        assert_eq!(published, "s3://b/k=a%252Fb%20c%3F%23%C3%BC/00000000000000ab-00000-0.csv.gz");
    }
}
