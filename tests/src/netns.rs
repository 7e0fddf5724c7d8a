//! Two hosts on one machine: network namespaces with a veth pair between them.

use std::{fs::File, os::fd::AsFd as _, path::PathBuf, process::Command, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    run::{RigError, Rigged, run},
    scratch::unique_name,
};

/// A network namespace; everything in it goes when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A namespace with its loopback up.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new() -> Rigged<Self> {
        Self::named(&unique_name())
    }

    /// A namespace of this name.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn named(name: &str) -> Rigged<Self> {
        run("ip", ["netns", "add", name])?;
        let namespace = Self {
            name: name.to_owned(),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs in it. `ip netns exec` would remount /sys and so hide the BPF
    /// filesystem; this enters the network namespace and nothing else.
    pub fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg("--")
            .arg(program.into());
        command
    }

    /// Does some work on a thread in it: a socket made there stays there.
    ///
    /// # Errors
    /// When the namespace can't be entered, or the work panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Rigged<T> {
        let door = File::open(format!("/run/netns/{}", self.name))?;
        let enter = || move_into_link_name_space(door.as_fd(), Some(LinkNameSpaceType::Network));
        // A thread of its own: the caller's stays where it is.
        let done = thread::scope(|scope| {
            let inside = scope.spawn(|| enter().map(|()| work()));
            inside.join()
        });
        let done = done.map_err(|_| RigError(format!("the work in {} panicked", self.name)))?;
        done.map_err(|error| RigError(format!("entering {}: {error}", self.name)))
    }

    /// Runs `ip` in it, the words split at blanks.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, words: &str) -> Rigged<String> {
        run("ip", ["-n", &self.name].into_iter().chain(words.split(' ')))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove_namespace(&self.name);
    }
}

/// Ends what runs in a namespace of ours and removes it.
pub fn remove_namespace(name: &str) {
    for pid in run("ip", ["netns", "pids", name])
        .unwrap_or_default()
        .split_whitespace()
    {
        let _ = run("kill", ["-KILL", pid]);
    }
    if let Err(error) = run("ip", ["netns", "delete", name]) {
        eprintln!("namespace {name} is left behind: {error}");
    }
}

/// A guarded host, `edge`, and the network it faces, `outside`, on one wire.
#[derive(Debug)]
pub struct Wire {
    /// The guarded host.
    pub edge: Namespace,
    /// Everybody else.
    pub outside: Namespace,
    /// Name of the interface in `edge`.
    pub interface: &'static str,
    /// Name of the interface in `outside`.
    pub outside_interface: &'static str,
}

/// The guarded host's address.
pub const EDGE: &str = "203.0.113.1";
/// A client's address.
pub const ALICE: &str = "203.0.113.10";
/// Another client's address.
pub const BOB: &str = "203.0.113.20";

impl Wire {
    /// Both hosts, with [`EDGE`], [`ALICE`] and [`BOB`] configured. Any other source that
    /// `outside` gets by [`Self::add_client`] is answered over the same wire.
    ///
    /// # Errors
    /// When a namespace or interface can't be made.
    pub fn new(prefix: &str) -> Rigged<Self> {
        let wire = Self {
            edge: Namespace::named(&format!("{prefix}-edge"))?,
            outside: Namespace::named(&format!("{prefix}-out"))?,
            interface: "edge0",
            outside_interface: "out0",
        };
        run(
            "ip",
            [
                "-n",
                wire.edge.name(),
                "link",
                "add",
                wire.interface,
                "type",
                "veth",
                "peer",
                "name",
                wire.outside_interface,
                "netns",
                wire.outside.name(),
            ],
        )?;
        // Duplicate address detection would hold IPv6 back for seconds.
        for (host, interface, address) in [
            (&wire.edge, wire.interface, EDGE),
            (&wire.outside, wire.outside_interface, ALICE),
        ] {
            host.ip(&format!("addr add {address}/24 dev {interface}"))?;
            host.ip(&format!("link set {interface} up"))?;
        }
        wire.add_client(BOB)?;
        wire.edge
            .ip(&format!("route add default dev {}", wire.interface))?;
        Ok(wire)
    }

    /// Gives `outside` one more address to send from.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn add_client(&self, address: &str) -> Rigged<()> {
        let interface = self.outside_interface;
        self.outside
            .ip(&format!("addr add {address}/32 dev {interface}"))?;
        Ok(())
    }
}
