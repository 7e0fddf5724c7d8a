//! Entries of lists, changed and shown.

use std::{
    cmp::Reverse,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use audit::{Event, ListRecord};
use datapath::Standing;
use ipnet::IpNet;
use tokio::net::unix::UCred;

use super::{Admin, Changed, CutReport, Manner, Reply, Request, Tested};
use crate::{
    feed::canonical,
    lifeline::{self, Cut},
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
                    escalate,
                    confirm: confirm(manner),
                };
                let outcome = self.add(&addition, manner)?;
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
                    let lifelines = lifeline::observe(operator, &self.needed);
                    (entries, cuts) = lifeline::cut_around(entries, &lifelines);
                }
                let addition = Addition {
                    list: &list,
                    trusted,
                    entries: &entries,
                    reason,
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
            Request::List { .. }
            | Request::Status
            | Request::Limits
            | Request::SetLimit { .. }
            | Request::Trace { .. } => Ok(Reply::Error {
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
        let (standing, dropped) = match standing {
            Standing::Unlisted => ("unlisted", false),
            Standing::Trusted => ("trusted", false),
            Standing::Blocked => ("blocked", true),
            Standing::Banned { .. } => ("banned", true),
            Standing::Monitored => ("monitored", false),
        };
        Tested {
            address: address.to_canonical(),
            standing: standing.to_owned(),
            dropped,
            entries,
        }
    }

    /// Refuses prefixes that cover what keeps the host reachable.
    fn spare_lifelines<'a>(
        &self,
        prefixes: impl Iterator<Item = &'a IpNet>,
        operator: Option<IpAddr>,
    ) -> Result<(), ListError> {
        let lifelines = lifeline::observe(operator, &self.needed);
        for prefix in prefixes {
            if let Some(line) = lifeline::covered(prefix, &lifelines) {
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

/// A ban of a century is for good, and its end can still be written down (RFC 3339 ends in 9999).
fn bounded(ms: u64) -> Duration {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
    Duration::from_millis(ms).min(CENTURY)
}

fn confirm(manner: Manner) -> Option<Duration> {
    manner.confirm_ms.map(bounded)
}

fn changed(outcome: Outcome, manner: Manner, cuts: Vec<Cut>) -> Changed {
    let report = |Cut { entry, around }| CutReport {
        entry,
        around: around.prefix,
        what: around.what,
    };
    Changed {
        dry_run: manner.dry_run,
        changed: outcome.touched(),
        unchanged: outcome.unchanged,
        added: outcome.added,
        extended: outcome.changed,
        removed: outcome.removed,
        cut: cuts.into_iter().map(report).collect(),
        pending: outcome.pending,
    }
}
