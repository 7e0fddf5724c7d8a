//! Checks that the compiler doesn't make.

mod bans;
mod edges;
mod licences;
mod sources;

use std::path::Path;

use crate::{
    failure::Failure,
    requirements::Need,
    run::Invocation,
    setup,
    tree::{Tree, metadata},
};

/// The release of cargo-machete whose verdicts the tree was last checked with.
const MACHETE: &str = "0.9.2";

/// What one check found: nothing, or the reasons it refuses, a line each.
type Verdict = Result<Vec<String>, Failure>;

/// `cargo xtask lint`: runs every check, then fails if any did.
pub(crate) fn lint(tree: &Tree) -> Result<(), Failure> {
    setup::ensure(tree, &[Need::Host])?;
    ensure_components()?;
    ensure_machete(tree)?;
    let checks: [(&str, &dyn Fn() -> Verdict); 15] = [
        ("rustfmt", &|| ran(&fmt().dir(&tree.root))),
        ("rustfmt, eBPF", &|| ran(&fmt().dir(&tree.ebpf()))),
        ("rustfmt, bench eBPF", &|| {
            ran(&fmt().dir(&tree.bench_ebpf()))
        }),
        ("rustfmt, fuzz", &|| ran(&fmt().dir(&tree.fuzz()))),
        ("clippy", &|| {
            ran(&clippy(&["--workspace", "--all-targets"]).dir(&tree.root))
        }),
        ("clippy, all features", &|| {
            ran(&clippy(&["--workspace", "--all-targets", "--all-features"]).dir(&tree.root))
        }),
        ("clippy, eBPF", &|| ran(&clippy_ebpf(tree, &tree.ebpf()))),
        ("clippy, bench eBPF", &|| {
            ran(&clippy_ebpf(tree, &tree.bench_ebpf()))
        }),
        ("clippy, fuzz", &|| ran(&clippy_fuzz(tree))),
        ("dependency edges", &|| edges(tree)),
        ("eBPF stages", &|| sources::stages(&tree.ebpf().join("src"))),
        ("unused dependencies", &|| ran(&machete(tree))),
        ("licences", &|| licences(tree)),
        ("banned crates", &|| bans::check(tree)),
        ("file lengths", &|| sources::lengths(&tree.root)),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        let complaints = check().unwrap_or_else(|failure| vec![failure.to_string()]);
        println!(
            "{name:<20} {}",
            if complaints.is_empty() {
                "ok"
            } else {
                "FAILED"
            }
        );
        complaints
            .iter()
            .for_each(|complaint| println!("    {complaint}"));
        if !complaints.is_empty() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("lint failed: {}", failed.join(", "))))
}

fn fmt() -> Invocation {
    Invocation::cargo().args(["fmt", "--all", "--check"])
}

fn clippy(what: &[&str]) -> Invocation {
    let cargo = Invocation::cargo().args(["clippy", "--quiet", "--locked"]);
    cargo
        .args(what.iter().copied())
        .args(["--", "-D", "warnings"])
}

/// For the host, not the kernel: clippy belongs to one rustc, and the one that has `core` for
/// BPF comes without clippy. aya-ebpf type-checks on the host, and nothing is linked.
fn clippy_ebpf(tree: &Tree, workspace: &Path) -> Invocation {
    let scratch = tree
        .target
        .join("bpf-lint")
        .into_os_string()
        .to_string_lossy()
        .into_owned();
    clippy(&["--target-dir", &scratch])
        .env("RUSTC_BOOTSTRAP", "1")
        .dir(workspace)
}

/// Apart from the instrumented build, and without libFuzzer, which takes a C++ compiler.
fn clippy_fuzz(tree: &Tree) -> Invocation {
    let scratch = tree.target.join("fuzz-lint");
    clippy(&["--target-dir", &scratch.to_string_lossy()]).dir(&tree.fuzz())
}

fn machete(tree: &Tree) -> Invocation {
    Invocation::new(tree.tool("cargo-machete"))
        .args(["--skip-target-dir"])
        .args([&tree.root])
}

/// A tool that prints its own complaints.
fn ran(tool: &Invocation) -> Verdict {
    tool.run().map(|()| Vec::new())
}

fn edges(tree: &Tree) -> Verdict {
    let mut complaints = Vec::new();
    for dir in tree.workspaces() {
        complaints.extend(edges::check(&metadata(&dir, &["--no-deps"])?));
    }
    Ok(complaints)
}

fn licences(tree: &Tree) -> Verdict {
    let mut complaints = Vec::new();
    for dir in tree.workspaces() {
        complaints.extend(licences::check(&metadata(&dir, &[])?));
    }
    complaints.sort();
    complaints.dedup();
    Ok(complaints)
}

fn ensure_components() -> Result<(), Failure> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if Invocation::cargo()
            .args([subcommand, "--version"])
            .probe()
            .is_none()
        {
            Invocation::new("rustup")
                .args(["component", "add", component])
                .run()?;
        }
    }
    Ok(())
}

fn ensure_machete(tree: &Tree) -> Result<(), Failure> {
    let there = Invocation::new(tree.tool("cargo-machete"))
        .args(["--version"])
        .probe();
    if there.is_some_and(|version| version.trim() == MACHETE) {
        return Ok(());
    }
    let install = [
        "install",
        "cargo-machete",
        "--locked",
        "--version",
        MACHETE,
        "--root",
    ];
    Invocation::cargo().args(install).args([tree.tools()]).run()
}
