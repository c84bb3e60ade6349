//! See `targets::decode_ndjson`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ninefold_fuzz::targets::decode_ndjson(data));
