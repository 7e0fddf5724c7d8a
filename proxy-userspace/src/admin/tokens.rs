//! Tokens that are taken back: on demand, given back, shown.

use tokio::net::unix::UCred;

use super::{Admin, Reply, Request};
use crate::revocations::{RevocationError, Wish};

impl Admin {
    pub(super) fn act_on_tokens(
        &self,
        request: Request,
        peer: &UCred,
    ) -> Result<Reply, RevocationError> {
        let keeper = &self.revocations;
        match request {
            Request::RevokeTokens {
                which,
                until_ms,
                reason,
            } => {
                let revoked = keeper.revoke(Wish {
                    which,
                    until_ms,
                    reason,
                    by_uid: peer.uid(),
                })?;
                Ok(Reply::Revoked { revoked })
            }
            Request::UnrevokeTokens { ids } => {
                let revoked = keeper.unrevoke(&ids, peer.uid())?;
                Ok(Reply::Revoked { revoked })
            }
            Request::Revocations { about, known } => {
                // Before they are read: what changes meanwhile is asked for again.
                let version = keeper.version();
                let revocations = if known == Some(version) {
                    None
                } else {
                    Some(keeper.list(&about)?)
                };
                Ok(Reply::Revocations {
                    version,
                    revocations,
                })
            }
            // Answered elsewhere.
            _ => Ok(Reply::Error {
                message: "is no request about tokens".to_owned(),
            }),
        }
    }
}
