//! `portcullis apikey`

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{Output, parse_ttl};

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// Make one: print it, and the line by which it is known in the file of an [[api_keys]]
    New(NewApiKey),
}

#[derive(Debug, Args)]
pub(crate) struct NewApiKey {
    /// Whom it is for
    #[arg(long)]
    pub(crate) subject: String,
    /// Scopes, with spaces between
    #[arg(long, default_value = "")]
    pub(crate) scopes: String,
    /// A group of the subject; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Something else for the policy; may be given several times
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    pub(crate) attributes: Vec<(String, String)>,
    /// How long it is good, such as 90days; for ever without it
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(crate) ttl: Option<Duration>,
    /// Add the line to this file, which is made with mode 600 where there is none
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

fn parse_attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it like tenant=acme".to_owned()),
    }
}
