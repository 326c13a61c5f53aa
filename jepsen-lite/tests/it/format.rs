//! What a history may look like, and what is said of one that doesn't.

use crate::common::read;
use expect_test::{Expect, expect};
use jepsen_lite::{Event, History, Kind, Model, Options, ReadLimits, check};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn an_event_is_written_as_it_is_read() {
    let events = [
        Event::invoke(3, 12, "submit").on("k").with(json!({ "expect": "d" })).of(Model::Job).at_node("n1"),
        Event::ok(3, 15, "submit").with(json!({ "job": "j" })),
        Event::invoke(3, 16, "status").on("k"),
        Event::info(3, 18, "status").because("no answer"),
        Event::invoke(3, 19, "status").on("k"),
        Event::fail(3, 20, "status").because("refused"),
    ];
    let lines: Vec<String> = events.iter().map(Event::to_string).collect();
    expect![[r#"
        {"type":"invoke","process":3,"time":12,"f":"submit","key":"k","value":{"expect":"d"},"node":"n1","model":"job"}
        {"type":"ok","process":3,"time":15,"f":"submit","value":{"job":"j"}}
        {"type":"invoke","process":3,"time":16,"f":"status","key":"k"}
        {"type":"info","process":3,"time":18,"f":"status","error":"no answer"}
        {"type":"invoke","process":3,"time":19,"f":"status","key":"k"}
        {"type":"fail","process":3,"time":20,"f":"status","error":"refused"}"#]]
    .assert_eq(&lines.join("\n"));
    let history = read(&lines.join("\n")).expect("a history");
    assert_eq!(history, History::from_events(events).expect("a history"));
    let ops = history.operations();
    assert_eq!(ops.iter().map(|op| op.kind).collect::<Vec<_>>(), [Kind::Ok, Kind::Info, Kind::Fail]);
    assert_eq!(ops.iter().map(|op| op.end_ns).collect::<Vec<_>>(), [Some(15), None, Some(20)]);
    assert_eq!((ops[0].node.as_deref(), ops[1].error.as_deref()), (Some("n1"), Some("no answer")));
}

#[test]
fn numbers_are_keys_too_and_empty_lines_and_other_fields_are_passed_over() {
    let lines = r#"
        {"type":"invoke","process":0,"time":1,"f":"read","key":7,"index":0}

        {"type":"ok","process":0,"time":2,"f":"read","key":"7","value":null}"#;
    let history = read(lines).expect("a history");
    assert_eq!((history.operations()[0].key.as_str(), history.operations()[0].line), ("7", 2));
}

/// The error of the lines, or of judging them as a register.
fn error(lines: &str) -> String {
    let judged = read(lines).and_then(|history| check(&history, &Options::new(Model::Register)));
    judged.expect_err("there is something wrong").to_string()
}

fn says(lines: &str, expected: &Expect) {
    expected.assert_eq(&error(lines));
}

const BEGUN: &str = r#"{"type":"invoke","process":0,"time":10,"f":"read","key":"x"}"#;

#[test]
fn lines_that_are_no_events() {
    says(
        "{",
        &expect![[
            r#"line 1 is no event: EOF while parsing an object at line 1 column 1; each line is an object like {"type":"invoke","process":0,"time":12,"f":"read","key":"x"}"#
        ]],
    );
    says(
        r#"{"type":"begin","process":0,"time":1,"f":"read"}"#,
        &expect![[
            r#"line 1 is no event: unknown variant `begin`, expected one of `invoke`, `ok`, `fail`, `info` at line 1 column 15; each line is an object like {"type":"invoke","process":0,"time":12,"f":"read","key":"x"}"#
        ]],
    );
    says(
        r#"{"type":"ok","process":-1,"time":1,"f":"read"}"#,
        &expect![[
            r#"line 1 is no event: invalid value: integer `-1`, expected u64 at line 1 column 25; each line is an object like {"type":"invoke","process":0,"time":12,"f":"read","key":"x"}"#
        ]],
    );
    says(
        r#"{"type":"ok","process":1,"f":"read"}"#,
        &expect![[
            r#"line 1 is no event: missing field `time` at line 1 column 36; each line is an object like {"type":"invoke","process":0,"time":12,"f":"read","key":"x"}"#
        ]],
    );
    says(
        r#"{"type":"ok","process":1,"time":1,"f":"read","key":{}}"#,
        &expect![[
            r#"line 1 is no event: a string or an integer as key at line 1 column 54; each line is an object like {"type":"invoke","process":0,"time":12,"f":"read","key":"x"}"#
        ]],
    );
    says(
        r#"{"type":"ok","process":1,"time":1,"f":"read","model":"jobs"}"#,
        &expect![[
            r#"line 1 is no event: unknown variant `jobs`, expected one of `register`, `set`, `mutex`, `job`, `rows` at line 1 column 59; each line is an object like {"type":"invoke","process":0,"time":12,"f":"read","key":"x"}"#
        ]],
    );
}

#[test]
fn events_that_fit_no_operation() {
    says(
        &format!("{BEGUN}\n{BEGUN}"),
        &expect![
            "line 2: process 0 invokes `read` while its `read` of line 1 has no end; a process does one operation at a time: end that one with ok, fail or info first, or use another process"
        ],
    );
    says(
        r#"{"type":"ok","process":0,"time":1,"f":"read"}"#,
        &expect!["line 1: process 0 ends `read`, which it did not begin; write the invoke before the end"],
    );
    says(
        &format!(r#"{BEGUN}{}"#, "\n{\"type\":\"ok\",\"process\":0,\"time\":11,\"f\":\"write\"}"),
        &expect![
            "line 2: process 0 ends `write`, but its open operation is `read` of line 1; repeat the function and the key of the invoke"
        ],
    );
    says(
        &format!(
            r#"{BEGUN}{}"#,
            "\n{\"type\":\"ok\",\"process\":0,\"time\":11,\"f\":\"read\",\"key\":\"y\"}"
        ),
        &expect![
            "line 2: process 0 ends `read`, but its open operation is `read` of line 1; repeat the function and the key of the invoke"
        ],
    );
    says(
        &format!(r#"{BEGUN}{}"#, "\n{\"type\":\"ok\",\"process\":0,\"time\":9,\"f\":\"read\"}"),
        &expect![
            "line 2: process 0 goes back in time, from 10 to 9 ns; use one monotonic clock for all processes"
        ],
    );
}

#[test]
fn operations_that_the_model_does_not_have() {
    says(
        &BEGUN.replace("read", "raed"),
        &expect![[
            r#"line 1: the model register has no function `raed`, it has read, write, cas, append; choose another --model, or give the events of other workloads a field "model""#
        ]],
    );
    says(
        &BEGUN.replace(r#""read""#, r#""cas","value":[1]"#),
        &expect![
            "line 1: the value of this invoke of `cas` is [1], but it must be the old and the new value, an array of two"
        ],
    );
}

#[test]
fn values_of_the_wrong_shape() {
    let judge = |model: Model, input: &str, f: &str, output: &str| {
        let lines = format!(
            r#"{{"type":"invoke","process":0,"time":1,"f":"{f}","value":{input}}}
{{"type":"ok","process":0,"time":2,"f":"{f}","value":{output}}}"#
        );
        let judged = read(&lines).and_then(|history| check(&history, &Options::new(model)));
        judged.expect_err("a wrong shape").to_string()
    };
    let all = [
        judge(Model::Register, "[1,2]", "cas", "[1,2,3]"),
        judge(Model::Register, "7", "append", "null"),
        judge(Model::Set, "7", "contains", "true"),
        judge(Model::Set, "7", "contains", "[8,true]"),
        judge(Model::Set, "null", "read", "7"),
        judge(Model::Mutex, "null", "lock", "null"),
        judge(Model::Job, "null", "submit", "{}"),
        judge(Model::Job, "{\"auto_cancel\":1}", "submit", "{\"job\":1}"),
        judge(Model::Job, "null", "status", "{\"status\":\"done\"}"),
        judge(Model::Job, "null", "fetch", "{\"rows\":1}"),
        judge(Model::Job, "null", "fetch", "{\"digest\":\"d\",\"rows\":-1}"),
        judge(Model::Job, "null", "query", "{\"status\":\"running\"}"),
        judge(Model::Job, "null", "cancel", "{\"status\":7}"),
        judge(Model::Rows, "{\"statement\":\"a\"}", "insert", "null"),
        judge(Model::Rows, "null", "scan", "{\"a\":10}"),
    ];
    expect![[r#"
        line 2: the value of this ok of `cas` is [1,2,3], but it must be null if it was swapped, or [OLD, NEW, false] if it was different
        line 1: the value of this invoke of `append` is 7, but it must be the text to append, a string
        line 2: the value of this ok of `contains` is true, but it must be [ELEMENT, true] or [ELEMENT, false]
        line 1: the value of this invoke of `contains` is 7, but it must be the element of the answer
        line 2: the value of this ok of `read` is 7, but it must be an array of the elements
        line 1: the model mutex has no function `lock`, it has acquire, release; choose another --model, or give the events of other workloads a field "model"
        line 2: the value of this ok of `submit` is {}, but it must be an object with the job's id as "job"
        line 1: the value of this invoke of `submit` is {"auto_cancel":1}, but it must be an object with "auto_cancel" true or false
        line 2: the value of this ok of `status` is {"status":"done"}, but it must be an object with "status": queued, running, succeeded, failed, cancelled or unknown
        line 2: the value of this ok of `fetch` is {"rows":1}, but it must be an object with the result's digest as "digest", a string
        line 2: the value of this ok of `fetch` is {"digest":"d","rows":-1}, but it must be an object with "rows", a number of rows
        line 2: the value of this ok of `query` is {"status":"running"}, but it must be an object with "status" succeeded, failed or cancelled, with "digest" if it has a result
        line 2: the value of this ok of `cancel` is {"status":7}, but it must be an object with "status": queued, running, succeeded, failed, cancelled or unknown
        line 1: the value of this invoke of `insert` is {"statement":"a"}, but it must be an object with "statement", a name, and "rows", a number of rows
        line 2: the value of this ok of `scan` is {"a":10}, but it must be an object of STATEMENT: [ROWS, DISTINCT ROWS]"#]].assert_eq(&all.join("\n"));
}

#[test]
fn limits_are_errors() {
    let read = |lines: &str, limits: ReadLimits| {
        History::read(lines.as_bytes(), &limits).expect_err("a limit is passed").to_string()
    };
    let two = format!("{BEGUN}\n{BEGUN}\n");
    let of = ReadLimits::default();
    let all = [
        read(&two, ReadLimits { line_bytes: 20, ..of }),
        read(&two, ReadLimits { line_bytes: BEGUN.len() - 1, ..of }),
        read(&two, ReadLimits { events: 1, ..of }),
        read(&two, ReadLimits { total_bytes: 80, ..of }),
    ];
    expect![[r#"
        line 1 has more than 20 bytes; write a digest of a large value, not the value
        line 1 has more than 59 bytes; write a digest of a large value, not the value
        the history has more than 1 events; split it by key or by time, or raise --max-events
        the history has more than 80 bytes; split it by key or by time, or raise --max-bytes"#]]
    .assert_eq(&all.join("\n"));
    let exact = ReadLimits { line_bytes: BEGUN.len(), events: 1, total_bytes: BEGUN.len() as u64 };
    assert!(History::read(BEGUN.as_bytes(), &exact).is_ok());
}

#[test]
fn a_line_that_never_ends_takes_no_memory_and_deep_nesting_is_an_error() {
    let endless = std::io::BufReader::new(std::io::repeat(b'['));
    let error = History::read(endless, &ReadLimits::default()).expect_err("no event");
    assert_eq!(
        error.to_string(),
        "line 1 has more than 4194304 bytes; write a digest of a large value, not the value"
    );
    let deep =
        format!(r#"{{"type":"invoke","process":0,"time":1,"f":"read","value":{}"#, "[".repeat(100_000));
    assert!(History::read(deep.as_bytes(), &ReadLimits::default()).is_err());
    assert!(History::read(&b"\xff\xfe\n"[..], &ReadLimits::default()).is_err());
}

/// Values that fit some functions, and some that fit none.
fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(7),
        json!("text"),
        json!([1, 2]),
        json!([1, 2, false]),
        json!([7, true]),
        json!([]),
        json!({}),
        json!({ "job": "j", "status": "running", "digest": "d", "rows": 3 }),
        json!({ "job": 1, "status": "failed", "expect": "e", "auto_cancel": true }),
        json!({ "status": "unknown" }),
        json!({ "statement": "s", "rows": u64::MAX }),
        json!({ "s": [u64::MAX, 1], "r": [0, 0] }),
    ])
}

/// An operation as `(process, pause before, length, end, f, input, output)`.
type Drawn = (u64, u64, u64, Kind, &'static str, Value, Value);

fn operation() -> impl Strategy<Value = Drawn> {
    let functions: Vec<&str> = Model::ALL.iter().flat_map(|model| model.functions()).copied().collect();
    let end = prop::sample::select(vec![Kind::Ok, Kind::Ok, Kind::Ok, Kind::Fail, Kind::Info]);
    let length = prop_oneof![20 => 0..9u64, 1 => Just(u64::MAX / 64)];
    (0..4u64, 0..9u64, length, end, prop::sample::select(functions), value(), value())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is read, it is judged or refused, and what is found can be shown.
    #[test]
    fn nothing_panics(
        ops in prop::collection::vec(operation(), 0..60),
        model in prop::sample::select(Model::ALL.to_vec()),
    ) {
        let options = Options::new(model);
        let mut clocks = [0u64; 4];
        let mut events = Vec::new();
        for (process, pause, length, end, f, input, output) in ops {
            let clock = &mut clocks[usize::try_from(process).expect("small")];
            let start = *clock + pause;
            let pair = [Event::invoke(process, start, f).with(input), Event::new(end, process, start + length, f).with(output)];
            // Alone it is judged or refused; those that fit are judged together.
            if check(&History::from_events(pair.clone()).expect("a pair"), &options).is_ok() {
                *clock = start + length;
                events.extend(pair);
            }
        }
        let history = History::from_events(events).expect("pairs");
        // Statements have names of their own, and here they have not.
        if let Ok(report) = check(&history, &options) {
            prop_assert!(report.text().starts_with(&report.verdict.to_string()));
            prop_assert!(report.html().contains("</html>"));
            prop_assert!(serde_json::to_string(&report).is_ok());
        }
    }

    #[test]
    fn bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..BEGUN.len()) {
        let _ = History::read(bytes.as_slice(), &ReadLimits::default());
        let damaged = [&BEGUN.as_bytes()[..cut], bytes.as_slice(), &BEGUN.as_bytes()[cut..]].concat();
        let _ = History::read(damaged.as_slice(), &ReadLimits::default());
    }
}
