//! The kernel suites on other kernels than this host's: Debian's cloud kernels, each in a virtual
//! machine of its own.
//!
//! ```text
//! kernels    which package, fetched and unpacked
//! modules    the modules the suites need, in the order they load
//! cpio       the archive format a kernel unpacks at boot
//! initramfs  what the machine holds: the suites, what they need, and its process 1
//! machine    QEMU, its two serial lines, and its bounds in time
//! console    what process 1 says, and what to make of it
//! ```

mod console;
mod cpio;
mod initramfs;
mod kernels;
mod machine;
mod modules;

use std::path::PathBuf;

use clap::ValueEnum as _;
use serde_json::Value;

pub(crate) use self::kernels::Series;
use self::{console::Report, kernels::Kernel};
use crate::{
    counts::Counts, ebpf, failure::Failure, requirements::Need, run::Invocation, setup, tree::Tree,
};

/// The suites that run in a machine: those that need no upstream, no client and no daemon.
const SUITES: [&str; 3] = ["kernel_link", "kernel_packets", "kernel_tables"];

/// `cargo xtask vm`: every suite on every kernel. The last line of stdout is
/// `N passed, N failed` over all.
pub(crate) fn vm(tree: &Tree, only: Option<Series>, filter: &[String]) -> Result<(), Failure> {
    setup::ensure(tree, &[Need::Host, Need::Ebpf, Need::Vm])?;
    ebpf::build_product(tree)?;
    let suites = build_suites(tree)?;
    let series = only.map_or_else(|| Series::value_variants().to_vec(), |one| vec![one]);
    let mut facts = Vec::new();
    let mut all = Counts::default();
    let mut sound = true;
    for series in series {
        let outcome = kernels::fetch(tree, series)
            .and_then(|kernel| try_kernel(tree, &kernel, &suites, filter));
        let report = match outcome {
            Ok(report) => report,
            Err(failure) => {
                eprintln!("xtask: Linux {series}: {failure}");
                facts.push(format!("Linux {series:<6} was not tried: see above"));
                sound = false;
                continue;
            }
        };
        let complaints = report.complaints();
        for complaint in &complaints {
            eprintln!("xtask: Linux {series}: {complaint}");
        }
        sound &= complaints.is_empty();
        facts.push(format!("Linux {series:<6} {report}"));
        all.add(report.counts());
    }
    for fact in facts {
        println!("{fact}");
    }
    println!("{} passed, {} failed", all.passed, all.failed);
    if sound { Ok(()) } else { Err(Failure::Printed) }
}

fn try_kernel(
    tree: &Tree,
    kernel: &Kernel,
    suites: &[(String, PathBuf)],
    filter: &[String],
) -> Result<Report, Failure> {
    let place = tree.target.join("vm").join(&kernel.release);
    let archive = initramfs::pack(kernel, suites, filter, machine::RUN_LIMIT)?;
    println!(
        "vm: Linux {} under qemu-system-x86_64, suites in an archive of {} MiB",
        kernel.release,
        archive.len() >> 20
    );
    machine::run(kernel, &archive, &place)
}

/// Builds the suites and says where each lies.
fn build_suites(tree: &Tree) -> Result<Vec<(String, PathBuf)>, Failure> {
    let named = SUITES.iter().flat_map(|name| ["--test", name]);
    let messages = Invocation::cargo()
        // The whole workspace, as `cargo xtask test` names it: nothing is compiled twice.
        .args(["test", "--locked", "--workspace", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(named)
        .dir(&tree.root)
        .capture()?;
    let suites = executables(&messages);
    match SUITES
        .iter()
        .find(|name| !suites.iter().any(|(suite, _)| suite == *name))
    {
        None => Ok(suites),
        Some(name) => Err(Failure::new(format!("cargo built no suite {name}"))),
    }
}

/// Names and paths of the suites in cargo's messages, which come a line each.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let told = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut suites: Vec<_> = told
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?;
            let path = message["executable"].as_str()?;
            SUITES
                .contains(&name)
                .then(|| (name.to_owned(), path.into()))
        })
        .collect();
    suites.sort();
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_suites_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"traffic"},"executable":"/t/traffic"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"kernel_tables"},"executable":"/t/kernel_tables-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"kernel_link"},"executable":null}"#,
            "\nno json\n",
        );
        let found = executables(messages);
        assert_eq!(
            found,
            [("kernel_tables".to_owned(), "/t/kernel_tables-1".into())]
        );
    }
}
