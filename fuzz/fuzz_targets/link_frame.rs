#![no_main]

use dkg_engine_fuzz::targets::link::link_frame;

libfuzzer_sys::fuzz_target!(|data: &[u8]| link_frame(data));
