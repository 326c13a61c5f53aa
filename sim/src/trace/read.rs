//! Reads a trace back.

use std::io::{self, BufRead};

use super::{Header, Line, TRACE_FORMAT};

/// A whole trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub header: Header,
    pub lines: Vec<Line>,
}

/// Why a file is no trace.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is empty")]
    Empty,
    #[error("its first line is not that of a trace: {0}")]
    NoTrace(serde_json::Error),
    #[error("it has format {found}, and this program reads {TRACE_FORMAT}")]
    Format { found: u32 },
    #[error("line {number} can't be read: {error}")]
    Line { number: usize, error: serde_json::Error },
}

/// Reads all lines. A last line that was cut off is an error like any other.
///
/// # Errors
/// [`ReadError`] names the line.
pub fn read(input: impl BufRead) -> Result<Trace, ReadError> {
    let mut lines = input.lines();
    let header = first(&mut lines)?;
    let read = |(number, line): (usize, io::Result<String>)| {
        serde_json::from_str(&line?).map_err(|error| ReadError::Line { number, error })
    };
    let lines = (2..).zip(lines).map(read).collect::<Result<_, _>>()?;
    Ok(Trace { header, lines })
}

/// Reads only the first line.
///
/// # Errors
/// As [`read`].
pub fn read_header(input: impl BufRead) -> Result<Header, ReadError> {
    first(&mut input.lines())
}

fn first(lines: &mut impl Iterator<Item = io::Result<String>>) -> Result<Header, ReadError> {
    let first = lines.next().ok_or(ReadError::Empty)??;
    let header: Header = serde_json::from_str(&first).map_err(ReadError::NoTrace)?;
    if header.polybolos_trace == TRACE_FORMAT {
        Ok(header)
    } else {
        Err(ReadError::Format { found: header.polybolos_trace })
    }
}
