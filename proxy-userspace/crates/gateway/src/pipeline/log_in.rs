//! Where a request turns into a step of a login.

use policy::Route;

use crate::{
    authenticate::Caller,
    forward::Answer,
    holder::Sender,
    ledger::Ledger,
    login::{Login, Logins, Told},
    refusal::Refusal,
};

/// What there is to answer.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request has the larger one"
)]
pub(super) enum Served {
    /// The upstream's answer, and whether it is to a question for a WebSocket.
    Upstream(Answer, bool),
    /// A step of a login.
    Here(Told),
}

/// A step of a login is answered here.
pub(super) fn logs_in(ledger: &mut Ledger, mut told: Told) -> Served {
    ledger.logs_in(std::mem::take(&mut told.reason));
    let who = told.who.take().map(Caller::Session);
    ledger.authenticated(who.as_ref());
    Served::Here(told)
}

/// Sends a browser to the login of its route, where that has one and a login can help.
pub(super) fn log_in(
    logins: &Logins,
    route: &Route,
    sender: &Sender<'_>,
    ledger: &mut Ledger,
    refusal: Refusal,
) -> Result<Served, Refusal> {
    let can_begin = refusal.may_log_in() && !sender.upgrades;
    let login = logins.of(route).filter(|_| can_begin);
    let login = login.filter(|_| Login::can_begin(sender.headers, sender.request));
    let Some(login) = login else {
        return Err(refusal);
    };
    let reason = match refusal {
        Refusal::Denied(_) => "login_begun".to_owned(),
        of_session => of_session.reason(),
    };
    Ok(logs_in(
        ledger,
        login.begin(sender.headers, sender.request, reason)?,
    ))
}
