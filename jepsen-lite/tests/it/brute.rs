//! The search against one that tries every order: on small histories of every kind, right ones and wrong ones.
//!
//! The objects here are written anew, as machines that do one thing after the other, so that they share no mistake with
//! the library's. The job really queues, runs and ends by itself, at moments that are tried out as well.

use jepsen_lite::{Check, Event, History, Kind, Model, Options, Verdict, check};
use proptest::prelude::*;
use serde_json::{Value, json};

/// One operation of a process of its own.
#[derive(Debug, Clone)]
struct Op {
    start: u64,
    /// None if nobody heard.
    end: Option<u64>,
    f: &'static str,
    input: Value,
    output: Value,
}

/// Of what is drawn, the answer is kept only if somebody heard it.
fn op(f: &'static str, input: Value, output: Value) -> impl Strategy<Value = Op> {
    (0..12u64, prop::option::weighted(0.8, 0..6u64)).prop_map(move |(start, length)| Op {
        start,
        end: length.map(|length| start + length),
        f,
        input: input.clone(),
        output: output.clone(),
    })
}

fn history(ops: &[Op]) -> History {
    let mut events: Vec<(u64, Event)> = Vec::new();
    for (process, op) in (0..).zip(ops) {
        events.push((op.start, Event::invoke(process, op.start, op.f).with(op.input.clone())));
        if let Some(end) = op.end {
            events.push((end, Event::ok(process, end, op.f).with(op.output.clone())));
        }
    }
    events.sort_by_key(|(time, event)| (*time, event.kind != Kind::Invoke));
    History::from_events(events.into_iter().map(|(_, event)| event)).expect("a history")
}

/// An object that does one thing after the other.
trait Machine: Clone {
    /// All states in which it may be after the operation; without an answer any will do.
    fn apply(&self, f: &str, input: &Value, answer: Option<&Value>) -> Vec<Self>;
    /// All states to which it may go by itself.
    fn by_itself(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// Whether any order explains the answers: `left` are the operations that are not in it yet.
fn explain<M: Machine>(machine: &M, left: &[&Op]) -> bool {
    if left.iter().all(|op| op.end.is_none()) {
        return true;
    }
    let next = left.iter().enumerate().any(|(index, op)| {
        let first = !left.iter().any(|other| other.end.is_some_and(|end| end < op.start));
        let rest: Vec<&Op> =
            left.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, op)| *op).collect();
        first
            && machine
                .apply(op.f, &op.input, op.end.map(|_| &op.output))
                .iter()
                .any(|machine| explain(machine, &rest))
    });
    next || machine.by_itself().iter().any(|machine| explain(machine, left))
}

fn agree<M: Machine>(machine: &M, model: Model, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut options = Options::new(model);
    options.checks = vec![Check::Linearizable];
    let history = history(ops);
    let report = check(&history, &options).expect("a history of the model");
    let expected = match explain(machine, &ops.iter().collect::<Vec<_>>()) {
        _ if ops.is_empty() => Verdict::Unknown,
        true => Verdict::Valid,
        false => Verdict::Invalid,
    };
    prop_assert_eq!(report.verdict, expected, "{}", report.text());
    // What is shown as evidence is evidence.
    for violation in report.checks.iter().flat_map(|outcome| &outcome.violations) {
        let window: Vec<Op> = violation
            .window
            .iter()
            .map(|op| ops[usize::try_from(op.process).expect("small")].clone())
            .collect();
        prop_assert!(
            !explain(machine, &window.iter().collect::<Vec<_>>()),
            "the window is explained: {}",
            report.text()
        );
    }
    Ok(())
}

#[derive(Clone)]
struct Register(Value);

impl Machine for Register {
    fn apply(&self, f: &str, input: &Value, answer: Option<&Value>) -> Vec<Self> {
        let (next, said) = match f {
            "read" => (self.0.clone(), self.0.clone()),
            "write" => (input.clone(), Value::Null),
            "append" => {
                let text = self.0.as_str().unwrap_or_default().to_owned() + input.as_str().expect("a text");
                match self.0.is_null() || self.0.is_string() {
                    true => (json!(text), Value::Null),
                    false => return Vec::new(),
                }
            }
            _ if self.0 == input[0] => (input[1].clone(), Value::Null),
            _ => (self.0.clone(), json!([input[0], input[1], false])),
        };
        if answer.is_none_or(|answer| *answer == said) { vec![Self(next)] } else { Vec::new() }
    }
}

