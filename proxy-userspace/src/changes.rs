//! What a reload has changed, in a few words each.

use std::collections::BTreeMap;

use gateway::LoginRules;
use toml::Value;

/// Tables of which there is one at most.
const SINGLE: [&str; 3] = ["acme", "redirect", "traces"];

/// Tables of a configuration by their names, as they are written.
pub(crate) type Written = BTreeMap<String, Value>;

/// Routes that are in force, in order to tell of those that change.
pub(crate) struct Routes {
    of_requests: Vec<policy::Route>,
    of_tcp: Vec<policy::TcpRoute>,
}

impl Routes {
    pub(crate) fn of(of_requests: &policy::RouteTable, of_tcp: &policy::TcpRouteTable) -> Self {
        Self {
            of_requests: of_requests.routes().to_vec(),
            of_tcp: of_tcp.routes().to_vec(),
        }
    }

    /// Tells what is other than before.
    pub(crate) fn note(&self, before: &Self, changes: &mut Vec<String>) {
        let requests = (&before.of_requests, &self.of_requests);
        note_named("route", requests, |route| &route.name, changes);
        let tcp = (&before.of_tcp, &self.of_tcp);
        note_named("tcp_route", tcp, |route| &route.name, changes);
    }
}

/// Tells of the logins that are other than before.
pub(crate) fn note_logins(logins: (&Vec<LoginRules>, &Vec<LoginRules>), changes: &mut Vec<String>) {
    note_named("login", logins, |login| &login.name, changes);
}

/// Tells of one thing by its name, unless it is as it was.
pub(crate) fn note_change(
    changes: &mut Vec<String>,
    what: &str,
    name: &dyn std::fmt::Display,
    known: bool,
    same: bool,
) {
    match (known, same) {
        (_, true) => {}
        (true, false) => changes.push(format!("{what} {name} has changed")),
        (false, false) => changes.push(format!("{what} {name} is new")),
    }
}

/// Tells of the tables of which there is one at most.
pub(crate) fn note_tables(changes: &mut Vec<String>, before: &Written, now: &Written) {
    for name in SINGLE {
        let (before, now) = (before.get(name), now.get(name));
        let what = format!("[{name}]");
        match (before, now) {
            (Some(before), Some(now)) if before != now => {
                changes.push(format!("{what} has changed"));
            }
            (None, Some(_)) => changes.push(format!("{what} is new")),
            (Some(_), None) => changes.push(format!("{what} is gone")),
            _ => {}
        }
    }
}

/// One of several tables of a kind: that in which `key` has this value.
pub(crate) fn table<'w>(
    written: &'w Written,
    kind: &str,
    key: &str,
    is_it: impl Fn(&str) -> bool,
) -> Option<&'w Value> {
    let all = written.get(kind)?.as_array()?;
    let named = |table: &&Value| table.get(key).and_then(Value::as_str).is_some_and(&is_it);
    all.iter().find(named)
}

fn note_named<R: PartialEq>(
    what: &str,
    (before, now): (&Vec<R>, &Vec<R>),
    name: impl Fn(&R) -> &String,
    changes: &mut Vec<String>,
) {
    for route in now {
        let earlier = before.iter().find(|it| name(it) == name(route));
        let same = earlier == Some(route);
        note_change(changes, what, name(route), earlier.is_some(), same);
    }
    for route in before {
        if !now.iter().any(|it| name(it) == name(route)) {
            changes.push(format!("{what} {} is gone", name(route)));
        }
    }
}
