#![no_main]

use dkg_engine_fuzz::targets::curve::g2_point;

libfuzzer_sys::fuzz_target!(|data: &[u8]| g2_point(data));
