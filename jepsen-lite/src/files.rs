//! The only place that touches the disk.

#![allow(
    clippy::disallowed_methods,
    reason = "this tool stands alone, outside the engine and its simulator: it has no `env` to go through"
)]

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::Path,
};

pub(crate) fn open(path: &Path) -> io::Result<BufReader<File>> {
    File::open(path).map(BufReader::new)
}

/// Written aside and renamed, so that nobody reads half a page.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    fs::write(&aside, text)?;
    fs::rename(&aside, path)
}
