//! Building eBPF objects: which compiler, with which flags, and whether it is whole.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::Failure,
    requirements::{LLVM_MAJOR, Need},
    run::{Invocation, find_program},
    setup,
    tree::Tree,
};

/// The target, with eBPF's own name for little-endian.
const TARGET: &str = "bpfel-unknown-none";
/// The oldest rustc that compiles the kernel side (edition 2024, let chains, intrinsics).
const OLDEST_RUSTC: (u32, u32) = (1, 90);
/// Where Debian's rustc keeps a ready-made `core` for the target.
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

/// A workspace of eBPF programs, and the object that it makes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Programs {
    /// The product's, which datapath embeds.
    Product,
    /// The same, telling what each stage decides; embedded for `portcullis trace`.
    Trace,
    /// The benchmark's own, which it loads by path.
    Bench,
}

impl Programs {
    fn workspace(self, tree: &Tree) -> PathBuf {
        match self {
            Self::Product | Self::Trace => tree.ebpf(),
            Self::Bench => tree.bench_ebpf(),
        }
    }

    /// The package's only binary.
    fn binary(self) -> &'static str {
        match self {
            Self::Product | Self::Trace => "portcullis",
            Self::Bench => "bench",
        }
    }

    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Trace => &["--features", "trace"],
            Self::Product | Self::Bench => &[],
        }
    }

    /// Where the object lies once it is built; datapath's build script looks for the product's.
    fn object(self, tree: &Tree) -> PathBuf {
        let name = match self {
            Self::Product => "portcullis",
            Self::Trace => "portcullis-trace",
            Self::Bench => "bench",
        };
        tree.target.join(format!("bpf/{name}.bpf.o"))
    }
}

/// A rustc that can compile for the kernel.
#[derive(Debug)]
pub(crate) enum Compiler {
    /// Debian's rustc with its prebuilt `core`, unstable features allowed by environment.
    Debian { rustc: PathBuf, version: Version },
    /// A rustup nightly that builds `core` from its sources.
    Nightly { rustup: PathBuf, version: Version },
}

/// What `rustc -vV` says that matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    release: String,
    llvm_major: u32,
}

impl Compiler {
    /// Debian's first: it is one known release, where nightly moves from day to day and
    /// may emit bitcode newer than bpf-linker's LLVM reads.
    pub(crate) fn find() -> Result<Self, String> {
        Self::debian()
            .or_else(|debian| Self::nightly().map_err(|nightly| format!("{debian}; {nightly}")))
    }

    fn debian() -> Result<Self, String> {
        let rustc = PathBuf::from("/usr/bin/rustc");
        if !holds_libcore(Path::new(DEBIAN_CORE)) {
            return Err(format!("no core in {DEBIAN_CORE}"));
        }
        let ask = Invocation::new(&rustc)
            .args(["-vV"])
            .without_env("LD_LIBRARY_PATH");
        let version = Version::judge(&ask.probe().ok_or("/usr/bin/rustc doesn't run")?)?;
        Ok(Self::Debian { rustc, version })
    }

    fn nightly() -> Result<Self, String> {
        let rustup = find_program("rustup").ok_or("no rustup on PATH")?;
        let ask = |args: &[&str]| {
            let rustc = Invocation::new(&rustup).args(["run", "nightly", "rustc"]);
            rustc
                .args(args.iter().copied())
                .without_env("LD_LIBRARY_PATH")
                .probe()
        };
        let sysroot = ask(&["--print", "sysroot"]).ok_or("no rustup nightly")?;
        let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
        if !core.exists() {
            return Err("rustup's nightly lacks rust-src".to_owned());
        }
        let version = Version::judge(&ask(&["-vV"]).ok_or("rustup's nightly doesn't run")?)?;
        Ok(Self::Nightly { rustup, version })
    }

    /// The start of a cargo command line that uses this compiler.
    fn cargo(&self) -> Invocation {
        let cargo = match self {
            Self::Debian { rustc, .. } => Invocation::cargo()
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["build"]),
            Self::Nightly { rustup, .. } => Invocation::new(rustup)
                .args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"])
                .without_env("RUSTC")
                .without_env("RUSTUP_TOOLCHAIN"),
        };
        // Set for the userspace build, by its operator or by the cargo that runs us.
        [
            "LD_LIBRARY_PATH",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_BUILD_TARGET",
        ]
        .into_iter()
        .fold(cargo, Invocation::without_env)
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, version) = match self {
            Self::Debian { rustc, version } => (rustc.display().to_string(), version),
            Self::Nightly { version, .. } => ("rustup's nightly".to_owned(), version),
        };
        write!(
            f,
            "{whose} (rustc {}, LLVM {})",
            version.release, version.llvm_major
        )
    }
}

