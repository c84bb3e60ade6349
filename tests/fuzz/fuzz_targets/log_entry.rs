//! See `targets::log_entry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ninefold_fuzz::targets::log_entry(data));
