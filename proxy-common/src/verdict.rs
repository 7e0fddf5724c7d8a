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
    /// Dropped: the source sent more packets a second than its limit allows.
    SourcePackets = 7,
    /// Dropped: a header was cut off, or its length field contradicts the frame.
    Malformed = 8,
    /// Dropped: more than two VLAN tags, so the source address is out of reach.
    VlanTooDeep = 9,
    /// Dropped: more IPv6 extension headers than the walk follows.
    ExtensionsTooDeep = 10,
    /// Passed: the source is listed, but the scope is new inbound connections only, and this is a
    /// TCP segment that opens none.
    Established = 11,
    /// Dropped: the source sent more bytes a second than its limit allows.
    SourceBytes = 12,
    /// Dropped: the source opened more TCP connections a second than its limit allows.
    SourceSyn = 13,
    /// Dropped: the source sent more UDP datagrams a second than its limit allows.
    SourceUdp = 14,
    /// Dropped: the source sent more ICMP messages a second than its limit allows.
    SourceIcmp = 15,
    /// Dropped: the source's aggregate (IPv4 /24, IPv6 /56) sent more packets than its limit allows.
    AggregatePackets = 16,
    /// Dropped: the aggregate sent more bytes.
    AggregateBytes = 17,
    /// Dropped: the aggregate opened more TCP connections.
    AggregateSyn = 18,
    /// Dropped: the aggregate sent more UDP datagrams.
    AggregateUdp = 19,
    /// Dropped: the aggregate sent more ICMP messages.
    AggregateIcmp = 20,
    /// Passed: the daemon has given no sign of life for longer than `fail_open_after`, so nothing is
    /// judged until it is back.
    FailOpen = 21,
}

impl Reason {
    /// Every reason, in the order of its discriminant.
    pub const ALL: [Self; 22] = [
        Self::Clean,
        Self::Trusted,
        Self::NotIp,
        Self::NeighbourDiscovery,
        Self::PathMtu,
        Self::Blocked,
        Self::Banned,
        Self::SourcePackets,
        Self::Malformed,
        Self::VlanTooDeep,
        Self::ExtensionsTooDeep,
        Self::Established,
        Self::SourceBytes,
        Self::SourceSyn,
        Self::SourceUdp,
        Self::SourceIcmp,
        Self::AggregatePackets,
        Self::AggregateBytes,
        Self::AggregateSyn,
        Self::AggregateUdp,
        Self::AggregateIcmp,
        Self::FailOpen,
    ];

    /// Slots of the `COUNTERS` map: room for reasons to come without changing the map's shape. The
    /// second half counts what would have been dropped if its list or limit were enforced.
    pub const SLOTS: usize = 64;

    /// The slot that counts this reason.
    #[inline(always)]
    pub const fn slot(self, monitored: bool) -> u32 {
        self as u32 + if monitored { Self::SLOTS as u32 / 2 } else { 0 }
    }

    /// The reason with this discriminant, if there is one.
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }

    /// Whether a packet with this reason is dropped, where the list or limit is enforced.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        self as u32 >= Self::Blocked as u32
            && self as u32 != Self::Established as u32
            && self as u32 != Self::FailOpen as u32
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
            Self::SourcePackets => "source_packets",
            Self::Malformed => "malformed",
            Self::VlanTooDeep => "vlan_too_deep",
            Self::ExtensionsTooDeep => "extensions_too_deep",
            Self::Established => "established",
            Self::SourceBytes => "source_bytes",
            Self::SourceSyn => "source_syn",
            Self::SourceUdp => "source_udp",
            Self::SourceIcmp => "source_icmp",
            Self::AggregatePackets => "aggregate_packets",
            Self::AggregateBytes => "aggregate_bytes",
            Self::AggregateSyn => "aggregate_syn",
            Self::AggregateUdp => "aggregate_udp",
            Self::AggregateIcmp => "aggregate_icmp",
            Self::FailOpen => "fail_open",
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
        assert!(Reason::ALL.len() <= Reason::SLOTS / 2);
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
