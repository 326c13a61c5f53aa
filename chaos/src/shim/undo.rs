//! What a power cut leaves of a file of which not all was synced.
//!
//! Each sector of 512 bytes shows the file as it was at some moment since its last sync, and so does its length: the system
//! may have written any of it at any time, and nothing says in what order. A file that is longer than what was written shows
//! zeros, never what was there before it was cut. Names stay as they are.

use super::shared::{HEADER_BYTES, Header, Kind};
use crate::os::fork;

const SECTOR_BYTES: usize = 512;

/// A change that was not synced, with what was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    header: Header,
    kept: Vec<u8>,
}

/// A journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Notes {
    /// In the order in which they were made.
    pub(super) changes: Vec<Change>,
    /// The node has synced the file at some time.
    pub(super) is_synced: bool,
}

impl Notes {
    /// A record at the end that is not whole is of a change that was not made.
    pub(super) fn read(journal: &[u8]) -> Self {
        let mut notes = Self::default();
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(header) = journal.get(at..).and_then(Header::decode) {
            let body = at + HEADER_BYTES;
            let end = usize::try_from(header.kept).ok().and_then(|kept| body.checked_add(kept));
            let Some((end, kept)) = end.and_then(|end| Some((end, journal.get(body..end)?))) else { break };
            if header.kind == Kind::Synced {
                notes.is_synced = true;
                let covered = places.iter().filter(|place| **place < header.offset).count();
                places.drain(..covered);
                notes.changes.drain(..covered);
            } else {
                places.push(at as u64);
                notes.changes.push(Change { header, kept: kept.to_vec() });
            }
            at = end;
        }
        notes
    }
}

/// How much of the changes is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// This number of them, from the first on.
    First(usize),
    /// In each sector another number, of so many.
    Sectors { seed: u64, count: usize },
}

impl Left {
    /// Half of the time nothing is left.
    pub(super) fn draw(count: usize, seed: u64) -> Self {
        match fork(seed, "kind") % 4 {
            0 | 1 => Self::First(0),
            2 => Self::First(below(fork(seed, "moment"), count)),
            _ => Self::Sectors { seed, count },
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::First(count) => *count,
            Self::Sectors { seed, count } => below(fork(*seed, "length"), count + 1),
        }
    }

    fn sector(&self, index: usize) -> usize {
        match self {
            Self::First(count) => *count,
            Self::Sectors { seed, count } => {
                let drawn = fork(*seed, &format!("sector {index}"));
                match drawn % 4 {
                    0 => *count,
                    1 => below(drawn / 4, count + 1),
                    _ => 0,
                }
            }
        }
    }
}

/// `count` may be 0.
fn below(drawn: u64, count: usize) -> usize {
    (drawn % count.max(1) as u64) as usize
}

/// The file after the power cut.
pub(super) fn undo(file: &[u8], changes: &[Change], left: &Left) -> Vec<u8> {
    let length_at = left.length();
    let length = changes.get(length_at).map(|change| change.header.old_length);
    let mut image = file.to_vec();
    image.resize(length.map_or(file.len(), place), 0);
    // What is behind it was cut off later on, and that is on the disk: earlier bytes never come to light again.
    let mut hidden_from = usize::MAX;
    for (index, Change { header, kept }) in changes.iter().enumerate().rev() {
        let offset = place(header.offset);
        match header.kind {
            Kind::Length if length_at <= index => {
                let end = place(header.offset.max(header.old_length));
                let from = place(header.offset.min(header.old_length));
                restore(&mut image, from..end, kept, |_| true);
            }
            Kind::Length => hidden_from = hidden_from.min(offset),
            Kind::Write => {
                let end = offset.saturating_add(place(header.length)).min(hidden_from);
                restore(&mut image, offset..end, kept, |sector| left.sector(sector) <= index);
            }
            Kind::Synced => {}
        }
    }
    image
}

