//! API keys as proven.

use gateway::ApiKeyRules;
use http::HeaderName;
use toml::Spanned;

use super::{
    mistake::Prover, prove_issuers::own_field, value::reject_repeated, written_api_keys::ApiKeys,
    written_issuer,
};
use crate::api_keys::{ApiKeyError, KeyFile};

/// How to mend a file of keys.
const FILE: &str = "`portcullis apikey new --file` makes it, and the lines in it";

pub(super) fn api_keys(
    prover: &mut Prover<'_>,
    written: &[ApiKeys],
    issuers: &[written_issuer::Issuer],
) -> Vec<KeyFile> {
    reject_repeated(prover, "api_keys", written.iter().map(|it| &it.name));
    let mut proven = Vec::new();
    for (index, source) in written.iter().enumerate() {
        let key = |name: &str| format!("api_keys[{index}].{name}");
        let name = source.name.as_ref();
        if issuers.iter().any(|it| it.name.as_ref() == name) {
            let problem = "an [[issuer]] of tokens has this name";
            let mend = "give it one of its own";
            prover.reject(&key("name"), source.name.span(), problem, mend);
        }
        let header = prove_header(prover, &key("header"), &source.header, issuers);
        let Some(header) = header else { continue };
        let rules = ApiKeyRules {
            name: name.clone(),
            header,
        };
        match KeyFile::load(source.file.as_ref(), rules) {
            Ok(file) => proven.push(file),
            Err(error) => {
                let mend = match &error {
                    ApiKeyError::File(error) => error.mend(),
                    ApiKeyError::Syntax { .. } | ApiKeyError::Key { .. } => FILE,
                };
                prover.reject(&key("file"), source.file.span(), error, mend);
            }
        }
    }
    proven
}

/// One thing in one field: a token that is read as a key would be refused as one, and the other way round.
fn prove_header(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<String>,
    issuers: &[written_issuer::Issuer],
) -> Option<HeaderName> {
    let header = own_field(written.as_ref());
    let Some(header) = header else {
        let problem = "is no field that can carry a key";
        let mend = "name one of its own, with - in place of _, such as \"x-api-key\"";
        prover.reject(key, written.span(), problem, mend);
        return None;
    };
    let of_tokens = issuers.iter().filter_map(|it| it.token_header.as_ref());
    if of_tokens
        .into_iter()
        .any(|it| header == it.as_ref().as_str())
    {
        let problem = "carries tokens of an [[issuer]] already";
        prover.reject(
            key,
            written.span(),
            problem,
            "give keys a field of their own",
        );
    }
    Some(header)
}
