//! A kubelet's HTTP response: its head and the chunks of its body, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some((step, bytes)) = input.split_first() {
        metrics_core::scrape::fuzzing::response(bytes, usize::from(*step).max(1));
    }
});
