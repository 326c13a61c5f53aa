//! One line of a history.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::Model;

/// What a client did or heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The client is about to send its request.
    Invoke,
    /// The operation took effect, once, between its invoke and now.
    Ok,
    /// The operation certainly had no effect and never will.
    Fail,
    /// Nobody knows: it may take effect at any later time, or never. A time-out, a lost connection.
    Info,
}

/// One line: an operation begins or ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// One logical client, with at most one operation at a time.
    pub process: u64,
    /// Nanoseconds on one monotonic clock that all processes share: before sending, or after receiving.
    pub time: u64,
    /// The function, such as `read` or `submit`: see the [`Model`]s.
    pub f: String,
    /// The object. A history is judged key by key.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "key")]
    pub key: Option<String>,
    /// The arguments with an invoke, the answer with an ok.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// What the client saw, with fail and info. Shown, never judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whom the client talked to. Shown, never judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// For whom the event is, when one file holds several workloads. That of the invoke counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
}

impl Event {
    pub fn new(kind: Kind, process: u64, time_ns: u64, f: impl Into<String>) -> Self {
        let f = f.into();
        Self {
            kind,
            process,
            time: time_ns,
            f,
            key: None,
            value: Value::Null,
            error: None,
            node: None,
            model: None,
        }
    }

    pub fn invoke(process: u64, time_ns: u64, f: impl Into<String>) -> Self {
        Self::new(Kind::Invoke, process, time_ns, f)
    }

    pub fn ok(process: u64, time_ns: u64, f: impl Into<String>) -> Self {
        Self::new(Kind::Ok, process, time_ns, f)
    }

    pub fn fail(process: u64, time_ns: u64, f: impl Into<String>) -> Self {
        Self::new(Kind::Fail, process, time_ns, f)
    }

    pub fn info(process: u64, time_ns: u64, f: impl Into<String>) -> Self {
        Self::new(Kind::Info, process, time_ns, f)
    }

    #[must_use]
    pub fn on(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    #[must_use]
    pub fn with(mut self, value: impl Into<Value>) -> Self {
        self.value = value.into();
        self
    }

    #[must_use]
    pub fn because(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    #[must_use]
    pub fn at_node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    #[must_use]
    pub fn of(mut self, model: Model) -> Self {
        self.model = Some(model);
        self
    }
}

/// The JSON line, without its end.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// A key may be written as a number: it names the same object as the text of that number.
fn key<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a string or an integer as key")]
    enum Key {
        Text(String),
        Signed(i64),
        Unsigned(u64),
    }
    Ok(Option::<Key>::deserialize(input)?.map(|key| match key {
        Key::Text(text) => text,
        Key::Signed(number) => number.to_string(),
        Key::Unsigned(number) => number.to_string(),
    }))
}
