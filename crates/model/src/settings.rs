//! Settings of one job: session options that begin with `polybolos.`, which a job keeps in its options.
//!
//! ```text
//!   SET polybolos.max_task_attempts = 6  ─▶ check() ─▶ session ─▶ Job.options ─▶ JobSettings::read() in apply, dispatcher
//! ```
//!
//! The front refuses what [`check`] refuses. Whoever reads later must come to an answer in any case, so there a value
//! that is absent or bad counts as the default.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::limits::{MAX_RUN_MS, MAX_STAGE_RERUNS, MAX_TASK_ATTEMPTS, MAX_TASK_DEATHS};

/// What the options of this program begin with. Executors have no use for them.
pub const PREFIX: &str = "polybolos.";
/// What follows is no setting, but how the job's object stores are reached.
const OBJECT_STORES: &str = "polybolos.object_store.";

/// What a setting may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Count {
        default: u32,
        range: RangeInclusive<u32>,
    },
    /// In thousandths, so that what is read is the same everywhere.
    Decimal {
        default: u32,
        range: RangeInclusive<u32>,
    },
    Switch {
        default: bool,
    },
    /// One of these words.
    Choice {
        default: &'static str,
        among: &'static [&'static str],
    },
}

/// Which jobs get free slots first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

impl Priority {
    /// Total, as all reading of options.
    pub fn read(options: &BTreeMap<String, String>) -> Self {
        match PRIORITY.choice_in(options) {
            "low" => Self::Low,
            "high" => Self::High,
            _ => Self::Normal,
        }
    }
}

/// One setting, as `SHOW` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// In full.
    pub name: &'static str,
    pub kind: Kind,
    /// One line for people.
    pub help: &'static str,
}

pub const RUN_MS: Setting = Setting {
    name: "polybolos.max_run_ms",
    kind: Kind::Count { default: 0, range: 0..=MAX_RUN_MS },
    help: "a job that has not ended so many milliseconds after its submit fails; 0 for no limit",
};

pub const TASK_ATTEMPTS: Setting = Setting {
    name: "polybolos.max_task_attempts",
    kind: Kind::Count { default: MAX_TASK_ATTEMPTS, range: 1..=16 },
    help: "failed attempts of one task that fail the job; lost executors and lost inputs don't count",
};

pub const STAGE_RERUNS: Setting = Setting {
    name: "polybolos.max_stage_reruns",
    kind: Kind::Count { default: MAX_STAGE_RERUNS, range: 0..=100 },
    help: "how often each task of a stage may run again because its output was lost; once more fails the job",
};

pub const TASK_DEATHS: Setting = Setting {
    name: "polybolos.max_task_deaths",
    kind: Kind::Count { default: MAX_TASK_DEATHS, range: 1..=16 },
    help: "executors that died while they ran one task, which fail the job; after two of them it runs alone",
};

pub const PRIORITY: Setting = Setting {
    name: "polybolos.priority",
    kind: Kind::Choice { default: "normal", among: &["low", "normal", "high"] },
    help: "free slots go to jobs of a higher priority as long as these have a task for them; running tasks go on",
};

pub const RUNTIME_FILTERS: Setting = Setting {
    name: "polybolos.runtime_filters",
    kind: Kind::Switch { default: true },
    help: "whether the keys of a join's smaller side, once they are known, filter scans of its other side",
};

pub const RUNTIME_FILTER_MIN_ROWS: Setting = Setting {
    name: "polybolos.runtime_filter_min_rows",
    kind: Kind::Count { default: 500_000, range: 0..=u32::MAX },
    help: "a scan of fewer rows, by the optimizer's estimates, is not filtered by keys; 0 to filter all, whatever the estimates",
};

pub const SPECULATION: Setting = Setting {
    name: "polybolos.speculation",
    kind: Kind::Switch { default: true },
    help: "whether a task that is far slower than its siblings gets a second attempt on another executor",
};

pub const SPECULATION_MIN_MS: Setting = Setting {
    name: "polybolos.speculation_min_ms",
    kind: Kind::Count { default: 1_000, range: 0..=86_400_000 },
    help: "no task counts as slow before it has run for so many milliseconds",
};

pub const SPECULATION_MULTIPLIER: Setting = Setting {
    name: "polybolos.speculation_multiplier",
    kind: Kind::Decimal { default: 2_000, range: 1_000..=1_000_000 },
    help: "a task counts as slow when it has run for this many times the median of its finished siblings",
};

pub const SPECULATION_QUANTILE: Setting = Setting {
    name: "polybolos.speculation_quantile",
    kind: Kind::Decimal { default: 750, range: 0..=1_000 },
    help: "share of a stage's tasks that must be done before the others can count as slow",
};

