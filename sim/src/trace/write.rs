//! Writes a trace.
//!
//! Whether anybody wants the lines must not change the run: each line is made in any case, into the same buffer, and
//! counts for the digest.

use std::io::{self, Write};

use serde::Serialize;

use super::{Digest, Header, Line};
use crate::{moment::Moment, run::Summary};

/// Its buffer never grows by the way, or only as the lines of this run make it grow.
const LINE_BYTES: usize = 64 * 1024;

/// Turns a run into lines, one after the other.
pub struct Scribe<W> {
    out: W,
    line: Vec<u8>,
    digest: Digest,
    at_us: u64,
    /// The first error; nothing is written after it.
    failed: Option<io::Error>,
}

impl<W: Write> Scribe<W> {
    pub fn new(out: W, header: &Header) -> Self {
        let mut scribe = Self {
            out,
            line: Vec::with_capacity(LINE_BYTES),
            digest: Digest::default(),
            at_us: 0,
            failed: None,
        };
        scribe.put(header);
        scribe
    }

    pub fn moment(&mut self, moment: &Moment) {
        self.at_us = moment.at_us;
        self.put(&Line::of(moment));
    }

    /// Writes the end.
    ///
    /// # Errors
    /// The first line that could not be written.
    pub fn finish(mut self, summary: &Summary) -> io::Result<Digest> {
        for line in Line::last(summary, self.at_us) {
            self.put(&line);
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush().map(|()| self.digest),
        }
    }

    fn put(&mut self, line: &impl Serialize) {
        self.line.clear();
        let made = serde_json::to_writer(&mut self.line, line).map_err(io::Error::from);
        self.line.push(b'\n');
        self.digest.add(&self.line);
        if self.failed.is_none() {
            self.failed = made.and_then(|()| self.out.write_all(&self.line)).err();
        }
    }
}

/// Whether a line is left out unless somebody asks for everything: what the real code says to its developers. Quotes
/// within a text are escaped, so no text looks like this.
pub fn is_detail(line: &str) -> bool {
    line.contains(r#","kind":"log","level":"DEBUG","#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{moment::What, trace::Seen};

    #[test]
    fn details_are_told_from_the_rest() -> serde_json::Result<()> {
        let log = |level: &'static str| {
            let text = r#","kind":"log","level":"DEBUG","#.to_owned();
            let what = What::Log { level, target: "polybolos".to_owned(), text };
            let line = Line::of(&Moment { at_us: 1, host: "world".into(), what });
            assert!(matches!(line.seen, Seen::Log { .. }));
            serde_json::to_string(&line)
        };
        assert!(is_detail(&log("DEBUG")?));
        assert!(!is_detail(&log("INFO")?));
        Ok(())
    }
}