fn register_op() -> impl Strategy<Value = Op> {
    let value = || prop_oneof![Just(Value::Null), (0..3).prop_map(|n| json!(n))];
    let read = value().prop_flat_map(|value| op("read", Value::Null, value));
    let write = value().prop_flat_map(|value| op("write", value, Value::Null));
    let swap = (value(), value(), any::<bool>()).prop_flat_map(|(old, new, swapped)| {
        let answer = if swapped { Value::Null } else { json!([old, new, false]) };
        op("cas", json!([old, new]), answer)
    });
    prop_oneof![3 => read, 2 => write, 2 => swap]
}

fn text_op() -> impl Strategy<Value = Op> {
    let text = |longest: usize| {
        prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..=longest).prop_map(|t| t.concat())
    };
    let read = text(3).prop_flat_map(|text| {
        op("read", Value::Null, if text.is_empty() { Value::Null } else { json!(text) })
    });
    let write = text(1).prop_flat_map(|text| op("write", json!(text), Value::Null));
    let append =
        prop::sample::select(vec!["a", "b"]).prop_flat_map(|text| op("append", json!(text), Value::Null));
    prop_oneof![3 => read, 1 => write, 3 => append]
}

#[derive(Clone)]
struct Set(Vec<u64>);

impl Machine for Set {
    fn apply(&self, f: &str, input: &Value, answer: Option<&Value>) -> Vec<Self> {
        let has = |value: &Value| self.0.iter().any(|element| json!(element) == *value);
        let mut next = self.clone();
        let said = match f {
            "read" => json!(self.0),
            "contains" => json!([input, has(input)]),
            _ => {
                if !has(input) {
                    next.0.push(input.as_u64().expect("a number"));
                    next.0.sort_unstable();
                }
                Value::Null
            }
        };
        if answer.is_none_or(|answer| *answer == said) { vec![next] } else { Vec::new() }
    }
}

fn set_op() -> impl Strategy<Value = Op> {
    let add = (0..3u64).prop_flat_map(|n| op("add", json!(n), Value::Null));
    let contains =
        (0..3u64, any::<bool>()).prop_flat_map(|(n, there)| op("contains", json!(n), json!([n, there])));
    let read = prop::sample::subsequence(vec![0, 1, 2], 0..=3)
        .prop_flat_map(|all| op("read", Value::Null, json!(all)));
    prop_oneof![3 => add, 2 => contains, 2 => read]
}

#[derive(Clone)]
struct Mutex(bool);

impl Machine for Mutex {
    fn apply(&self, f: &str, _input: &Value, _answer: Option<&Value>) -> Vec<Self> {
        let held = f == "acquire";
        if self.0 == held { Vec::new() } else { vec![Self(held)] }
    }
}

/// The engine: no job, or a job in a status that moves on by itself. Which id and which result it gets is open.
#[derive(Clone, Debug)]
struct Engine(Option<Job>);

#[derive(Clone, Debug)]
struct Job {
    id: &'static str,
    result: &'static str,
    status: &'static str,
    auto_cancel: bool,
    released: bool,
}

impl Machine for Engine {
    fn apply(&self, f: &str, input: &Value, answer: Option<&Value>) -> Vec<Self> {
        let fits = |said: &Value| {
            answer.is_none_or(|answer| match answer.as_object() {
                Some(fields) => fields.iter().all(|(name, value)| said.get(name) == Some(value)),
                None => true,
            })
        };
        let mut all = Vec::new();
        let before: Vec<Option<Job>> = match (&self.0, f) {
            (None, "submit" | "query") => ["i", "j"]
                .into_iter()
                .flat_map(|id| ["d", "e"].map(|result| (id, result)))
                .map(|(id, result)| {
                    Some(Job { id, result, status: "queued", auto_cancel: false, released: false })
                })
                .collect(),
            (job, _) => vec![job.clone()],
        };
        for mut job in before {
            let said = match (&mut job, f) {
                (None, "status") => json!({ "status": "unknown" }),
                (None, "release") => Value::Null,
                (None, _) => continue,
                (Some(job), "submit" | "query") => {
                    job.auto_cancel |= input["auto_cancel"] == true;
                    // A query waits for the end; a lost one only submits.
                    match f {
                        "query" if answer.is_some() => {
                            all.extend(
                                ends(job)
                                    .into_iter()
                                    .filter(|job| fits(&told(job)))
                                    .map(|job| Self(Some(job))),
                            );
                            continue;
                        }
                        _ => told(job),
                    }
                }
                (Some(job), "status") => {
                    if job.released && answer.is_some_and(|answer| answer["status"] == "unknown") {
                        json!({ "status": "unknown" })
                    } else {
                        told(job)
                    }
                }
                (Some(job), "cancel") => {
                    if !is_end(job.status) {
                        job.status = "cancelled";
                    }
                    told(job)
                }
                (Some(job), "release") => {
                    job.released = true;
                    Value::Null
                }
                (Some(job), _) if answer.is_none() || job.status == "succeeded" => told(job),
                (Some(_), _) => continue,
            };
            if fits(&said) {
                all.push(Self(job));
            }
        }
        all
    }

