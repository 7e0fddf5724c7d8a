//! What testssl.sh, which tries known attacks and weaknesses one by one, has to say of the proxy's TLS.

use std::process::Command;

use portcullis_tests::{
    front::Front,
    run::{RigError, Rigged, output},
};
use serde_json::Value;

/// Findings that say something of the tool, and nothing of the proxy.
const OF_THE_TOOL: [&str; 2] = ["engine_problem", "scanTime"];

#[test]
fn no_weakness_above_low_is_found() -> Rigged<()> {
    let front = Front::open()?;
    let report = front.ground.scratch.join("testssl.json");
    let mut testssl = Command::new("timeout");
    testssl
        .args([
            "300",
            "testssl",
            "--quiet",
            "--color",
            "0",
            "--warnings",
            "off",
        ])
        .arg("--jsonfile")
        .arg(&report)
        // Protocols, forward secrecy, the server's own choices, and all vulnerabilities. The certificate is
        // the rig's.
        .args(["-p", "-f", "-P", "-U"])
        .arg(format!("https://localhost:{}", front.address.port()));
    let said = output(&mut testssl)?;
    let text = std::fs::read_to_string(&report)?;
    let findings: Vec<Value> = serde_json::from_str(&text)
        .map_err(|error| RigError(format!("{error}: {text} {said:?}")))?;
    let of = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let weak: Vec<String> = findings
        .iter()
        .filter(|it| !["OK", "INFO", "LOW"].contains(&of(it, "severity").as_str()))
        .filter(|it| !OF_THE_TOOL.contains(&of(it, "id").as_str()))
        .map(ToString::to_string)
        .collect();
    assert_eq!(weak, [""; 0]);
    // It looked: each protocol, and the attacks with names.
    let known: Vec<String> = findings.iter().map(|it| of(it, "id")).collect();
    for id in [
        "SSLv3",
        "TLS1",
        "TLS1_2",
        "TLS1_3",
        "heartbleed",
        "ROBOT",
        "LUCKY13",
        "cipher_order",
    ] {
        assert!(known.iter().any(|it| it == id), "{id} in {known:?}");
    }
    Ok(())
}
