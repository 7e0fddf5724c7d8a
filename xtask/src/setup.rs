//! Finding what the machine has, and bringing what it lacks.

use std::{io, io::Write as _, path::Path};

use serde_json::Value;

use crate::{
    ebpf::Compiler,
    failure::Failure,
    plan::{Machine, advice, commands, names, plan},
    requirements::{AIOQUIC, ALL, BPF_LINKER, ENVOY, Find, Need, Requirement},
    run::{Invocation, find_program, is_root},
    tree::Tree,
};

/// A requirement that is met: where, and in which version where that is known.
type Found = String;

/// `cargo xtask setup`: reports on every requirement and brings what is missing; with
/// `check`, only says what is missing and how to bring it.
pub(crate) fn setup(tree: &Tree, check: bool) -> Result<(), Failure> {
    let needs = [
        Need::Host,
        Need::Ebpf,
        Need::Rig,
        Need::Bench,
        Need::Vm,
        Need::Fuzz,
    ];
    let survey = survey(tree, &needs);
    for (requirement, found) in &survey {
        tell(requirement, found.as_deref().unwrap_or("MISSING"));
    }
    let missing = missing(&survey);
    if missing.is_empty() {
        say("nothing is missing");
        return Ok(());
    }
    if check {
        let machine = machine();
        let plan = commands(&missing, machine, tree);
        return Err(Failure::with_mend(
            format!("{} missing", names(&missing)),
            format!(
                "`cargo xtask setup` brings it; by hand, {}",
                advice(&missing, machine, &plan)
            ),
        ));
    }
    bring(tree, &missing)?;
    say("all is there now");
    Ok(())
}

/// Makes sure of these needs before other work: silent when all is there.
pub(crate) fn ensure(tree: &Tree, needs: &[Need]) -> Result<(), Failure> {
    let missing = missing(&survey(tree, needs));
    if missing.is_empty() {
        Ok(())
    } else {
        bring(tree, &missing)
    }
}

fn bring(tree: &Tree, missing: &[&'static Requirement]) -> Result<(), Failure> {
    let machine = machine();
    let plan = plan(missing, machine, tree)?;
    for step in &plan {
        say(&format!("running {step}"));
        // Cargo's library path, meant for us, would reach what the packages' scripts start.
        step.clone()
            .without_env("LD_LIBRARY_PATH")
            .run()
            .map_err(|failure| {
                let why = format!("{failure}, so {} still missing", names(missing));
                Failure::with_mend(why, advice(missing, machine, &plan))
            })?;
    }
    let mut absent = Vec::new();
    for &requirement in missing {
        match find(tree, requirement) {
            Some(found) => tell(requirement, &format!("installed: {found}")),
            None => absent.push(requirement),
        }
    }
    if absent.is_empty() {
        return Ok(());
    }
    let why = format!(
        "{} still missing although every command succeeded",
        names(&absent)
    );
    Err(Failure::with_mend(why, advice(&absent, machine, &plan)))
}

fn survey(tree: &Tree, needs: &[Need]) -> Vec<(&'static Requirement, Option<Found>)> {
    let wanted = |need: Need| {
        ALL.iter()
            .filter(move |requirement| requirement.need == need)
    };
    let look = |requirement: &'static Requirement| (requirement, find(tree, requirement));
    let mut survey: Vec<_> = needs
        .iter()
        .flat_map(|need| wanted(*need))
        .map(look)
        .collect();
    let unlinked = |(r, found): &(&Requirement, Option<Found>)| {
        matches!(r.find, Find::BpfLinker) && found.is_none()
    };
    if survey.iter().any(unlinked) {
        survey.extend(wanted(Need::LinkerBuild).map(look));
    }
    survey
}

fn missing(survey: &[(&'static Requirement, Option<Found>)]) -> Vec<&'static Requirement> {
    survey
        .iter()
        .filter(|(_, found)| found.is_none())
        .map(|(requirement, _)| *requirement)
        .collect()
}

fn find(tree: &Tree, requirement: &Requirement) -> Option<Found> {
    match requirement.find {
        Find::Program(name, version) => {
            let path = find_program(name)?;
            let text = Invocation::new(&path)
                .args([version])
                .probe()
                .unwrap_or_default();
            // curl's first line goes on to name every library it has.
            let version: String = text
                .lines()
                .next()
                .unwrap_or("?")
                .chars()
                .take(40)
                .collect();
            Some(format!("{} ({})", path.display(), version.trim_end()))
        }
        Find::Path(path) => Path::new(path).exists().then(|| path.to_owned()),
        Find::BpfCompiler => Compiler::find().ok().map(|compiler| compiler.to_string()),
        Find::BpfLinker => {
            // Asked for its version rather than for its existence: one whose libLLVM has
            // been removed since is of no use.
            let path = tree.tool("bpf-linker");
            let version = Invocation::new(&path).args(["--version"]).probe()?;
            let wanted = format!("bpf-linker {BPF_LINKER}");
            (version.trim() == wanted).then(|| format!("{} ({wanted})", path.display()))
        }
        Find::Envoy => {
            let path = tree.envoy();
            // As in `version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
            let version = Invocation::new(&path).args(["--version"]).probe()?;
            let told = version.contains(&format!("/{ENVOY}/"));
            told.then(|| format!("{} ({ENVOY})", path.display()))
        }
        Find::Aioquic => {
            let path = tree.aioquic();
            let known = path.join(format!("aioquic-{AIOQUIC}.dist-info"));
            known
                .exists()
                .then(|| format!("{} ({AIOQUIC})", path.display()))
        }
        Find::NodePackages => {
            // npm writes down what it has installed, in the form of its lock file.
            let packages = |path: &str| {
                let text = std::fs::read(tree.node().join(path)).ok()?;
                let lock: Value = serde_json::from_slice(&text).ok()?;
                let mut packages = lock["packages"].as_object()?.clone();
                packages.remove("");
                Some(packages)
            };
            let installed = packages("node_modules/.package-lock.json")?;
            let wanted = packages("package-lock.json")?;
            (installed == wanted).then(|| format!("those of the lock file ({})", installed.len()))
        }
    }
}

fn machine() -> Machine {
    Machine {
        root: is_root(),
        apt: find_program("apt-get").is_some(),
        // The test that sd_booted(3) documents.
        systemd: Path::new("/run/systemd/system").exists(),
    }
}

fn tell(requirement: &Requirement, state: &str) {
    say(&format!(
        "{:<14} {state}; needed to {}",
        requirement.name, requirement.purpose
    ));
}

/// To stderr: stdout belongs to the command that needed something.
fn say(line: &str) {
    // A closed stderr is no reason to stop.
    writeln!(io::stderr(), "setup: {line}").ok();
}
