#![no_main]

use dkg_engine_fuzz::targets::store::journal;

libfuzzer_sys::fuzz_target!(|data: &[u8]| journal(data));
