//! Why is an address dropped, or why isn't it?

use std::net::IpAddr;

use ipnet::IpNet;
use proxy_common::Limit;
use serde::{Deserialize, Serialize};

use super::{Admin, LimitReport, Reply, limits::report, mode_name, standing_name};
use crate::{
    drops::Seen,
    lists::{Entry, ListError},
};

/// All that bears on an address.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Why {
    pub(crate) address: IpAddr,
    /// `unlisted`, `trusted`, `blocked`, `banned` or `monitored`.
    pub(crate) standing: String,
    /// Whether lists drop its packets.
    pub(crate) dropped: bool,
    /// What wins, and why, in words.
    pub(crate) verdict: String,
    /// Every entry that covers it, shortest prefix first.
    pub(crate) entries: Vec<Covering>,
    /// Limits that it is held to.
    pub(crate) limits: Vec<CoveringLimit>,
    /// Where the kernel side runs.
    pub(crate) interfaces: Vec<String>,
    /// Drops and would-be drops since `since_ms`, estimated from samples.
    pub(crate) drops: Seen,
    pub(crate) since_ms: u64,
}

/// An entry that covers the address.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Covering {
    #[serde(flatten)]
    pub(crate) entry: Entry,
    /// `enforce` or `monitor`.
    pub(crate) mode: String,
    /// Whether it is this one that decides.
    pub(crate) wins: bool,
    /// Where the list comes from, of lists with a source.
    pub(crate) source: Option<String>,
    /// The entry's line there.
    pub(crate) line: Option<u32>,
}

/// A limit, and the prefix that it counts the address with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CoveringLimit {
    #[serde(flatten)]
    pub(crate) limit: LimitReport,
    pub(crate) counted_as: IpNet,
}

impl Admin {
    pub(super) fn why(&self, address: IpAddr) -> Result<Reply, ListError> {
        let address = address.to_canonical();
        let (standing, covering) = self.lists.covering(address);
        let (standing, dropped) = standing_name(standing);
        let mut entries: Vec<Covering> = covering
            .into_iter()
            .map(|(entry, mode, line)| Covering {
                mode: mode_name(mode).to_owned(),
                wins: false,
                source: self.feeds.place_of(&entry.list),
                line,
                entry,
            })
            .collect();
        let winner = winner(&entries);
        if let Some(winner) = winner {
            entries[winner].wins = true;
        }
        let (limits, interfaces) = self.covering_limits(address)?;
        let mut verdict = verdict(winner.map(|at| &entries[at]), &entries, dropped);
        if interfaces.is_empty() {
            verdict
                .push_str("; no kernel side runs, so lists are enforced at accept, and limits not");
        } else if !limits.is_empty() && standing == "trusted" {
            verdict.push_str("; limits don't hold it");
        }
        Ok(Reply::Why(Box::new(Why {
            address,
            standing: standing.to_owned(),
            dropped,
            verdict,
            entries,
            limits: if standing == "trusted" {
                Vec::new()
            } else {
                limits
            },
            interfaces,
            drops: self.drops.of(address),
            since_ms: self.drops.since_ms,
        })))
    }

    fn covering_limits(
        &self,
        address: IpAddr,
    ) -> Result<(Vec<CoveringLimit>, Vec<String>), ListError> {
        let found = self.lists.with_kernel(|datapath| {
            let rules = *datapath.rules();
            let attached = datapath.attachments().iter().filter(|it| it.in_force());
            let interfaces: Vec<_> = attached.map(|it| it.interface.clone()).collect();
            (rules, interfaces)
        });
        let Some((rules, interfaces)) = found else {
            return Ok(Default::default());
        };
        let held = Limit::ALL.into_iter().filter_map(|limit| {
            let setting = rules.limits[limit as usize];
            let key = if limit.is_aggregate() {
                rules.aggregate_key
            } else {
                rules.source_key
            };
            let length = match address {
                IpAddr::V4(_) => key.mask_v4.count_ones(),
                IpAddr::V6(_) => key.mask_v6.iter().map(|word| word.count_ones()).sum(),
            };
            let counted_as = IpNet::new(address, length as u8).ok()?.trunc();
            setting.gcra.is_limited().then(|| CoveringLimit {
                limit: report(limit, &setting),
                counted_as,
            })
        });
        Ok((held.collect(), interfaces))
    }
}

/// Trust beats a block, a block for good a ban, a long ban a short one, and all of them what only
/// watches; of equals the shortest prefix is told.
fn winner(entries: &[Covering]) -> Option<usize> {
    let rank = |covering: &Covering| {
        let Entry {
            trusted, until_ms, ..
        } = &covering.entry;
        let enforced = covering.mode == "enforce";
        (*trusted, enforced, until_ms.unwrap_or(u64::MAX))
    };
    // `max_by_key` takes the last of equals.
    let ranked = entries.iter().enumerate().rev();
    ranked
        .max_by_key(|(_, covering)| rank(covering))
        .map(|(at, _)| at)
}

fn verdict(winner: Option<&Covering>, entries: &[Covering], dropped: bool) -> String {
    let Some(Covering { entry, mode, .. }) = winner else {
        return "not dropped: no list covers it".to_owned();
    };
    let Entry { list, prefix, .. } = entry;
    let others = entries.len() - 1;
    let beats = match others {
        0 => String::new(),
        1 => ", which beats the other entry".to_owned(),
        _ => format!(", which beats the {others} other entries"),
    };
    if entry.trusted {
        format!("not dropped: {prefix} on {list:?} is trusted, and trust beats every block{beats}")
    } else if mode == "monitor" {
        format!("not dropped: {prefix} on {list:?} only watches, and counts it{beats}")
    } else if !dropped {
        format!("not dropped: the ban of {prefix} on {list:?} has ended")
    } else if entry.until_ms.is_some() {
        format!("dropped: {prefix} on {list:?} is banned for a while{beats}")
    } else {
        format!("dropped: {prefix} on {list:?} is blocked for good{beats}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covering(list: &str, trusted: bool, mode: &str, until_ms: Option<u64>) -> Covering {
        Covering {
            entry: Entry {
                list: list.to_owned(),
                prefix: "192.0.2.0/24".parse().expect("a prefix"),
                trusted,
                added_ms: 0,
                until_ms,
                left_ms: until_ms,
                reason: None,
            },
            mode: mode.to_owned(),
            wins: false,
            source: None,
            line: None,
        }
    }

    #[test]
    fn trust_beats_a_block_a_block_a_ban_and_all_of_them_what_only_watches() {
        let mut entries = vec![
            covering("watched", false, "monitor", None),
            covering("short", false, "enforce", Some(5)),
            covering("long", false, "enforce", Some(9)),
            covering("good", false, "enforce", None),
            covering("good too", false, "enforce", None),
            covering("allow", true, "enforce", None),
        ];
        for expected in ["allow", "good", "long", "short", "watched"] {
            let at = winner(&entries).expect("a winner");
            assert_eq!(entries[at].entry.list, expected);
            entries.retain(|it| !it.entry.list.starts_with(expected));
        }
        assert!(winner(&entries).is_none());
    }

    #[test]
    fn a_verdict_says_what_wins_and_over_how_many() {
        let entries = [
            covering("feed", false, "enforce", None),
            covering("allow", true, "enforce", None),
        ];
        assert_eq!(
            verdict(winner(&entries).map(|at| &entries[at]), &entries, false),
            "not dropped: 192.0.2.0/24 on \"allow\" is trusted, and trust beats every block, which \
             beats the other entry"
        );
        assert_eq!(verdict(None, &[], false), "not dropped: no list covers it");
    }
}
