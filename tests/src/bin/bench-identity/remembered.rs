//! A million tokens that are good once: what they take in memory, and what one costs.

use std::{fs, time::Instant};

use gateway::{Once, UseFault, Uses};
use portcullis_tests::{
    figures::{Figure, Required},
    pki::unix_now,
    run::{RigError, Rigged},
    scratch::Scratch,
};

use crate::verify::premise;

const TOKENS: usize = 1_000_000;
/// Between two looks at the memory: a table that grows is there twice for a moment.
const LOOK: usize = 10_000;

pub(crate) fn figures() -> Rigged<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let path = scratch.join("used-tokens");
    let now = unix_now();
    let before = resident_mib()?;
    let uses = Uses::open(&path, [1; 16], TOKENS, now)?;
    let take = |uses: &Uses, number: usize| {
        let once = Once {
            issuer: "https://issuer.example",
            token_id: &format!("0b0c9a5e-6a3e-4f3f-9a3c-{number:012}"),
            issued: now,
            leeway: 30,
            // An hour's worth of tokens.
            last: now + 30 + (number % 3_600) as u64,
        };
        uses.take(&once, now)
    };
    let (mut most, mut good) = (0.0_f64, 0);
    let began = Instant::now();
    for number in 0..TOKENS {
        good += usize::from(take(&uses, number).is_ok());
        if number % LOOK == 0 {
            most = most.max(resident_mib()?);
        }
    }
    let took = began.elapsed();
    most = most.max(resident_mib()?);
    premise("each was good once", good == TOKENS)?;
    let again = (0..TOKENS).step_by(997);
    let again = again.filter(|number| take(&uses, *number) != Err(UseFault::Again));
    premise("and not twice", again.count() == 0)?;
    premise(
        "one more has no room",
        take(&uses, TOKENS) == Err(UseFault::Full),
    )?;
    drop(uses);
    let began = Instant::now();
    let uses = Uses::open(&path, [1; 16], TOKENS, now)?;
    let opened = began.elapsed();
    premise("the next process knows them", uses.held().0 == TOKENS)?;
    Ok(vec![
        Figure::new("replay_entries", TOKENS as f64, Required::Nothing),
        Figure::new("replay_mib", most - before, Required::AtMost(64.0)),
        Figure::new(
            "replay_use_ns",
            took.as_nanos() as f64 / TOKENS as f64,
            Required::Nothing,
        ),
        Figure::new(
            "replay_open_ms",
            opened.as_secs_f64() * 1e3,
            Required::Nothing,
        ),
    ])
}

/// Memory of this process, but for what it has of files (`RssAnon` of proc_pid_status(5)).
fn resident_mib() -> Rigged<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    let kib = kib.ok_or_else(|| RigError("no RssAnon of this process".to_owned()))?;
    Ok(kib / 1024.0)
}
