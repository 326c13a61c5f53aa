//! Settings of one job: session options that begin with `polybolos.`, which a job keeps in its options.
//!
//! ```text
//!   SET polybolos.max_task_attempts = 6  ─▶ check() ─▶ session ─▶ Job.options ─▶ JobSettings::read() in apply, dispatcher
//! ```
//!
//! The front refuses what [`check`] refuses. Whoever reads later must come to an answer in any case, so there a value
//! that is absent or bad counts as the default.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::limits::{
    MAX_PARALLEL_TASKS, MAX_RESULT_BYTES, MAX_RUN_MS, MAX_SHARE_BYTES, MAX_STAGE_RERUNS, MAX_TASK_ATTEMPTS,
    MAX_TASK_DEATHS,
};

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
    /// A plain number of them.
    Bytes {
        default: u64,
        range: RangeInclusive<u64>,
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

/// Whether rows of a job may be handed out before their task is done: whoever planned it says so only of one whose tasks give
/// the same rows in the same order in each run. Not so of jobs that say nothing.
pub fn has_early_results(job_options: &BTreeMap<String, String>) -> bool {
    job_options.contains_key(EARLY_RESULTS.name) && EARLY_RESULTS.switch_in(job_options)
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

pub const ADAPTIVE: Setting = Setting {
    name: "polybolos.adaptive",
    kind: Kind::Switch { default: true },
    help: "whether the tasks of a stage divide its inputs among them by their measured sizes, once these are complete",
};

/// Spark's `spark.sql.adaptive.advisoryPartitionSizeInBytes`, and its default.
pub const COALESCE_BYTES: Setting = Setting {
    name: "polybolos.coalesce_partition_bytes",
    kind: Kind::Bytes { default: 64 << 20, range: 0..=MAX_SHARE_BYTES },
    help: "neighbouring partitions are read by one task up to so many bytes, in memory, as long as all slots have work; 0 \
           for never",
};

/// Spark's `spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes`, and its default.
pub const SKEW_BYTES: Setting = Setting {
    name: "polybolos.skew_partition_bytes",
    kind: Kind::Bytes { default: 256 << 20, range: 0..=MAX_SHARE_BYTES },
    help: "a partition of a join's input that has more bytes, and is far larger than the others, is divided between tasks; 0 \
           for never",
};

/// Spark's `spark.sql.adaptive.skewJoin.skewedPartitionFactor`, and its default.
pub const SKEW_FACTOR: Setting = Setting {
    name: "polybolos.skew_partition_factor",
    kind: Kind::Decimal { default: 5_000, range: 1_000..=1_000_000 },
    help: "a partition counts as far larger than the others if it has more than this many times the bytes of their median",
};

pub const EARLY_RESULTS: Setting = Setting {
    name: "polybolos.early_results",
    kind: Kind::Switch { default: true },
    help: "whether rows of a result come while its tasks run, if each run of them gives the same rows in the same order",
};

pub const PARALLEL_TASKS: Setting = Setting {
    name: "polybolos.max_parallel_tasks",
    kind: Kind::Count { default: 0, range: 0..=MAX_PARALLEL_TASKS },
    help: "tasks of a job that run at once at most, second attempts of slow ones included; 0 for no limit",
};

pub const RESULT_BYTES: Setting = Setting {
    name: "polybolos.max_result_bytes",
    kind: Kind::Bytes { default: 0, range: 0..=MAX_RESULT_BYTES },
    help: "a job whose result has more bytes, in memory, fails; what is written to files has no limit; 0 for none",
};

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

pub const PLAN_CACHE: Setting = Setting {
    name: "polybolos.plan_cache",
    kind: Kind::Switch { default: true },
    help: "whether a query that was planned before is run by the same plan, if all that went into it is as it was",
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
    ADAPTIVE,
    COALESCE_BYTES,
    EARLY_RESULTS,
    PARALLEL_TASKS,
    RESULT_BYTES,
    RUN_MS,
    STAGE_RERUNS,
    TASK_ATTEMPTS,
    TASK_DEATHS,
    PLAN_CACHE,
    PRIORITY,
    RUNTIME_FILTER_MIN_ROWS,
    RUNTIME_FILTERS,
    SKEW_BYTES,
    SKEW_FACTOR,
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
        Kind::Bytes { range, .. } => bytes(value).is_some_and(|n| range.contains(&n)),
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
    /// Of the result; 0 for no limit.
    pub max_result_bytes: u64,
    /// Attempts at once; 0 for no limit.
    pub max_parallel_tasks: u32,
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
            max_result_bytes: RESULT_BYTES.bytes_in(options),
            max_parallel_tasks: PARALLEL_TASKS.count_in(options),
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

    /// Its value among these options; 0 for a setting of another kind.
    pub fn bytes_in(&self, options: &BTreeMap<String, String>) -> u64 {
        let Kind::Bytes { default, range } = &self.kind else { return 0 };
        let given = options.get(self.name).and_then(|value| bytes(value));
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
            Kind::Bytes { default, .. } => default.to_string(),
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
            Self::Bytes { range, .. } => format!("a number from {} to {} is", range.start(), range.end()),
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

fn bytes(value: &str) -> Option<u64> {
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
mod tests;
