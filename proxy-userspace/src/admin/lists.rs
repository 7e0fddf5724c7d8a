//! Entries of lists, changed and shown.

use std::{
    cmp::Reverse,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use audit::{Event, ListRecord};
use ipnet::IpNet;
use tokio::net::unix::UCred;

use super::{Admin, Manner, Reply, Request, Tested, bounded, changed, confirm, standing_name};
use crate::{
    feed::canonical,
    lifeline::{Cut, Lifeline, covered, cut_around},
    lists::{Addition, Filter, ListError, Outcome, Place, Removal},
    trail::{note, tell},
};

/// Entries in one reply: some 2 MiB of JSON at most.
const PAGE: usize = 8_192;

/// A change of a list, for the audit trail.
struct Change<'a> {
    action: &'a str,
    list: &'a str,
    ttl: Option<Duration>,
    reason: Option<&'a str>,
    changed: usize,
}

impl Admin {
    pub(super) fn act_on_lists(&self, request: Request, peer: &UCred) -> Result<Reply, ListError> {
        match request {
            Request::Add {
                list,
                trusted,
                prefixes,
                ttl_ms,
                escalate,
                reason,
                force,
                operator,
                manner,
            } => {
                let prefixes: Vec<_> = prefixes.into_iter().map(canonical).collect();
                let unforced = prefixes.iter().filter(|prefix| !force.contains(prefix));
                self.widest.check(unforced.clone())?;
                if !trusted {
                    self.spare_lifelines(unforced, operator)?;
                }
                let ttl = ttl_ms.map(bounded);
                let entries: Vec<_> = prefixes.iter().map(|prefix| (*prefix, ttl)).collect();
                let addition = Addition {
                    list: &list,
                    trusted,
                    entries: &entries,
                    reason,
                    force: &force,
                    escalate,
                    confirm: confirm(manner),
                };
                let outcome = self.add(&addition, manner)?;
                if !manner.dry_run && !force.is_empty() {
                    // What is forced is trusted no more.
                    self.lists.protect(&self.lifelines.observe(None))?;
                }
                if !manner.dry_run {
                    let change = Change {
                        action: "add",
                        list: &list,
                        ttl,
                        reason: addition.reason.as_deref(),
                        changed: outcome.touched(),
                    };
                    for prefix in &prefixes {
                        self.record(&change, Some(prefix), peer);
                    }
                }
                Ok(Reply::Changed(changed(outcome, manner, Vec::new())))
            }
            Request::Remove {
                list,
                prefixes,
                manner,
            } => {
                let prefixes: Vec<_> = prefixes.into_iter().map(canonical).collect();
                let removal = Removal {
                    list: &list,
                    prefixes: &prefixes,
                    confirm: confirm(manner),
                };
                let outcome = if manner.dry_run {
                    self.lists.preview_remove(&removal)?
                } else {
                    let outcome = self.lists.remove(&removal)?;
                    let change = Change {
                        action: "remove",
                        list: &list,
                        ttl: None,
                        reason: None,
                        changed: outcome.touched(),
                    };
                    for prefix in &prefixes {
                        self.record(&change, Some(prefix), peer);
                    }
                    // A block that went may have been there by force.
                    self.lists.protect(&self.lifelines.observe(None))?;
                    outcome
                };
                Ok(Reply::Changed(changed(outcome, manner, Vec::new())))
            }
            Request::Import {
                list,
                trusted,
                prefixes,
                timed,
                ttl_ms,
                reason,
                operator,
                manner,
            } => {
                let ttl = ttl_ms.map(bounded);
                let mut entries = imported(&prefixes, &timed, ttl);
                self.widest
                    .check(entries.iter().map(|(prefix, _)| prefix))?;
                let mut cuts = Vec::new();
                if !trusted {
                    let lifelines = self.lifelines_now(operator)?;
                    (entries, cuts) = cut_around(entries, &lifelines);
                }
                let addition = Addition {
                    list: &list,
                    trusted,
                    entries: &entries,
                    reason,
                    force: &[],
                    escalate: false,
                    confirm: confirm(manner),
                };
                let outcome = self.add(&addition, manner)?;
                if !manner.dry_run {
                    let change = Change {
                        action: "import",
                        list: &list,
                        ttl,
                        reason: addition.reason.as_deref(),
                        changed: outcome.touched(),
                    };
                    self.record(&change, None, peer);
                    for Cut { entry, around } in &cuts {
                        let detail = format!("{entry} of {list} around {around}");
                        note(&self.journal, "cut_entry", &detail);
                    }
                }
                Ok(Reply::Changed(changed(outcome, manner, cuts)))
            }
            Request::Test { address } => Ok(Reply::Tested(self.test(address))),
            Request::Pending => Ok(Reply::Pending {
                pending: self.lists.pending(),
            }),
            Request::Confirm { id } => {
                let confirmed = self.lists.confirm(id)?;
                for change in &confirmed {
                    let who = format!("{} by uid {}", change.what, peer.uid());
                    note(&self.journal, "confirm", &who);
                }
                Ok(Reply::Confirmed { confirmed })
            }
            // Answered elsewhere.
            _ => Ok(Reply::Error {
                message: "is no request about lists".to_owned(),
            }),
        }
    }

