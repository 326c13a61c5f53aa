//! Which of this program's own settings a session may have now.

use polybolos_model::settings::{ALL, SettingError, is_ours};

use crate::error::PlanningError;

/// The first version in which settings count.
const SETTINGS_VERSION: u16 = 3;

/// # Errors
/// One of `names` is a setting, and an older version is in use, in which it would count for nothing.
pub(super) fn check_version<'a>(
    names: impl IntoIterator<Item = &'a String>,
    version: u16,
) -> Result<(), PlanningError> {
    match names.into_iter().find(|name| is_ours(name)) {
        Some(name) if version < SETTINGS_VERSION => {
            let what = format!("'{name}', while a scheduler of an older version is in the cluster,");
            Err(PlanningError::Unsupported { what })
        }
        Some(_) | None => Ok(()),
    }
}

/// DataFusion resets only its own options.
///
/// # Errors
/// There is no such setting.
pub(super) fn check_reset(name: &str) -> Result<(), SettingError> {
    match ALL.iter().any(|setting| setting.name == name) {
        true => Ok(()),
        false => Err(SettingError::Unknown { name: name.to_owned() }),
    }
}