/// All there are, by name.
pub const ALL: &[Setting] = &[
    RUN_MS,
    STAGE_RERUNS,
    TASK_ATTEMPTS,
    TASK_DEATHS,
    PRIORITY,
    RUNTIME_FILTER_MIN_ROWS,
    RUNTIME_FILTERS,
    SPECULATION,
    SPECULATION_MIN_MS,
    SPECULATION_MULTIPLIER,
    SPECULATION_QUANTILE,
];

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("there is no setting '{name}'; there are {}", names())]
    Unknown { name: String },
    #[error("'{value}' is no value of '{name}': {}", .kind.expects())]
    Value { name: &'static str, value: String, kind: Kind },
}

/// Whether the name is that of a setting, known or not.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && !name.starts_with(OBJECT_STORES)
}

/// Whether the option may be set to this. Ask it of names that [`is_ours`] only.
///
/// # Errors
/// [`SettingError`] for a name that is not known or a value out of its range.
pub fn check(name: &str, value: &str) -> Result<(), SettingError> {
    let Some(setting) = ALL.iter().find(|setting| setting.name == name) else {
        return Err(SettingError::Unknown { name: name.to_owned() });
    };
    let fits = match &setting.kind {
        Kind::Count { range, .. } => count(value).is_some_and(|n| range.contains(&n)),
        Kind::Decimal { range, .. } => decimal(value).is_some_and(|n| range.contains(&n)),
        Kind::Switch { .. } => switch(value).is_some(),
        Kind::Choice { among, .. } => choice(value, among).is_some(),
    };
    if fits {
        return Ok(());
    }
    Err(SettingError::Value { name: setting.name, value: value.to_owned(), kind: setting.kind.clone() })
}

/// The settings of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobSettings {
    pub max_task_attempts: u32,
    pub max_stage_reruns: u32,
    pub max_task_deaths: u32,
    /// From the submit on; 0 for no limit.
    pub max_run_ms: u32,
    pub priority: Priority,
    pub speculation: bool,
    pub speculation_min_ms: u32,
    /// In thousandths, as the next.
    pub speculation_multiplier: u32,
    pub speculation_quantile: u32,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self::read(&BTreeMap::new())
    }
}

impl JobSettings {
    /// Total: what is absent or bad is the default.
    pub fn read(options: &BTreeMap<String, String>) -> Self {
        Self {
            max_task_attempts: TASK_ATTEMPTS.count_in(options),
            max_stage_reruns: STAGE_RERUNS.count_in(options),
            max_task_deaths: TASK_DEATHS.count_in(options),
            max_run_ms: RUN_MS.count_in(options),
            priority: Priority::read(options),
            speculation: SPECULATION.switch_in(options),
            speculation_min_ms: SPECULATION_MIN_MS.count_in(options),
            speculation_multiplier: SPECULATION_MULTIPLIER.decimal_in(options),
            speculation_quantile: SPECULATION_QUANTILE.decimal_in(options),
        }
    }
}

impl Setting {
    /// Its value among these options; 0 for a setting of another kind.
    pub fn count_in(&self, options: &BTreeMap<String, String>) -> u32 {
        let Kind::Count { default, range } = &self.kind else { return 0 };
        let given = options.get(self.name).and_then(|value| count(value));
        given.filter(|n| range.contains(n)).unwrap_or(*default)
    }

    /// Its value among these options, in thousandths; 0 for a setting of another kind.
    pub fn decimal_in(&self, options: &BTreeMap<String, String>) -> u32 {
        let Kind::Decimal { default, range } = &self.kind else { return 0 };
        let given = options.get(self.name).and_then(|value| decimal(value));
        given.filter(|n| range.contains(n)).unwrap_or(*default)
    }

    /// Its value among these options; `false` for a setting of another kind.
    pub fn switch_in(&self, options: &BTreeMap<String, String>) -> bool {
        let Kind::Switch { default } = self.kind else { return false };
        options.get(self.name).and_then(|value| switch(value)).unwrap_or(default)
    }

    /// Its value among these options, one of its words; empty for a setting of another kind.
    pub fn choice_in(&self, options: &BTreeMap<String, String>) -> &'static str {
        let Kind::Choice { default, among } = self.kind else { return "" };
        options.get(self.name).and_then(|value| choice(value, among)).unwrap_or(default)
    }

    /// As `SHOW` tells of it when nobody has set it.
    pub fn default(&self) -> String {
        match &self.kind {
            Kind::Count { default, .. } => default.to_string(),
            Kind::Decimal { default, .. } => thousandths(*default),
            Kind::Switch { default } => default.to_string(),
            Kind::Choice { default, .. } => (*default).to_owned(),
        }
    }
}

impl Kind {
    fn expects(&self) -> String {
        match self {
            Self::Count { range, .. } => format!("a number from {} to {} is", range.start(), range.end()),
            Self::Decimal { range, .. } => {
                format!("a number from {} to {} is", thousandths(*range.start()), thousandths(*range.end()))
            }
            Self::Switch { .. } => "true or false is".to_owned(),
            Self::Choice { among, .. } => format!("one of {} is", among.join(", ")),
        }
    }
}

