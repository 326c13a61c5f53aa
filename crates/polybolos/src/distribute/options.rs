//! Which of the session's options go along with a query.

use std::collections::BTreeMap;

use datafusion::{common::config::ConfigOptions, execution::config::SessionConfig};
use polybolos_planner::Settings;

/// Set by each machine for itself or by the cluster for all.
const OF_THE_HOST: [&str; 2] =
    ["datafusion.execution.target_partitions", "datafusion.execution.planning_concurrency"];

/// Options of execution, optimiser and functions that differ from DataFusion's defaults. Those of the catalogue, of
/// parsing and of display have had their effect already. And the cluster's own settings that are set.
pub(crate) fn changed(config: &SessionConfig) -> BTreeMap<String, String> {
    let defaults: BTreeMap<_, _> =
        ConfigOptions::new().entries().into_iter().map(|entry| (entry.key, entry.value)).collect();
    let travels = |key: &str| {
        ["datafusion.execution.", "datafusion.optimizer."].iter().any(|prefix| key.starts_with(prefix))
            && !OF_THE_HOST.contains(&key)
    };
    let entries = config.options().entries().into_iter().filter(|entry| travels(&entry.key));
    let changed = entries.filter(|entry| defaults.get(&entry.key) != Some(&entry.value));
    let own = Settings::given(config.options());
    changed.filter_map(|entry| Some((entry.key, entry.value?))).chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_options_of_the_query_travel() {
        assert_eq!(changed(&SessionConfig::new()), BTreeMap::new());
        let config = SessionConfig::new()
            .with_target_partitions(7)
            .with_information_schema(true)
            .with_batch_size(100)
            .with_repartition_joins(false);
        let expected =
            [("datafusion.execution.batch_size", "100"), ("datafusion.optimizer.repartition_joins", "false")];
        assert_eq!(changed(&config), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn the_settings_of_the_cluster_travel_once_they_are_set() {
        let mut config = SessionConfig::new().with_option_extension(Settings::default());
        assert_eq!(changed(&config), BTreeMap::new());
        config.options_mut().set("polybolos.speculation", "off").unwrap();
        let expected = BTreeMap::from([("polybolos.speculation".to_owned(), "off".to_owned())]);
        assert_eq!(changed(&config), expected);
    }
}
