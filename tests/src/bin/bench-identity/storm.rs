//! A hundred thousand tokens with random key ids: how often the keys are fetched, and what good ones cost
//! beside it.

use std::{sync::Arc, time::Duration};

use portcullis_tests::{
    figures::{Figure, Required, median},
    run::Rigged,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::{
    caller::{Caller, REFETCH},
    verify::premise,
};

const TURNS: usize = 100;
/// Tokens of the storm in each turn.
const BAD: usize = 1_000;
/// Good ones after them, and as many without.
const GOOD: usize = 2_000;

pub(crate) async fn figures(caller: &Caller) -> Rigged<Vec<Figure>> {
    let kept = Arc::clone(&caller.trusted);
    let keeper = tokio::spawn(async move { kept.keys().keep_current(|_| {}).await });
    let good = Caller::request(&caller.token("alice")?)?;
    let before = caller.trusted.keys().report().fetched;
    let began = Instant::now();
    let (mut beside, mut alone) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let storm: Rigged<Vec<_>> = (0..BAD)
            .map(|n| {
                let payload = caller.issuer.claims("mallory", "orders:read").to_string();
                let header = format!(r#"{{"alg":"ES256","kid":"{turn}-{n}"}}"#);
                // Nobody gets as far as its signature.
                let body = portcullis_tests::pki::unsigned(&header, &payload);
                Caller::request(&format!("{body}.{}", "A".repeat(86)))
            })
            .collect();
        for request in &storm? {
            let holder = caller.issuers.holder(&caller.route, request).await;
            premise("a token with an unknown key is refused", holder.is_err())?;
        }
        beside.push(spend(caller, &good).await?);
        alone.push(spend(caller, &good).await?);
    }
    let took = began.elapsed();
    keeper.abort();
    let fetches = caller.trusted.keys().report().fetched - before;
    let intervals = took.as_secs_f64() / REFETCH.as_secs_f64();
    premise("the storm had the keys fetched at all", fetches > 0)?;
    Ok(vec![
        Figure::new("storm_requests", (TURNS * BAD) as f64, Required::Nothing),
        Figure::new("storm_intervals", intervals, Required::Nothing),
        Figure::new(
            "fetches",
            fetches as f64,
            Required::AtMost(intervals.ceil()),
        ),
        Figure::new(
            "storm_extra_cpu",
            median(&beside) / median(&alone) - 1.0,
            Required::AtMost(0.02),
        ),
    ])
}

/// Processor time of this thread for good requests, in seconds.
async fn spend(caller: &Caller, good: &http::HeaderMap) -> Rigged<f64> {
    let began = processor_time();
    let mut let_in = 0;
    for _ in 0..GOOD {
        let_in += usize::from(caller.is_let_in(good, "alice").await);
    }
    let spent = processor_time().saturating_sub(began);
    premise("a good token is let in beside the storm", let_in == GOOD)?;
    Ok(spent.as_secs_f64())
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, rest) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    Duration::from_secs(seconds) + Duration::from_nanos(rest)
}
