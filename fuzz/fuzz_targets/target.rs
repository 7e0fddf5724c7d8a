//! Any bytes as the host and the target of a request.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../proxy-userspace/crates/policy/tests/target_oracle/oracle.rs"]
mod oracle;

fuzz_target!(|input: &[u8]| {
    oracle::check(input);
});
