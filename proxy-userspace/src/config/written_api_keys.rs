//! `[[api_keys]]` as written.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// `[[api_keys]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeys {
    /// Name that routes use.
    pub(crate) name: Spanned<String>,
    /// The file that they are in.
    pub(crate) file: Spanned<PathBuf>,
    /// The field that carries one, such as `"x-api-key"`.
    pub(crate) header: Spanned<String>,
}
