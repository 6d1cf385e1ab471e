#![no_main]

use dkg_engine_fuzz::targets::curve::scalar;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scalar(data));
