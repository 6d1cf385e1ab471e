#![no_main]

use dkg_engine_fuzz::targets::board::contract_result;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract_result(data));
