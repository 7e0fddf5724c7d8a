//! What an entry of a list may not do to a lifeline: be put there by name, or come with a whole list
//! without being cut around it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Lifeline;

/// What was cut out of an entry, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) entry: IpNet,
    pub(crate) around: Lifeline,
}

/// The first lifeline that an entry would cut.
pub(crate) fn covered<'a>(entry: &IpNet, lifelines: &'a [Lifeline]) -> Option<&'a Lifeline> {
    lifelines.iter().find(|line| overlap(entry, &line.prefix))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Entries, and what goes with them, without the lifelines in them, and what was cut out.
pub(crate) fn cut_around<T: Copy>(
    entries: Vec<(IpNet, T)>,
    lifelines: &[Lifeline],
) -> (Vec<(IpNet, T)>, Vec<Cut>) {
    let mut kept = Vec::with_capacity(entries.len());
    let mut cuts = Vec::new();
    for (entry, with) in entries {
        if covered(&entry, lifelines).is_none() {
            kept.push((entry, with));
            continue;
        }
        let mut pieces = vec![entry];
        for line in lifelines {
            if !overlap(&entry, &line.prefix) {
                continue;
            }
            cuts.push(Cut {
                entry,
                around: line.clone(),
            });
            pieces = pieces
                .into_iter()
                .flat_map(|piece| without(piece, line.prefix))
                .collect();
        }
        kept.extend(pieces.into_iter().map(|piece| (piece, with)));
    }
    (kept, cuts)
}

/// A prefix without another one: the halves that don't hold it, from the widest down.
fn without(prefix: IpNet, hole: IpNet) -> Vec<IpNet> {
    if hole.contains(&prefix) {
        return Vec::new();
    }
    if !prefix.contains(&hole) {
        return vec![prefix];
    }
    let mut kept = Vec::new();
    let mut around = prefix;
    while around != hole {
        let Ok(halves) = around.subnets_one_longer() else {
            break;
        };
        let (inside, outside): (Vec<_>, Vec<_>) =
            halves.into_iter().partition(|half| half.contains(&hole));
        kept.extend(outside);
        let Some(half) = inside.first() else { break };
        around = *half;
    }
    kept
}

/// `subnets` of a prefix one bit longer, over both families.
trait Halves: Sized {
    fn subnets_one_longer(&self) -> Result<Vec<Self>, ipnet::PrefixLenError>;
}

impl Halves for IpNet {
    fn subnets_one_longer(&self) -> Result<Vec<Self>, ipnet::PrefixLenError> {
        let length = self.prefix_len() + 1;
        Ok(match self {
            Self::V4(net) => Ipv4Net::subnets(net, length)?.map(Self::from).collect(),
            Self::V6(net) => Ipv6Net::subnets(net, length)?.map(Self::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn line(prefix: &str, what: &str) -> Lifeline {
        Lifeline {
            prefix: net(prefix),
            what: what.to_owned(),
        }
    }

    #[test]
    fn an_entry_that_covers_a_lifeline_or_lies_in_one_names_it() {
        let lines = [
            line("192.0.2.1/32", "gateway"),
            line("127.0.0.0/8", "loopback"),
        ];
        let named = |entry| covered(&net(entry), &lines).map(|line| line.what.as_str());
        assert_eq!(named("192.0.2.0/24"), Some("gateway"));
        assert_eq!(named("192.0.2.1/32"), Some("gateway"));
        assert_eq!(named("127.1.2.3/32"), Some("loopback"));
        assert_eq!(named("192.0.2.2/32"), None);
        assert_eq!(named("2001:db8::/32"), None);
    }

    #[test]
    fn an_entry_is_cut_around_a_lifeline_and_loses_nothing_else() {
        let lines = [
            line("192.0.2.1/32", "gateway"),
            line("192.0.2.64/26", "office"),
        ];
        let (kept, cuts) = cut_around(
            vec![(net("192.0.2.0/24"), 1), (net("198.51.100.7/32"), 2)],
            &lines,
        );
        let names: Vec<_> = cuts.iter().map(|cut| cut.around.what.as_str()).collect();
        assert_eq!(names, ["gateway", "office"]);
        for host in 0..=255_u8 {
            let address = IpNet::from(IpAddr::from([192, 0, 2, host]));
            let is_kept = kept.iter().any(|(prefix, _)| prefix.contains(&address));
            assert_eq!(is_kept, host != 1 && !(64..128).contains(&host), "{host}");
        }
        assert!(kept.contains(&(net("198.51.100.7/32"), 2)));
        assert_eq!(kept.len(), 8);
    }

    #[test]
    fn an_entry_inside_a_lifeline_is_gone() {
        let lines = [line("127.0.0.0/8", "loopback"), line("::1/128", "loopback")];
        let (kept, cuts) = cut_around(
            vec![(net("127.0.0.53/32"), ()), (net("::1/128"), ())],
            &lines,
        );
        assert_eq!((kept.len(), cuts.len()), (0, 2));
    }
}
