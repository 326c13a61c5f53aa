//! The wire as the files of `proto/` describe it: which methods there are, and of what their messages are made.
//!
//! Only as much of the language is read as those files use; a test holds the two together.

use std::collections::BTreeMap;

const FILES: [&str; 6] = [
    include_str!("../../../proto/polybolos/v1/common.proto"),
    include_str!("../../../proto/polybolos/v1/query.proto"),
    include_str!("../../../proto/polybolos/v1/executor.proto"),
    include_str!("../../../proto/polybolos/v1/consensus.proto"),
    include_str!("../../../proto/polybolos/v1/cluster.proto"),
    include_str!("../../../proto/polybolos/v1/planning.proto"),
];
const PACKAGE: &str = "polybolos.v1";
/// What an executor serves. Arrow has the description; a ticket is all that is needed of it here.
const FLIGHT: &str = "arrow.flight.protocol.FlightService";
const FLIGHT_METHODS: [&str; 10] = [
    "Handshake",
    "ListFlights",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "DoGet",
    "DoPut",
    "DoExchange",
    "DoAction",
    "ListActions",
];
const TICKET: &str = "Ticket";

/// How a field looks on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any number, a truth value, or one of an enum.
    Number,
    Truth,
    Text,
    Bytes,
    Message(String),
    Map(Box<Kind>, Box<Kind>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) is_repeated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Scheduler,
    Executor,
}

/// One that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) server: Server,
    /// `/PACKAGE.SERVICE/METHOD`
    pub(crate) path: String,
    pub(crate) name: String,
    /// Name of the message that it takes.
    pub(crate) input: String,
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) methods: Vec<Method>,
    pub(crate) messages: BTreeMap<String, Vec<Field>>,
}

impl Wire {
    /// # Errors
    /// Where a file has something that this reader does not know.
    pub(crate) fn read() -> Result<Self, String> {
        let mut wire = Self { methods: Vec::new(), messages: BTreeMap::new() };
        for file in FILES {
            let mut reader = Reader { tokens: tokens(file), at: 0 };
            while let Some(token) = reader.next() {
                match token.as_str() {
                    "syntax" | "package" | "import" => reader.skip_past(";"),
                    "service" => wire.service(&mut reader)?,
                    "message" => wire.message(&mut reader)?,
                    "enum" => reader.skip_block()?,
                    other => return Err(format!("'{other}' at the top of a file")),
                }
            }
        }
        let flight = FLIGHT_METHODS.map(|name| Method {
            server: Server::Executor,
            path: format!("/{FLIGHT}/{name}"),
            name: name.to_owned(),
            input: TICKET.to_owned(),
        });
        wire.methods.extend(flight);
        let ticket = Field { number: 1, kind: Kind::Bytes, is_repeated: false };
        wire.messages.insert(TICKET.to_owned(), vec![ticket]);
        Ok(wire)
    }

