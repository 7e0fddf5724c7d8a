//! Any bytes as a frame: our reading against a second one, and what must not change it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../proxy-common/tests/packet_oracle/oracle.rs"]
mod oracle;

fuzz_target!(|frame: &[u8]| {
    oracle::check(frame);
});
