//! `--table NAME=PATH`: the statement that makes a table of a file or folder.

use std::path::{Path, PathBuf};

use super::{
    error::CliError,
    files::{self, Found},
    values::NamedTable,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileFormat {
    Parquet,
    Csv,
    Json,
}

impl FileFormat {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "json" | "ndjson" | "jsonl" => Some(Self::Json),
            _ => None,
        }
    }

    fn keyword(self) -> &'static str {
        match self {
            Self::Parquet => "PARQUET",
            Self::Csv => "CSV",
            Self::Json => "JSON",
        }
    }
}

/// The `CREATE EXTERNAL TABLE` statement for a Parquet, CSV or JSON file, a folder of such files, or a URL of one.
///
/// # Errors
/// [`CliError::Table`] says what is wrong with the path.
pub(crate) fn create_statement(table: &NamedTable) -> Result<String, CliError> {
    let path = &table.path;
    let wrong = |reason: String| CliError::Table { path: path.clone(), reason };
    if path.to_string_lossy().contains("://") {
        let format = FileFormat::of(path).ok_or_else(|| wrong(unknown_extension()))?;
        return Ok(statement(&table.name, format, &path.to_string_lossy()));
    }
    let absolute = std::path::absolute(path).map_err(|error| wrong(error.to_string()))?;
    let (sample, folder) = match files::look(&absolute).map_err(|error| wrong(error.to_string()))? {
        Found::Nothing => return Err(wrong("there is no such file or folder".to_owned())),
        Found::EmptyFolder => return Err(wrong("the folder is empty".to_owned())),
        Found::File => (absolute.clone(), false),
        Found::Folder => (sample_of(&absolute).map_err(wrong)?, true),
    };
    let format = FileFormat::of(&sample).ok_or_else(|| wrong(unknown_extension()))?;
    let location =
        format!("{}{}", absolute.to_string_lossy().trim_end_matches('/'), if folder { "/" } else { "" });
    Ok(statement(&table.name, format, &location))
}

fn unknown_extension() -> String {
    "expected a .parquet, .csv, .json or .ndjson file, or a folder of them".to_owned()
}

/// A file that stands for the folder: all that can be tables must have one format.
fn sample_of(folder: &Path) -> Result<PathBuf, String> {
    let files = files::list_files(folder).map_err(|error| error.to_string())?;
    let mut known = files.into_iter().filter(|file| FileFormat::of(file).is_some());
    let Some(first) = known.next() else {
        return Err("the folder holds no .parquet, .csv, .json or .ndjson file".to_owned());
    };
    match known.find(|other| other.extension() != first.extension()) {
        None => Ok(first),
        Some(other) => Err(format!(
            "the folder mixes formats: {} and {}",
            first.file_name().unwrap_or_default().display(),
            other.file_name().unwrap_or_default().display()
        )),
    }
}

fn statement(name: &str, format: FileFormat, location: &str) -> String {
    let (name, stored, location) = (identifier(name), format.keyword(), location.replace('\'', "''"));
    let options = if format == FileFormat::Csv { " OPTIONS ('format.has_header' 'true')" } else { "" };
    format!("CREATE EXTERNAL TABLE {name} STORED AS {stored} LOCATION '{location}'{options}")
}

/// As it is if SQL would read it back unchanged, else in quotes.
fn identifier(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folder: &Path, name: &str, path: &str) -> Result<String, String> {
        let table = NamedTable { name: name.to_owned(), path: folder.join(path) };
        let root = folder.to_string_lossy().into_owned();
        create_statement(&table)
            .map(|sql| sql.replace(&root, "ROOT"))
            .map_err(|error| error.to_string().replace(&root, "ROOT"))
    }

    #[test]
    fn the_extension_decides() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.parquet", "b.csv", "c.ndjson", "it's.json", "d.txt"] {
            drop(files::create_new(&folder.path().join(name)).unwrap());
        }
        let made = |name, path| made(folder.path(), name, path);
        assert_eq!(
            made("t", "a.parquet").unwrap(),
            "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'ROOT/a.parquet'"
        );
        assert_eq!(
            made("My \"t\"", "b.csv").unwrap(),
            "CREATE EXTERNAL TABLE \"My \"\"t\"\"\" STORED AS CSV LOCATION 'ROOT/b.csv' OPTIONS ('format.has_header' 'true')"
        );
        assert!(made("t", "it's.json").unwrap().ends_with("STORED AS JSON LOCATION 'ROOT/it''s.json'"));
        assert!(made("t", "c.ndjson").unwrap().starts_with("CREATE EXTERNAL TABLE t STORED AS JSON"));
        assert!(made("t", "d.txt").unwrap_err().contains("ROOT/d.txt: expected a .parquet"));
        assert!(made("t", "none.csv").unwrap_err().contains("no such file"));
        assert!(made("t", ".").unwrap_err().contains("mixes formats"));
    }

    #[test]
    fn a_folder_is_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        files::create_dir_all(&folder.path().join("t/year=2024")).unwrap();
        files::create_dir_all(&folder.path().join("empty")).unwrap();
        drop(files::create_new(&folder.path().join("t/_SUCCESS.csv")).unwrap());
        drop(files::create_new(&folder.path().join("t/year=2024/x.parquet")).unwrap());
        assert_eq!(
            made(folder.path(), "t", "t").unwrap(),
            "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'ROOT/t/'"
        );
        assert!(made(folder.path(), "t", "empty").unwrap_err().contains("empty"));
    }

    #[test]
    fn a_url_is_taken_by_its_extension() {
        let table = NamedTable { name: "t".to_owned(), path: PathBuf::from("s3://bucket/x.parquet") };
        assert!(create_statement(&table).unwrap().ends_with("LOCATION 's3://bucket/x.parquet'"));
    }
}
