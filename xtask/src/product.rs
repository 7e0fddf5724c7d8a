//! The product and what drives it: build, demo, benchmark.

use crate::{
    ebpf::{self, Programs},
    failure::Failure,
    requirements::Need,
    run::{Invocation, is_root},
    setup,
    tree::Tree,
};

/// Names the portcullis binary to whatever drives it.
pub(crate) const BINARY_VARIABLE: &str = "PORTCULLIS_BIN";
/// Names the benchmark's eBPF object to the benchmark.
const BENCH_OBJECT_VARIABLE: &str = "PORTCULLIS_BENCH_OBJECT";
/// Names the Envoy to compare with to the benchmark of the proxy.
const BENCH_ENVOY_VARIABLE: &str = "PORTCULLIS_BENCH_ENVOY";

/// `cargo xtask build`: the eBPF object, then the binary that embeds it.
pub(crate) fn build(tree: &Tree, release: bool) -> Result<(), Failure> {
    let object = ebpf::build_product(tree)?;
    cargo_build(tree, release, &["-p", "proxy-userspace"])?;
    println!("eBPF object  {}", object.display());
    println!(
        "binary       {}",
        tree.built(release, "portcullis").display()
    );
    Ok(())
}

/// Builds the binary and the programs that drive it; the eBPF object is as it lies there.
pub(crate) fn build_with_rig(tree: &Tree, release: bool, features: &[&str]) -> Result<(), Failure> {
    let crates = ["-p", "proxy-userspace", "-p", "portcullis-tests", "--bins"];
    cargo_build(tree, release, &[&crates, features].concat())
}

/// Builds everything and becomes one of the rig's programs. Returns only what went wrong.
pub(crate) fn become_rig(
    tree: &Tree,
    release: bool,
    program: &str,
    args: Vec<String>,
) -> Result<(), Failure> {
    prepare_rig(tree, program)?;
    build_with_rig(tree, release, &[])?;
    let driver = Invocation::new(tree.built(release, program));
    let driver = driver.env(BINARY_VARIABLE, tree.built(release, "portcullis"));
    Err(become_driver(driver, args))
}

/// Builds the packet benchmark, which needs the library of the kernel side but not the product's
/// binary, and becomes it. Returns only what went wrong.
pub(crate) fn become_packet_bench(tree: &Tree, args: Vec<String>) -> Result<(), Failure> {
    const PROGRAM: &str = "bench-xdp";
    prepare_rig(tree, PROGRAM)?;
    let object = ebpf::build(tree, Programs::Bench)?;
    cargo_build(tree, true, &["-p", "portcullis-tests", "--bin", PROGRAM])?;
    let driver = Invocation::new(tree.built(true, PROGRAM));
    Err(become_driver(
        driver.env(BENCH_OBJECT_VARIABLE, object),
        args,
    ))
}

/// Builds the product and the benchmark of its proxy, and becomes that. It loads nothing into the
/// kernel. Returns only what went wrong.
pub(crate) fn become_proxy_bench(tree: &Tree, args: Vec<String>) -> Result<(), Failure> {
    setup::ensure(tree, &[Need::Host, Need::Ebpf, Need::Rig, Need::Bench])?;
    let driver = build_driver(tree, "bench-proxy")?;
    Err(become_driver(
        driver.env(BENCH_ENVOY_VARIABLE, tree.envoy()),
        args,
    ))
}

/// Builds the product and what soaks its proxy, and becomes that. It takes no root. Returns only what went
/// wrong.
pub(crate) fn become_soak(tree: &Tree, args: Vec<String>) -> Result<(), Failure> {
    setup::ensure(tree, &[Need::Host, Need::Ebpf, Need::Rig])?;
    Err(become_driver(build_driver(tree, "soak")?, args))
}

/// Builds the product, optimised, and one program that drives it.
fn build_driver(tree: &Tree, program: &str) -> Result<Invocation, Failure> {
    ebpf::build_product(tree)?;
    let crates = ["-p", "proxy-userspace", "-p", "portcullis-tests"];
    let programs = ["--bin", "portcullis", "--bin", program];
    cargo_build(tree, true, &[crates, programs].concat())?;
    let driver = Invocation::new(tree.built(true, program));
    Ok(driver.env(BINARY_VARIABLE, tree.built(true, "portcullis")))
}

/// Builds the product and the benchmark of identity, and becomes that. It takes no root. Returns only what went
/// wrong.
pub(crate) fn become_identity_bench(tree: &Tree, args: Vec<String>) -> Result<(), Failure> {
    setup::ensure(tree, &[Need::Host, Need::Ebpf, Need::Rig])?;
    Err(become_driver(build_driver(tree, "bench-identity")?, args))
}

/// Makes sure of root, of the machine's programs and of the product's eBPF object.
fn prepare_rig(tree: &Tree, program: &str) -> Result<(), Failure> {
    if !is_root() {
        return Err(Failure::with_mend(
            format!("{program} makes network namespaces and loads eBPF programs: it takes root"),
            "run the same command as root",
        ));
    }
    setup::ensure(tree, &[Need::Host, Need::Ebpf, Need::Rig])?;
    ebpf::build_product(tree)?;
    Ok(())
}

/// Becomes the program rather than waiting for it, so that Ctrl-C reaches one process, which then
/// clears up its namespaces while the shell waits.
fn become_driver(driver: Invocation, args: Vec<String>) -> Failure {
    driver.args(args).without_env("LD_LIBRARY_PATH").exec()
}

fn cargo_build(tree: &Tree, release: bool, what: &[&str]) -> Result<(), Failure> {
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    let cargo = Invocation::cargo()
        .args(["build", "--locked"])
        .args(what.iter().copied());
    cargo.args(profile.iter().copied()).dir(&tree.root).run()
}
