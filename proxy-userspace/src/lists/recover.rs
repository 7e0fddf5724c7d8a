//! Lists whose state was damaged, made anew from what the kernel still drops and trusts.

use std::time::Duration;

use datapath::{Claim, ListId};
use ipnet::IpNet;

use super::{
    ALLOW, Addition, ListError, Lists, Writer,
    change::{Beside, Edit},
    edit,
};
use crate::state::Clock;

/// Where blocked prefixes are put of which nobody knows any more who listed them.
pub(crate) const RECOVERED: &str = "recovered";

/// What was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) blocked: usize,
    pub(crate) trusted: usize,
}

impl Lists {
    /// Puts what the kernel's tables say on lists, but for what the configuration says anyway.
    /// A feed that names such a prefix later takes it over.
    pub(crate) fn recover(&self, claims: &[(IpNet, Claim)]) -> Result<Recovered, ListError> {
        let now_ns = Clock::now().boot_ns;
        let (mut blocked, mut trusted) = (Vec::new(), Vec::new());
        for (prefix, claim) in claims {
            let known = self.truth().covering(prefix.addr());
            let said = |same: fn(Claim) -> bool| {
                known.iter().any(|(cover, _, noted)| {
                    cover.prefix_len() <= prefix.prefix_len() && same(noted.claim)
                })
            };
            match claim {
                Claim::Trusted if !said(|it| it == Claim::Trusted) => trusted.push((*prefix, None)),
                Claim::Blocked { until_ns: None, .. } if !said(|it| it == Claim::BLOCKED) => {
                    blocked.push((*prefix, None));
                }
                Claim::Blocked {
                    until_ns: Some(end),
                    ..
                } if *end > now_ns => {
                    blocked.push((*prefix, Some(Duration::from_nanos(end - now_ns))));
                }
                _ => {}
            }
        }
        for (list, is_trusted, entries) in [
            (ALLOW, true, &mut trusted),
            (RECOVERED, false, &mut blocked),
        ] {
            entries.sort_unstable_by_key(|(prefix, _)| *prefix);
            entries.dedup_by_key(|(prefix, _)| *prefix);
            if entries.is_empty() {
                continue;
            }
            self.add(&Addition {
                list,
                trusted: is_trusted,
                entries,
                reason: Some("recovered from the kernel's tables".to_owned()),
                force: &[],
                escalate: false,
                confirm: None,
            })?;
        }
        Ok(Recovered {
            blocked: blocked.len(),
            trusted: trusted.len(),
        })
    }

    /// Takes off the recovered list what a feed's list now says.
    pub(super) fn settle_recovered(
        &self,
        writer: &mut Writer,
        feed: ListId,
    ) -> Result<(), ListError> {
        let Some(recovered) = writer.names.find(RECOVERED) else {
            return Ok(());
        };
        let edits: Vec<Edit> = {
            let truth = self.truth();
            let is_said = |prefix: &IpNet| {
                let covering = truth.covering(prefix.addr());
                covering
                    .iter()
                    .any(|(cover, list, _)| *list == feed && cover.contains(prefix))
            };
            truth
                .of_list(recovered, None)
                .filter(|(prefix, _)| is_said(prefix))
                .map(|(prefix, noted)| edit(prefix, Some(noted.note), None))
                .collect()
        };
        if edits.is_empty() {
            return Ok(());
        }
        self.carry_out(writer, recovered, &edits, Beside::default())
    }
}
