#![no_main]

use dkg_engine_fuzz::targets::text::private_envelope;

libfuzzer_sys::fuzz_target!(|data: &[u8]| private_envelope(data));
