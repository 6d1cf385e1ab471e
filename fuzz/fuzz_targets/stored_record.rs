#![no_main]

use dkg_engine_fuzz::targets::store::stored_record;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stored_record(data));
