#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| polybolos_fuzz::state::snapshots(bytes));
