//! An address, a CIDR or a range, and how wide each may be.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

use super::read::LineProblem;

/// Shortest IPv4 and IPv6 prefix that a list may hold. A typing error of one digit must not take
/// a whole host off the network.
pub(crate) const SHORTEST_V4: u8 = 8;
pub(crate) const SHORTEST_V6: u8 = 16;

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrefixProblem {
    #[error("is neither an address nor a CIDR")]
    NotAPrefix,
    #[error("is too wide: at most /{SHORTEST_V4} for IPv4 and /{SHORTEST_V6} for IPv6")]
    TooWide,
}

/// An address or CIDR, not too wide; host bits are cleared, v4-mapped IPv6 becomes IPv4.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, PrefixProblem> {
    bounded(parse_any_prefix(text)?)
}

/// An address or CIDR, however wide, for those who are asked again before it counts.
pub(crate) fn parse_any_prefix(text: &str) -> Result<IpNet, PrefixProblem> {
    let text = text.trim();
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address.to_canonical())),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| PrefixProblem::NotAPrefix)
            .map(canonical),
    }
}

/// Without host bits; a v4-mapped one as IPv4.
pub(crate) fn canonical(prefix: IpNet) -> IpNet {
    unmapped(prefix.trunc())
}

fn bounded(prefix: IpNet) -> Result<IpNet, PrefixProblem> {
    let shortest = match prefix {
        IpNet::V4(_) => SHORTEST_V4,
        IpNet::V6(_) => SHORTEST_V6,
    };
    if prefix.prefix_len() < shortest {
        return Err(PrefixProblem::TooWide);
    }
    Ok(prefix)
}

/// `::ffff:a.b.c.d/n` is the IPv4 prefix, so that it can't be a way around the bound for IPv4.
fn unmapped(prefix: IpNet) -> IpNet {
    let IpNet::V6(v6) = prefix else {
        return prefix;
    };
    let v4 = v6
        .addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(prefix, IpNet::from)
}

/// What stands where one address or CIDR has to. A range is told apart, so that whoever has one
/// learns how to have it read.
pub(super) fn single(text: &str) -> Result<IpNet, LineProblem> {
    if ends(text).is_some() {
        return Err(LineProblem::Range);
    }
    Ok(parse_prefix(text)?)
}

/// First and last address of `a-b` or `name:a-b`, if the text has that shape.
///
/// A name may hold anything, colons and hyphens too; with IPv6 behind it, the longest text after a
/// colon that is an address counts.
pub(super) fn ends(text: &str) -> Option<(IpAddr, IpAddr)> {
    let (left, right) = text.rsplit_once('-')?;
    let last: IpAddr = right.trim().parse().ok()?;
    let left = left.trim();
    let whole = left.parse::<IpAddr>().ok();
    let fits = |first: &IpAddr| first.is_ipv4() == last.is_ipv4();
    let named = || {
        left.match_indices(':')
            .filter_map(|(colon, _)| left.get(colon + 1..)?.trim_start().parse().ok())
            .find(fits)
    };
    let first = whole.filter(fits).or_else(named).or(whole)?;
    Some((first.to_canonical(), last.to_canonical()))
}

/// The fewest CIDRs that hold every address from the first to the last and no other.
pub(super) fn span(first: IpAddr, last: IpAddr) -> Result<Vec<IpNet>, LineProblem> {
    let subnets: Vec<IpNet> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect()
        }
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
            return Err(LineProblem::RangeReversed);
        }
        _ => return Err(LineProblem::RangeOfTwoFamilies),
    };
    let bounded = subnets.into_iter().map(|subnet| bounded(unmapped(subnet)));
    Ok(bounded.collect::<Result<_, _>>()?)
}

/// An address, a CIDR or a range.
pub(super) fn single_or_span(text: &str) -> Result<Vec<IpNet>, LineProblem> {
    match ends(text) {
        Some((first, last)) => span(first, last),
        None => Ok(vec![parse_prefix(text)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spanned(text: &str) -> Vec<String> {
        let subnets = single_or_span(text).expect("a range");
        subnets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn clears_host_bits_and_unmaps() {
        for (text, prefix) in [
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(parse_prefix(text), Ok(prefix.parse().expect("a prefix")));
        }
    }

    #[test]
    fn a_mapped_default_route_is_too_wide() {
        assert_eq!(parse_prefix("::ffff:0:0/96"), Err(PrefixProblem::TooWide));
        let mapped = "::ffff:0.0.0.0-::ffff:255.255.255.255";
        let problem = LineProblem::from(PrefixProblem::TooWide);
        assert_eq!(single_or_span(mapped), Err(problem));
    }

    #[test]
    fn a_range_becomes_the_fewest_cidrs() {
        for (text, subnets) in [
            ("192.0.2.1-192.0.2.1", vec!["192.0.2.1/32"]),
            ("192.0.2.0 - 192.0.2.255", vec!["192.0.2.0/24"]),
            (
                "203.0.113.1-203.0.113.6",
                vec![
                    "203.0.113.1/32",
                    "203.0.113.2/31",
                    "203.0.113.4/31",
                    "203.0.113.6/32",
                ],
            ),
            (
                "255.255.255.254-255.255.255.255",
                vec!["255.255.255.254/31"],
            ),
            (
                "2001:db8::1-2001:db8::2",
                vec!["2001:db8::1/128", "2001:db8::2/128"],
            ),
            ("::ffff:192.0.2.0-192.0.2.3", vec!["192.0.2.0/30"]),
            (
                "A-Z, Inc. #1: \"x\":192.0.2.4-192.0.2.7",
                vec!["192.0.2.4/30"],
            ),
            ("f::192.0.2.4-192.0.2.7", vec!["192.0.2.4/30"]),
            ("six:2001:db8::-2001:db8::ffff", vec!["2001:db8::/112"]),
        ] {
            assert_eq!(spanned(text), subnets, "{text}");
        }
    }

    #[test]
    fn a_range_is_refused_with_what_is_wrong_with_it() {
        for (text, problem) in [
            ("192.0.2.9-192.0.2.1", "ends before it begins"),
            ("192.0.2.9-2001:db8::1", "goes from one family to another"),
            (
                "0.0.0.0-255.255.255.255",
                "is too wide: at most /8 for IPv4 and /16 for IPv6",
            ),
            (
                "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "is too wide: at most /8 for IPv4 and /16 for IPv6",
            ),
            ("192.0.2.1-300", "is neither an address nor a CIDR"),
            (
                "192.0.2.0/24-192.0.3.0/24",
                "is neither an address nor a CIDR",
            ),
        ] {
            let refused = single_or_span(text).expect_err("a refusal");
            assert_eq!(refused.to_string(), problem, "{text}");
        }
    }
}
