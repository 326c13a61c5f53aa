#![no_main]

use polybolos_fuzz::{contained, queries};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| contained(|| queries::shuffle_files(bytes)));