impl Version {
    /// Reads `rustc -vV` and refuses a compiler that can't give what bpf-linker can take.
    fn judge(text: &str) -> Result<Self, String> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let release = field("release: ")
            .ok_or("rustc names no release")?
            .to_owned();
        let mut parts = release.split(['.', '-']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            return Err(format!("rustc's release `{release}` can't be read"));
        };
        if (major, minor) < OLDEST_RUSTC {
            let (major, minor) = OLDEST_RUSTC;
            return Err(format!("rustc {release} is older than {major}.{minor}"));
        }
        let llvm = field("LLVM version: ").and_then(|v| v.split('.').next()?.parse().ok());
        let llvm_major: u32 = llvm.ok_or("rustc names no LLVM version")?;
        if llvm_major > LLVM_MAJOR {
            return Err(format!(
                "rustc {release} emits bitcode of LLVM {llvm_major}, bpf-linker reads up to {LLVM_MAJOR}"
            ));
        }
        Ok(Self {
            release,
            llvm_major,
        })
    }
}

/// Builds both objects that datapath embeds, and says where the one that normally runs is.
pub(crate) fn build_product(tree: &Tree) -> Result<PathBuf, Failure> {
    build(tree, Programs::Trace)?;
    build(tree, Programs::Product)
}

/// Builds an object, and says where it is.
pub(crate) fn build(tree: &Tree, programs: Programs) -> Result<PathBuf, Failure> {
    setup::ensure(tree, &[Need::Host, Need::Ebpf])?;
    let compiler = Compiler::find().map_err(Failure::new)?;
    let scratch = tree.target.join("bpf-build");
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // v3: 32-bit sub-registers and jumps, in every kernel since 5.1.
        "-Ctarget-cpu=v3".to_owned(),
        format!("-Clinker={}", tree.tool("bpf-linker").display()),
    ];
    compiler
        .cargo()
        .args([
            "--quiet",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .args([&scratch])
        .args(programs.features().iter().copied())
        // The separator cargo documents for it; RUSTFLAGS would split a path with a space.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .dir(&programs.workspace(tree))
        .run()?;
    let built = scratch.join(TARGET).join("release").join(programs.binary());
    let object = fs::read(&built).map_err(|e| Failure::new(format!("{}: {e}", built.display())))?;
    if !has_btf(&object) {
        return Err(Failure::with_mend(
            format!("{} has no .BTF section", built.display()),
            "the kernel refuses maps described by BTF without it; is `debug` off in its package's \
             release profile, or the linker not the one of `cargo xtask setup`?",
        ));
    }
    let place = programs.object(tree);
    put(&object, &place).map_err(|e| Failure::new(format!("{}: {e}", place.display())))?;
    Ok(place)
}

/// Replaces the file only when its bytes differ: a new date alone would rebuild datapath and
/// all above it.
fn put(object: &[u8], place: &Path) -> std::io::Result<()> {
    if fs::read(place).is_ok_and(|old| old == object) {
        return Ok(());
    }
    if let Some(dir) = place.parent() {
        fs::create_dir_all(dir)?;
    }
    let fresh = place.with_extension("new");
    fs::write(&fresh, object)?;
    fs::rename(fresh, place)
}

/// Whether an ELF file's section names hold `.BTF`. `.rel.BTF` ends alike, but there is none
/// without the other.
fn has_btf(object: &[u8]) -> bool {
    object.starts_with(b"\x7fELF") && object.windows(5).any(|window| window == b".BTF\0")
}

fn holds_libcore(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(release: &str, llvm: &str) -> Result<Version, String> {
        Version::judge(&format!(
            "rustc {release}\nrelease: {release}\nLLVM version: {llvm}\n"
        ))
    }

    #[test]
    fn takes_a_release_and_a_nightly() {
        assert_eq!(told("1.96.0", "22.1.8").unwrap().llvm_major, 22);
        assert_eq!(
            told("1.97.0-nightly", "22.1.4").unwrap().release,
            "1.97.0-nightly"
        );
    }

    #[test]
    fn refuses_a_rustc_older_than_1_90() {
        assert_eq!(
            told("1.63.0", "14.0.6").unwrap_err(),
            "rustc 1.63.0 is older than 1.90"
        );
    }

    #[test]
    fn refuses_bitcode_newer_than_the_linker_reads() {
        let why = told("1.99.0-nightly", "23.1.0").unwrap_err();
        assert!(why.contains("reads up to 22"), "{why}");
    }

    #[test]
    fn refuses_what_is_no_rustc() {
        assert!(Version::judge("hello").is_err());
    }

    #[test]
    fn sees_btf_only_in_an_elf_file_that_names_it() {
        assert!(has_btf(b"\x7fELF....\0.text\0.BTF\0.BTF.ext\0"));
        assert!(!has_btf(b"\x7fELF....\0.text\0.BTF.ext\0"));
        assert!(!has_btf(b"stub .BTF\0"));
    }

    #[test]
    fn leaves_an_equal_object_untouched() {
        let dir = std::env::temp_dir().join(format!("xtask-put-{}", std::process::id()));
        let place = dir.join("bpf/object");
        put(b"one", &place).unwrap();
        let date = fs::metadata(&place).unwrap().modified().unwrap();
        put(b"one", &place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().modified().unwrap(), date);
        put(b"two", &place).unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"two");
        fs::remove_dir_all(dir).unwrap();
    }
}
