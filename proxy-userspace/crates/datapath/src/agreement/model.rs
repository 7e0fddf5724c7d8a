//! Random lists, and the model: a scan of all entries.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::{Cell, Listing, Mode};

use crate::{
    claim::{Claim, ListId},
    family::Family,
    prefixes::Prefixes,
    truth::Truth,
};

const NOW_NS: u64 = 1_000;
const ENDED_NS: u64 = 500;

/// What a family needs besides to be tested.
pub(super) trait Side: Family {
    /// Bits of an address.
    const WIDTH: u8;
    /// Networks in which entries crowd, so that they nest and overlap.
    const CROWDED: [u128; 3];
    /// Shortest prefix of a list.
    const SHORTEST: u8;

    fn prefixes(truth: &Truth) -> &Prefixes<Self>;
    fn of(net: IpNet) -> Self;
}

impl Side for Ipv4Net {
    const WIDTH: u8 = 32;
    const CROWDED: [u128; 3] = [0x0a00_0000 << 96, 0x0aff_ff00 << 96, 0xc000_0200 << 96];
    const SHORTEST: u8 = 12;

    fn prefixes(truth: &Truth) -> &Prefixes<Self> {
        truth.v4()
    }

    fn of(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => net,
            IpNet::V6(net) => panic!("{net} in a plan of IPv4"),
        }
    }
}

impl Side for Ipv6Net {
    const WIDTH: u8 = 128;
    const CROWDED: [u128; 3] = [
        0x2001_0db8 << 96,
        0x2001_0db8_0000_ffff_0000_0000_0000_0000,
        0x2a02_06b8_00ff_ff00 << 64,
    ];
    const SHORTEST: u8 = 16;

    fn prefixes(truth: &Truth) -> &Prefixes<Self> {
        truth.v6()
    }

    fn of(net: IpNet) -> Self {
        match net {
            IpNet::V6(net) => net,
            IpNet::V4(net) => panic!("{net} in a plan of IPv6"),
        }
    }
}

/// Numbers that are the same on every run (Knuth's MMIX generator).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// An address with few bits set behind a crowded network, or any at all.
    pub(super) fn address<P: Side>(&mut self) -> u128 {
        if self.below(16) == 0 {
            let any = (0..5).fold(0, |bits, _| bits << 31 | self.below(1 << 31) as u128);
            return any & ones::<P>();
        }
        let network = P::CROWDED[self.below(3)];
        (0..4).fold(network, |bits, _| {
            bits ^ 1 << (127 - self.below(P::WIDTH.into()) as u32)
        })
    }

    /// A prefix, often beside or inside one that is there.
    pub(super) fn prefix<P: Side>(&mut self, known: &[Entry<P>]) -> P {
        let length = match self.below(64) {
            0 => P::SHORTEST,
            1..8 => 16 + self.below(8) as u8,
            8..16 => 24,
            _ => 25 + self.below(usize::from(P::WIDTH) - 24) as u8,
        };
        if known.is_empty() || self.below(3) == 0 {
            return P::from_bits(self.address::<P>(), P::WIDTH).resized(length);
        }
        let near = &known[self.below(known.len())];
        match self.below(3) {
            0 => P::from_bits(near.first, P::WIDTH).resized(length),
            1 => P::from_bits(near.last, P::WIDTH).resized(length),
            _ => {
                let after = near.last.wrapping_add(unit::<P>());
                P::from_bits(after, P::WIDTH).resized(near.prefix.length())
            }
        }
    }

    /// Trust is rare and for small ranges, or it would outshine all else.
    pub(super) fn claim<P: Side>(&mut self, prefix: P) -> (ListId, Claim) {
        let mode = [Mode::Enforce, Mode::Monitor][self.below(2)];
        let ends = [ENDED_NS, 2 * NOW_NS, 3 * NOW_NS];
        let until_ns = Some(ends[self.below(3)]);
        match self.below(8) {
            0 if prefix.length() > 24 => (0, Claim::Trusted),
            0..4 => {
                let until_ns = None;
                (1 + mode as ListId, Claim::Blocked { until_ns, mode })
            }
            _ => (3 + mode as ListId, Claim::Blocked { until_ns, mode }),
        }
    }
}

/// The bits that an address has, from the top.
pub(super) fn ones<P: Side>() -> u128 {
    u128::MAX << (128 - u32::from(P::WIDTH))
}

/// From one address to the next.
pub(super) fn unit<P: Side>() -> u128 {
    1 << (128 - u32::from(P::WIDTH))
}

/// One entry of the model.
#[derive(Clone)]
pub(super) struct Entry<P> {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) prefix: P,
    pub(super) list: ListId,
    pub(super) claim: Claim,
}

impl<P: Side> Entry<P> {
    pub(super) fn new(prefix: P, (list, claim): (ListId, Claim)) -> Self {
        let inside = u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
        Self {
            first: prefix.bits(),
            last: (prefix.bits() | inside) & ones::<P>(),
            prefix,
            list,
            claim,
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        (self.prefix, self.list) == (other.prefix, other.list)
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Trusted,
    Blocked,
    Banned,
    Watched,
    Unlisted,
}

/// The model.
pub(super) fn scan<P: Side>(entries: &[Entry<P>], address: u128) -> Fate {
    let mut fate = Fate::Unlisted;
    for entry in entries {
        if address < entry.first || address > entry.last {
            continue;
        }
        let claimed = match entry.claim {
            Claim::Trusted => return Fate::Trusted,
            Claim::Blocked {
                until_ns: Some(..=NOW_NS),
                ..
            } => continue,
            Claim::Blocked {
                mode: Mode::Monitor,
                ..
            } => Fate::Watched,
            Claim::Blocked { until_ns: None, .. } => Fate::Blocked,
            Claim::Blocked { .. } => Fate::Banned,
        };
        fate = match (fate, claimed) {
            (Fate::Blocked, _) | (_, Fate::Blocked) => Fate::Blocked,
            (Fate::Banned, _) | (_, Fate::Banned) => Fate::Banned,
            _ => Fate::Watched,
        };
    }
    fate
}

pub(super) fn fate(cell: Cell) -> Fate {
    match cell.listing(|| NOW_NS) {
        Listing::Unlisted => Fate::Unlisted,
        Listing::Trusted => Fate::Trusted,
        Listing::Blocked => Fate::Blocked,
        Listing::Banned => Fate::Banned,
        Listing::MonitoredBlock | Listing::MonitoredBan => Fate::Watched,
    }
}

pub(super) fn random_entries<P: Side>(numbers: &mut Numbers, count: usize) -> Vec<Entry<P>> {
    let mut entries: Vec<Entry<P>> = Vec::new();
    while entries.len() < count {
        let prefix = numbers.prefix(&entries);
        let entry = Entry::new(prefix, numbers.claim(prefix));
        if !entries.iter().any(|known| known.is(&entry)) {
            entries.push(entry);
        }
    }
    entries
}

pub(super) fn truth_of<P: Side>(entries: &[Entry<P>]) -> Truth {
    let mut truth = Truth::default();
    for entry in entries {
        truth.set(entry.prefix.into(), entry.list, Some(entry.claim));
    }
    truth
}
