//! The soak, for less than half a minute: what it says of twenty is worth something only while it works.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use portcullis_tests::{
    daemon::{portcullis, sibling},
    run::{RigError, Rigged, output, succeed},
    scratch::Scratch,
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

#[test]
fn a_run_that_fails_leaves_no_service_behind() -> Rigged<()> {
    // A folder of its own tells its processes from those of any other run.
    let scratch = Scratch::new()?;
    let mut soak = Command::new("timeout");
    soak.arg("120")
        .arg(sibling("soak"))
        .args(["--minutes", "5"])
        .env("PORTCULLIS_BIN", portcullis())
        .env("TMPDIR", scratch.path());
    let mut soak = soak.stderr(Stdio::piped()).spawn()?;
    let said = soak.stderr.take().map(BufReader::new);
    let mut said = said
        .into_iter()
        .flat_map(|said| said.lines().map_while(Result::ok));
    said.find(|line| line.contains("requests a second at most"))
        .ok_or_else(|| RigError("it never began".to_owned()))?;
    let folder = scratch.path().to_string_lossy().into_owned();
    let [before, daemon] = ["backend", "portcullis.toml"].map(|word| running(&folder, word));
    assert_eq!((before.len() >= 3, daemon.len()), (true, 1), "{before:?}");
    succeed(Command::new("kill").arg("-KILL").args(daemon))?;
    // What else it says isn't waited for: a service that is left holds that pipe open.
    assert!(!soak.wait()?.success());
    assert_eq!(running(&folder, "backend"), [""; 0]);
    Ok(())
}

/// Ids of processes with both of these in their words.
fn running(folder: &str, word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let fits = |id: &String| {
        let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        words.contains(folder) && words.contains(word)
    };
    names.filter(fits).collect()
}