    /// Says entries page by page, so that a million are never in memory at once.
    pub(super) fn list(
        &self,
        filter: &Filter,
        mut after: Option<Place>,
        limit: Option<usize>,
        say: &dyn Fn(Reply) -> bool,
    ) {
        let mut left = limit.unwrap_or(usize::MAX);
        loop {
            let page = self.lists.page(filter, after.as_ref(), left.min(PAGE));
            left -= page.entries.len();
            let more = page.rest.is_some() && left > 0;
            let heard = say(Reply::Entries {
                entries: page.entries,
                more,
                rest: page.rest.clone().filter(|_| !more),
            });
            if !heard || !more {
                return;
            }
            after = page.rest;
        }
    }

    fn add(&self, addition: &Addition<'_>, manner: Manner) -> Result<Outcome, ListError> {
        if manner.dry_run {
            self.lists.preview_add(addition)
        } else {
            self.lists.add(addition)
        }
    }

    fn test(&self, address: IpAddr) -> Tested {
        let (standing, entries) = self.lists.test(address);
        let (standing, dropped) = standing_name(standing);
        Tested {
            address: address.to_canonical(),
            standing: standing.to_owned(),
            dropped,
            entries,
        }
    }

    /// What keeps the host reachable; the operator's own address is trusted from here on.
    fn lifelines_now(&self, operator: Option<IpAddr>) -> Result<Vec<Lifeline>, ListError> {
        let lifelines = self.lifelines.observe(operator);
        if operator.is_some() {
            self.lists.protect(&lifelines)?;
        }
        Ok(lifelines)
    }

    /// Refuses prefixes that cover what keeps the host reachable.
    fn spare_lifelines<'a>(
        &self,
        prefixes: impl Iterator<Item = &'a IpNet>,
        operator: Option<IpAddr>,
    ) -> Result<(), ListError> {
        let lifelines = self.lifelines_now(operator)?;
        for prefix in prefixes {
            if let Some(line) = covered(prefix, &lifelines) {
                return Err(ListError::Lifeline {
                    prefix: *prefix,
                    line: line.clone(),
                });
            }
        }
        Ok(())
    }

    fn record(&self, change: &Change<'_>, prefix: Option<&IpNet>, peer: &UCred) {
        let until = change
            .ttl
            .and_then(|ttl| SystemTime::now().checked_add(ttl));
        let record = ListRecord {
            action: change.action.to_owned(),
            list: change.list.to_owned(),
            prefix: prefix.map(ToString::to_string),
            changed: change.changed,
            until: until.map(crate::render::rfc3339),
            reason: change.reason.map(str::to_owned),
            by_uid: Some(peer.uid()),
            by_pid: peer.pid(),
        };
        tell(&self.journal, &Event::List(record));
    }
}

/// Each prefix of an import once. Of two with different times, the longer one counts.
fn imported(
    prefixes: &[IpNet],
    timed: &[(IpNet, u64)],
    ttl: Option<Duration>,
) -> Vec<(IpNet, Option<Duration>)> {
    let for_ttl = prefixes.iter().map(|prefix| (*prefix, ttl));
    let timed = timed
        .iter()
        .map(|(prefix, ms)| (*prefix, Some(bounded(*ms))));
    // What the command line has made canonical is made so again: anybody may write to the socket
    // who may use it.
    let mut entries: Vec<_> = for_ttl
        .chain(timed)
        .map(|(prefix, ttl)| (canonical(prefix), ttl))
        .collect();
    let time = |ttl: Option<Duration>| ttl.unwrap_or(Duration::MAX);
    entries.sort_unstable_by_key(|(prefix, ttl)| (*prefix, Reverse(time(*ttl))));
    entries.dedup_by_key(|(prefix, _)| *prefix);
    entries
}
