#![no_main]

use dkg_engine_fuzz::targets::files::committee_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| committee_file(data));
