//! `[[login]]` as written.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// `[[login]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// Name that routes use.
    pub(crate) name: Spanned<String>,
    /// Name of the issuer.
    pub(crate) issuer: Spanned<String>,
    /// As what the proxy is registered there.
    pub(crate) client_id: Spanned<String>,
    /// File with the secret of that registration; a public client without it.
    pub(crate) client_secret_file: Option<Spanned<PathBuf>>,
    /// Scopes to ask for, `openid` among them.
    pub(crate) scopes: Option<Spanned<Vec<String>>>,
    /// Where the issuer sends browsers back to.
    pub(crate) redirect_path: Option<Spanned<String>>,
    /// Where users log out.
    pub(crate) logout_path: Option<Spanned<String>>,
    /// Where they come to after that.
    pub(crate) after_logout: Option<Spanned<String>>,
    /// How long a user may take to log in.
    pub(crate) attempt: Option<Spanned<String>>,
    /// Longest session.
    pub(crate) lifetime: Option<Spanned<String>>,
    /// Longest time for which a session may go unused.
    pub(crate) idle: Option<Spanned<String>>,
    /// File with the key that sessions are sealed with; one is made in the state's folder without it.
    pub(crate) key_file: Option<Spanned<PathBuf>>,
}
