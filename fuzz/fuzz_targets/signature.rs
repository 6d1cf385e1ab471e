#![no_main]

use dkg_engine_fuzz::targets::curve::signature;

libfuzzer_sys::fuzz_target!(|data: &[u8]| signature(data));
