//! Who is calling? By the token of the request, or by the certificate that was shown, as its route asks.

use std::{collections::BTreeMap, io, sync::Arc};

use http::{HeaderMap, HeaderValue};
use policy::{Access, Credential, Principal, Route};

use crate::{
    api_key::{ApiKeys, HeldKey, held_key},
    certificate_identity::CertificateFault,
    holder::{Held, Presented, Proofs, Sender},
    introspection::{AskedFor, IntrospectionFault, Introspector},
    login::{Entered, Logins},
    refusal::Refusal,
    revocation::Revocations,
    sent::{Sent, sent_token},
    tenure::{Basis, Tenure},
    token::{
        Issuer, Jws, ProofRules, TokenFault, TokenHasher, TokenLocation, Verified,
        issuer as issuer_of, unix_now,
    },
    uses::{Once, UseFault, Uses},
};

/// Seconds: more is no leeway in a configuration.
const WIDEST_LEEWAY: u64 = 300;

/// The trusted issuers, and the places of API keys, by their configured names.
#[derive(Clone, Debug)]
pub struct Issuers {
    by_name: BTreeMap<String, Arc<Issuer>>,
    asked: BTreeMap<String, Arc<Introspector>>,
    api_keys: BTreeMap<String, Arc<ApiKeys>>,
    hasher: TokenHasher,
    /// What is known of proofs that a token is in the right hands.
    proofs: Arc<Proofs>,
    /// Tokens that are taken back.
    revocations: Arc<Revocations>,
    /// Tokens that were used, where some are good once.
    uses: Option<Arc<Uses>>,
    /// Where tokens and keys are besides `Authorization`.
    carriers: Vec<TokenLocation>,
}

impl Issuers {
    /// These ones.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(issuers: impl IntoIterator<Item = Arc<Issuer>>) -> Result<Self, io::Error> {
        let by_name: BTreeMap<_, _> = issuers
            .into_iter()
            .map(|issuer| (issuer.rules().name.clone(), issuer))
            .collect();
        let locations = by_name.values().map(|issuer| &issuer.rules().location);
        let carriers = with_carriers(Vec::new(), locations);
        Ok(Self {
            by_name,
            asked: BTreeMap::new(),
            api_keys: BTreeMap::new(),
            hasher: TokenHasher::new()?,
            proofs: Arc::new(Proofs::new(ProofRules::default())?),
            revocations: Arc::default(),
            uses: None,
            carriers,
        })
    }

    /// With what is revoked.
    #[must_use]
    pub fn revoking(mut self, revocations: Arc<Revocations>) -> Self {
        self.revocations = revocations;
        self
    }

    /// With these issuers, which are asked about their tokens.
    #[must_use]
    pub fn asking(mut self, introspectors: impl IntoIterator<Item = Arc<Introspector>>) -> Self {
        for introspector in introspectors {
            let rules = introspector.rules();
            self.carriers = with_carriers(self.carriers, [&rules.location]);
            self.asked.insert(rules.name.clone(), introspector);
        }
        self
    }

    /// With these places of API keys.
    #[must_use]
    pub fn with_api_keys(mut self, sources: impl IntoIterator<Item = Arc<ApiKeys>>) -> Self {
        for source in sources {
            let rules = source.rules();
            let carrier = TokenLocation::Header(rules.header.clone());
            self.carriers = with_carriers(self.carriers, [&carrier]);
            self.api_keys.insert(rules.name.clone(), source);
        }
        self
    }

    /// With what is known of proofs already.
    #[must_use]
    pub fn proving(mut self, proofs: Arc<Proofs>) -> Self {
        self.proofs = proofs;
        self
    }

    /// With the tokens that were used.
    #[must_use]
    pub fn remembering(mut self, uses: Arc<Uses>) -> Self {
        self.uses = Some(uses);
        self
    }

    /// The tokens that were used, where that is kept.
    pub fn uses(&self) -> Option<&Uses> {
        self.uses.as_deref()
    }

    /// Uses up what is good once on this route.
    ///
    /// # Errors
    /// When it was used, or it can't be told or written down.
    pub(crate) fn use_up(&self, route: &Route, caller: Option<&Caller>) -> Result<(), TokenFault> {
        let single_use = matches!(
            route.access,
            Access::Token {
                single_use: true,
                ..
            }
        );
        let Some(token) = caller.and_then(Caller::token).filter(|_| single_use) else {
            return Ok(());
        };
        let claims = &token.claims;
        let once = Once {
            issuer: &token.issuer,
            token_id: claims.token_id.as_deref().ok_or(UseFault::NoId)?,
            issued: claims.issued.ok_or(UseFault::NoIssueTime)?,
            leeway: token.until.saturating_sub(claims.expires),
            // Whatever the leeway is made to be meanwhile.
            last: claims.expires.saturating_add(WIDEST_LEEWAY),
        };
        let uses = self.uses.as_ref().ok_or(UseFault::Failing)?;
        Ok(uses.take(&once, unix_now())?)
    }

    /// What is known of proofs.
    pub(crate) fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    /// Issuers that are asked about their tokens.
    pub fn asked(&self) -> impl Iterator<Item = &Arc<Introspector>> {
        self.asked.values()
    }

    /// The places of API keys.
    pub fn api_keys(&self) -> impl Iterator<Item = &Arc<ApiKeys>> {
        self.api_keys.values()
    }

    /// All that sign their tokens.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.by_name.values()
    }

    /// Who holds the token that a request with these fields would be let in with on this route, whoever sent it.
    ///
    /// # Errors
    /// Why nobody is: a token that is bound isn't enough.
    pub async fn holder(
        &self,
        route: &Route,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Principal>>, TokenFault> {
        let Some(presented) = presented(route, headers, self).await? else {
            return Ok(None);
        };
        let verified = presented.of_bearer()?;
        Ok(Some(Arc::clone(&verified.principal)))
    }

    /// Takes cookies and fields that carry tokens and keys out of what goes upstream, whichever route it is on: they
    /// were meant for us, and an upstream that has them can be somebody else with them.
    pub(crate) fn withhold(&self, headers: &mut HeaderMap) {
        for carrier in &self.carriers {
            carrier.withhold(headers);
        }
    }
}

