//! What a machine holds: a static busybox, `ip`, the suites with the libraries they load, the
//! modules, and process 1.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{cpio::Archive, kernels::Kernel, modules};
use crate::{
    failure::Failure,
    run::{Invocation, find_program},
};

/// What the cloud kernels have as modules and the suites need.
const MODULES: [&str; 1] = ["veth"];

/// Where things are mounted, and where a program may expect to write.
const DIRECTORIES: [&str; 7] = ["bin", "dev", "proc", "sys", "tmp", "run", "root"];

/// Makes the archive that the kernel unpacks and whose `/init` it runs.
pub(super) fn pack(
    kernel: &Kernel,
    suites: &[(String, PathBuf)],
    arguments: &[String],
    limit: Duration,
) -> Result<Vec<u8>, Failure> {
    let mut archive = Archive::default();
    DIRECTORIES
        .iter()
        .for_each(|directory| archive.directory(directory));
    archive.program("init", include_bytes!("init.sh"));
    archive.program("bin/busybox", &read(&program("busybox")?)?);
    // The one of iproute2: busybox's knows neither namespaces nor XDP.
    let ip = program("ip")?;
    archive.program("usr/local/bin/ip", &read(&ip)?);
    for (name, path) in suites {
        archive.program(&format!("vm/suites/{name}"), &read(path)?);
    }
    let mut libraries = Vec::new();
    for path in suites.iter().map(|(_, path)| path).chain([&ip]) {
        libraries.extend(libraries_of(path));
    }
    libraries.sort();
    libraries.dedup();
    for library in libraries {
        archive.program(&library, &read(Path::new(&library))?);
    }
    let modules = modules::load(kernel, &MODULES)?;
    let mut order = String::new();
    for module in modules {
        archive.file(&format!("vm/modules/{}.ko", module.name), &module.image);
        order.extend([&module.name, "\n"]);
    }
    archive.file("vm/modules/order", order.as_bytes());
    let arguments: String = arguments.iter().map(|word| format!("{word}\n")).collect();
    archive.file("vm/arguments", arguments.as_bytes());
    archive.file("vm/limit_seconds", limit.as_secs().to_string().as_bytes());
    Ok(archive.finish())
}

fn program(name: &str) -> Result<PathBuf, Failure> {
    find_program(name).ok_or_else(|| Failure::new(format!("no {name} on this host")))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// The libraries a program loads, by the paths its loader knows them by. A static program has
/// none, and ldd fails on it.
fn libraries_of(program: &Path) -> Vec<String> {
    let list = Invocation::new("ldd")
        .args([program])
        // Cargo's, which would lead away from the system's.
        .without_env("LD_LIBRARY_PATH");
    list.probe().map(|list| paths(&list)).unwrap_or_default()
}

/// The first absolute path of each line of `ldd`: `name => path (address)` or
/// `path (address)`.
fn paths(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libraries_and_their_loader_from_ldd() {
        let list = "\tlinux-vdso.so.1 (0x00007efd7694c000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007efd75e1e000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007efd7694e000)\n\
                    \tstatically linked\n";
        assert_eq!(
            paths(list),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }
}
