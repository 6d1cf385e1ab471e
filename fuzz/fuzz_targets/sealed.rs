#![no_main]

use dkg_engine_fuzz::targets::sealed::sealed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealed(data));
