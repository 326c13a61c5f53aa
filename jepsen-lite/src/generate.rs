//! Histories that a correct object made: to try the checks, to measure them, and to test them.
//!
//! Clients work at the same time, in simulated time, on objects that do one thing at a time. Each operation takes effect at
//! one moment between its invoke and its end. Of some the client never hears: they take effect later, or never.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use serde_json::{Value, json};

use crate::{Event, Model};

/// What the history is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub model: Model,
    pub operations: usize,
    pub clients: u64,
    /// How many objects.
    pub keys: usize,
    /// How many of a thousand operations end without an answer.
    pub lost_per_mille: u64,
}

/// The events, by their time. The same shape and seed give the same history.
pub fn history(shape: &Shape, seed: u64) -> Vec<Event> {
    let mut world = World {
        shape: *shape,
        random: Random(seed),
        objects: BTreeMap::new(),
        agenda: BinaryHeap::new(),
        begun: 0,
        events: Vec::with_capacity(2 * shape.operations),
    };
    world.run();
    world.events
}

/// Nanoseconds.
const LATENCY: u64 = 4_000_000;
const PAUSE: u64 = 1_000_000;
const TIME_OUT: u64 = 20_000_000;
const LATEST: u64 = 400_000_000;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Begin { client: u64 },
    Effect { client: u64, operation: Operation, heard: bool },
    End { client: u64, operation: Operation, answer: Answer },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Operation {
    f: &'static str,
    key: usize,
    /// What the operation brings, different from all others'.
    number: u64,
    /// The old value of a `cas`.
    old: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Ok(String),
    Fail(&'static str),
    Lost,
}

/// One object of any model.
#[derive(Debug, Default)]
struct Object {
    value: Option<u64>,
    elements: BTreeSet<u64>,
    holder: Option<u64>,
    job: Option<Life>,
}

#[derive(Debug)]
struct Life {
    number: u64,
    starts: u64,
    ends: u64,
    end: &'static str,
}

struct World {
    shape: Shape,
    random: Random,
    objects: BTreeMap<usize, Object>,
    agenda: BinaryHeap<Reverse<(u64, u64, Step)>>,
    begun: usize,
    events: Vec<Event>,
}

impl World {
    fn run(&mut self) {
        for client in 0..self.shape.clients {
            self.plan(0, PAUSE, Step::Begin { client });
        }
        while let Some(Reverse((now, _, step))) = self.agenda.pop() {
            match step {
                Step::Begin { .. } if self.begun == self.shape.operations => {}
                Step::Begin { client } => self.begin(now, client),
                Step::Effect { client, operation, heard } => {
                    let answer = self.effect(now, client, &operation);
                    if heard {
                        self.plan(now, LATENCY, Step::End { client, operation, answer });
                    }
                }
                Step::End { client, operation, answer } => self.end(now, client, &operation, answer),
            }
        }
    }

    /// Some time within `spread`. Equal times are ordered by chance.
    fn plan(&mut self, now: u64, spread: u64, step: Step) {
        let at = now + 1 + self.random.below(spread);
        let order = self.random.next();
        self.agenda.push(Reverse((at, order, step)));
    }

    fn begin(&mut self, now: u64, client: u64) {
        self.begun += 1;
        let operation = self.choose(client);
        let event = Event::invoke(client, now, operation.f).with(self.input(&operation));
        self.events.push(event.on(format!("{}{}", self.prefix(), operation.key)).of(self.shape.model));
        if self.random.below(1000) >= self.shape.lost_per_mille {
            self.plan(now, LATENCY, Step::Effect { client, operation, heard: true });
            return;
        }
        // A lock that nobody knows to hold would be held for ever.
        if operation.f != "acquire" && self.random.below(2) == 0 {
            self.plan(now, LATEST, Step::Effect { client, operation: operation.clone(), heard: false });
        }
        self.plan(now + TIME_OUT, 1, Step::End { client, operation, answer: Answer::Lost });
    }

    fn end(&mut self, now: u64, client: u64, operation: &Operation, answer: Answer) {
        self.events.push(match answer {
            Answer::Ok(answer) => {
                Event::ok(client, now, operation.f).with(serde_json::from_str(&answer).unwrap_or(Value::Null))
            }
            Answer::Fail(why) => Event::fail(client, now, operation.f).because(why),
            Answer::Lost => Event::info(client, now, operation.f).because("no answer within 20 ms"),
        });
        self.plan(now, PAUSE, Step::Begin { client });
    }

    fn prefix(&self) -> &'static str {
        match self.shape.model {
            Model::Register => "x",
            Model::Set => "s",
            Model::Mutex => "m",
            Model::Job => "k",
            Model::Rows => "t",
        }
    }

    fn choose(&mut self, client: u64) -> Operation {
        let keys = self.shape.keys;
        let pick = usize::try_from(self.random.below(keys as u64)).unwrap_or(0);
        let key = match self.shape.model {
            // Jobs come and go: clients work on the last few.
            Model::Job => (self.begun * keys / self.shape.operations.max(1)).saturating_sub(pick % 4),
            Model::Register | Model::Set | Model::Mutex | Model::Rows => pick,
        };
        let object = self.objects.entry(key).or_default();
        let dice = self.random.below(100);
        let f = match (self.shape.model, dice) {
            (Model::Register, 0..45) => "read",
            (Model::Register, 45..75) => "write",
            (Model::Register, _) => "cas",
            (Model::Set, 0..50) => "add",
            (Model::Set, 50..90) => "contains",
            (Model::Set, _) => "read",
            (Model::Mutex, _) if object.holder == Some(client) => "release",
            (Model::Mutex, _) => "acquire",
            (Model::Job, 0..30) => "submit",
            (Model::Job, 30..70) => "status",
            (Model::Job, 70..75) => "cancel",
            (Model::Job, _) => "fetch",
            (Model::Rows, 0..5) => "scan",
            (Model::Rows, _) => "insert",
        };
        Operation { f, key, number: self.begun as u64, old: object.value }
    }

    fn input(&mut self, operation: &Operation) -> Value {
        match (self.shape.model, operation.f) {
            (_, "write" | "add") => json!(operation.number),
            (_, "cas") => json!([operation.old, operation.number]),
            (_, "contains") => json!(self.wanted(operation)),
            (_, "submit") => json!({ "expect": digest(operation.key) }),
            (_, "insert") => json!({ "statement": format!("q{}", operation.number), "rows": 100 }),
            _ => Value::Null,
        }
    }

    /// An element that may be there: the one that an earlier operation brought.
    fn wanted(&self, operation: &Operation) -> u64 {
        operation.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % operation.number.max(1)
    }

    /// The operation happens now.
    fn effect(&mut self, now: u64, client: u64, operation: &Operation) -> Answer {
        let wanted = self.wanted(operation);
        let (starts, ends, dice) = (
            now + self.random.below(LATENCY),
            now + LATENCY + self.random.below(4 * LATENCY),
            self.random.below(10),
        );
        let object = self.objects.entry(operation.key).or_default();
        let number = operation.number;
        let answer = match (self.shape.model, operation.f) {
            (Model::Register, "read") => json!(object.value),
            (Model::Register, "cas") if object.value != operation.old => {
                json!([operation.old, number, false])
            }
            (Model::Register, _) => {
                object.value = Some(number);
                Value::Null
            }
            (Model::Set, "contains") => json!([wanted, object.elements.contains(&wanted)]),
            (Model::Set, "read") => json!(object.elements),
            (Model::Mutex, "acquire") if object.holder.is_some() => return Answer::Fail("it is held"),
            (Model::Mutex, "acquire") => {
                object.holder = Some(client);
                Value::Null
            }
            (Model::Mutex, _) => {
                object.holder = None;
                Value::Null
            }
            (Model::Rows, "scan") => {
                json!(
                    object
                        .elements
                        .iter()
                        .map(|number| (format!("q{number}"), [100, 100]))
                        .collect::<BTreeMap<_, _>>()
                )
            }
            (Model::Set | Model::Rows, _) => {
                object.elements.insert(number);
                Value::Null
            }
            (Model::Job, "submit") => {
                let end = if dice == 0 { "failed" } else { "succeeded" };
                let job = object.job.get_or_insert(Life { number, starts, ends, end });
                json!({ "job": format!("j{}", job.number) })
            }
            (Model::Job, f) => return job(now, f, object.job.as_mut(), operation.key),
        };
        Answer::Ok(answer.to_string())
    }
}

fn job(now: u64, f: &str, job: Option<&mut Life>, key: usize) -> Answer {
    let Some(job) = job else {
        return if f == "status" {
            Answer::Ok(json!({ "status": "unknown" }).to_string())
        } else {
            Answer::Fail("there is no such job")
        };
    };
    let status = match now {
        _ if now >= job.ends => job.end,
        _ if now >= job.starts => "running",
        _ => "queued",
    };
    let id = format!("j{}", job.number);
    let answer = match f {
        "status" => json!({ "job": id, "status": status }),
        "cancel" => {
            if now < job.ends {
                (job.ends, job.end) = (now, "cancelled");
            }
            Value::Null
        }
        _ if status != "succeeded" => return Answer::Fail("there is no result"),
        _ => json!({ "job": id, "digest": digest(key), "rows": key }),
    };
    Answer::Ok(answer.to_string())
}

fn digest(key: usize) -> String {
    format!("d{key}")
}
