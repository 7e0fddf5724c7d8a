//! What the rate limiter counts, and how each limit is set.

use crate::{gcra::Gcra, upper::Transport, verdict::Reason};

/// A limit: who is counted together, and what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Limit {
    /// Packets of a source.
    SourcePackets = 0,
    /// Bytes of a source, from the Ethernet header on.
    SourceBytes = 1,
    /// TCP connections that a source opens.
    SourceSyn = 2,
    /// UDP datagrams of a source.
    SourceUdp = 3,
    /// ICMP messages of a source.
    SourceIcmp = 4,
    /// The same five of an aggregate of sources.
    AggregatePackets = 5,
    /// Bytes of an aggregate.
    AggregateBytes = 6,
    /// TCP connections that an aggregate opens.
    AggregateSyn = 7,
    /// UDP datagrams of an aggregate.
    AggregateUdp = 8,
    /// ICMP messages of an aggregate.
    AggregateIcmp = 9,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// Every limit, in the order of its discriminant, which is the order in which they are asked.
    pub const ALL: [Self; Self::COUNT] = [
        Self::SourcePackets,
        Self::SourceBytes,
        Self::SourceSyn,
        Self::SourceUdp,
        Self::SourceIcmp,
        Self::AggregatePackets,
        Self::AggregateBytes,
        Self::AggregateSyn,
        Self::AggregateUdp,
        Self::AggregateIcmp,
    ];

    /// The limit with this discriminant, if there is one.
    #[inline(always)]
    pub const fn from_index(index: u32) -> Option<Self> {
        Some(match index {
            0 => Self::SourcePackets,
            1 => Self::SourceBytes,
            2 => Self::SourceSyn,
            3 => Self::SourceUdp,
            4 => Self::SourceIcmp,
            5 => Self::AggregatePackets,
            6 => Self::AggregateBytes,
            7 => Self::AggregateSyn,
            8 => Self::AggregateUdp,
            9 => Self::AggregateIcmp,
            _ => return None,
        })
    }

    /// The reason of a packet over this limit.
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        match self {
            Self::SourcePackets => Reason::SourcePackets,
            Self::SourceBytes => Reason::SourceBytes,
            Self::SourceSyn => Reason::SourceSyn,
            Self::SourceUdp => Reason::SourceUdp,
            Self::SourceIcmp => Reason::SourceIcmp,
            Self::AggregatePackets => Reason::AggregatePackets,
            Self::AggregateBytes => Reason::AggregateBytes,
            Self::AggregateSyn => Reason::AggregateSyn,
            Self::AggregateUdp => Reason::AggregateUdp,
            Self::AggregateIcmp => Reason::AggregateIcmp,
        }
    }

    /// Whether sources are counted by aggregate.
    #[inline(always)]
    pub const fn is_aggregate(self) -> bool {
        self as u32 >= Self::AggregatePackets as u32
    }

    /// What a packet counts for, or `None` when it is of another kind.
    #[inline(always)]
    pub fn units(self, transport: Transport, frame_bytes: u64) -> Option<u64> {
        match self {
            Self::SourcePackets | Self::AggregatePackets => Some(1),
            Self::SourceBytes | Self::AggregateBytes => Some(frame_bytes),
            Self::SourceSyn | Self::AggregateSyn => {
                (transport == Transport::TcpOpening).then_some(1)
            }
            Self::SourceUdp | Self::AggregateUdp => (transport == Transport::Udp).then_some(1),
            Self::SourceIcmp | Self::AggregateIcmp => (transport == Transport::Icmp).then_some(1),
        }
    }

    /// The name in configuration, logs and `--json` output: that of its reason.
    pub const fn name(self) -> &'static str {
        self.reason().name()
    }
}

/// Whether what goes over a limit is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Dropped.
    #[default]
    Enforce,
    /// Counted and sampled as what would be dropped, and passed.
    Monitor,
}

/// One limit as the program reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LimitSetting {
    /// Its rate; see also `Settings::limits_on`.
    pub gcra: Gcra,
    /// 1 when it only watches.
    pub monitor: u32,
    /// Always zero; fills the struct to a multiple of eight bytes.
    pub reserved: u32,
}

impl LimitSetting {
    /// No limit.
    pub const OFF: Self = Self {
        gcra: Gcra::UNLIMITED,
        monitor: 0,
        reserved: 0,
    };

    /// A limit.
    pub const fn new(gcra: Gcra, mode: Mode) -> Self {
        Self {
            gcra,
            monitor: matches!(mode, Mode::Monitor) as u32,
            reserved: 0,
        }
    }

    /// Its mode.
    pub const fn mode(&self) -> Mode {
        if self.monitor == 0 {
            Mode::Enforce
        } else {
            Mode::Monitor
        }
    }
}

/// What the limits make of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It fits.
    Left,
    /// It doesn't fit into this limit, which only watches; it fits into those that are enforced.
    WouldLack(Limit),
    /// It doesn't fit into this limit.
    Lacks(Limit),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found_at_its_own_index_and_has_its_own_name() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
            assert_eq!(Limit::from_index(index as u32), Some(limit));
            assert_eq!(limit.is_aggregate(), limit.name().starts_with("aggregate_"));
        }
        assert_eq!(Limit::from_index(Limit::COUNT as u32), None);
        let mut names = Limit::ALL.map(Limit::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_packet_counts_only_for_limits_of_its_kind() {
        let counted = |transport| {
            Limit::ALL
                .into_iter()
                .filter_map(|limit| Some((limit.name(), limit.units(transport, 60)?)))
                .filter(|(name, _)| name.starts_with("source"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            counted(Transport::Udp),
            [
                ("source_packets", 1),
                ("source_bytes", 60),
                ("source_udp", 1)
            ]
        );
        assert_eq!(
            counted(Transport::Tcp),
            [("source_packets", 1), ("source_bytes", 60)]
        );
        assert_eq!(counted(Transport::TcpOpening)[2], ("source_syn", 1));
        assert_eq!(counted(Transport::Icmp)[2], ("source_icmp", 1));
    }
}
