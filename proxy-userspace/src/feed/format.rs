//! The formats' names, and what each can hold.

use std::fmt;

use clap::ValueEnum;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// An address or CIDR a line, # and ; begin comments (FireHOL's netsets and ipsets too)
    Plain,
    /// An address and the number of lists it is on
    Ipsum,
    /// Spamhaus DROP: a CIDR, a semicolon and the number of its record
    Spamhaus,
    /// Spamhaus DROP as JSON lines
    SpamhausJson,
    /// First and last address, a-b, with or without a name and a colon before them (`PeerGuardian`)
    Range,
    /// A column of a table; --field names it, or counts from 1
    Csv,
    /// An array or lines of JSON: strings, or objects of which --field names the member
    Json,
    /// What `ipset save` prints
    Ipset,
    /// What `nft list set` and `nft list ruleset` print
    Nft,
}

impl Format {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Ipsum => "ipsum",
            Self::Spamhaus => "spamhaus",
            Self::SpamhausJson => "spamhaus-json",
            Self::Range => "range",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ipset => "ipset",
            Self::Nft => "nft",
        }
    }

    /// Every name, for messages.
    pub(crate) fn names() -> String {
        let names: Vec<_> = Self::value_variants().iter().map(|it| it.name()).collect();
        names.join(", ")
    }

    /// Whether `--field` says anything.
    pub(super) fn has_fields(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }

    /// Whether entries have a score.
    pub(super) fn has_scores(self) -> bool {
        self == Self::Ipsum
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_formats_as_the_command_line_does() {
        for format in Format::value_variants() {
            assert_eq!(Format::from_str(format.name(), false), Ok(*format));
        }
    }
}
