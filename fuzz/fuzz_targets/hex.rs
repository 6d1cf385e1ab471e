#![no_main]

use dkg_engine_fuzz::targets::text::hex;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hex(data));
