//! What went wrong and what mends it.

use std::fmt;

/// Why a command of xtask stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Not yet told to the operator: what happened, and the mend if one is known.
    Told {
        /// What happened, as one sentence without a full stop.
        what: String,
        /// What to do about it; may be several lines, such as commands.
        mend: Option<String>,
    },
    /// Already printed where it happened; only the exit status is left to give.
    Printed,
}

impl Failure {
    /// A failure nothing more is known about.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::Told {
            what: what.into(),
            mend: None,
        }
    }

    /// A failure and what to do about it.
    pub(crate) fn with_mend(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::Told {
            what: what.into(),
            mend: Some(mend.into()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { what, mend: None } => f.write_str(what),
            Self::Told {
                what,
                mend: Some(mend),
            } => write!(f, "{what}\n{mend}"),
            Self::Printed => Ok(()),
        }
    }
}
