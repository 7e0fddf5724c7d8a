//! The kernel modules a machine needs: found with what they depend on, unpacked, in the order
//! they load. The package comes without `modules.dep`, which depmod makes at installation.

use std::{fs, path::Path};

use super::kernels::Kernel;
use crate::{failure::Failure, run::Invocation};

/// A module, ready for `insmod`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// Its name without ending.
    pub(super) name: String,
    /// The ELF file, signature included.
    pub(super) image: Vec<u8>,
}

/// Loads what these modules need, and them, each once and after what it depends on.
pub(super) fn load(kernel: &Kernel, wanted: &[&str]) -> Result<Vec<Module>, Failure> {
    let list = kernel.modules.join("modules.order");
    let list =
        fs::read_to_string(&list).map_err(|e| Failure::new(format!("{}: {e}", list.display())))?;
    let mut modules = Vec::new();
    for name in wanted {
        add(name, &mut modules, &|name| {
            let Some(path) = path_of(&list, name) else {
                let release = &kernel.release;
                return Err(Failure::new(format!(
                    "Linux {release} has no module {name}"
                )));
            };
            read(&kernel.modules.join(path))
        })?;
    }
    Ok(modules)
}

fn add(
    name: &str,
    modules: &mut Vec<Module>,
    image: &dyn Fn(&str) -> Result<Vec<u8>, Failure>,
) -> Result<(), Failure> {
    if modules.iter().any(|module| same(&module.name, name)) {
        return Ok(());
    }
    let image_of = image;
    let image = image_of(name)?;
    for needed in depends(&image) {
        add(&needed, modules, image_of)?;
    }
    let name = name.to_owned();
    modules.push(Module { name, image });
    Ok(())
}

/// Where a module lies, from the list of all; it names them `*.ko` however they are packed.
fn path_of<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.lines().find(|path| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.strip_suffix(".ko")
            .is_some_and(|stem| same(stem, name))
    })
}

/// The kernel takes both signs for one in names of modules.
fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

/// What a module's `.modinfo` says it depends on.
fn depends(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = image.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = image[start + KEY.len()..].split(|byte| *byte == 0).next();
    String::from_utf8_lossy(value.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A module as `insmod` takes it; from 6.12 on Debian packs each with xz.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let told = |e| Failure::new(format!("{}: {e}", path.display()));
    if path.exists() {
        return fs::read(path).map_err(told);
    }
    let packed = path.with_extension("ko.xz");
    let unpack = Invocation::new("xz").args(["-dc".as_ref(), packed.as_os_str()]);
    unpack.capture_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Modules by name and what each depends on, as their images would say.
    fn order(wanted: &str, all: &[(&str, &str)]) -> Vec<String> {
        let mut modules = Vec::new();
        let image = |name: &str| {
            let found = all.iter().find(|(other, _)| same(other, name));
            let (_, depends) = found.ok_or_else(|| Failure::new(name))?;
            Ok(format!("\x7fELF\0license=GPL\0depends={depends}\0name={name}\0").into_bytes())
        };
        add(wanted, &mut modules, &image).unwrap();
        modules.into_iter().map(|module| module.name).collect()
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on_each_once() {
        let all = [("bridge", "stp,llc"), ("stp", "llc"), ("llc", "")];
        assert_eq!(order("bridge", &all), ["llc", "stp", "bridge"]);
    }

    #[test]
    fn a_module_without_dependencies_comes_alone() {
        assert_eq!(order("veth", &[("veth", "")]), ["veth"]);
    }

    #[test]
    fn a_module_is_found_by_its_whole_name_and_either_sign() {
        let list = "kernel/drivers/net/not-veth.ko\nkernel/drivers/net/veth.ko\n\
                    kernel/net/sched/sch-fq.ko\n";
        assert_eq!(path_of(list, "veth"), Some("kernel/drivers/net/veth.ko"));
        assert_eq!(path_of(list, "sch_fq"), Some("kernel/net/sched/sch-fq.ko"));
        assert_eq!(path_of(list, "fq"), None);
    }
}
