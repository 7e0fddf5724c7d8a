//! The soak, for less than half a minute: what it says of twenty is worth something only while it works.

use std::process::Command;

use portcullis_tests::{
    daemon::{portcullis, sibling},
    run::{RigError, Rigged, output},
};
use serde_json::Value;

#[test]
fn nothing_is_lost_and_nothing_left_over_while_all_changes_and_services_die() -> Rigged<()> {
    let mut soak = Command::new("timeout");
    soak.arg("300")
        .arg(sibling("soak"))
        .args(["--minutes", "0.3", "--json"])
        .env("PORTCULLIS_BIN", portcullis());
    let said = output(&mut soak)?;
    let text = String::from_utf8_lossy(&said.stdout);
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}{told}");
    let last = text.lines().last().unwrap_or_default();
    let figures: Value =
        serde_json::from_str(last).map_err(|error| RigError(format!("{text}: {error}")))?;
    let figure = |key: &str| figures[key].as_f64().unwrap_or(-1.0);
    assert_eq!(figure("lost"), 0.0, "{text}{told}");
    assert!(figure("requests") > 1_000.0, "{text}");
    assert!(figure("reloads") >= 9.0, "{text}");
    assert!(figure("services_killed") >= 1.0, "{text}");
    Ok(())
}

#[test]
fn what_is_no_option_is_refused_with_those_that_are() -> Rigged<()> {
    for (words, complaint) in [
        (&["--hours", "1"][..], "none of --minutes, --seed, --json"),
        (&["--minutes", "long"], "takes a number"),
        (&["--minutes"], "takes a number"),
    ] {
        let said = output(Command::new(sibling("soak")).args(words))?;
        let told = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && told.contains(complaint), "{told}");
    }
    Ok(())
}
