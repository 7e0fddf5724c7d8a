//! An upstream's TLS as proven.

use gateway::{
    ClientIdentity, Protocol, ServerName, TlsError, UpstreamRoots, UpstreamTls, upstream_client,
};
use toml::Spanned;

use super::{mistake::Prover, prove_upstreams::Proving, value::read_file};

impl Proving<'_> {
    /// Keys about TLS have no meaning without it; a `ca` beside `http://` is a mistake about the scheme.
    pub(super) fn reject_tls_keys(&self, prover: &mut Prover<'_>) {
        let written = self.upstream;
        let paths = [
            ("ca", &written.ca),
            ("certificate", &written.certificate),
            ("key", &written.key),
        ];
        let texts = [
            ("server_name", &written.server_name),
            ("spiffe_id", &written.spiffe_id),
        ];
        let spans = paths
            .into_iter()
            .filter_map(|(name, given)| Some((name, given.as_ref()?.span())))
            .chain(
                texts
                    .into_iter()
                    .filter_map(|(name, given)| Some((name, given.as_ref()?.span()))),
            );
        for (name, span) in spans {
            let mend = "write https:// (or tls://) in its URL, or remove this";
            prover.reject(
                &self.key(name),
                span,
                "is about TLS, which http and tcp have not",
                mend,
            );
        }
    }

    pub(super) fn tls(&self, prover: &mut Prover<'_>, protocol: Protocol) -> Option<UpstreamTls> {
        let written = self.upstream;
        let ca = match &written.ca {
            Some(path) => Some(read_file(prover, &self.key("ca"), path)?),
            None => None,
        };
        let roots = match (&ca, &written.spiffe_id) {
            (None, Some(id)) => {
                let problem = "says whom to expect and not who vouches for it";
                let mend = "add ca = \"…\" with the trust domain's certificates";
                prover.reject(&self.key("spiffe_id"), id.span(), problem, mend);
                return None;
            }
            (Some(_), Some(id)) if !id.as_ref().starts_with("spiffe://") => {
                let mend = "write it like \"spiffe://example.org/orders\"";
                prover.reject(&self.key("spiffe_id"), id.span(), "is no SPIFFE ID", mend);
                return None;
            }
            (Some(ca), Some(id)) => UpstreamRoots::Spiffe(ca, id.as_ref()),
            (Some(ca), None) => UpstreamRoots::Pem(ca),
            (None, None) => UpstreamRoots::System,
        };
        let (identity, shown) = self.identity(prover)?;
        let config = upstream_client(roots, identity)
            .map_err(|error| {
                let span = written
                    .ca
                    .as_ref()
                    .map_or(written.name.span(), Spanned::span);
                prover.reject(
                    &self.key("ca"),
                    span,
                    error,
                    "give a PEM file of certificates",
                );
            })
            .ok()?;
        let server_name = match &written.server_name {
            None => None,
            Some(name) => match ServerName::try_from(name.as_ref().clone()) {
                Ok(name) => Some(name),
                Err(_) => {
                    let mend = "write it like \"orders.internal\"";
                    prover.reject(&self.key("server_name"), name.span(), "is no name", mend);
                    return None;
                }
            },
        };
        let id = written.spiffe_id.as_ref().map(|id| id.as_ref().as_bytes());
        let made_of = [
            ca.as_deref().unwrap_or_default(),
            id.unwrap_or_default(),
            &shown[0],
            &shown[1],
        ];
        Some(UpstreamTls::new(config, &made_of, protocol, server_name))
    }

    /// The certificate that is shown to it, and what it was read from; `None` for a mistake.
    fn identity(&self, prover: &mut Prover<'_>) -> Option<(Option<ClientIdentity>, [Vec<u8>; 2])> {
        let written = self.upstream;
        let (certificate, key) = match (&written.certificate, &written.key) {
            (None, None) => return Some((None, Default::default())),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(alone), None) | (None, Some(alone)) => {
                let (there, lacks) = if written.key.is_some() {
                    ("key", "certificate")
                } else {
                    ("certificate", "key")
                };
                let problem = format!("is of no use without {lacks}");
                let mend = format!("add {lacks} = \"…\"");
                prover.reject(&self.key(there), alone.span(), problem, mend);
                return None;
            }
        };
        let chain = read_file(prover, &self.key("certificate"), certificate)?;
        let secret = read_file(prover, &self.key("key"), key)?;
        ClientIdentity::load(&chain, &secret)
            .map(|identity| (Some(identity), [chain, secret]))
            .map_err(|error| match error {
                TlsError::NoKey | TlsError::KeyMismatch => {
                    let mend = "give the PEM private key of that certificate";
                    prover.reject(&self.key("key"), key.span(), error, mend);
                }
                _ => {
                    let mend = "give the PEM certificate, then its chain";
                    prover.reject(&self.key("certificate"), certificate.span(), error, mend);
                }
            })
            .ok()
    }
}
