//! HTTP/2 with h2load: 16 connections of 16 streams. It can't give each request a field of its own,
//! so all of them have one token; what it costs says whether our own client asks for much the same.

use std::{
    process::{Command, Stdio},
    thread,
};

use portcullis_tests::{
    run::{RigError, Rigged},
    scene::HOST,
};

use crate::{Load, Scale, spent::Spent, stage::Stage, subject::Subject};

/// Connections, and streams of each.
const EACH: u64 = 16;

/// Loads a proxy, and measures it from when the load is steady on.
pub(crate) fn load(subject: &Subject, stage: &Stage, scale: Scale) -> Rigged<Load> {
    // In whole seconds, which is what it takes.
    let seconds = (scale.warm + scale.h2load).as_secs() + 1;
    let mut command = Command::new("h2load");
    command
        .args(["-t1", &format!("-c{EACH}"), &format!("-m{EACH}")])
        .arg(format!("-D{seconds}"))
        .args(["--tls13-ciphers", "TLS_AES_128_GCM_SHA256"])
        .args(["--groups", "X25519"])
        .args(["-H", &format!(":authority: {HOST}")])
        .arg("-H")
        .arg(format!("authorization: Bearer {}", stage.tokens.good[0]))
        .arg(format!(
            "https://localhost:{}/orders",
            subject.address.port()
        ));
    let child = command.stdout(Stdio::piped()).spawn()?;
    thread::sleep(scale.warm);
    let spent = Spent::within(subject, &stage.upstream, scale.h2load)?;
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let (done, good, bad) =
        told(&printed).ok_or_else(|| RigError(format!("h2load says: {printed}")))?;
    // When its time is over it drops what is open.
    if good == 0 || bad > 0 || done - good > EACH * EACH {
        return Err(RigError(format!("requests failed: {printed}")));
    }
    Ok(Load {
        spent,
        requests: good..=good + EACH * EACH,
    })
}

/// Requests that are done, those answered with a 2xx, and those with another status.
fn told(printed: &str) -> Option<(u64, u64, u64)> {
    let figures = |begin: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(begin))?;
        line.split(',')
            .map(|part| part.trim().split(' ').next()?.parse().ok())
            .collect::<Option<Vec<u64>>>()
    };
    let requests = figures("requests: ")?;
    let statuses = figures("status codes: ")?;
    let bad = statuses.get(1..)?.iter().sum();
    Some((*requests.get(2)?, *statuses.first()?, bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_it_tells() {
        let printed = "finished in 1.00s, 9.00 req/s, 1KB/s\n\
            requests: 22 total, 22 started, 21 done, 20 succeeded, 1 failed, 1 errored, 0 timeout\n\
            status codes: 20 2xx, 0 3xx, 1 4xx, 0 5xx\n";
        assert_eq!(told(printed), Some((21, 20, 1)));
        assert_eq!(told("finished in 1.00s\n"), None);
    }
}
