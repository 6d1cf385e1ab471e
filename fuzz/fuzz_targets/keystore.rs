#![no_main]

use dkg_engine_fuzz::targets::sealed::keystore;

libfuzzer_sys::fuzz_target!(|data: &[u8]| keystore(data));
