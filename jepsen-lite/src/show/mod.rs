//! Reports for people.

mod lanes;
pub(crate) mod page;
pub(crate) mod text;
pub(crate) mod words;
