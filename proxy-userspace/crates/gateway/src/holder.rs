//! Is the token in the hands of the one it was issued to (RFC 7800)? One that is bound to a key or a certificate
//! is never good without: there is no setting for that.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName, HeaderValue};
use policy::CanonicalRequest;

use crate::{
    replay::{ReplaySet, Use, name_of},
    sent::only_field,
    token::{
        Asked, Nonces, Proof, ProofFault, ProofRules, Standing, TokenFault, Verified, unix_now,
    },
};

/// Carries the proof (RFC 9449, 4.1).
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");

/// Carries a nonce to the client (RFC 9449, 8).
pub(crate) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// As what a token came in `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// As one for whoever bears it (RFC 6750, 2.1).
    Bearer,
    /// As one that is bound to a key (RFC 9449, 7.1).
    Dpop,
}

/// A token that is good, and in somebody's hands.
#[derive(Debug)]
pub(crate) struct Presented<'h> {
    pub(crate) verified: Arc<Verified>,
    /// As it was sent.
    pub(crate) token: &'h str,
    /// `None` where it came in a cookie or a field of its own.
    pub(crate) scheme: Option<Scheme>,
}

/// Who sends a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) request: &'a CanonicalRequest,
    /// SHA-256 of the certificate that was shown in TLS, and is good.
    pub(crate) certificate: Option<[u8; 32]>,
    /// Whether another protocol is asked for, such as WebSocket.
    pub(crate) upgrades: bool,
}

/// A token in the right hands.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) verified: Arc<Verified>,
    /// What the next proof should quote, where that is about to change.
    pub(crate) nonce: Option<HeaderValue>,
}

impl Presented<'_> {
    /// Whether its sender may use it.
    ///
    /// # Errors
    /// When it is bound, and he didn't prove to have what it is bound to.
    pub(crate) fn held(self, sender: &Sender<'_>, proofs: &Proofs) -> Result<Held, TokenFault> {
        let bound = self.verified.claims.confirmation;
        match (bound.certificate, sender.certificate) {
            (None, _) => {}
            (Some(_), None) => return Err(TokenFault::CertificateMissing),
            (Some(bound), Some(shown)) if bound != shown => {
                return Err(TokenFault::CertificateWrong);
            }
            (Some(_), Some(_)) => {}
        }
        let nonce = match bound.key {
            None if self.scheme == Some(Scheme::Dpop) => return Err(TokenFault::NotBound),
            None => None,
            Some(_) if self.scheme == Some(Scheme::Bearer) => {
                return Err(ProofFault::AsBearer.into());
            }
            Some(key) => {
                let asked = Asked {
                    token: self.token,
                    request: sender.request,
                    key: Some(key),
                };
                proofs.judge(sender.headers, &asked, unix_now())?
            }
        };
        Ok(Held {
            verified: self.verified,
            nonce,
        })
    }

    /// The token, where whoever has it may use it.
    ///
    /// # Errors
    /// When it is bound.
    pub(crate) fn of_bearer(self) -> Result<Arc<Verified>, TokenFault> {
        let bound = self.verified.claims.confirmation;
        match (bound.certificate, bound.key, self.scheme) {
            (Some(_), _, _) => Err(TokenFault::CertificateMissing),
            (None, Some(_), _) => Err(ProofFault::Missing.into()),
            (None, None, Some(Scheme::Dpop)) => Err(TokenFault::NotBound),
            (None, None, _) => Ok(self.verified),
        }
    }
}

/// The one proof of a request.
fn sent_proof(headers: &HeaderMap) -> Result<&str, ProofFault> {
    let proof = only_field(headers, &PROOF).map_err(|_| ProofFault::Repeated)?;
    proof
        .ok_or(ProofFault::Missing)?
        .to_str()
        .map_err(|_| ProofFault::Malformed("no three parts in base64url"))
}

/// What is known of proofs in this process: which were used, and which nonces are in force.
#[derive(Debug)]
pub struct Proofs {
    rules: ProofRules,
    nonces: Nonces,
    used: ReplaySet,
    /// A proof without a nonce that was made before this second, or in it, may have been used with another
    /// process.
    since: AtomicU64,
}