/// Puts back what was there, and zeros where the file did not reach, in each sector for which `is` holds.
fn restore(image: &mut [u8], range: std::ops::Range<usize>, kept: &[u8], is: impl Fn(usize) -> bool) {
    let end = range.end.min(image.len());
    let mut at = range.start;
    while at < end {
        let sector = at / SECTOR_BYTES;
        let stop = ((sector + 1) * SECTOR_BYTES).min(end);
        if is(sector)
            && let Some(bytes) = image.get_mut(at..stop)
        {
            let from = kept.get(at - range.start..).unwrap_or_default();
            let count = from.len().min(bytes.len());
            let (old, beyond) = bytes.split_at_mut(count);
            old.copy_from_slice(from.get(..count).unwrap_or_default());
            beyond.fill(0);
        }
        at = stop;
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// A file, what the shim would have noted of it, and all that it was since its last sync.
    struct Story {
        file: Vec<u8>,
        journal: Vec<u8>,
        states: Vec<Vec<u8>>,
    }

    impl Story {
        fn new(file: Vec<u8>) -> Self {
            Self { states: vec![file.clone()], file, journal: Vec::new() }
        }

        fn note(&mut self, kind: Kind, offset: usize, length: usize, kept: &[u8]) {
            let header = Header {
                kind,
                offset: offset as u64,
                length: length as u64,
                old_length: self.file.len() as u64,
                kept: kept.len() as u64,
            };
            self.journal.extend(header.encode());
            self.journal.extend(kept);
        }

        fn write(&mut self, offset: usize, bytes: &[u8]) {
            let end = offset + bytes.len();
            let kept = self.file.get(offset..end.min(self.file.len())).unwrap_or_default().to_vec();
            self.note(Kind::Write, offset, bytes.len(), &kept);
            self.file.resize(self.file.len().max(end), 0);
            self.file[offset..end].copy_from_slice(bytes);
            self.states.push(self.file.clone());
        }

        fn set_length(&mut self, length: usize) {
            let kept = self.file.get(length..).unwrap_or_default().to_vec();
            self.note(Kind::Length, length, 0, &kept);
            self.file.resize(length, 0);
            self.states.push(self.file.clone());
        }

        fn sync(&mut self) {
            self.note(Kind::Synced, self.journal.len(), 0, &[]);
            self.states = vec![self.file.clone()];
        }

        fn left(&self, left: Left) -> Vec<u8> {
            undo(&self.file, &Notes::read(&self.journal).changes, &left)
        }
    }

    fn random_story(random: &mut StdRng, cuts: bool) -> Story {
        let length = random.random_range(0..4000);
        let mut story = Story::new((0..length).map(|_| random.random()).collect());
        for _ in 0..random.random_range(1..12) {
            match random.random_range(0..if cuts { 10 } else { 7 }) {
                0 => story.sync(),
                1..=6 => {
                    let offset = random.random_range(0..=story.file.len() + 600);
                    let bytes: Vec<u8> = (0..random.random_range(1..1800)).map(|_| random.random()).collect();
                    story.write(offset, &bytes);
                }
                _ => story.set_length(random.random_range(0..5000)),
            }
        }
        story
    }

    #[test]
    fn a_cut_at_a_moment_leaves_the_file_of_that_moment() {
        let mut random = StdRng::seed_from_u64(1);
        for round in 0..2_000 {
            let story = random_story(&mut random, true);
            let changes = story.states.len() - 1;
            assert_eq!(Notes::read(&story.journal).changes.len(), changes);
            for (count, state) in story.states.iter().enumerate() {
                assert_eq!(&story.left(Left::First(count)), state, "round {round}: {count} of {changes}");
            }
        }
    }

    #[test]
    fn each_sector_is_one_that_was_there_since_the_last_sync() {
        let mut random = StdRng::seed_from_u64(2);
        let (mut torn, mut whole) = (0, 0);
        for round in 0..2_000 {
            let story = random_story(&mut random, false);
            let count = story.states.len() - 1;
            let image = story.left(Left::Sectors { seed: round, count });
            assert!(story.states.iter().any(|state| state.len() == image.len()), "a length that never was");
            for (index, sector) in image.chunks(SECTOR_BYTES).enumerate() {
                let at = index * SECTOR_BYTES;
                let is_of = |state: &Vec<u8>| {
                    (0..sector.len()).all(|byte| *state.get(at + byte).unwrap_or(&0) == sector[byte])
                };
                assert!(story.states.iter().any(is_of), "round {round}: sector {index} never was");
            }
            if story.states.contains(&image) {
                whole += 1;
            } else {
                torn += 1;
            }
        }
        assert!(torn > 500 && whole > 100, "{torn} torn, {whole} whole");
    }

    /// With lengths in between, each byte was there at some moment, or was beyond the end then.
    #[test]
    fn no_byte_comes_from_elsewhere() {
        let mut random = StdRng::seed_from_u64(3);
        for round in 0..2_000 {
            let story = random_story(&mut random, true);
            let count = story.states.len() - 1;
            let image = story.left(Left::Sectors { seed: round, count });
            for (at, byte) in image.iter().enumerate() {
                let was = |state: &Vec<u8>| state.get(at).unwrap_or(&0) == byte;
                assert!(story.states.iter().any(was), "round {round}: byte {at}");
            }
        }
    }

    #[test]
    fn what_was_cut_off_and_synced_so_never_comes_back() {
        let mut story = Story::new(vec![7; 3_000]);
        story.write(1_000, &[8; 1_000]);
        story.set_length(500);
        story.set_length(3_000);
        for seed in 0..200 {
            let image = story.left(Left::Sectors { seed, count: 3 });
            if image.len() == 3_000 && image[2_999] == 0 {
                assert!(image[500..].iter().all(|byte| *byte == 0), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let mut story = Story::new(b"abc".to_vec());
        story.write(0, b"x");
        let began = story.journal.len();
        story.write(1, b"y");
        // It ends only now.
        story.note(Kind::Synced, began, 0, &[]);
        let notes = Notes::read(&story.journal);
        assert!(notes.is_synced);
        assert_eq!(undo(&story.file, &notes.changes, &Left::First(0)), b"xbc");
    }

    #[test]
    fn a_torn_record_is_of_a_write_that_was_not_made() {
        let mut story = Story::new(b"abcdef".to_vec());
        story.write(0, b"xy");
        let (file, whole) = (story.file.clone(), story.journal.len());
        story.write(2, b"zz");
        for length in whole..story.journal.len() {
            let notes = Notes::read(&story.journal[..length]);
            assert_eq!(undo(&file, &notes.changes, &Left::First(0)), b"abcdef");
        }
        assert_eq!(Notes::read(b"no journal at all, though long enough to be one"), Notes::default());
    }
}
