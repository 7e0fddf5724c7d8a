//! Any bytes as what stands in front of a connection that a load balancer passes on.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../proxy-userspace/crates/gateway/tests/proxied_oracle/oracle.rs"]
mod oracle;

static ORACLE: LazyLock<oracle::Oracle> = LazyLock::new(oracle::Oracle::new);

fuzz_target!(|input: &[u8]| {
    ORACLE.check(input);
});
