//! Any bytes as a DPoP proof, and as header and claims that the holder of a key signs.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../proxy-userspace/crates/gateway/tests/proof_oracle/oracle.rs"]
mod oracle;

static ORACLE: LazyLock<oracle::Oracle> = LazyLock::new(oracle::Oracle::new);

fuzz_target!(|input: &[u8]| {
    ORACLE.check(input);
});
