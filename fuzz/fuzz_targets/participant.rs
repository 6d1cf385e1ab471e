#![no_main]

use dkg_engine_fuzz::targets::member::participant;

libfuzzer_sys::fuzz_target!(|data: &[u8]| participant(data));
