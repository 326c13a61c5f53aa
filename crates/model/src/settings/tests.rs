//! What a setting may be, and what is read of it.

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
    assert!(error.contains("there are polybolos.adaptive, "), "{error}");
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
fn a_result_may_have_more_bytes_than_a_count_holds() {
    let name = "polybolos.max_result_bytes";
    let read = |value: &str| JobSettings::read(&options(name, value)).max_result_bytes;
    for (value, limit_bytes) in [("0", 0), (" 5000000000 ", 5_000_000_000), ("1125899906842624", 1 << 50)] {
        assert_eq!((check(name, value), read(value)), (Ok(()), limit_bytes), "{value}");
    }
    for value in ["-1", "1125899906842625", "1GB", "1.5", ""] {
        assert!(check(name, value).is_err(), "{value}");
        assert_eq!(read(value), 0, "{value}");
    }
    let error = check(name, "1GB").unwrap_err().to_string();
    assert_eq!(
        error,
        "'1GB' is no value of 'polybolos.max_result_bytes': a number from 0 to 1125899906842624 is"
    );
    assert_eq!((RESULT_BYTES.default(), RESULT_BYTES.count_in(&options(name, "7"))), ("0".into(), 0));
}

#[test]
fn a_job_may_run_as_many_tasks_at_once_as_there_are_slots_or_fewer() {
    let name = "polybolos.max_parallel_tasks";
    let read = |value: &str| JobSettings::read(&options(name, value)).max_parallel_tasks;
    for (value, most) in [("0", 0), ("1", 1), ("1000000", MAX_PARALLEL_TASKS)] {
        assert_eq!((check(name, value), read(value)), (Ok(()), most), "{value}");
    }
    for value in ["-1", "1000001", "all", ""] {
        assert!(check(name, value).is_err(), "{value}");
        assert_eq!(read(value), 0, "{value}");
    }
}

#[test]
fn names_are_in_order_and_ours() {
    assert!(ALL.is_sorted_by_key(|setting| setting.name));
    assert!(
        ALL.iter().all(|setting| is_ours(setting.name) && check(setting.name, &setting.default()).is_ok())
    );
}

#[test]
fn rows_come_early_only_of_a_job_that_says_so() {
    let name = "polybolos.early_results";
    assert!(EARLY_RESULTS.switch_in(&BTreeMap::new()), "unless its session says otherwise, a job may say so");
    for (given, expected) in [("true", true), ("false", false), ("sure", true)] {
        assert_eq!(EARLY_RESULTS.switch_in(&options(name, given)), expected, "{given}");
    }
    assert!(!has_early_results(&BTreeMap::new()), "one of an older version");
    assert!(has_early_results(&options(name, "true")) && !has_early_results(&options(name, "false")));
}
