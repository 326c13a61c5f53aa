//! The user's files: scripts, configuration, tables and generated data.
//!
//! The one place of the binary that touches the disk by itself. What a node of the cluster stores goes through
//! `polybolos_env`; the simulator never runs this module.
#![allow(
    clippy::disallowed_methods,
    reason = "a command-line tool reads and writes the files that its user names"
)]

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Longest script and configuration file.
const MAX_TEXT_BYTES: u64 = 64 * 1024 * 1024;

/// The text of a file, at most [`MAX_TEXT_BYTES`].
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    bounded(File::open(path)?)
}

/// All of standard input, at most [`MAX_TEXT_BYTES`].
pub(crate) fn read_stdin() -> io::Result<String> {
    bounded(io::stdin().lock())
}

fn bounded(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let read = source.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_TEXT_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(text)
}

pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// With all that it holds, if it is there.
pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// In place of what a file holds, or to one of the kernel's.
pub(crate) fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}

/// Writes to a new file until its disk has no byte free.
pub(crate) fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    for block in [1 << 20, 4096, 1].map(|bytes| vec![7_u8; bytes]) {
        while file.write_all(&block).is_ok() {}
    }
    Ok(())
}

/// Replaces what was there in one step.
pub(crate) fn write_aside_and_rename(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("aside");
    fs::write(&aside, text)?;
    fs::rename(&aside, path)
}

/// Largest backup file, as the client receives no larger one.
const MAX_BACKUP_BYTES: u64 = polybolos_client::limits::MAX_BACKUP_BYTES as u64;

/// The content of a backup file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(MAX_BACKUP_BYTES + 1).read_to_end(&mut bytes)?;
    if read as u64 > MAX_BACKUP_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_BACKUP_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Replaces what was there in one step, which also a power cut leaves whole.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".aside");
    let aside = PathBuf::from(aside);
    let mut file = File::create(&aside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&aside, path)) {
        // What is left of it helps nobody; the error is about the file itself.
        let _removed = fs::remove_file(&aside);
        return Err(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// A file that is made if it isn't there, to write at its end.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().create(true).append(true).open(path)
}

/// The last `lines` lines of a text file; nothing if it can't be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let from = text.lines().count().saturating_sub(lines);
    text.lines().skip(from).collect::<Vec<_>>().join("\n")
}

/// The text of a file from `offset` on.
pub(crate) fn read_from(path: &Path, offset: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    bounded(file)
}

/// In bytes.
pub(crate) fn length(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.len())
}

/// A new file, which must not exist.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    File,
    EmptyFolder,
    Folder,
}

pub(crate) fn look(path: &Path) -> io::Result<Found> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.is_dir() => Ok(Found::File),
        Ok(_) if fs::read_dir(path)?.next().is_none() => Ok(Found::EmptyFolder),
        Ok(_) => Ok(Found::Folder),
    }
}

/// Most files of a folder that are looked at to learn their format.
const MAX_FILES_LOOKED_AT: usize = 1_000;
/// Deepest nesting of folders that is looked at: Hive-style partitions seldom have more levels.
const MAX_DEPTH: usize = 16;

/// Files of a folder and its subfolders, sorted; hidden ones and those that start with `_` are left out.
pub(crate) fn list_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let hidden = path.file_name().is_none_or(|name| {
                let name = name.to_string_lossy();
                name.starts_with('.') || name.starts_with('_')
            });
            if hidden || files.len() >= MAX_FILES_LOOKED_AT {
                continue;
            }
            if path.is_dir() {
                if depth < MAX_DEPTH {
                    folders.push((path, depth + 1));
                }
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Names of what a folder holds.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.backup");
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(list_files(folder.path()).unwrap(), [path]);
        // The target is a folder: nothing was written.
        write_durably(folder.path(), b"three").unwrap_err();
    }

    #[test]
    fn a_tail_is_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path).unwrap().write_all(b"1\n2\n").unwrap();
        append(&path).unwrap().write_all(b"3\n").unwrap();
        assert_eq!((tail(&path, 2).as_str(), tail(&folder.path().join("none"), 2).as_str()), ("2\n3", ""));
    }
}
