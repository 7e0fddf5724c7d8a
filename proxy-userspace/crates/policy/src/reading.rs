//! Rules of strict reading that a route may relax, and what a path says to those who read it otherwise.
//!
//! Artefact stores name packages with `%2F`, wikis repeat slashes, matrix parameters are in use. A route
//! may let one of these in by name. The path is passed on as it is then, so whoever stands behind it may
//! still read it otherwise; therefore each such reading has to lead to the same route.

use crate::path::{PathFault, RequestPath, decoded_whole};

/// One rule that a route may relax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relaxation {
    /// `%25` before two hexadecimal digits: decoding once leaves something that decodes again.
    DoubleEncoding,
    /// `%2F`, which some take for a slash.
    EncodedSlash,
    /// `%5C`, which some take for a backslash, and that for a slash.
    EncodedBackslash,
    /// `;` and what follows in its segment, which some cut off.
    PathParameters,
    /// `//`, which some take for one slash.
    EmptySegments,
}

impl Relaxation {
    /// All, in the order in which a reader would apply them.
    pub const ALL: [Self; 5] = [
        Self::DoubleEncoding,
        Self::EncodedSlash,
        Self::EncodedBackslash,
        Self::PathParameters,
        Self::EmptySegments,
    ];

    /// What a path is refused for where it isn't allowed.
    pub fn fault(self) -> PathFault {
        match self {
            Self::DoubleEncoding => PathFault::DoubleEncoding,
            Self::EncodedSlash => PathFault::EncodedSlash,
            Self::EncodedBackslash => PathFault::Backslash,
            Self::PathParameters => PathFault::Parameter,
            Self::EmptySegments => PathFault::EmptySegment,
        }
    }

    /// A path as those read it who take this for something else.
    fn read(self, path: &str) -> String {
        match self {
            Self::DoubleEncoding => decoded_whole(path),
            Self::EncodedSlash => path.replace("%2F", "/"),
            Self::EncodedBackslash => path.replace("%5C", "/"),
            Self::PathParameters => {
                let plain = path.replace("%3B", ";");
                let cut = |segment: &'_ str| {
                    let end = segment.find(';').unwrap_or(segment.len());
                    segment[..end].to_owned()
                };
                plain.split('/').map(cut).collect::<Vec<_>>().join("/")
            }
            Self::EmptySegments => {
                let mut merged = String::with_capacity(path.len());
                for character in path.chars() {
                    if character != '/' || !merged.ends_with('/') {
                        merged.push(character);
                    }
                }
                merged
            }
        }
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Relaxations(u8);

impl Relaxations {
    fn bit(of: Relaxation) -> u8 {
        1 << of as u8
    }

    /// Whether this is among them.
    pub fn contains(self, one: Relaxation) -> bool {
        self.0 & Self::bit(one) != 0
    }

    pub(crate) fn insert(&mut self, one: Relaxation) {
        self.0 |= Self::bit(one);
    }

    /// The first of them that isn't among others.
    pub fn first_beyond(self, others: Self) -> Option<Relaxation> {
        let beyond = |one: &Relaxation| self.contains(*one) && !others.contains(*one);
        Relaxation::ALL.into_iter().find(beyond)
    }
}

impl FromIterator<Relaxation> for Relaxations {
    fn from_iter<I: IntoIterator<Item = Relaxation>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), |mut set, one| {
            set.insert(one);
            set
        })
    }
}

impl RequestPath {
    /// What the path says to those who read one or several of its parts otherwise; at most 31 readings,
    /// none of a path that is strict.
    pub(crate) fn other_readings(&self) -> impl Iterator<Item = String> {
        let needs = self.needs();
        (1..1_u8 << Relaxation::ALL.len())
            .map(Relaxations)
            .filter(move |some| some.first_beyond(needs).is_none())
            .map(|some| {
                let chosen = Relaxation::ALL.into_iter();
                let chosen = chosen.filter(|one| some.contains(*one));
                chosen.fold(self.as_str().to_owned(), |path, one| one.read(&path))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(path: &str) -> Vec<String> {
        let path = RequestPath::read(path).expect("a path");
        path.other_readings().collect()
    }

    #[test]
    fn a_strict_path_has_no_other_reading() {
        assert_eq!(readings("/a/b%20c/"), [""; 0]);
    }

    #[test]
    fn each_thing_that_some_read_otherwise_has_a_reading_of_its_own() {
        assert_eq!(readings("/a%2Fb"), ["/a/b"]);
        assert_eq!(readings("/a%5cb"), ["/a/b"]);
        assert_eq!(readings("/a;x=1/b;y"), ["/a/b"]);
        assert_eq!(readings("/a%3bx/b"), ["/a/b"]);
        assert_eq!(readings("/a///b//"), ["/a/b/"]);
        assert_eq!(readings("/a%2541%25252Fb"), ["/aA/b"]);
    }

    #[test]
    fn several_such_things_are_read_in_every_combination() {
        assert_eq!(readings("/a%2F/b"), ["/a//b", "/a%2F/b", "/a/b"]);
        assert_eq!(readings("/a;x%2Fb"), ["/a;x/b", "/a", "/a/b"]);
    }

    /// Draws from a fixed sequence, so that a failure comes again.
    fn draw(state: &mut u64, below: usize) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state % below as u64) as usize
    }

    #[test]
    fn a_million_paths_are_refused_or_come_to_a_form_that_is_its_own() {
        const PARTS: [&str; 24] = [
            "/", "a", "A", ".", "..", "%", "%2", "%2f", "%2E", "%5c", "\\", ";", "%3B", "%25",
            "25", "2f", "%61", "%c3%bc", "%c0%af", "%00", "~", "?", "\u{fc}", "5c",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut accepted = 0;
        for _ in 0..1_000_000 {
            let mut path = String::from("/");
            for _ in 0..draw(&mut state, 8) {
                path.push_str(PARTS[draw(&mut state, PARTS.len())]);
            }
            let Ok(once) = RequestPath::read(&path) else {
                continue;
            };
            accepted += 1;
            assert_eq!(
                RequestPath::read(once.as_str()).as_ref(),
                Ok(&once),
                "{path}"
            );
            // Nobody gets out of where it leads, however he reads it.
            for reading in once.other_readings() {
                let climbs = reading.split('/').any(|segment| segment == "..");
                assert!(!climbs, "{path} read as {reading}");
            }
        }
        assert!(accepted > 100_000, "{accepted}");
    }
}