fn names() -> String {
    ALL.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

fn count(value: &str) -> Option<u32> {
    value.trim().parse().ok()
}

/// Digits with at most one point, to thousandths: the rest is cut.
fn decimal(value: &str) -> Option<u32> {
    let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(part) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    whole.checked_mul(1_000)?.checked_add(digits.parse().ok()?)
}

fn thousandths(value: u32) -> String {
    format!("{}.{:03}", value / 1_000, value % 1_000).trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn switch(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "on" => Some(true),
        "false" | "off" => Some(false),
        _ => None,
    }
}

fn choice(value: &str, among: &[&'static str]) -> Option<&'static str> {
    among.iter().copied().find(|word| word.eq_ignore_ascii_case(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn what_is_accepted_is_what_is_read_later() {
        assert_eq!(check("polybolos.max_task_attempts", "16"), Ok(()));
        let given = JobSettings::read(&options("polybolos.max_task_attempts", "16"));
        assert_eq!((given.max_task_attempts, given.max_stage_reruns), (16, MAX_STAGE_RERUNS));
        for value in ["0", "17", "-1", "many", ""] {
            assert!(check("polybolos.max_task_attempts", value).is_err(), "{value}");
            let read = JobSettings::read(&options("polybolos.max_task_attempts", value));
            assert_eq!(read, JobSettings::read(&BTreeMap::new()), "{value}");
        }
        assert_eq!(check("polybolos.max_stage_reruns", "0"), Ok(()));
        assert_eq!(JobSettings::read(&options("polybolos.max_stage_reruns", "0")).max_stage_reruns, 0);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let error = check("polybolos.max_stage_reruns", "101").unwrap_err().to_string();
        assert_eq!(error, "'101' is no value of 'polybolos.max_stage_reruns': a number from 0 to 100 is");
        let error = check("polybolos.max_stages", "1").unwrap_err().to_string();
        assert!(error.contains("there are polybolos.max_run_ms, "), "{error}");
    }

    #[test]
    fn decimals_are_read_to_thousandths() {
        let name = "polybolos.speculation_multiplier";
        let read = |value: &str| JobSettings::read(&options(name, value)).speculation_multiplier;
        for (value, thousandths) in [("1.5", 1_500), ("3", 3_000), (" 2.25 ", 2_250), ("1.00049", 1_000)] {
            assert_eq!((check(name, value), read(value)), (Ok(()), thousandths), "{value}");
        }
        for value in ["0.5", "-2", "two", "", ".", "1e3", "1.2.3", "99999999999"] {
            assert!(check(name, value).is_err(), "{value}");
            assert_eq!(read(value), 2_000, "{value}");
        }
        assert_eq!(
            (SPECULATION_MULTIPLIER.default(), SPECULATION_QUANTILE.default()),
            ("2".into(), "0.75".into())
        );
    }

    #[test]
    fn a_priority_is_one_of_its_words() {
        let read = |value: &str| JobSettings::read(&options("polybolos.priority", value)).priority;
        for (value, priority) in
            [("low", Priority::Low), (" Normal ", Priority::Normal), ("HIGH", Priority::High)]
        {
            assert_eq!((check("polybolos.priority", value), read(value)), (Ok(()), priority), "{value}");
        }
        for value in ["", "urgent", "1", "low,high"] {
            assert!(check("polybolos.priority", value).is_err(), "{value}");
            assert_eq!(read(value), Priority::Normal, "{value}");
        }
        let error = check("polybolos.priority", "urgent").unwrap_err().to_string();
        assert_eq!(error, "'urgent' is no value of 'polybolos.priority': one of low, normal, high is");
        assert!(Priority::Low < Priority::Normal && Priority::Normal < Priority::High);
    }

    #[test]
    fn a_job_may_run_for_ever_or_for_up_to_thirty_days() {
        let name = "polybolos.max_run_ms";
        let read = |value: &str| JobSettings::read(&options(name, value)).max_run_ms;
        for (value, limit_ms) in [("0", 0), ("1500", 1_500), ("2592000000", MAX_RUN_MS)] {
            assert_eq!((check(name, value), read(value)), (Ok(()), limit_ms), "{value}");
        }
        for value in ["-1", "2592000001", "1.5", "1s", ""] {
            assert!(check(name, value).is_err(), "{value}");
            assert_eq!(read(value), 0, "{value}");
        }
        assert_eq!((RUN_MS.default(), PRIORITY.default()), ("0".into(), "normal".into()));
    }

    #[test]
    fn names_are_in_order_and_ours() {
        assert!(ALL.is_sorted_by_key(|setting| setting.name));
        assert!(
            ALL.iter()
                .all(|setting| is_ours(setting.name) && check(setting.name, &setting.default()).is_ok())
        );
    }
}
