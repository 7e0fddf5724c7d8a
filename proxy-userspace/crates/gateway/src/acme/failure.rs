//! Why there is no certificate: whose fault it is, how long to wait, and whether it was told already.

use std::time::{Duration, SystemTime};

use httpdate::{fmt_http_date, parse_http_date};
use instant_acme::{Error, Problem};

use super::{pending::Challenge, renewal::Setback, storage::StorageError};
use crate::{fetch::chain, tls::TlsError};

/// Types of problems (RFC 8555, 6.7) that mean something to us.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
const UNAUTHORIZED: &str = "urn:ietf:params:acme:error:unauthorized";
const TERMS: &str = "urn:ietf:params:acme:error:userActionRequired";

/// Why a certificate was not obtained.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// Nothing can be kept, so nothing was asked for.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The account that is kept is none.
    #[error("{0}")]
    WithoutAccount(StorageError),
    /// The authority was not reached, or what answered isn't one.
    #[error("the authority can't be asked: {0}")]
    Unreached(String),
    /// It said no.
    #[error("the authority refused {step}: {}{}", told(.problem), mend(.problem))]
    Refused {
        /// What was asked of it.
        step: &'static str,
        /// What it said.
        problem: Box<Problem>,
    },
    /// It found that a name isn't ours.
    #[error(
        "the authority could not check {name} by {challenge}: {problem}; the name must lead to this host, and \
         port {} of it to this proxy", if matches!(.challenge, Challenge::Http01) { 80 } else { 443 }
    )]
    NotValidated {
        /// The name.
        name: String,
        /// How it was checked.
        challenge: Challenge,
        /// What the authority said.
        problem: String,
    },
    /// It doesn't check names this way.
    #[error("the authority doesn't check {name} by {challenge}; it offers {offered}")]
    NotOffered {
        /// The name.
        name: String,
        /// How it was to be checked.
        challenge: Challenge,
        /// How it would.
        offered: String,
    },
    /// It takes too long.
    #[error("the authority didn't come to an end in time")]
    Slow,
    /// What it issued is no use.
    #[error("what the authority issued is of no use: {0}")]
    Useless(String),
    /// It was obtained and is served, but is old already by the clock of this host.
    #[error(
        "obtained and served, but good from {} until {}: by this host's clock that is almost over; set the clock",
        fmt_http_date(*.from), fmt_http_date(*.until)
    )]
    Clock {
        /// From when it is good.
        from: SystemTime,
        /// Until when.
        until: SystemTime,
    },
    /// A key or certificate could not be made.
    #[error("a key or certificate can't be made: {0}")]
    Ours(#[from] TlsError),
    /// It was obtained and is served, but a restart will not know of it.
    #[error("obtained and served, but not kept: {0}")]
    NotKept(StorageError),
}

impl AcmeError {
    /// What went wrong in this step.
    pub(super) fn of(step: &'static str) -> impl Fn(Error) -> Self {
        move |error| match error {
            Error::Api(problem) => Self::Refused {
                step,
                problem: Box::new(problem),
            },
            Error::Timeout(_) => Self::Slow,
            Error::Other(error) => Self::Unreached(chain(error.as_ref())),
            other => Self::Unreached(chain(&other)),
        }
    }

    /// Whether there is no account any more: the authority doesn't know it, or its file is damaged.
    pub(super) fn is_without_account(&self) -> bool {
        match self {
            Self::WithoutAccount(_) => true,
            Self::Refused { problem, .. } => problem.r#type.as_deref() == Some(NO_ACCOUNT),
            _ => false,
        }
    }

    pub(super) fn setback(&self) -> Setback {
        match self {
            Self::Storage(_) | Self::Unreached(_) | Self::Ours(_) | Self::NotKept(_) => {
                Setback::Unreached
            }
            _ => Setback::Refused,
        }
    }

    /// How long to wait at the least.
    pub(super) fn least_wait(&self) -> Option<Duration> {
        // Each attempt is one certificate more, which authorities count, and clocks don't mend themselves.
        matches!(self, Self::Clock { .. }).then_some(Duration::from_secs(86_400))
    }

    /// By what it is known that this was told already: the numbers and times in a message don't make it
    /// another one.
    pub(super) fn topic(&self) -> String {
        match self {
            Self::Refused { step, problem } => format!("{step} {:?}", problem.r#type),
            Self::NotValidated { name, .. } => format!("not validated {name}"),
            other => other.to_string(),
        }
    }
}

fn told(problem: &Problem) -> String {
    let detail = problem.detail.as_deref().unwrap_or("without a reason");
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    let kind = kind.strip_prefix("urn:ietf:params:acme:error:");
    let mut text = match kind {
        Some(kind) => format!("{detail} ({kind})"),
        None => detail.to_owned(),
    };
    for sub in &problem.subproblems {
        text = format!("{text}; {sub}");
    }
    text
}

fn mend(problem: &Problem) -> &'static str {
    match problem.r#type.as_deref() {
        Some(UNAUTHORIZED) => {
            "; if it has ended this account, move account.json out of acme.storage, and another one is registered"
        }
        Some(TERMS) => "; its terms have changed: read and accept them where it says",
        _ => "",
    }
}

/// How long an authority asks to be left alone (RFC 9110, 10.2.3): seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds).min(LONGEST_ASKED));
    }
    let date = parse_http_date(value).ok()?;
    Some(
        date.duration_since(now)
            .unwrap_or_default()
            .min(LONGEST_ASKED),
    )
}

/// Longest that an authority is left alone because it asks for it: a mistake of its must not let a
/// certificate end.
const LONGEST_ASKED: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn seconds_and_dates_say_how_long_to_wait() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 60);
        let after = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(60));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(after("99999999999"), Some(7 * 86_400));
        for nonsense in ["", "soon", "-5"] {
            assert_eq!(after(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn the_same_refusal_with_another_text_is_the_same() {
        let refused = |detail: &str| AcmeError::Refused {
            step: "the order",
            problem: Box::new(Problem {
                r#type: Some("urn:ietf:params:acme:error:rateLimited".to_owned()),
                detail: Some(detail.to_owned()),
                status: Some(429),
                subproblems: Vec::new(),
            }),
        };
        let (one, two) = (refused("retry after 10:01"), refused("retry after 10:02"));
        assert_eq!(one.topic(), two.topic());
        let text = "the authority refused the order: retry after 10:01 (rateLimited)";
        assert_eq!(one.to_string(), text);
    }
}
