//! Fuzzing on the stable compiler: LLVM's coverage passes for libFuzzer are plain codegen
//! options. No sanitizer, which would take a nightly: what is fuzzed is safe Rust, where a wrong
//! index is a panic.

use std::fs;

use crate::{failure::Failure, requirements::Need, run::Invocation, setup, tree::Tree};

/// Targets, each with a corpus of its name, and their longest input: beyond what the longest chain of extension
/// headers in the corpus takes; beyond the longest token.
const TARGETS: [(&str, u32); 6] = [
    ("headers", 5_000),
    ("packet", 2_200),
    ("proof", 9_000),
    ("proxied", 4_300),
    ("target", 9_000),
    ("token", 9_000),
];

/// Names of the targets.
pub(crate) fn targets() -> Vec<&'static str> {
    TARGETS.map(|(name, _)| name).to_vec()
}

/// No input takes a millisecond.
const TIMEOUT_SECONDS: u32 = 5;

/// What cargo-fuzz hands to rustc, less the sanitizer: counters at every edge, a table that
/// leads from them to code, and a look at what is compared.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// `cargo xtask fuzz`: builds a target and lets it look for a difference for so long. Fails
/// when it finds one.
pub(crate) fn fuzz(tree: &Tree, target: &str, seconds: u32) -> Result<(), Failure> {
    let longest = TARGETS.iter().find(|(name, _)| *name == target);
    let longest = longest.map_or(0, |(_, longest)| *longest);
    setup::ensure(tree, &[Need::Host, Need::Fuzz])?;
    let place = tree.target.join("fuzz");
    let host = host_triple()?;
    let build = Invocation::cargo()
        // With a target named, build scripts and macros are built without the flags.
        .args(["build", "--release", "--locked", "--target", &host])
        .args(["--features", "libfuzzer", "--bin", target, "--target-dir"])
        .args([&place])
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .dir(&tree.fuzz());
    ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
        .into_iter()
        .fold(build, Invocation::without_env)
        .run()?;

    let found = place.join("corpus").join(target);
    let artifacts = place.join("artifacts");
    for dir in [&found, &artifacts] {
        fs::create_dir_all(dir).map_err(|e| Failure::new(format!("{}: {e}", dir.display())))?;
    }
    let seeds = tree.fuzz().join("corpus").join(target);
    let run = Invocation::new(place.join(host).join("release").join(target))
        .args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={longest}"),
            format!("-timeout={TIMEOUT_SECONDS}"),
            // The slash is part of it: what is found is named by appending.
            format!("-artifact_prefix={}/", artifacts.display()),
            "-print_final_stats=1".to_owned(),
        ])
        // New inputs go to the first.
        .args([&found, &seeds])
        .dir(&place);
    run.run().map_err(|failure| {
        Failure::with_mend(
            failure.to_string(),
            format!(
                "the input is named above; it reproduces with `{} INPUT`. Once mended, commit it \
                 to fuzz/corpus/{target} under a name that says what it is: `cargo xtask test` \
                 replays that folder",
                place.join("*/release").join(target).display()
            ),
        )
    })
}

/// What this machine's compiler compiles for.
fn host_triple() -> Result<String, Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Invocation::new(rustc).args(["-vV"]).capture()?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::new("`rustc -vV` names no host"))
}
