//! The trace that a request is part of (W3C Trace Context, level 1): the client's, where it names one well, or
//! one that begins here.

use audit::DecisionId;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of the field in version 00, and of what later versions begin with.
const LENGTH: usize = 55;
/// Flags that are passed on: sampled, and that the trace's id is random (level 2).
const KNOWN_FLAGS: u8 = 0x03;
const SAMPLED: u8 = 0x01;

/// Where a request is in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) trace: u128,
    /// What the proxy does for it.
    pub(crate) span: u64,
    flags: u8,
    /// The client named it.
    continued: bool,
}

impl Trace {
    /// Tells the upstream, in place of whatever the client said.
    pub(crate) fn introduce(self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.field());
        if !self.continued {
            headers.remove(TRACESTATE);
        }
    }

    fn field(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write(&mut text[3..35], self.trace);
        write(&mut text[36..52], self.span.into());
        write(&mut text[53..], self.flags.into());
        // Digits, letters and dashes always are one.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// Gives requests their place in a trace.
#[derive(Debug)]
pub(crate) struct Traces {
    /// Kept from others, so that nobody else's ids are met but by chance.
    seeds: [u64; 3],
    /// Of traces that begin here.
    flags: u8,
}

impl Traces {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            seeds: [getrandom::u64()?, getrandom::u64()?, getrandom::u64()?],
            flags: 0,
        })
    }

    /// Those that begin here ask to be recorded from now on, or don't.
    pub(crate) fn sample(&mut self, sampled: bool) {
        self.flags = if sampled { SAMPLED } else { 0 };
    }

    /// That of a request. One that is named in any other way than the standard's, or twice, is none.
    pub(crate) fn of(&self, id: DecisionId, headers: &HeaderMap) -> Trace {
        // The half that counts.
        let number = id.0 as u64;
        let [span, high, low] = self.seeds.map(|seed| mixed(number ^ seed));
        let mut named = headers.get_all(TRACEPARENT).iter();
        let named = match (named.next(), named.next()) {
            (Some(value), None) => parse(value.as_bytes()),
            _ => None,
        };
        // An id of nothing but zeros is none.
        let span = span.max(1);
        match named {
            Some((trace, flags)) => Trace {
                trace,
                span,
                flags: flags & KNOWN_FLAGS,
                continued: true,
            },
            None => Trace {
                trace: u128::from(high) << 64 | u128::from(low.max(1)),
                span,
                flags: self.flags,
                continued: false,
            },
        }
    }
}

/// The trace's id and flags.
fn parse(text: &[u8]) -> Option<(u128, u8)> {
    let (known, further) = text.split_at_checked(LENGTH)?;
    if [known[2], known[35], known[52]] != [b'-'; 3] {
        return None;
    }
    match (read(&known[..2])?, further.first()) {
        (0xff, _) => return None,
        // A later version may say more behind another dash.
        (0, None) | (1.., None | Some(b'-')) => {}
        _ => return None,
    }
    let trace = read(&known[3..35]).filter(|trace| *trace != 0)?;
    read(&known[36..52]).filter(|parent| *parent != 0)?;
    Some((trace, u8::try_from(read(&known[53..])?).ok()?))
}

/// A number in hexadecimal, in lower case.
fn read(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn write(digits: &mut [u8], mut number: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// Spreads a number over all bits, each to another one (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision_ids::DecisionIds;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(named: &[&str]) -> (Trace, String) {
        let mut headers = HeaderMap::new();
        for value in named {
            headers.append(TRACEPARENT, value.parse().expect("a value"));
        }
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        let traces = Traces::new().expect("randomness");
        let ids = DecisionIds::new().expect("randomness");
        let trace = traces.of(ids.draw(), &headers);
        trace.introduce(&mut headers);
        assert_eq!(headers.contains_key(TRACESTATE), trace.continued);
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        let field = headers[TRACEPARENT].to_str().expect("text").to_owned();
        assert_eq!(parse(field.as_bytes()), Some((trace.trace, trace.flags)));
        (trace, field)
    }

    #[test]
    fn one_that_is_named_well_goes_on_under_a_span_of_ours() {
        let (trace, field) = of(&[GOOD]);
        assert!(trace.continued);
        assert_eq!(field[..36], GOOD[..36]);
        assert_ne!(field[36..52], GOOD[36..52]);
        assert_eq!(field[52..], GOOD[52..]);
    }

    #[test]
    fn flags_that_nobody_knows_are_not_passed_on() {
        let (_, field) = of(&[&GOOD.replace("-01", "-ff")]);
        assert!(field.ends_with("-03"), "{field}");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [
            GOOD.replacen("00", "01", 1),
            GOOD.replacen("00", "cc", 1) + "-more",
        ] {
            let (trace, field) = of(&[&later]);
            assert!(trace.continued, "{later}");
            assert_eq!(field[..36], GOOD[..36]);
        }
        for none in [
            GOOD.replacen("00", "ff", 1),
            GOOD.replacen("00", "01", 1) + ".more",
        ] {
            assert!(!of(&[&none]).0.continued, "{none}");
        }
    }

    #[test]
    fn what_is_not_exactly_one_begins_another_trace() {
        let zeros = |range: std::ops::Range<usize>| {
            let mut text = GOOD.to_owned();
            text.replace_range(range.clone(), &"0".repeat(range.len()));
            text
        };
        for bad in [
            vec![],
            vec![GOOD, GOOD],
            vec![""],
            vec![&GOOD[..54]],
            vec![&format!("{GOOD}-")],
            vec![&format!("{GOOD}0")],
            vec![&GOOD.to_uppercase()],
            vec![&GOOD.replace('-', "_")],
            vec![&zeros(3..35)],
            vec![&zeros(36..52)],
            vec![&GOOD.replace('f', "g")],
            vec![&GOOD.replacen("00", "0x", 1)],
            vec![&format!("{GOOD}, {GOOD}")],
        ] {
            let (trace, field) = of(&bad);
            assert!(!trace.continued, "{bad:?}");
            assert!(field.ends_with("-00"), "{field}");
        }
    }

    #[test]
    fn no_two_requests_have_a_span_in_common() {
        let mut traces = Traces::new().expect("randomness");
        traces.sample(true);
        let ids = DecisionIds::new().expect("randomness");
        let none = HeaderMap::new();
        let all: Vec<Trace> = (0..1_000).map(|_| traces.of(ids.draw(), &none)).collect();
        let spans: std::collections::BTreeSet<u64> = all.iter().map(|it| it.span).collect();
        let begun: std::collections::BTreeSet<u128> = all.iter().map(|it| it.trace).collect();
        assert_eq!((spans.len(), begun.len()), (1_000, 1_000));
        assert!(all.iter().all(|it| it.flags == SAMPLED));
    }
}
