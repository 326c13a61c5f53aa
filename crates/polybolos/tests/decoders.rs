//! Whatever bytes come, a decoder gives an error or what they say, and never a panic. The targets are those of cargo-fuzz
//! (`chaos/fuzz`); here they run a bounded number of cases on any compiler.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[allow(unreachable_pub, reason = "the two are of a library elsewhere")]
#[path = "../../../chaos/fuzz/src/queries.rs"]
mod queries;
#[allow(unreachable_pub, reason = "the two are of a library elsewhere")]
#[path = "../../../chaos/fuzz/src/state.rs"]
mod state;

use std::{fs, path::Path};

/// Of random bytes, and of changes to what is right, for each seed.
const RANDOM: u64 = 2_000;
const CHANGED: u64 = 300;

/// splitmix64, so that the same cases come each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// What storage and bad luck do, and what somebody does who means it.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let more = self.bytes(9);
                bytes.splice(at..at, more);
            }
            2 => {
                let end = (at + self.below(9)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + self.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            _ if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            _ => {}
        }
    }
}

/// The seeds, the corpus, what lies near them, and noise.
fn check(name: &str, seeds: &[Vec<u8>], target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../chaos/fuzz/corpus").join(name);
    let stored: Vec<Vec<u8>> = fs::read_dir(&corpus)
        .expect("a corpus")
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("a seed"))
        .collect();
    assert!(!seeds.is_empty() && !stored.is_empty(), "{name} has no seeds");
    let mut random = Random(7);
    for seed in seeds.iter().chain(&stored) {
        target(seed);
        for _ in 0..CHANGED {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(4) {
                random.change(&mut bytes);
            }
            target(&bytes);
        }
    }
    for _ in 0..RANDOM {
        target(&random.bytes(300));
    }
}

/// `UPDATE_CORPUS=1 cargo test -p polybolos --test decoders corpus` writes the seeds anew.
#[test]
fn the_corpus_is_small_and_is_made_of_the_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../chaos/fuzz/corpus");
    let all = [
        ("entries", state::entry_seeds()),
        ("snapshots", state::snapshot_seeds()),
        ("plans", queries::plan_seeds()),
        ("shuffle_files", queries::shuffle_file_seeds()),
        ("tickets", queries::ticket_seeds()),
    ];
    for (name, seeds) in all {
        let folder = root.join(name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::create_dir_all(&folder).expect("a folder");
            for (number, seed) in seeds.iter().enumerate() {
                fs::write(folder.join(format!("seed-{number}")), seed).expect("a file");
            }
        }
        // A fuzzer adds its own, which are not kept.
        let files = fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry"));
        let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("seed-"));
        let sizes: Vec<u64> = files.map(|file| file.metadata().expect("a file").len()).collect();
        assert!(sizes.len() >= seeds.len() && sizes.iter().sum::<u64>() < 200_000, "{name}: {sizes:?}");
    }
}

#[test]
fn entries() {
    check("entries", &state::entry_seeds(), state::entries);
}

#[test]
fn snapshots() {
    check("snapshots", &state::snapshot_seeds(), state::snapshots);
}

/// Right ones only: arrow's reader of IPC streams, which plans may have within, panics on some that were changed. Servers
/// decode on a thread for such work, whose panic is an error of the one statement or task.
#[test]
fn plans() {
    let seeds = queries::plan_seeds();
    seeds.iter().for_each(|seed| queries::plans(seed));
    assert!(seeds.len() > queries::QUERIES.len(), "of each query its plan and its stages");
}

#[test]
fn shuffle_files() {
    check("shuffle_files", &queries::shuffle_file_seeds(), queries::shuffle_files);
}

#[test]
fn tickets() {
    check("tickets", &queries::ticket_seeds(), queries::tickets);
}
