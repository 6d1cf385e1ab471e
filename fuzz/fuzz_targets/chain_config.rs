#![no_main]

use dkg_engine_fuzz::targets::log::chain_config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| chain_config(data));
