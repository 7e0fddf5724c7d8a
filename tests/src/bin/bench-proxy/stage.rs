//! What all proxies of a run share: certificate, tokens, upstreams.

use portcullis_tests::{
    pki::{Pki, TokenIssuer},
    run::Rigged,
    scene::HOST,
    scratch::Scratch,
    websocket::EchoServer,
};

use crate::{
    connection::Trust,
    tokens::{ISSUER, Tokens},
    upstream::Upstream,
};

/// Everything but the proxies.
// Fields drop in their order: what runs ends before its folder goes.
pub(crate) struct Stage {
    /// Answers requests.
    pub(crate) upstream: Upstream,
    /// Answers WebSockets.
    pub(crate) echo: EchoServer,
    /// One ECDSA P-256 certificate, for the name of the API and for where it is.
    pub(crate) pki: Pki,
    /// Its keys are what proxies are given.
    pub(crate) issuer: TokenIssuer,
    /// Signed by that issuer.
    pub(crate) tokens: Tokens,
    /// How our own client trusts the certificate.
    pub(crate) trust: Trust,
    /// The run's folder.
    pub(crate) scratch: Scratch,
}

impl Stage {
    /// Makes all of it.
    pub(crate) fn set() -> Rigged<Self> {
        let scratch = Scratch::new()?;
        let pki = Pki::issue(&scratch, &[HOST, "localhost", "127.0.0.1"])?;
        let issuer = TokenIssuer::new(ISSUER, "key-1")?;
        scratch.write("jwks.json", issuer.jwks())?;
        Ok(Self {
            upstream: Upstream::start(&scratch)?,
            echo: EchoServer::start()?,
            trust: Trust::new(&pki)?,
            tokens: Tokens::sign(&issuer)?,
            pki,
            issuer,
            scratch,
        })
    }
}
