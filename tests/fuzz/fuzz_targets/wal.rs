//! See `targets::wal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ninefold_fuzz::targets::wal(data));
