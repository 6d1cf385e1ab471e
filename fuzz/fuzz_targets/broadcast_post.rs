#![no_main]

use dkg_engine_fuzz::targets::text::broadcast_post;

libfuzzer_sys::fuzz_target!(|data: &[u8]| broadcast_post(data));
