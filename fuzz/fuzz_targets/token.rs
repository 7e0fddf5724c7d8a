//! Any bytes as a token, and as header and claims that an issuer signs.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../proxy-userspace/crates/gateway/tests/token_oracle/oracle.rs"]
mod oracle;

static ORACLE: LazyLock<oracle::Oracle> =
    LazyLock::new(|| oracle::Oracle::new("portcullis-token-fuzz"));

fuzz_target!(|input: &[u8]| {
    ORACLE.check(input);
});
