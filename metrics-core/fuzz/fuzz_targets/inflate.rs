//! A body in gzip.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|wire: &[u8]| metrics_core::scrape::fuzzing::inflate(wire));
