//! Any bytes as what a client says over HTTP/1.1.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../proxy-userspace/crates/policy/tests/head_oracle/oracle.rs"]
mod oracle;

fuzz_target!(|input: &[u8]| {
    oracle::check(input);
});
