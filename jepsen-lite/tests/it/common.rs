//! Histories written as in the documentation.

use jepsen_lite::{
    Check, History, HistoryError, Model, Options, Outcome, ReadLimits, Report, Verdict, check,
};

/// JSON lines; for short each may leave out the braces around it.
pub(crate) fn read(lines: &str) -> Result<History, HistoryError> {
    History::read(lines.as_bytes(), &ReadLimits::default())
}

/// `process begin..end f key input → output`, one operation a line, as events. An end of `?` is info, `!` after the
/// answer is fail.
pub(crate) fn history(operations: &str) -> History {
    let mut events: Vec<(u64, u8, String)> = Vec::new();
    for line in operations.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (call, answer) = line.split_once(" → ").unwrap_or((line, "null"));
        let mut words = call.splitn(5, ' ');
        let [process, times, f, key] = [(); 4].map(|()| words.next().expect("process times f key"));
        let input = words.next().unwrap_or("null");
        let (begin, end) = times.split_once("..").expect("begin..end");
        let begin: u64 = begin.parse().expect("a time");
        events.push((
            begin,
            0,
            format!(
                r#"{{"type":"invoke","process":{process},"time":{begin},"f":"{f}","key":"{key}","value":{input}}}"#
            ),
        ));
        let (kind, end) = match end.strip_suffix('!') {
            Some(end) => ("fail", end),
            None => ("ok", end),
        };
        if end != "?" {
            let end: u64 = end.parse().expect("a time");
            events.push((
                end,
                1,
                format!(r#"{{"type":"{kind}","process":{process},"time":{end},"f":"{f}","value":{answer}}}"#),
            ));
        }
    }
    events.sort();
    let lines: Vec<String> = events.into_iter().map(|(_, _, line)| line).collect();
    read(&lines.join("\n")).expect("a history")
}

pub(crate) fn judge(model: Model, operations: &str) -> Report {
    check(&history(operations), &Options::new(model)).expect("operations of the model")
}

pub(crate) fn outcome(report: &Report, check: Check) -> &Outcome {
    report.checks.iter().find(|outcome| outcome.check == check).expect("a check of the model")
}

/// The sentences of a check's violations.
pub(crate) fn violations(model: Model, check: Check, operations: &str) -> Vec<String> {
    let report = judge(model, operations);
    let outcome = outcome(&report, check);
    assert_eq!(outcome.verdict == Verdict::Invalid, outcome.violation_count > 0);
    outcome.violations.iter().map(|violation| violation.what.clone()).collect()
}
