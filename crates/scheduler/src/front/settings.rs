//! This program's own settings among DataFusion's options, so that `SET`, `RESET`, `SHOW` and `information_schema` know
//! them. They go with the job and not to executors.

use std::{any::Any, collections::BTreeMap};

use datafusion::{
    common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions},
    error::{DataFusionError::Configuration, Result},
};
use polybolos_model::settings;

/// What is set, by full name.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    given: BTreeMap<String, String>,
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

/// What a job keeps of them.
pub(super) fn given(options: &ConfigOptions) -> BTreeMap<String, String> {
    options.extensions.get::<Settings>().map(|settings| settings.given.clone()).unwrap_or_default()
}

/// DataFusion resets only its own options.
///
/// # Errors
/// There is no such setting.
pub(super) fn check_reset(name: &str) -> Result<()> {
    match settings::ALL.iter().any(|setting| setting.name == name) {
        true => Ok(()),
        false => Err(Configuration(settings::SettingError::Unknown { name: name.to_owned() }.to_string())),
    }
}
