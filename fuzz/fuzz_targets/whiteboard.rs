#![no_main]

use dkg_engine_fuzz::targets::board::whiteboard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| whiteboard(data));
