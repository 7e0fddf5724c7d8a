//! Reading reputation lists: one address or CIDR a line, comments, and IPsum's second column.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Shortest IPv4 and IPv6 prefix that a list may hold. A typing error of one digit must not take
/// a whole host off the network.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 16;

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrefixProblem {
    #[error("is neither an address nor a CIDR")]
    NotAPrefix,
    #[error("is too wide: at most /{SHORTEST_V4} for IPv4 and /{SHORTEST_V6} for IPv6")]
    TooWide,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) problem: String,
}

/// An address or CIDR; host bits are cleared, v4-mapped IPv6 becomes IPv4.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, PrefixProblem> {
    let text = text.trim();
    let prefix = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| PrefixProblem::NotAPrefix)
            .map(|prefix| unmapped(prefix.trunc()))?,
    };
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

/// Reads a whole list. `#` and `;` begin comments; blank lines, a byte order mark and CRLF are
/// nothing; after the address, IPsum's count of lists may follow.
///
/// # Errors
/// Every line that could not be read; the list is then of no use.
pub(crate) fn parse_list(text: &str) -> Result<Vec<IpNet>, Vec<BadLine>> {
    let mut prefixes = Vec::new();
    let mut bad = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let content = line.split(['#', ';']).next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        match parse_line(content) {
            Ok(prefix) => prefixes.push(prefix),
            Err(problem) => bad.push(BadLine {
                number: index + 1,
                text: line.chars().take(80).collect(),
                problem,
            }),
        }
    }
    if bad.is_empty() {
        Ok(prefixes)
    } else {
        Err(bad)
    }
}

fn parse_line(content: &str) -> Result<IpNet, String> {
    let mut fields = content.split_whitespace();
    let address = fields.next().unwrap_or_default();
    let count = fields.next();
    if count.is_some_and(|count| count.parse::<u32>().is_err()) || fields.next().is_some() {
        return Err("has more on it than an address and a count".to_owned());
    }
    parse_prefix(address).map_err(|problem| problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &str) -> Vec<String> {
        let prefixes = parse_list(list).expect("a good list");
        prefixes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_plain_addresses_and_cidrs_with_comments() {
        let list =
            "\u{feff}# a list\r\n192.0.2.1\r\n\r\n 198.51.100.0/24 ; a range\n2001:db8::/32#x\n";
        assert_eq!(
            texts(list),
            ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/32"]
        );
    }

    #[test]
    fn reads_ipsum() {
        assert_eq!(
            texts("# IPsum\n#\n77.90.185.20\t10\n16.5.0.132\t8\n"),
            ["77.90.185.20/32", "16.5.0.132/32"]
        );
    }

    #[test]
    fn clears_host_bits_and_unmaps() {
        assert_eq!(texts("192.0.2.77/24"), ["192.0.2.0/24"]);
        assert_eq!(texts("::ffff:192.0.2.1"), ["192.0.2.1/32"]);
    }

    #[test]
    fn a_mapped_default_route_is_too_wide() {
        assert_eq!(parse_prefix("::ffff:0:0/96"), Err(PrefixProblem::TooWide));
        assert_eq!(texts("::ffff:192.0.2.0/120"), ["192.0.2.0/24"]);
    }

    #[test]
    fn reports_each_bad_line_with_its_number() {
        let bad =
            parse_list("192.0.2.1\n300.1.2.3\n# fine\n1.2.3.4 and more\n10.0.0.0/33\n0.0.0.0/0\n")
                .expect_err("bad lines");
        let numbers: Vec<_> = bad.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [2, 4, 5, 6]);
        assert_eq!(bad[0].problem, "is neither an address nor a CIDR");
        assert!(bad[1].problem.contains("more on it"), "{:?}", bad[1]);
        assert!(bad[3].problem.contains("too wide"), "{:?}", bad[3]);
    }
}
