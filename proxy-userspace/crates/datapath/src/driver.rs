//! What an interface's driver can't do, found before a program is attached, with the command that
//! mends it.
#![expect(unsafe_code, reason = "no crate wraps the ethtool ioctl")]

use std::{fmt, io, os::fd::AsRawFd as _, thread};

use rustix::net::{AddressFamily, SocketType, socket};

/// `SIOCETHTOOL` and `SIOCGIFMTU` of linux/sockios.h.
const SIOCETHTOOL: u64 = 0x8946;
const SIOCGIFMTU: u64 = 0x8921;
/// Commands and flags of linux/ethtool.h.
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// Largest MTU that fits a page beside the room that XDP keeps before a packet and `skb_shared_info`
/// behind it, with two VLAN tags: what drivers take without multi-buffer XDP (`ENA_XDP_MAX_MTU` in
/// drivers/net/ethernet/amazon/ena/ena_netdev.h, and alike).
const LARGEST_ONE_PAGE_MTU: u32 = 3_498;

/// What matters of an interface, gathered once so that it can be judged in tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Driver {
    /// Name, such as `virtio_net`; empty where there is no driver to ask.
    pub(crate) name: String,
    /// Packets are merged before the host sees them.
    pub(crate) lro: bool,
    pub(crate) mtu: u32,
    pub(crate) channels: Option<Channels>,
}

/// Queues (`struct ethtool_channels`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) combined: u32,
    pub(crate) most_combined: u32,
    /// Those that only receive, where a driver tells them apart, as veth does.
    pub(crate) receive: u32,
    pub(crate) most_receive: u32,
}

/// What is in the way of XDP in the driver, and the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is.
    pub problem: String,
    /// A command.
    pub mend: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.problem, self.mend)
    }
}

impl Driver {
    /// Asks the interface; what it doesn't answer stays at its default.
    pub(crate) fn observe(interface: &str) -> Self {
        let mut driver = Self::default();
        // Version 1 of the struct: 196 bytes, of which the name begins at 4.
        let mut info = [0_u8; 196];
        if ethtool(interface, ETHTOOL_GDRVINFO, &mut info).is_ok() {
            let name = info[4..36].split(|byte| *byte == 0).next();
            driver.name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        }
        let mut flags = [0_u8; 8];
        if ethtool(interface, ETHTOOL_GFLAGS, &mut flags).is_ok() {
            driver.lro = word(&flags, 1) & ETH_FLAG_LRO != 0;
        }
        let mut channels = [0_u8; 36];
        if ethtool(interface, ETHTOOL_GCHANNELS, &mut channels).is_ok() {
            driver.channels = Some(Channels {
                most_receive: word(&channels, 1),
                most_combined: word(&channels, 4),
                receive: word(&channels, 5),
                combined: word(&channels, 8),
            });
        }
        driver.mtu = mtu(interface).unwrap_or_default();
        driver
    }

    /// What keeps this driver from running XDP, or from running it well, whatever the program.
    pub(crate) fn obstacles(&self, interface: &str) -> Vec<Obstacle> {
        let mut found = Vec::new();
        if self.lro {
            found.push(Obstacle {
                problem: "large receive offload is on, and drivers refuse XDP with it".to_owned(),
                mend: format!("ethtool -K {interface} lro off"),
            });
        }
        // `ena_xdp_allowed` and `gve_set_xdp` refuse XDP when more than half of the queues are taken:
        // each receiving queue needs one to send with.
        if let Some(channels) = self.channels
            && ["ena", "gve"].contains(&self.name.as_str())
            && channels.combined > channels.most_combined / 2
        {
            let half = (channels.most_combined / 2).max(1);
            found.push(Obstacle {
                problem: format!(
                    "{} of {} queues are in use, and {} takes XDP with half of them at most",
                    channels.combined, channels.most_combined, self.name
                ),
                mend: format!("ethtool -L {interface} combined {half}"),
            });
        }
        found
    }

    /// What may have kept it from running this program, after it refused.
    pub(crate) fn suspects(&self, interface: &str) -> Vec<Obstacle> {
        let mut found = self.obstacles(interface);
        if self.mtu > LARGEST_ONE_PAGE_MTU {
            found.push(Obstacle {
                problem: format!(
                    "its MTU is {}, which needs a driver with multi-buffer XDP",
                    self.mtu
                ),
                mend: format!("ip link set dev {interface} mtu {LARGEST_ONE_PAGE_MTU}"),
            });
        }
        found
    }

