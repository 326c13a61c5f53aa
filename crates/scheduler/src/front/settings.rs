//! Which of this program's own settings a session may have now, and what a job says that was planned.

use polybolos_model::settings::{ALL, EARLY_RESULTS, SettingError, is_ours};

use super::session::Options;
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

/// What a job says of whether its rows may come before their task is done, if anything: they may if nobody has switched that
/// off and each run of its tasks gives the same rows in the same order.
pub(super) fn early_results(given: &Options, version: u16, is_repeatable: bool) -> Option<(String, String)> {
    // Leaders before would hand it on to executors, which don't know it.
    let is_on = is_repeatable && version >= SETTINGS_VERSION && EARLY_RESULTS.switch_in(given);
    let says = is_on || given.contains_key(EARLY_RESULTS.name);
    says.then(|| (EARLY_RESULTS.name.to_owned(), is_on.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_that_its_rows_may_come_early_if_they_may_and_shall() {
        let says = |given: Option<&str>, version, is_repeatable| {
            let given = given.map(|value| (EARLY_RESULTS.name.to_owned(), value.to_owned())).into_iter();
            early_results(&given.collect(), version, is_repeatable).map(|(_, value)| value)
        };
        assert_eq!(says(None, SETTINGS_VERSION, true).as_deref(), Some("true"));
        assert_eq!(says(Some("off"), SETTINGS_VERSION, true).as_deref(), Some("false"));
        assert_eq!(says(Some("on"), SETTINGS_VERSION, true).as_deref(), Some("true"));
        // What is asked for is no proof.
        assert_eq!(says(Some("on"), SETTINGS_VERSION, false).as_deref(), Some("false"));
        assert_eq!(says(None, SETTINGS_VERSION, false), None);
        assert_eq!(says(None, SETTINGS_VERSION - 1, true), None);
    }
}
