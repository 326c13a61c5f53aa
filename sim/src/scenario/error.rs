//! What can be wrong with a scenario.

/// Why there is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("there is no scenario `{name}`; `polybolos-sim scenarios` lists them, a path has a `/` or a `.`")]
    Unknown { name: String },
    #[error("{path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("{name}: {error}")]
    Parse { name: String, error: Box<toml::de::Error> },
    #[error("{item}: {error}")]
    Item { item: String, error: Box<toml::de::Error> },
    #[error("{item}: there is no `{key}` here")]
    UnknownKey { item: String, key: String },
    #[error("{item}: `{key}` is missing")]
    MissingKey { item: String, key: &'static str },
    #[error("{item}: {text:?} is no choice; a range has its smaller end first, a list at least one value")]
    Choice { item: String, text: String },
    #[error("{item}: {value} is not within {min} and {max}")]
    Bounds { item: &'static str, value: u64, min: u64, max: u64 },
}
