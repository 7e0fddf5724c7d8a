//! Where in its source each entry of a list stands.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Lines by prefix, in twelve bytes an IPv4 entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    v4: Vec<(Ipv4Net, u32)>,
    v6: Vec<(Ipv6Net, u32)>,
}

impl Lines {
    /// Of two lines with one prefix the first is kept.
    pub(crate) fn new(lines: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let mut all = Self::default();
        for (prefix, line) in lines {
            match prefix {
                IpNet::V4(prefix) => all.v4.push((prefix, line)),
                IpNet::V6(prefix) => all.v6.push((prefix, line)),
            }
        }
        all.v4.sort_unstable();
        all.v6.sort_unstable();
        all.v4.dedup_by_key(|(prefix, _)| *prefix);
        all.v6.dedup_by_key(|(prefix, _)| *prefix);
        all.v4.shrink_to_fit();
        all.v6.shrink_to_fit();
        all
    }

    /// The line of a prefix, counted from 1.
    pub(crate) fn of(&self, prefix: IpNet) -> Option<u32> {
        match prefix {
            IpNet::V4(prefix) => find(&self.v4, &prefix),
            IpNet::V6(prefix) => find(&self.v6, &prefix),
        }
    }

    /// Whether it knows no line.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

fn find<P: Ord>(lines: &[(P, u32)], prefix: &P) -> Option<u32> {
    let place = lines.binary_search_by(|(known, _)| known.cmp(prefix));
    place.ok().map(|place| lines[place].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_a_prefix_is_found() {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let lines = Lines::new([
            (net("192.0.2.9/32"), 4),
            (net("2001:db8::/32"), 3),
            (net("192.0.2.9/32"), 2),
            (net("10.0.0.0/8"), 5),
        ]);
        assert_eq!(lines.of(net("192.0.2.9/32")), Some(2));
        assert_eq!(lines.of(net("10.0.0.0/8")), Some(5));
        assert_eq!(lines.of(net("10.0.0.0/9")), None);
        assert_eq!(lines.of(net("2001:db8::/32")), Some(3));
        assert!(!lines.is_empty());
    }
}
