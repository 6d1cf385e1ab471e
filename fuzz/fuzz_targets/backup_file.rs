#![no_main]

use dkg_engine_fuzz::targets::sealed::backup_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| backup_file(data));
