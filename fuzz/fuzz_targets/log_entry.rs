#![no_main]

use dkg_engine_fuzz::targets::log::log_entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| log_entry(data));
