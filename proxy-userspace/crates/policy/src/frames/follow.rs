//! Where each frame of one direction ends (RFC 9113, 4.1).

/// Bytes of a frame's header.
const HEADER: usize = 9;

/// Most bytes of a payload that are kept: 42 settings. Nobody sends more than a dozen.
pub(super) const KEPT: usize = 256;

/// A frame's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    fn read(bytes: &[u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            // The first bit is reserved (RFC 9113, 4.1).
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Follows one direction. A payload is kept only where it is short and `keeps` asks for it.
#[derive(Debug)]
pub(super) struct Frames {
    keeps: fn(&Head) -> bool,
    head: Head,
    /// Bytes of the payload that are still to come.
    left: u32,
    kept: Vec<u8>,
}

/// What came next.
pub(super) enum Step {
    /// A frame begins.
    Begins(Head),
    /// One that is kept is whole: see [`Frames::kept`].
    Whole(Head),
    /// Nothing to look at.
    Passed,
}

impl Frames {
    pub(super) fn new(keeps: fn(&Head) -> bool) -> Self {
        Self {
            keeps,
            head: Head::default(),
            left: 0,
            kept: Vec::new(),
        }
    }

    /// One step into `bytes`: how many of them it takes, and what they are. `None` when there is only
    /// part of a header, which has to be shown again with the rest.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Option<(usize, Step)> {
        if self.left > 0 {
            let here = bytes
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if here == 0 {
                return None;
            }
            self.left -= here as u32;
            if !self.is_kept() {
                return Some((here, Step::Passed));
            }
            self.kept.extend_from_slice(&bytes[..here]);
            let step = match self.left {
                0 => Step::Whole(self.head),
                _ => Step::Passed,
            };
            return Some((here, step));
        }
        let header = bytes.first_chunk::<HEADER>()?;
        self.head = Head::read(header);
        self.left = self.head.length;
        self.kept.clear();
        Some((HEADER, Step::Begins(self.head)))
    }

    /// The payload of a frame that is whole.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Whether bytes of a payload are still to come.
    pub(super) fn is_within(&self) -> bool {
        self.left > 0
    }

    fn is_kept(&self) -> bool {
        self.head.length as usize <= KEPT && (self.keeps)(&self.head)
    }
}

/// A number in a payload.
pub(super) fn number(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}
