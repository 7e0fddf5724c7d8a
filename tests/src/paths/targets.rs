//! Request targets in every spelling that is let in, and in many that aren't.

use super::Http;
use crate::numbers::Numbers;

/// Let in on any route.
const STRICT: &[&[u8]] = &[
    b"a",
    b"Z",
    b"7",
    b"-",
    b"~",
    b"a.b",
    b"%61",
    b"%7e",
    b"%7E",
    b"%2e%2Ex",
    b"/b",
    b"/c.d",
    b"%20",
    b"%c3%bc",
    b"%E2%82%AC",
    b"%f0%9f%a6%80",
    b"!$&'()*+,=:@",
    b"%3A",
    b"%40",
    b"%2c",
    b"%23",
    b"%3f",
    b"%25-",
    b"%22%3c%7C",
];

/// Let in besides, where all rules are relaxed.
const RELAXED: &[&[u8]] = &[
    b"%2f", b"%2F", b"%5c", b"%5Cd", b";x=1", b"%3b", b"/", b"//", b"/c;d", b"%2541", b"%252f",
    b"%253bq", b"%25253A",
];

/// Refused nearly everywhere, and by a library before anybody else in places.
const HOSTILE: &[&[u8]] = &[
    b"/../",
    b"/./",
    b"/..",
    b"/%2e%2e/",
    b"/.%2E",
    b"/..;/",
    b"%2f..%2f",
    b"/..%5c",
    b"/%252e%252e/",
    b"%00",
    b"%0d%0aX:1",
    b"%7f",
    b"%c0%ae",
    b"%c0%af..",
    b"%e0%80%af",
    b"%ed%a0%80",
    b"%ff",
    b"%",
    b"%4",
    b"%zz",
    b"%u002f",
    b"%2525252541",
    b"\\",
    b"/..\\",
    b"#f",
    b"/#/../",
    b"\0",
    b"\x01",
    b"\x7f",
    b" ",
    b"\t",
    b"\n",
    b"\r",
    b"\r\nX: 1",
    b"\xc3\xbc",
    b"\xe2\x82\xac",
    b"\xff",
    b"\xc0\xaf",
    b"|",
    b"\"<>^`{}",
    b"[]",
];

const QUERIES: &[&[u8]] = &[
    b"?q=%2e%2e//;%zz&r",
    b"?",
    b"??",
    b"?a=/../b?c",
    b"?%00%ff",
    b"?\\|{}^`\"<>",
    b"?a=1#f",
    b"?\xc3\xbc",
    b"? ",
];

/// How many of [`QUERIES`] are let in.
const GOOD_QUERIES: usize = 5;

/// Beginnings of targets on the relaxed route, on the strict one, and on neither.
const ON_RELAXED: &[&[u8]] = &[b"/public/", b"/%70ublic/", b"/publi%63/x"];
const ON_STRICT: &[&[u8]] = &[b"/strict/", b"/%73tric%74/"];
const ELSEWHERE: &[&[u8]] = &[
    b"/public",
    b"/orders/",
    b"/Public/",
    b"/",
    b"//public/",
    b"/%2fpublic/",
    b"public/",
    b"*",
    b"",
    b"/public%2f..%2forders/",
    b"http:/public/",
];

/// Before a target in absolute form, which HTTP/2 doesn't have (RFC 9113, 8.3.1).
const ABSOLUTE: &[&[u8]] = &[b"https://api.example", b"HTTP://API.example.:8443"];

/// Longest run of one letter, which makes a path longer than the proxy takes.
const LONGEST: u64 = 9_000;

/// The same targets for the same seed, protocol and client.
pub(super) struct Targets {
    numbers: Numbers,
    http: Http,
}

impl Targets {
    pub(super) fn new(seed: u64, http: Http, client: u64) -> Self {
        // Steps of the golden ratio lie far from each other, and none makes it zero for long.
        let step = 2 * client + u64::from(http == Http::Two) + 1;
        let state = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            numbers: Numbers::new(state),
            http,
        }
    }

    pub(super) fn next(&mut self) -> Vec<u8> {
        let mut target = Vec::new();
        if self.http == Http::One && self.one_in(20) {
            target.extend(self.one_of(ABSOLUTE));
        }
        let is_strict = self.one_in(3);
        let begin = match (self.one_in(30), is_strict) {
            (true, _) => ELSEWHERE,
            (false, true) => ON_STRICT,
            (false, false) => ON_RELAXED,
        };
        target.extend(self.one_of(begin));
        let parts = self.numbers.below(10);
        let hostile = self.one_in(15).then(|| self.numbers.below(parts + 1));
        for at in 0..=parts {
            if hostile == Some(at) {
                target.extend(self.one_of(HOSTILE));
            } else if at < parts {
                let rest = if is_strict { 0 } else { RELAXED.len() };
                let part = self.numbers.index(STRICT.len() + rest);
                let part = STRICT.iter().chain(RELAXED).nth(part);
                target.extend(part.into_iter().copied().flatten());
            }
        }
        if self.one_in(500) {
            let run = self.numbers.below(LONGEST);
            target.extend((0..run).map(|_| b'l'));
        }
        if self.one_in(3) {
            let queries = match self.one_in(20) {
                true => QUERIES,
                false => &QUERIES[..GOOD_QUERIES],
            };
            target.extend(self.one_of(queries));
        }
        target
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.numbers.below(many) == 0
    }

    fn one_of(&mut self, all: &'static [&'static [u8]]) -> &'static [u8] {
        all[self.numbers.index(all.len())]
    }
}
