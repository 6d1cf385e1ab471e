#![no_main]

use dkg_engine_fuzz::targets::files::node_config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| node_config(data));
