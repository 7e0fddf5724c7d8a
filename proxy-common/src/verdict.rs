//! Why a packet passed or was dropped.

/// The one reason the kernel gives for what it did with a packet.
///
/// The discriminants are indices into the `COUNTERS` map and part of the ABI: a new reason goes
/// at the end, and no reason is ever renumbered or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// Passed: no list, ban or limit had anything to say about the source.
    Clean = 0,
    /// Passed: the source lies in a trusted prefix, which beats every list and limit.
    Trusted = 1,
    /// Passed: neither IPv4 nor IPv6 (ARP, LLDP, …); there is no source address to judge.
    NotIp = 2,
    /// Passed: IPv6 neighbour discovery with hop limit 255 (RFC 4861); losing it cuts the host off.
    NeighbourDiscovery = 3,
    /// Passed: an ICMP error that carries a path MTU (RFC 1191, RFC 8201); dropping it stalls flows.
    PathMtu = 4,
    /// Dropped: the source lies in a blocked prefix without an expiry.
    Blocked = 5,
    /// Dropped: the source lies in a banned prefix whose expiry has not come.
    Banned = 6,
    /// Dropped: the source sent faster than its limit allows.
    RateLimited = 7,
    /// Dropped: a header was cut off, or its length field contradicts the frame.
    Malformed = 8,
    /// Dropped: more than two VLAN tags, so the source address is out of reach.
    VlanTooDeep = 9,
    /// Dropped: more IPv6 extension headers than the walk follows.
    ExtensionsTooDeep = 10,
}

impl Reason {
    /// Every reason, in the order of its discriminant.
    pub const ALL: [Self; 11] = [
        Self::Clean,
        Self::Trusted,
        Self::NotIp,
        Self::NeighbourDiscovery,
        Self::PathMtu,
        Self::Blocked,
        Self::Banned,
        Self::RateLimited,
        Self::Malformed,
        Self::VlanTooDeep,
        Self::ExtensionsTooDeep,
    ];

    /// Slots of the `COUNTERS` map: room for reasons to come without changing the map's shape.
    pub const SLOTS: usize = 32;

    /// The reason with this discriminant, if there is one.
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }

    /// Whether a packet with this reason is dropped.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        self as u32 >= Self::Blocked as u32
    }

    /// The name in logs, metrics and `--json` output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Trusted => "trusted",
            Self::NotIp => "not_ip",
            Self::NeighbourDiscovery => "neighbour_discovery",
            Self::PathMtu => "path_mtu",
            Self::Blocked => "blocked",
            Self::Banned => "banned",
            Self::RateLimited => "rate_limited",
            Self::Malformed => "malformed",
            Self::VlanTooDeep => "vlan_too_deep",
            Self::ExtensionsTooDeep => "extensions_too_deep",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_at_its_own_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(Reason::from_index(index as u32), Some(reason));
        }
        assert_eq!(Reason::from_index(Reason::ALL.len() as u32), None);
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