    /// One queue for many cores: all packets are judged on one of them.
    pub(crate) fn bottleneck(&self, interface: &str) -> Option<Obstacle> {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        self.bottleneck_of(interface, cores)
    }

    fn bottleneck_of(&self, interface: &str, cores: u32) -> Option<Obstacle> {
        let channels = self.channels?;
        let (kind, most) = match channels.most_combined {
            0 => ("rx", channels.most_receive),
            most => ("combined", most),
        };
        let wanted = cores.min(most);
        (channels.combined + channels.receive == 1 && wanted > 1).then(|| Obstacle {
            problem: format!("one queue feeds {cores} cores, so one core judges all packets"),
            mend: format!("ethtool -L {interface} {kind} {wanted}"),
        })
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let word = bytes.get(4 * index..).and_then(|bytes| bytes.first_chunk());
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

/// `struct ifreq` with a pointer or number in its union.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: u64,
    rest: [u64; 2],
}

impl Request {
    fn new(interface: &str, value: u64) -> io::Result<Self> {
        let mut name = [0; 16];
        let bytes = interface.as_bytes();
        let place = name.get_mut(..bytes.len()).filter(|_| bytes.len() < 16);
        place
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?
            .copy_from_slice(bytes);
        Ok(Self {
            name,
            value,
            rest: [0; 2],
        })
    }

    fn ask(&mut self, what: u64) -> io::Result<()> {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        // SAFETY: the request is a whole `struct ifreq`, which the kernel reads and writes; where
        // `value` is a pointer, its maker's buffer outlives this call.
        let answer = unsafe { libc::ioctl(socket.as_raw_fd(), what as _, &raw mut *self) };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

const _: () = assert!(size_of::<Request>() == 40);

/// Asks the ethtool side of an interface; `buffer` is the command's struct, which begins with the
/// command.
fn ethtool(interface: &str, command: u32, buffer: &mut [u8]) -> io::Result<()> {
    if let Some(first) = buffer.first_chunk_mut() {
        *first = command.to_ne_bytes();
    }
    Request::new(interface, buffer.as_mut_ptr() as u64)?.ask(SIOCETHTOOL)
}

fn mtu(interface: &str) -> io::Result<u32> {
    let mut request = Request::new(interface, 0)?;
    request.ask(SIOCGIFMTU)?;
    Ok(word(&request.value.to_ne_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(found: &[Obstacle]) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_keeps_a_driver_from_xdp_is_told_with_the_command_that_mends_it() {
        let ena = Driver {
            name: "ena".to_owned(),
            lro: true,
            mtu: 9_001,
            channels: Some(Channels {
                combined: 8,
                most_combined: 8,
                ..Channels::default()
            }),
        };
        assert_eq!(
            told(&ena.suspects("eth0")),
            [
                "large receive offload is on, and drivers refuse XDP with it: `ethtool -K eth0 lro off`",
                "8 of 8 queues are in use, and ena takes XDP with half of them at most: `ethtool -L eth0 combined 4`",
                "its MTU is 9001, which needs a driver with multi-buffer XDP: `ip link set dev eth0 mtu 3498`",
            ]
        );
        assert_eq!(
            ena.obstacles("eth0").len(),
            2,
            "a large MTU is none by itself"
        );
    }

    #[test]
    fn one_queue_for_many_cores_is_told_where_there_could_be_more() {
        let queues = |combined, most_combined| Driver {
            channels: Some(Channels {
                combined,
                most_combined,
                ..Channels::default()
            }),
            ..Driver::default()
        };
        let found = queues(1, 4).bottleneck_of("eth0", 8).expect("a bottleneck");
        assert_eq!(found.mend, "ethtool -L eth0 combined 4");
        assert_eq!(queues(1, 1).bottleneck_of("eth0", 8), None);
        assert_eq!(queues(2, 4).bottleneck_of("eth0", 8), None);
        assert_eq!(queues(1, 4).bottleneck_of("eth0", 1), None);
        assert_eq!(Driver::default().bottleneck_of("eth0", 8), None);
        let apart = Driver {
            channels: Some(Channels {
                receive: 1,
                most_receive: 2,
                ..Channels::default()
            }),
            ..Driver::default()
        };
        let found = apart.bottleneck_of("veth0", 8).expect("a bottleneck");
        assert_eq!(found.mend, "ethtool -L veth0 rx 2");
    }

    #[test]
    fn the_loopback_answers_what_it_can() {
        let driver = Driver::observe("lo");
        assert_eq!((driver.lro, driver.channels), (false, None));
        assert_eq!(driver.mtu, 65_536);
        assert_eq!(Driver::observe("a name longer than any"), Driver::default());
    }
}
