//! What serves requests, kept current: keys, certificates, upstreams.

use std::sync::Arc;

use audit::Journal;
use gateway::{
    CertificateNews, Certificates, ClientCertificates, Introspector, Issuer, KeyError, KeyNews,
    Upstream, UpstreamNews,
};

use crate::trail::note;

/// Tells of an issuer that is for development.
pub(crate) fn warn_of_development(issuer: &Issuer, journal: &Journal) {
    if !issuer.rules().development {
        return;
    }
    let name = &issuer.rules().name;
    tracing::warn!(
        issuer = name,
        "AN ISSUER FOR DEVELOPMENT: whoever has its key lets himself in"
    );
    note(journal, "issuer_for_development", name);
}

/// Loads an issuer's keys for the first time. A failure is told, and mended later: until then
/// its tokens are refused.
pub(crate) async fn load_keys(issuer: &Issuer, journal: &Journal) {
    let name = &issuer.rules().name;
    if let Err(error) = obtain_keys(issuer).await {
        tracing::error!(issuer = name, %error, "NO KEYS: every token of this issuer is refused");
        note(journal, "keys_failed", &format!("{name}: {error}"));
    }
}

/// Loads an issuer's keys, where somebody else has some as long as this fails.
pub(crate) async fn obtain_keys(issuer: &Issuer) -> Result<(), KeyError> {
    let name = &issuer.rules().name;
    let count = issuer.keys().refresh().await?;
    tracing::info!(issuer = name, count, "keys loaded");
    Ok(())
}

/// Keeps an issuer's keys current. Never ends.
pub(crate) async fn keep_keys(issuer: Arc<Issuer>, journal: Arc<Journal>) {
    let name = issuer.rules().name.as_str();
    let tell = |step: &str, detail: &str| note(&journal, step, &format!("{name}: {detail}"));
    issuer
        .keys()
        .keep_current(|news| match news {
            KeyNews::Loaded(count) => {
                tracing::info!(issuer = name, count, "other keys are in force");
                tell("keys_loaded", &format!("{count} in force"));
            }
            KeyNews::Recovered(count) => {
                tracing::info!(issuer = name, count, "keys can be had again");
                tell("keys_recovered", &format!("{count} in force"));
            }
            KeyNews::Failed(error) => {
                tracing::error!(issuer = name, %error, "KEYS NOT REFRESHED; the last good ones stay for a while");
                tell("keys_failed", &error.to_string());
            }
            KeyNews::FailedAgain(error) => {
                tracing::warn!(issuer = name, %error, "keys not refreshed; the last good ones stay for a while");
            }
            KeyNews::Outlived(error) => {
                tracing::error!(issuer = name, %error, "NO KEYS: they could not be refreshed for too long, and every token of this issuer is refused");
                tell("keys_outlived", &error.to_string());
            }
        })
        .await;
}

/// Tells when an issuer can't be asked about its tokens, and when it can again. Never ends.
pub(crate) async fn tell_of_introspection(introspector: Arc<Introspector>, journal: Arc<Journal>) {
    let name = introspector.rules().name.as_str();
    let mut trouble = introspector.trouble();
    while trouble.changed().await.is_ok() {
        let now = trouble.borrow_and_update().clone();
        match now {
            Some(why) => {
                tracing::error!(
                    issuer = name,
                    why,
                    "NOT ASKED: tokens of this issuer that aren't known are refused"
                );
                note(&journal, "introspection_failed", &format!("{name}: {why}"));
            }
            None => {
                tracing::info!(issuer = name, "it can be asked about its tokens again");
                note(&journal, "introspection_recovered", name);
            }
        }
    }
}

/// Keeps an upstream's addresses current, and knows whether it is well. Never ends.
pub(crate) async fn keep_upstream(upstream: Arc<Upstream>, journal: Arc<Journal>) {
    let tell = |name: &str, news: UpstreamNews| {
        let (step, detail) = match news {
            UpstreamNews::Resolved(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                ("upstream_resolved", addresses.join(", "))
            }
            UpstreamNews::Unresolved(why) => ("upstream_unresolved", why),
            UpstreamNews::Refused(address) => {
                let mend = "list it in allow_addresses of the upstream to allow it";
                let what = format!(
                    "its name leads to {address}, which is this host's or metadata; {mend}"
                );
                ("upstream_refused", what)
            }
            UpstreamNews::Unhealthy(address, why) => {
                ("endpoint_unhealthy", format!("{address}: {why}"))
            }
            UpstreamNews::Healthy(address) => ("endpoint_healthy", address.to_string()),
        };
        tracing::warn!(upstream = name, detail, "{step}");
        note(&journal, step, &format!("{name}: {detail}"));
    };
    tokio::join!(
        Arc::clone(&upstream).keep_current(&tell),
        upstream.keep_checking(&tell)
    );
}

/// Keeps what clients' certificates are judged by current. Never ends.
pub(crate) async fn keep_client_certificates(rule: Arc<ClientCertificates>, journal: Arc<Journal>) {
    rule.keep_current(|outcome| match outcome {
        Ok(()) => {
            tracing::info!("what client certificates are judged by was read again");
            note(&journal, "client_certificates_reloaded", "");
        }
        Err(error) => {
            tracing::error!(%error, "NOT READ AGAIN: client certificates are judged as before");
            note(&journal, "client_certificates_refused", &error.to_string());
        }
    })
    .await;
}

/// Keeps a listener's certificates current. Never ends.
pub(crate) async fn keep_certificates(certificates: Arc<Certificates>, journal: Arc<Journal>) {
    certificates
        .keep_current(|files, news| {
            let chain = files.chain.display();
            match news {
                CertificateNews::Read => {
                    tracing::info!(%chain, "certificate read again");
                    note(&journal, "certificate", &chain.to_string());
                }
                CertificateNews::Failed(error) => {
                    tracing::error!(%chain, %error, "NOT RENEWED: the last good certificate serves on");
                    note(&journal, "certificate_failed", &format!("{chain}: {error}"));
                }
                CertificateNews::Unstapled(fault) => {
                    let file = files.ocsp.as_deref().unwrap_or(&files.chain).display();
                    tracing::error!(%file, %fault, "NOT STAPLED: this OCSP response is held back");
                    note(&journal, "ocsp_refused", &format!("{file}: {fault}"));
                }
                CertificateNews::StapleEnded => {
                    tracing::error!(%chain, "NOT STAPLED: the OCSP response has run out");
                    note(&journal, "ocsp_ended", &chain.to_string());
                }
            }
        })
        .await;
}
