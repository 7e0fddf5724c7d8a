//! The premise: every proxy does the work, and the same work.

use std::{ops::RangeInclusive, process::Command, time::Duration};

use portcullis_tests::{
    run::{RigError, Rigged, eventually, succeed},
    scene::HOST,
};
use serde_json::{Map, Value, json};

use crate::{stage::Stage, subject::Subject};

/// How long records may wait for company before they are written.
const WRITTEN: Duration = Duration::from_secs(10);

/// Whether curl is answered 200 with good tokens, and refused with each kind of bad one, over both
/// versions of HTTP; and whether no refused request went on to the upstream.
pub(crate) fn authenticates(subject: &mut Subject, stage: &Stage) -> Rigged<()> {
    let good = [0, stage.tokens.good.len() - 1].map(|index| &stage.tokens.good[index]);
    let before = stage.upstream.requests()?;
    let (mut made, mut passed) = (0, 0);
    for http in ["--http1.1", "--http2"] {
        for token in good {
            let field = format!("Bearer {token}");
            expect(subject, stage, http, Some(&field), "a good token", &[200])?;
            made += 1;
            passed += 1;
        }
        for bad in &stage.tokens.bad {
            let field = bad.authorization.as_deref();
            let statuses = if subject.kind.authenticates() {
                bad.statuses
            } else {
                passed += 1;
                &[200]
            };
            expect(subject, stage, http, field, bad.what, statuses)?;
            made += 1;
        }
    }
    subject.add(&(made..=made));
    let reached = stage.upstream.requests()? - before;
    if reached != passed {
        return Err(RigError(format!(
            "{}: {reached} requests reached the upstream, and {passed} should",
            subject.kind.name()
        )));
    }
    Ok(())
}

fn expect(
    subject: &Subject,
    stage: &Stage,
    http: &str,
    authorization: Option<&str>,
    what: &str,
    statuses: &[u16],
) -> Rigged<()> {
    let port = subject.address.port();
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "8", http, "-o", "/dev/null", "-w"])
        .args(["%{http_code} %{http_version}", "--cacert"])
        .arg(&stage.pki.ca)
        .args(["--connect-to", &format!("{HOST}:443:127.0.0.1:{port}")]);
    if let Some(authorization) = authorization {
        curl.args(["-H", &format!("authorization: {authorization}")]);
    }
    let said = succeed(curl.arg(format!("https://{HOST}/orders")))?;
    let version = http.trim_start_matches("--http");
    let due = statuses
        .iter()
        .any(|status| said == format!("{status} {version}"));
    if due {
        return Ok(());
    }
    let name = subject.kind.name();
    Err(RigError(format!(
        "{name} answered {said:?} to {what} over HTTP/{version}"
    )))
}

/// Whether a record is one JSON object that says what became of the request.
pub(crate) fn records_tell(subject: &Subject) -> Rigged<()> {
    let last = subject.records.last()?;
    let record: Option<Value> = serde_json::from_str(&last).ok();
    let tells = record.is_some_and(|record| {
        let told: Vec<&Value> = record
            .as_object()
            .into_iter()
            .flat_map(Map::values)
            .collect();
        told.contains(&&json!(200)) && told.contains(&&json!("GET")) && told.contains(&&json!(HOST))
    });
    if tells {
        return Ok(());
    }
    let name = subject.kind.name();
    Err(RigError(format!("{name} records {last:?}")))
}

/// Whether as many requests as were made have reached the upstream.
pub(crate) fn reached(subject: &Subject, reached: u64, made: &RangeInclusive<u64>) -> Rigged<()> {
    if made.contains(&reached) {
        return Ok(());
    }
    let name = subject.kind.name();
    Err(RigError(format!(
        "{name}: {reached} requests reached the upstream, of {made:?}"
    )))
}

/// Whether there are as many records as requests were made since the proxy's start.
pub(crate) fn recorded(subject: &mut Subject) -> Rigged<()> {
    let mut recorded = 0;
    let written = eventually("all is recorded", WRITTEN, || {
        recorded = subject.records.requests().ok()?;
        (recorded >= *subject.made.start()).then_some(())
    });
    if written.is_ok() && subject.made.contains(&recorded) {
        return Ok(());
    }
    let (name, made) = (subject.kind.name(), &subject.made);
    Err(RigError(format!(
        "{name}: {recorded} requests are recorded, of {made:?}"
    )))
}