    fn by_itself(&self) -> Vec<Self> {
        self.0.iter().flat_map(moves).map(|job| Self(Some(job))).collect()
    }
}

fn is_end(status: &str) -> bool {
    !matches!(status, "queued" | "running")
}

fn told(job: &Job) -> Value {
    json!({ "job": job.id, "status": job.status, "digest": job.result })
}

fn moves(job: &Job) -> Vec<Job> {
    let mut next: Vec<&'static str> = match job.status {
        "queued" => vec!["running", "succeeded", "failed"],
        "running" => vec!["succeeded", "failed"],
        _ => return Vec::new(),
    };
    if job.auto_cancel {
        next.push("cancelled");
    }
    next.into_iter().map(|status| Job { status, ..job.clone() }).collect()
}

fn ends(job: &Job) -> Vec<Job> {
    std::iter::once(job.clone()).chain(moves(job)).filter(|job| is_end(job.status)).collect()
}

fn job_op() -> impl Strategy<Value = Op> {
    let id = || prop::sample::select(vec!["i", "i", "j"]);
    let digest = || prop::sample::select(vec!["d", "d", "e"]);
    let all = vec!["queued", "running", "succeeded", "failed", "cancelled", "unknown"];
    let submit = (id(), prop::bool::weighted(0.1))
        .prop_flat_map(|(id, auto)| op("submit", json!({ "auto_cancel": auto }), json!({ "job": id })));
    let status = (id(), prop::sample::select(all)).prop_flat_map(|(id, status)| {
        let answer = if status == "unknown" {
            json!({ "status": status })
        } else {
            json!({ "status": status, "job": id })
        };
        op("status", Value::Null, answer)
    });
    let fetch = digest().prop_flat_map(|digest| op("fetch", Value::Null, json!({ "digest": digest })));
    let query = (digest(), prop::sample::select(vec!["succeeded", "failed", "cancelled"])).prop_flat_map(
        |(digest, status)| {
            let answer = if status == "succeeded" {
                json!({ "status": status, "digest": digest })
            } else {
                json!({ "status": status })
            };
            op("query", Value::Null, answer)
        },
    );
    let left = prop::sample::select(vec!["succeeded", "failed", "cancelled"]);
    let cancel = prop::option::of(left).prop_flat_map(|left| {
        op("cancel", Value::Null, left.map_or(Value::Null, |left| json!({ "status": left })))
    });
    let release = op("release", Value::Null, Value::Null);
    prop_oneof![3 => submit, 4 => status, 2 => fetch, 1 => query, 2 => cancel, 1 => release]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn registers(ops in prop::collection::vec(register_op(), 0..7)) {
        agree(&Register(Value::Null), Model::Register, &ops)?;
    }

    #[test]
    fn texts(ops in prop::collection::vec(text_op(), 0..7)) {
        agree(&Register(Value::Null), Model::Register, &ops)?;
    }

    #[test]
    fn sets(ops in prop::collection::vec(set_op(), 0..7)) {
        agree(&Set(Vec::new()), Model::Set, &ops)?;
    }

    #[test]
    fn locks(ops in prop::collection::vec(
        prop_oneof![op("acquire", Value::Null, Value::Null), op("release", Value::Null, Value::Null)], 0..8,
    )) {
        agree(&Mutex(false), Model::Mutex, &ops)?;
    }

    #[test]
    fn jobs(ops in prop::collection::vec(job_op(), 0..6)) {
        agree(&Engine(None), Model::Job, &ops)?;
    }
}
