//! One certificate, from its names to its chain.

use std::{sync::Arc, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};

use super::{
    failure::AcmeError,
    handshake::challenge_certificate,
    pending::{Challenge, Pending, Showing},
};

/// How often the authority is asked whether it has come to an end, and for how long: once a second at
/// first. It says itself when it wants to be asked less often.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// A certificate's chain and its key, as PEM.
pub(super) struct Obtained {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Orders a certificate for these names, and shows what the authority wants to see while it checks them.
pub(super) async fn obtain(
    account: &Account,
    names: &[String],
    challenge: Challenge,
    pending: &Arc<Pending>,
) -> Result<Obtained, AcmeError> {
    let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account
        .new_order(&NewOrder::new(&identifiers))
        .await
        .map_err(AcmeError::of("the order"))?;
    let shown = show(&mut order, challenge, pending).await?;
    // Without any to show, the names were checked for an earlier order, and it may be ready already.
    let is_ready = order.state().status == OrderStatus::Ready;
    if !is_ready {
        let ended = order.poll_ready(&POLLING).await;
        if !matches!(ended, Ok(OrderStatus::Ready)) {
            let status = not_validated(&mut order, challenge).await;
            return Err(match (status, ended) {
                (Some(reason), _) => reason,
                (None, Err(error)) => AcmeError::of("the order")(error),
                (None, Ok(_)) => AcmeError::Useless("an order that it calls invalid".to_owned()),
            });
        }
    }
    drop(shown);
    let key = order
        .finalize()
        .await
        .map_err(AcmeError::of("the certificate"))?;
    let chain = order
        .poll_certificate(&POLLING)
        .await
        .map_err(AcmeError::of("the certificate"))?;
    Ok(Obtained { chain, key })
}

/// Shows what is to be shown for each name that isn't checked yet, and says so.
async fn show(
    order: &mut Order,
    challenge: Challenge,
    pending: &Arc<Pending>,
) -> Result<Vec<Showing>, AcmeError> {
    let wanted = match challenge {
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    };
    let mut shown = Vec::new();
    let mut all = order.authorizations();
    while let Some(authorization) = all.next().await {
        let mut authorization = authorization.map_err(AcmeError::of("an authorisation"))?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let offered: Vec<_> = authorization
            .challenges
            .iter()
            .map(|it| format!("{:?}", it.r#type))
            .collect();
        let Some(mut offer) = authorization.challenge(wanted.clone()) else {
            return Err(AcmeError::NotOffered {
                name,
                challenge,
                offered: offered.join(", "),
            });
        };
        let proof = offer.key_authorization();
        shown.push(match challenge {
            Challenge::TlsAlpn01 => {
                let certificate = challenge_certificate(&name, proof.digest().as_ref())?;
                pending.show_certificate(&name, certificate)
            }
            Challenge::Http01 => pending.show_answer(&name, &offer.token, proof.as_str()),
        });
        offer
            .set_ready()
            .await
            .map_err(AcmeError::of("a challenge"))?;
    }
    Ok(shown)
}

/// Which name the authority couldn't check, and why: the order itself doesn't say it.
async fn not_validated(order: &mut Order, challenge: Challenge) -> Option<AcmeError> {
    let mut all = order.authorizations();
    while let Some(Ok(mut authorization)) = all.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let failed = state.challenges.iter().find_map(|it| it.error.as_ref());
        if let Some(problem) = failed {
            let detail = problem.detail.as_deref().unwrap_or("without a reason");
            return Some(AcmeError::NotValidated {
                name,
                challenge,
                problem: detail.to_owned(),
            });
        }
    }
    None
}
