#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| troupe_fuzz::record_batches(data));
