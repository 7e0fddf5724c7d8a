//! A token that was seen before, one that never was, and the bare signature of the same one.

use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_tests::{
    figures::{Figure, Required, median},
    run::{RigError, Rigged},
};
use serde_json::Value;

use crate::caller::Caller;

/// Rounds; the median counts.
const ROUNDS: usize = 15;
/// Requests of a round with a token that is known.
const KNOWN: u32 = 50_000;
/// Tokens of a round that nobody has seen.
const FRESH: usize = 400;

pub(crate) async fn figures(caller: &Caller) -> Rigged<Vec<Figure>> {
    let token = caller.token("alice")?;
    let request = Caller::request(&token)?;
    let key = bare_key(caller)?;
    let (mut cached, mut verified, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut let_in = 0;
        let began = Instant::now();
        for _ in 0..KNOWN {
            let_in += u32::from(caller.is_let_in(&request, "alice").await);
        }
        cached.push(nanoseconds(began.elapsed(), KNOWN as usize));
        premise("a known token is let in", let_in == KNOWN)?;

        let subjects: Vec<String> = (0..FRESH).map(|n| format!("user-{round}-{n}")).collect();
        let tokens: Rigged<Vec<String>> = subjects.iter().map(|it| caller.token(it)).collect();
        let tokens = tokens?;
        let signed: Option<Vec<(&[u8], Vec<u8>)>> = tokens.iter().map(|it| parts(it)).collect();
        let signed = signed.ok_or_else(|| RigError("a token has no parts".to_owned()))?;
        let requests: Rigged<Vec<_>> = tokens.iter().map(|it| Caller::request(it)).collect();
        let requests = requests?;
        // In small turns: whatever slows the machine down slows both.
        let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
        for (at, (message, signature)) in signed.iter().enumerate() {
            let began = Instant::now();
            let good = key.verify_sig(message, signature).is_ok();
            theirs += began.elapsed();
            premise("the bare signature is good", good)?;
            let began = Instant::now();
            let good = caller.is_let_in(&requests[at], &subjects[at]).await;
            ours += began.elapsed();
            premise("a fresh token is let in", good)?;
        }
        verified.push(nanoseconds(ours, FRESH) / 1e3);
        bare.push(nanoseconds(theirs, FRESH) / 1e3);
    }
    let (verified, bare) = (median(&verified), median(&bare));
    Ok(vec![
        Figure::new("token_bytes", token.len() as f64, Required::Nothing),
        Figure::new("cached_verify_ns", median(&cached), Required::AtMost(600.0)),
        Figure::new("es256_verify_us", verified, Required::Nothing),
        Figure::new("es256_bare_us", bare, Required::Nothing),
        Figure::new("es256_ratio", verified / bare, Required::AtMost(1.15)),
    ])
}

fn nanoseconds(took: Duration, times: usize) -> f64 {
    took.as_nanos() as f64 / times as f64
}

pub(crate) fn premise(what: &str, holds: bool) -> Rigged<()> {
    if holds {
        return Ok(());
    }
    Err(RigError(format!("the premise doesn't hold: {what}")))
}

/// What is signed, and the signature.
fn parts(token: &str) -> Option<(&[u8], Vec<u8>)> {
    let (message, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    Some((message.as_bytes(), signature))
}

fn bare_key(caller: &Caller) -> Rigged<ParsedPublicKey> {
    let failed = || RigError("the key is none".to_owned());
    let jwk: Value = serde_json::from_str(&caller.issuer.public_key()).map_err(|_| failed())?;
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
    let x = coordinate("x").ok_or_else(failed)?;
    let y = coordinate("y").ok_or_else(failed)?;
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| failed())
}