/// With these places of tokens or keys, where they are others than `Authorization`.
fn with_carriers<'l>(
    mut carriers: Vec<TokenLocation>,
    locations: impl IntoIterator<Item = &'l TokenLocation>,
) -> Vec<TokenLocation> {
    for location in locations {
        if *location != TokenLocation::Authorization && !carriers.contains(location) {
            carriers.push(location.clone());
        }
    }
    carriers
}

/// Somebody whose identity was proven.
#[derive(Debug)]
pub(crate) enum Caller {
    /// By a token in the right hands.
    Token(Held),
    /// By a certificate.
    Certificate(Arc<Principal>),
    /// By an API key.
    ApiKey(HeldKey),
    /// By a login of his browser.
    Session(Entered),
}

impl Caller {
    pub(crate) fn principal(&self) -> &Principal {
        match self {
            Self::Token(held) => &held.verified.principal,
            Self::Certificate(principal) => principal,
            Self::ApiKey(held) => held.holder(),
            Self::Session(entered) => &entered.verified.principal,
        }
    }

    /// What was proven of the token, or of the session.
    pub(crate) fn token(&self) -> Option<&Arc<Verified>> {
        match self {
            Self::Token(held) => Some(&held.verified),
            Self::Certificate(_) | Self::ApiKey(_) => None,
            Self::Session(entered) => Some(&entered.verified),
        }
    }

    /// The id of the key that verified the token, or of the API key.
    pub(crate) fn key_id(&self) -> Option<String> {
        match self {
            Self::Token(held) => held.verified.key_id.clone(),
            Self::Certificate(_) => None,
            Self::ApiKey(held) => Some(held.id().to_string()),
            Self::Session(entered) => entered.verified.key_id.clone(),
        }
    }

    /// What goes to a browser with the answer.
    pub(crate) fn cookies(&self) -> &[HeaderValue] {
        match self {
            Self::Session(entered) => &entered.cookies,
            Self::Token(_) | Self::Certificate(_) | Self::ApiKey(_) => &[],
        }
    }

    /// For how long what it lets in may go on; a certificate is asked for of its connection.
    pub(crate) fn tenure(&self, issuers: &Issuers) -> Option<Tenure> {
        let basis = match self {
            Self::Token(held) => Basis::Token(Arc::clone(&held.verified)),
            Self::Session(entered) => {
                Basis::Session(Arc::clone(&entered.verified), Arc::clone(&entered.memory))
            }
            Self::ApiKey(held) => Basis::ApiKey(Box::new(held.clone())),
            Self::Certificate(_) => return None,
        };
        Some(Tenure::of(basis, &issuers.revocations))
    }

