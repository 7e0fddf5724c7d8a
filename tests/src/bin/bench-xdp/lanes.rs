//! Where packets travel: a veth pair for each program, all in one network namespace of the run.

use std::fs::File;

use portcullis_tests::{
    loaded::Failure,
    netns::Namespace,
    run::{RigError, run},
    scratch::unique_name,
};
use rustix::{
    fd::AsFd as _,
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// The namespace that this process has moved into. Every lane in it goes when it is dropped.
pub(crate) struct Ground {
    home: File,
    _namespace: Namespace,
}

impl Ground {
    /// Makes the namespace and moves this thread, and all it starts from now on, into it.
    ///
    /// # Errors
    /// When either fails.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let home = File::open("/proc/self/ns/net")?;
        let namespace = Namespace::named(&unique_name())?;
        let link = File::open(format!("/run/netns/{}", namespace.name()))?;
        move_into(&link)?;
        let ground = Self {
            home,
            _namespace: namespace,
        };
        // The kernel's own multicast would be counted with the generator's packets.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What is still in the namespace when it goes is killed.
        if let Err(error) = move_into(&self.home) {
            eprintln!("bench-xdp: can't leave the namespace: {error}");
        }
    }
}

fn move_into(namespace: &File) -> std::io::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
}

/// A veth pair with NAPI at both ends and one queue.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Where the generator redirects to.
    pub(crate) out_index: u32,
    /// Where packets arrive and the program under test is attached.
    pub(crate) inner: String,
    outer: String,
}

impl Lane {
    /// The pair `<name>o`, `<name>i`. Its inner end has the address that frames are sent to, so
    /// that the network stack takes them for its own.
    ///
    /// # Errors
    /// When `ip` or `ethtool` fails.
    pub(crate) fn new(name: &str) -> Result<Self, Failure> {
        let (outer, inner) = (format!("{name}o"), format!("{name}i"));
        let ip = |words: &str| run("ip", words.split(' '));
        ip(&format!(
            "link add {outer} address 02:00:00:00:00:02 numtxqueues 1 numrxqueues 1 type veth \
             peer name {inner} address 02:00:00:00:00:01 numtxqueues 1 numrxqueues 1"
        ))?;
        for end in [&outer, &inner] {
            ip(&format!("link set {end} up"))?;
            // GRO is what makes a veth without a program of its own receive by NAPI. Only a
            // change on an interface that is up makes its peer a target of redirects
            // (`veth_set_features` in drivers/net/veth.c).
            run("ethtool", ["-K", end, "gro", "on"])?;
        }
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        Ok(Self {
            out_index: name_to_index(&any, &outer)?,
            inner,
            outer,
        })
    }

    /// Packets that found the receiver's ring full, since the pair was made.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub(crate) fn lost(&self) -> Result<u64, Failure> {
        statistic(&self.outer, "tx_queue_0_xdp_xmit_errors")
    }

    /// Packets handed to the XDP program of the inner end, since the pair was made.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub(crate) fn arrived(&self) -> Result<u64, Failure> {
        statistic(&self.inner, "rx_queue_0_xdp_packets")
    }
}

fn statistic(interface: &str, name: &str) -> Result<u64, Failure> {
    let printed = run("ethtool", ["-S", interface])?;
    printed
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .find(|(found, _)| *found == name)
        .and_then(|(_, count)| count.parse().ok())
        .ok_or_else(|| RigError(format!("ethtool -S {interface} has no {name}: {printed}")).into())
}
