//! See `targets::decode_formats`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ninefold_fuzz::targets::decode_formats(data));
