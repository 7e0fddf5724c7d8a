//! The claims about one prefix, small: a million of them lie in memory, nearly all alone.

use proxy_common::Mode;

use crate::claim::{Claim, ListId, Noted};

/// One list's claim in 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// Only of timed ones.
    until_ns: u64,
    note: u32,
    list: ListId,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Trusted,
    Blocked,
    Banned,
    WatchedBlock,
    WatchedBan,
}

impl Packed {
    fn new(list: ListId, noted: Noted) -> Self {
        let (kind, until_ns) = match noted.claim {
            Claim::Trusted => (Kind::Trusted, 0),
            Claim::Blocked { until_ns, mode } => {
                let kind = match (mode, until_ns) {
                    (Mode::Enforce, None) => Kind::Blocked,
                    (Mode::Enforce, Some(_)) => Kind::Banned,
                    (Mode::Monitor, None) => Kind::WatchedBlock,
                    (Mode::Monitor, Some(_)) => Kind::WatchedBan,
                };
                (kind, until_ns.unwrap_or_default())
            }
        };
        Self {
            until_ns,
            note: noted.note,
            list,
            kind,
        }
    }

    fn noted(&self) -> Noted {
        let blocked = |mode, until_ns| Claim::Blocked { until_ns, mode };
        let claim = match self.kind {
            Kind::Trusted => Claim::Trusted,
            Kind::Blocked => blocked(Mode::Enforce, None),
            Kind::Banned => blocked(Mode::Enforce, Some(self.until_ns)),
            Kind::WatchedBlock => blocked(Mode::Monitor, None),
            Kind::WatchedBan => blocked(Mode::Monitor, Some(self.until_ns)),
        };
        Noted {
            claim,
            note: self.note,
        }
    }
}

/// At least one claim, at most one of each list.
#[derive(Clone, Debug)]
pub(crate) enum Claims {
    One(One),
    #[expect(
        clippy::box_collection,
        reason = "a Vec would make each of a million larger by half"
    )]
    Many(Box<Vec<One>>),
}

/// See [`Claims`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct One(Packed);

impl Claims {
    /// Of one list.
    pub(crate) fn new(list: ListId, noted: Noted) -> Self {
        Self::One(One(Packed::new(list, noted)))
    }

    fn as_slice(&self) -> &[One] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    /// What each list claims.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ListId, Noted)> {
        self.as_slice()
            .iter()
            .map(|One(packed)| (packed.list, packed.noted()))
    }

    /// What this list claims.
    pub(crate) fn of(&self, list: ListId) -> Option<Noted> {
        self.iter()
            .find(|(of, _)| *of == list)
            .map(|(_, noted)| noted)
    }

    /// The same with just this claim of a list, or none; `None` when no claim is left.
    pub(crate) fn with(&self, list: ListId, noted: Option<Noted>) -> Option<Self> {
        let fresh = noted.map(|noted| One(Packed::new(list, noted)));
        let others = self.as_slice().iter().filter(|one| one.0.list != list);
        let mut all: Vec<One> = others.copied().chain(fresh).collect();
        match all.len() {
            0 => None,
            1 => all.pop().map(Self::One),
            _ => Some(Self::Many(Box::new(all))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_stands_alone_takes_sixteen_bytes() {
        assert_eq!(size_of::<Claims>(), 16);
    }

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let modes = [Mode::Enforce, Mode::Monitor];
        let ends = [None, Some(0), Some(u64::MAX)];
        let blocks = modes
            .into_iter()
            .flat_map(|mode| ends.map(|until_ns| Claim::Blocked { until_ns, mode }));
        for claim in blocks.chain([Claim::Trusted]) {
            let noted = Noted {
                claim,
                note: u32::MAX,
            };
            assert_eq!(Claims::new(ListId::MAX, noted).of(ListId::MAX), Some(noted));
        }
    }

    #[test]
    fn each_list_has_one_claim_and_the_last_takes_all_with_it() {
        let banned = Noted::from(Claim::until(5));
        let one = Claims::new(1, Claim::BLOCKED.into());
        let two = one.with(2, Some(banned)).expect("claims");
        let two = two.with(1, Some(Claim::Trusted.into())).expect("claims");
        assert_eq!((two.iter().count(), two.of(2)), (2, Some(banned)));
        assert_eq!(two.of(1), Some(Claim::Trusted.into()));
        let one = two.with(1, None).expect("claims");
        assert!(one.with(7, None).is_some());
        assert!(one.with(2, None).is_none());
    }
}
