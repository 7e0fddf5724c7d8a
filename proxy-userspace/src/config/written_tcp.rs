//! `[[tcp_route]]` as written, and what a listener carries.

use serde::Deserialize;
use toml::Spanned;

/// What the connections of a listener carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ListenerProtocol {
    /// Requests.
    #[default]
    Https,
    /// Bytes, in TLS that ends here.
    Tcp,
    /// TLS that goes through.
    TlsPassthrough,
}

/// `[[tcp_route]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpRoute {
    /// Name in logs and audit records.
    pub(crate) name: Spanned<String>,
    /// Addresses of the listeners whose connections it is for, as they are written there.
    pub(crate) listeners: Spanned<Vec<Spanned<String>>>,
    /// Server name, `"*.example"` for all below one, or `"*"` for any and none.
    pub(crate) host: Spanned<String>,
    /// Name of the upstream.
    pub(crate) upstream: Spanned<String>,
    /// `"public"`, `"sources"` or `"client_certificate"`.
    pub(crate) access: Option<Spanned<TcpAccess>>,
    /// Ranges of sources that are accepted.
    pub(crate) sources: Option<Spanned<Vec<Spanned<String>>>>,
    /// Longest time for which both ends may be silent.
    pub(crate) idle_timeout: Option<Spanned<String>>,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TcpAccess {
    Public,
    Sources,
    ClientCertificate,
    /// What `[[route]]` has, and can't be had here.
    Token,
}
