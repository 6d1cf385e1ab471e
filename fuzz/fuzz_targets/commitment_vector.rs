#![no_main]

use dkg_engine_fuzz::targets::curve::commitment_vector;

libfuzzer_sys::fuzz_target!(|data: &[u8]| commitment_vector(data));
