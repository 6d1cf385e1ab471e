#![no_main]

use dkg_engine_fuzz::targets::member::protocol_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol_message(data));
