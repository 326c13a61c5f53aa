//! This program's own settings among DataFusion's options, so that `SET`, `SHOW` and `information_schema` know them. They
//! go with the job and not to executors.

use std::{any::Any, collections::BTreeMap};

use datafusion::{
    common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions},
    error::{DataFusionError::Configuration, Result},
};
use polybolos_model::settings;

/// Those that are set. An extension of a session's options under the prefix `polybolos`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// By full name.
    given: BTreeMap<String, String>,
}

impl Settings {
    /// What is set in a session, by full name: what a job of it keeps.
    pub fn given(options: &ConfigOptions) -> BTreeMap<String, String> {
        options.extensions.get::<Self>().map(|settings| settings.given.clone()).unwrap_or_default()
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "polybolos";
}

impl ExtensionOptions for Settings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let name = format!("{}{key}", settings::PREFIX);
        settings::check(&name, value).map_err(|error| Configuration(error.to_string()))?;
        self.given.insert(name, value.trim().to_owned());
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |setting: &settings::Setting| ConfigEntry {
            key: setting.name.to_owned(),
            value: Some(self.given.get(setting.name).cloned().unwrap_or_else(|| setting.default())),
            description: setting.help,
        };
        settings::ALL.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_what_is_a_setting_and_tells_of_all() {
        let mut options = ConfigOptions::new();
        assert!(Settings::given(&options).is_empty());
        assert!(options.set("polybolos.max_task_attempts", "6").is_err());
        options.extensions.insert(Settings::default());
        options.set("polybolos.max_task_attempts", " 6 ").unwrap();
        let error = options.set("polybolos.max_task_attempts", "17").unwrap_err().to_string();
        assert!(error.contains("a number from 1 to 16"), "{error}");
        let given = BTreeMap::from([("polybolos.max_task_attempts".to_owned(), "6".to_owned())]);
        assert_eq!(Settings::given(&options), given);
        let told = options.entries().into_iter().filter(|entry| settings::is_ours(&entry.key));
        assert_eq!(told.count(), settings::ALL.len());
    }
}