    /// What the next proof should quote.
    pub(crate) fn nonce(&self) -> Option<&HeaderValue> {
        match self {
            Self::Token(held) => held.nonce.as_ref(),
            Self::Certificate(_) | Self::ApiKey(_) | Self::Session(_) => None,
        }
    }
}

/// What was proven of the caller; `None` where the route is public, or nothing was sent or shown that it asks for:
/// the policy says what that means. `certificate` is whom the one that was shown makes, `None` where none was.
///
/// Of several ways to prove it the route's first counts, also where that turns out to be no good: otherwise a
/// client that means to be one would be taken for the other. A browser's session stands for a token where there is
/// none.
pub(crate) async fn authenticate(
    route: &Route,
    sender: &Sender<'_>,
    certificate: impl Fn() -> Result<Option<Arc<Principal>>, CertificateFault>,
    issuers: &Issuers,
    logins: &Logins,
) -> Result<Option<Caller>, Refusal> {
    let Access::Token {
        credentials,
        issuers: accepted,
        ..
    } = &route.access
    else {
        return Ok(None);
    };
    let by_token = async || -> Result<Option<Caller>, Refusal> {
        if let Some(presented) = presented(route, sender.headers, issuers).await? {
            let held = presented.held(sender, &issuers.proofs)?;
            return Ok(Some(Caller::Token(held)));
        }
        let Some(login) = logins.of(route) else {
            return Ok(None);
        };
        let Sender {
            headers,
            request,
            upgrades,
            ..
        } = *sender;
        let entered = login.session(headers, request, upgrades).await?;
        Ok(entered.map(Caller::Session))
    };
    for way in credentials.iter() {
        let caller = match way {
            Credential::Token => by_token().await?,
            Credential::Certificate => certificate()?.map(Caller::Certificate),
            Credential::ApiKey => {
                let sources = accepted.iter().filter_map(|it| issuers.api_keys.get(it));
                held_key(sender.headers, sources, unix_now())?.map(Caller::ApiKey)
            }
        };
        if caller.is_some() {
            return Ok(caller);
        }
    }
    Ok(None)
}

/// The token of a request with these fields, proven to be good; in whose hands it is remains to be seen.
async fn presented<'h>(
    route: &Route,
    headers: &'h HeaderMap,
    issuers: &Issuers,
) -> Result<Option<Presented<'h>>, TokenFault> {
    let Access::Token {
        issuers: accepted, ..
    } = &route.access
    else {
        return Ok(None);
    };
    let names = accepted;
    let accepted = || names.iter().filter_map(|name| issuers.by_name.get(name));
    let asked = || names.iter().filter_map(|name| issuers.asked.get(name));
    let locations = accepted().map(|issuer| &issuer.rules().location);
    let locations = locations.chain(asked().map(|issuer| &issuer.rules().location));
    let Some((sent, location)) = sent_token(headers, locations)? else {
        return Ok(None);
    };
    let Sent { token, scheme } = sent;
    let presented = |verified: Arc<Verified>| {
        issuers.revocations.judge(&verified)?;
        Ok(Some(Presented {
            verified,
            token,
            scheme,
        }))
    };
    let from_there = || accepted().filter(|issuer| issuer.rules().location == *location);
    let hash = issuers.hasher.hash(token);
    // What an issuer proved is known to it alone: no route takes another's word.
    for issuer in from_there() {
        if let Some(hash) = hash
            && let Some(verified) = issuer.recognise(hash)?
        {
            return presented(verified);
        }
    }
    // What has the form of a signed token is one, where somebody signs them: it is nobody else's business.
    let is_signed = token.split('.').count() == 3 && from_there().next().is_some();
    let mut of_others = asked().filter(|issuer| issuer.rules().location == *location);
    if let Some(introspector) = of_others.next()
        && !is_signed
    {
        let route = issuers.hasher.hash(&route.name);
        let (Some(token_hash), Some(route)) = (hash, route) else {
            return Err(IntrospectionFault::Failed.into());
        };
        let of_route = AskedFor {
            token: token_hash,
            route,
        };
        return presented(introspector.prove(of_route, token).await?);
    }
    let parsed = Jws::parse(token)?;
    // Believed only after its signature.
    let claimed = issuer_of(&parsed.claims)?;
    let issuer = from_there()
        .find(|issuer| issuer.rules().issuer == claimed)
        .ok_or(TokenFault::UnknownIssuer)?;
    presented(issuer.verify(&parsed, hash).await?)
}
