//! A run as one HTML page, which needs nothing but itself.
//!
//! ```text
//!   Trace ─▶ collect: what began meets what ended ─▶ Chart ─▶ page: JSON in a template
//!            lives, faults, ops, work, words                    │
//!                                   page/*.js: data ─▶ layout ─▶ draw ─▶ interact
//! ```
//!
//! Deliberately absent: judgement. The page shows what the trace says, also where that can't be.

mod chart;
mod collect;
mod faults;
mod hosts;
mod lives;
mod ops;
mod page;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod words;
mod work;

use std::io::BufRead;

use crate::trace::{self, ReadError, Trace};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("the trace: {0}")]
    Trace(#[from] ReadError),
    #[error("the page's data can't be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// The page of a trace file.
///
/// # Errors
/// The input is no trace.
pub fn page(trace: impl BufRead) -> Result<String, ReportError> {
    page_of(&trace::read(trace)?)
}

/// The page of a trace.
///
/// # Errors
/// In practice none.
pub fn page_of(trace: &Trace) -> Result<String, ReportError> {
    Ok(page::fill(&collect::chart(trace))?)
}
