//! What an authority is shown that checks whether a name is ours, for as long as it does and no longer.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::sign::CertifiedKey;

/// How an authority checks a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Challenge {
    /// By a handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a request on port 80 (RFC 8555, 8.3).
    Http01,
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        })
    }
}

/// All that is shown at this moment.
#[derive(Debug, Default)]
pub struct Pending {
    /// By name. There is one order for a name at a time.
    handshakes: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    /// By token.
    answers: Mutex<HashMap<String, Answer>>,
}

/// What is answered to a request with a token.
#[derive(Debug)]
struct Answer {
    name: String,
    text: String,
}

/// Something is shown until this is dropped.
#[derive(Debug)]
#[must_use = "it is shown no longer than this lives"]
pub(super) struct Showing {
    pending: Arc<Pending>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Name(String),
    Token(String),
}

impl Pending {
    /// Shows a certificate in handshakes for `name`.
    pub(super) fn show_certificate(
        self: &Arc<Self>,
        name: &str,
        certificate: Arc<CertifiedKey>,
    ) -> Showing {
        locked(&self.handshakes).insert(name.to_owned(), certificate);
        Showing {
            pending: Arc::clone(self),
            key: Key::Name(name.to_owned()),
        }
    }

    /// Answers `text` to requests for this token on `name`.
    pub(super) fn show_answer(self: &Arc<Self>, name: &str, token: &str, text: &str) -> Showing {
        let answer = Answer {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        locked(&self.answers).insert(token.to_owned(), answer);
        Showing {
            pending: Arc::clone(self),
            key: Key::Token(token.to_owned()),
        }
    }

    /// The certificate of a handshake for a name.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        locked(&self.handshakes)
            .get(&name.to_ascii_lowercase())
            .cloned()
    }

    /// What is answered to a request for this token on this host.
    pub(super) fn answer(&self, host: &str, token: &str) -> Option<String> {
        let answers = locked(&self.answers);
        let answer = answers.get(token).filter(|answer| answer.name == host);
        answer.map(|answer| answer.text.clone())
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        match &self.key {
            Key::Name(name) => drop(locked(&self.pending.handshakes).remove(name)),
            Key::Token(token) => drop(locked(&self.pending.answers).remove(token)),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_answered_on_its_own_host_and_while_it_is_pending() {
        let pending = Arc::new(Pending::default());
        let showing = pending.show_answer("api.example", "token", "token.thumb");
        let answer = |host, token| pending.answer(host, token);
        assert_eq!(
            answer("api.example", "token").as_deref(),
            Some("token.thumb")
        );
        assert_eq!(answer("other.example", "token"), None);
        assert_eq!(answer("api.example", "other"), None);
        drop(showing);
        assert_eq!(answer("api.example", "token"), None);
    }
}
