#![no_main]

use dkg_engine_fuzz::targets::store::key_states;

libfuzzer_sys::fuzz_target!(|data: &[u8]| key_states(data));
