//! `cargo xtask bench identity`: what it costs to prove who is calling.
//!
//! ```text
//! caller   an issuer with its keys in a file, a route, requests with tokens
//! verify   a token seen before, a token never seen, and the bare signature beside it
//! storm    a hundred thousand tokens with random key ids, and good ones beside
//! remembered  a million tokens that are good once
//! taken_back  tokens that are revoked, on a proxy that serves
//! ```
//!
//! The first two run on one thread, and are compared with what ran on it in the same run.

mod caller;
mod remembered;
mod storm;
mod taken_back;
mod verify;

use std::process::ExitCode;

use portcullis_tests::run::{RigError, Rigged};
use serde_json::{Map, Value, json};

use caller::Caller;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-identity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Rigged<()> {
    let json = std::env::args().any(|arg| arg == "--json");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before anything else takes memory.
    let remembered = remembered::figures()?;
    let mut figures = runtime.block_on(async {
        let caller = Caller::set().await?;
        let mut figures = verify::figures(&caller).await?;
        figures.extend(storm::figures(&caller).await?);
        Rigged::Ok(figures)
    })?;
    figures.extend(remembered);
    figures.extend(taken_back::figures()?);
    if json {
        let all: Map<String, Value> = figures
            .iter()
            .map(|figure| (figure.key.to_owned(), json!(figure.value)))
            .collect();
        println!("{}", Value::Object(all));
    } else {
        for figure in &figures {
            println!("{figure}");
        }
    }
    let missed: Vec<&str> = figures
        .iter()
        .filter(|figure| figure.verdict() == "missed")
        .map(|figure| figure.key)
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(RigError(format!("not as required: {}", missed.join(", "))))
}