    pub(crate) fn fields(&self, message: &str) -> &[Field] {
        self.messages.get(message).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn of(&self, server: Server) -> impl Iterator<Item = &Method> {
        self.methods.iter().filter(move |method| method.server == server)
    }

    fn service(&mut self, reader: &mut Reader) -> Result<(), String> {
        let service = reader.expect_name()?;
        reader.expect("{")?;
        loop {
            match reader.expect_name()?.as_str() {
                "}" => return Ok(()),
                "rpc" => {
                    let name = reader.expect_name()?;
                    let (input, _) = (reader.parameter()?, reader.expect("returns")?);
                    reader.parameter()?;
                    reader.expect(";")?;
                    let path = format!("/{PACKAGE}.{service}/{name}");
                    self.methods.push(Method { server: Server::Scheduler, path, name, input });
                }
                other => return Err(format!("'{other}' in service {service}")),
            }
        }
    }

    fn message(&mut self, reader: &mut Reader) -> Result<(), String> {
        let name = reader.expect_name()?;
        reader.expect("{")?;
        let mut fields = Vec::new();
        let mut is_within_oneof = false;
        loop {
            let token = reader.expect_name()?;
            match token.as_str() {
                "}" if is_within_oneof => is_within_oneof = false,
                "}" => break,
                "oneof" => {
                    reader.expect_name()?;
                    reader.expect("{")?;
                    is_within_oneof = true;
                }
                "enum" => reader.skip_block()?,
                "repeated" => {
                    let kind = reader.expect_name()?;
                    fields.push(Field { is_repeated: true, ..reader.field(scalar(&kind))? });
                }
                "optional" => {
                    let kind = reader.expect_name()?;
                    fields.push(reader.field(scalar(&kind))?);
                }
                "map" => {
                    reader.expect("<")?;
                    let key = reader.expect_name()?;
                    reader.expect(",")?;
                    let value = reader.expect_name()?;
                    reader.expect(">")?;
                    let kind = Kind::Map(Box::new(scalar(&key)), Box::new(scalar(&value)));
                    fields.push(Field { is_repeated: true, ..reader.field(kind)? });
                }
                kind => fields.push(reader.field(scalar(kind))?),
            }
        }
        self.messages.insert(name, fields);
        Ok(())
    }
}

/// An enum is told from a message by [`Wire::messages`] lacking it: its fields are none, and it is written as a number.
fn scalar(kind: &str) -> Kind {
    match kind {
        "uint64" | "uint32" | "int64" | "int32" => Kind::Number,
        "bool" => Kind::Truth,
        "string" => Kind::Text,
        "bytes" => Kind::Bytes,
        name => Kind::Message(name.to_owned()),
    }
}

struct Reader {
    tokens: Vec<String>,
    at: usize,
}

impl Reader {
    fn next(&mut self) -> Option<String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn expect_name(&mut self) -> Result<String, String> {
        self.next().ok_or_else(|| "a file ends within something".to_owned())
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        let found = self.expect_name()?;
        if found == wanted { Ok(()) } else { Err(format!("'{found}' instead of '{wanted}'")) }
    }

    fn skip_past(&mut self, end: &str) {
        while self.next().is_some_and(|token| token != end) {}
    }

    /// A block with no blocks in it.
    fn skip_block(&mut self) -> Result<(), String> {
        self.expect_name()?;
        self.expect("{")?;
        self.skip_past("}");
        Ok(())
    }

    /// `(stream X)` or `(X)`.
    fn parameter(&mut self) -> Result<String, String> {
        self.expect("(")?;
        let mut name = self.expect_name()?;
        if name == "stream" {
            name = self.expect_name()?;
        }
        self.expect(")")?;
        Ok(name)
    }

    /// The rest of a field, behind its type.
    fn field(&mut self, kind: Kind) -> Result<Field, String> {
        let name = self.expect_name()?;
        self.expect("=")?;
        let number = self.expect_name()?;
        let number = number.parse().map_err(|_| format!("field {name} has the number '{number}'"))?;
        self.expect(";")?;
        Ok(Field { number, kind, is_repeated: false })
    }
}

fn tokens(file: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in file.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let mut word = String::new();
        for letter in code.chars() {
            if letter.is_alphanumeric() || "_.\"/".contains(letter) {
                word.push(letter);
                continue;
            }
            if !word.is_empty() {
                found.push(std::mem::take(&mut word));
            }
            if !letter.is_whitespace() {
                found.push(letter.to_string());
            }
        }
        if !word.is_empty() {
            found.push(word);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_as_they_are() {
        let wire = Wire::read().unwrap();
        let rpcs = FILES.iter().flat_map(|file| file.lines()).filter(|line| line.trim().starts_with("rpc "));
        assert_eq!(wire.of(Server::Scheduler).count(), rpcs.count());
        let messages = FILES.iter().flat_map(|file| file.lines()).filter(|line| line.starts_with("message "));
        assert_eq!(wire.messages.len(), messages.count() + 1);
        let attach = wire.methods.iter().find(|method| method.name == "Attach").unwrap();
        assert_eq!(attach.path, "/polybolos.v1.ExecutorService/Attach");
        assert_eq!(attach.input, "ExecutorMessage");
        let submit = wire.fields("SubmitRequest");
        assert_eq!(submit.len(), 7);
        let map = Kind::Map(Box::new(Kind::Text), Box::new(Kind::Text));
        assert_eq!(submit[4], Field { number: 5, kind: map, is_repeated: true });
        let entries = wire.fields("AppendRequest").iter().find(|field| field.number == 4).unwrap();
        assert_eq!(entries.kind, Kind::Message("RaftEntry".to_owned()));
        assert!(entries.is_repeated);
    }
}
