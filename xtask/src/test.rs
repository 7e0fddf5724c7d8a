//! Running the suites and adding up what they say.

use std::fs;

use serde_json::Value;

use crate::{
    counts::Counts,
    ebpf,
    failure::Failure,
    product,
    requirements::Need,
    run::Invocation,
    setup,
    tree::{Tree, metadata},
};

/// The package of the suites, and how those are called that load programs.
const RIG: &str = "portcullis-tests";
const KERNEL_PREFIX: &str = "kernel_";
/// The suites run against a program with all it can be built with.
const FEATURES: [&str; 2] = ["--features", "portcullis-tests/all"];
/// Names the folder of the client of HTTP/3 to the suites.
const AIOQUIC_VARIABLE: &str = "PORTCULLIS_AIOQUIC";

/// Which suites to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suites {
    /// Those an unprivileged user can run.
    pub(crate) host: bool,
    /// Those that take root and the eBPF object.
    pub(crate) kernel: bool,
}

/// Test targets by suite.
#[derive(Debug, Default, PartialEq, Eq)]
struct Targets {
    host: Vec<String>,
    kernel: Vec<String>,
}

/// `cargo xtask test`. The last line of stdout is `N passed, N failed, N skipped`.
pub(crate) fn test(tree: &Tree, suites: Suites, filter: &[String]) -> Result<(), Failure> {
    setup::ensure(tree, &[Need::Host])?;
    if suites.kernel {
        setup::ensure(tree, &[Need::Ebpf, Need::Rig])?;
        ebpf::build_product(tree)?;
    }
    product::build_with_rig(tree, false, &FEATURES)?;

    let skip_log = tree.target.join("skipped.log");
    fs::write(&skip_log, "").map_err(|e| Failure::new(format!("{}: {e}", skip_log.display())))?;
    let targets = Targets::read(&metadata(&tree.root, &["--no-deps"])?);
    let mut counts = Counts::default();
    let mut broken = Vec::new();
    for run in runs(suites, &targets) {
        let run = run
            .args(filter)
            .dir(&tree.root)
            .env(product::BINARY_VARIABLE, tree.built(false, "portcullis"))
            .env("PORTCULLIS_SKIP_LOG", &skip_log)
            .env(AIOQUIC_VARIABLE, tree.aioquic())
            .without_env("LD_LIBRARY_PATH");
        let failed_before = counts.failed;
        let ok = run.stream(|line| {
            println!("{line}");
            counts.add_line(line);
        })?;
        if !ok && counts.failed == failed_before {
            broken.push(format!(
                "`{run}` failed without a failed test: it didn't build or died"
            ));
        }
    }
    let skips = fs::read_to_string(&skip_log).unwrap_or_default();
    let reasons: Vec<&str> = skips.lines().filter(|line| !line.is_empty()).collect();
    let counts = counts.with_skip_log(reasons.len());
    for reason in &reasons {
        println!("skipped {reason}");
    }
    let required = std::env::var_os("REQUIRE_KERNEL").is_some_and(|value| value == "1");
    let complaints = [broken, counts.complaints(required)].concat();
    for complaint in &complaints {
        eprintln!("xtask: {complaint}");
    }
    println!("{counts}");
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(Failure::Printed)
    }
}

/// The cargo commands of the suites. All name the whole workspace, so that features unify
/// alike and nothing is compiled twice.
fn runs(suites: Suites, targets: &Targets) -> Vec<Invocation> {
    let cargo = || {
        let cargo = Invocation::cargo().args(["test", "--locked", "--workspace", "--no-fail-fast"]);
        cargo.args(FEATURES)
    };
    let named = |names: &[String]| {
        names
            .iter()
            .flat_map(|name| ["--test".to_owned(), name.clone()])
            .collect::<Vec<_>>()
    };
    let mut runs = Vec::new();
    if suites.host {
        let tests = named(&targets.host);
        runs.push(cargo().args(["--lib", "--bins"]).args(tests).args(["--"]));
        runs.push(cargo().args(["--doc", "--"]));
    }
    if suites.kernel && !targets.kernel.is_empty() {
        // One at a time: the suites share the machine's interfaces and its clock.
        let tests = named(&targets.kernel);
        runs.push(cargo().args(tests).args(["--", "--test-threads=1"]));
    }
    runs
}

impl Targets {
    fn read(metadata: &Value) -> Self {
        let mut targets = Self::default();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            for target in package["targets"].as_array().into_iter().flatten() {
                let is_test = target["kind"]
                    .as_array()
                    .is_some_and(|k| k.iter().any(|k| k == "test"));
                let Some(name) = target["name"].as_str().filter(|_| is_test) else {
                    continue;
                };
                let kernel = package["name"] == RIG && name.starts_with(KERNEL_PREFIX);
                let suite = if kernel {
                    &mut targets.kernel
                } else {
                    &mut targets.host
                };
                suite.push(name.to_owned());
            }
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BOTH: Suites = Suites {
        host: true,
        kernel: true,
    };

    #[test]
    fn only_the_rigs_kernel_targets_are_kernel_suites() {
        let test = |name: &str| json!({ "kind": ["test"], "name": name });
        let targets = Targets::read(&json!({ "packages": [
            { "name": "portcullis-tests", "targets": [
                test("kernel_packets"), test("proxy"), { "kind": ["lib"], "name": "rig" },
            ] },
            { "name": "audit", "targets": [test("kernel_of_truth")] },
        ] }));
        assert_eq!(targets.kernel, ["kernel_packets"]);
        assert_eq!(targets.host, ["proxy", "kernel_of_truth"]);
    }

    #[test]
    fn kernel_suites_run_one_test_at_a_time() {
        let targets = Targets {
            host: vec!["proxy".into()],
            kernel: vec!["kernel_x".into()],
        };
        let lines: Vec<_> = runs(BOTH, &targets)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            lines[0].ends_with("--lib --bins --test proxy --"),
            "{lines:?}"
        );
        assert!(lines[1].ends_with("--doc --"), "{lines:?}");
        assert!(
            lines[2].ends_with("--test kernel_x -- --test-threads=1"),
            "{lines:?}"
        );
        assert_eq!(
            runs(
                Suites {
                    kernel: false,
                    ..BOTH
                },
                &targets
            )
            .len(),
            2
        );
    }
}