impl Proofs {
    /// Nothing is known yet: what was used before can't be told, so it is refused.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(rules: ProofRules) -> Result<Self, io::Error> {
        Ok(Self {
            nonces: Nonces::new()?,
            used: ReplaySet::new(rules.remembered),
            since: AtomicU64::new(unix_now()),
            rules,
        })
    }

    /// What proofs must satisfy.
    pub fn rules(&self) -> &ProofRules {
        &self.rules
    }

    /// Another process takes proofs from now on: those without a nonce of this one are refused here.
    pub fn seal(&self) {
        self.since.store(u64::MAX, Ordering::SeqCst);
    }

    /// The other process is gone: what is made from now on wasn't used with it.
    pub fn reopen(&self) {
        self.since.store(unix_now(), Ordering::SeqCst);
    }

    /// The nonce to hand out.
    pub(crate) fn nonce(&self) -> Option<HeaderValue> {
        self.nonce_at(unix_now())
    }

    fn nonce_at(&self, now: u64) -> Option<HeaderValue> {
        HeaderValue::try_from(self.nonces.current(now)).ok()
    }

    /// Proves that the sender of a request has the key that is asked for. The nonce for the next proof, where
    /// that is about to change.
    fn judge(
        &self,
        headers: &HeaderMap,
        asked: &Asked<'_>,
        now: u64,
    ) -> Result<Option<HeaderValue>, ProofFault> {
        let proof = Proof::judge(sent_proof(headers)?, asked, &self.rules, now)?;
        let standing = proof.nonce.as_deref();
        let standing = standing.map(|nonce| self.nonces.standing(nonce, now));
        let leeway = self.rules.leeway.as_secs();
        match standing {
            Some(Standing::Unknown) => return Err(ProofFault::NonceWrong),
            Some(Standing::Current | Standing::Previous) => {}
            None if self.rules.nonces => return Err(ProofFault::NonceMissing),
            None => {
                // By a clock that may be ahead.
                let since = self.since.load(Ordering::SeqCst).saturating_add(leeway);
                if proof.issued <= since {
                    return Err(ProofFault::TooEarly);
                }
            }
        }
        self.use_once(&proof, now)?;
        let renews = standing == Some(Standing::Previous);
        Ok(renews.then(|| self.nonce_at(now)).flatten())
    }

    /// One key doesn't sign the same `jti` twice; what others sign is no concern of it (RFC 9449, 11.1).
    fn use_once(&self, proof: &Proof, now: u64) -> Result<(), ProofFault> {
        let mut hash = Context::new(&SHA256);
        hash.update(&proof.key);
        hash.update(proof.id.as_bytes());
        let name = name_of(&hash.finish());
        let last = proof.issued.saturating_add(self.rules.window.as_secs());
        match self.used.enter(name, last, now) {
            Use::First => Ok(()),
            Use::Again | Use::Unknown => Err(ProofFault::Replayed),
            Use::Full => Err(ProofFault::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::token::proof_cases::{NOW, Signer, TOKEN, claims, request, with};

    struct Rig {
        signer: Signer,
        request: CanonicalRequest,
        proofs: Proofs,
    }

    impl Rig {
        /// Of a process that began long ago.
        fn new(rules: ProofRules) -> Self {
            let proofs = Proofs::new(rules).expect("randomness");
            proofs.since.store(NOW - 1_000, Ordering::SeqCst);
            Self {
                signer: Signer::new(),
                request: request(Method::GET, "https://api.example/orders/1"),
                proofs,
            }
        }

        fn sign(&self, changes: &Value) -> String {
            let claims = with(claims(), changes).to_string();
            self.signer.sign(&self.signer.header().to_string(), &claims)
        }

        /// The nonce that goes with the answer.
        fn judge(&self, proof: &str, now: u64) -> Result<Option<String>, ProofFault> {
            let mut headers = HeaderMap::new();
            let proof = HeaderValue::try_from(proof).expect("a value");
            headers.append(PROOF, proof);
            let asked = Asked {
                token: TOKEN,
                request: &self.request,
                key: None,
            };
            let nonce = self.proofs.judge(&headers, &asked, now)?;
            Ok(nonce.map(|it| it.to_str().expect("letters").to_owned()))
        }
    }

    #[test]
    fn a_proof_is_good_once() {
        let rig = Rig::new(ProofRules::default());
        let proof = rig.sign(&json!({}));
        assert_eq!(rig.judge(&proof, NOW), Ok(None));
        for now in [NOW, NOW + 30, NOW + 60] {
            assert_eq!(rig.judge(&proof, now), Err(ProofFault::Replayed));
        }
        // Then it is too old, and its name is free.
        assert_eq!(rig.judge(&proof, NOW + 61), Err(ProofFault::Time));
        let later = rig.sign(&json!({"iat": NOW + 70}));
        assert_eq!(rig.judge(&later, NOW + 70), Ok(None));
        let others = Rig {
            signer: Signer::new(),
            ..rig
        };
        let proof = others.sign(&json!({"iat": NOW + 70}));
        assert_eq!(others.judge(&proof, NOW + 70), Ok(None), "another's jti");
    }

    #[test]
    fn one_that_is_refused_is_not_used_up() {
        let rig = Rig::new(ProofRules::default());
        let proof = rig.sign(&json!({}));
        assert_eq!(rig.judge(&proof, NOW + 90), Err(ProofFault::Time));
        let wrong = rig.sign(&json!({"nonce": "x"}));
        assert_eq!(rig.judge(&wrong, NOW), Err(ProofFault::NonceWrong));
        assert_eq!(rig.judge(&proof, NOW), Ok(None));
    }

    #[test]
    fn when_no_more_can_be_remembered_none_is_good() {
        let rig = Rig::new(ProofRules {
            remembered: 2,
            ..ProofRules::default()
        });
        let proofs = ["a", "b", "c"].map(|id| rig.sign(&json!({ "jti": id })));
        assert_eq!(rig.judge(&proofs[0], NOW), Ok(None));
        assert_eq!(rig.judge(&proofs[1], NOW), Ok(None));
        assert_eq!(rig.judge(&proofs[2], NOW), Err(ProofFault::Full));
        assert_eq!(rig.judge(&proofs[0], NOW), Err(ProofFault::Replayed));
    }

    #[test]
    fn a_proof_that_another_process_may_have_seen_is_refused() {
        let rig = Rig::new(ProofRules::default());
        rig.proofs.since.store(NOW, Ordering::SeqCst);
        let made = |iat: u64| rig.sign(&json!({"iat": iat, "jti": iat.to_string()}));
        // By a clock that is ahead by the whole leeway.
        for iat in [NOW - 1, NOW, NOW + 5] {
            assert_eq!(rig.judge(&made(iat), NOW + 5), Err(ProofFault::TooEarly));
        }
        assert_eq!(rig.judge(&made(NOW + 6), NOW + 6), Ok(None));
        let nonce = rig.proofs.nonces.current(NOW);
        let quoting = rig.sign(&json!({ "nonce": nonce }));
        assert_eq!(rig.judge(&quoting, NOW), Ok(None));

        rig.proofs.seal();
        assert_eq!(
            rig.judge(&made(NOW + 20), NOW + 20),
            Err(ProofFault::TooEarly)
        );
        let quoting = rig.sign(&json!({"nonce": nonce, "iat": NOW + 20, "jti": "2"}));
        assert_eq!(rig.judge(&quoting, NOW + 20), Ok(None));
        // By the clock of today, which is behind that of the cases above.
        let rig = Rig::new(ProofRules::default());
        rig.proofs.seal();
        rig.proofs.reopen();
        let now = unix_now() + 60;
        assert_eq!(rig.judge(&made(now), now), Ok(None));
    }

    #[test]
    fn a_nonce_is_renewed_before_it_ends() {
        let rig = Rig::new(ProofRules {
            nonces: true,
            ..ProofRules::default()
        });
        assert_eq!(
            rig.judge(&rig.sign(&json!({})), NOW),
            Err(ProofFault::NonceMissing)
        );
        let nonce = rig.proofs.nonces.current(NOW);
        let quoting = |at: u64| rig.sign(&json!({"nonce": nonce, "iat": at}));
        assert_eq!(rig.judge(&quoting(NOW), NOW), Ok(None));
        let next = rig.proofs.nonces.current(NOW + 120);
        assert_eq!(rig.judge(&quoting(NOW + 120), NOW + 120), Ok(Some(next)));
        let told = rig.judge(&quoting(NOW + 240), NOW + 240);
        assert_eq!(told, Err(ProofFault::NonceWrong));
    }
}
