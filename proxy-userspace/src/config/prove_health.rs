//! How an upstream is asked whether it is well, as proven.

use gateway::{HealthCheck, HealthRequest, Protocol};
use http::{HeaderValue, Uri, uri::PathAndQuery};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove_upstreams::{Proving, SECOND},
    value::{in_range, prove_duration},
    written_upstream::Health,
};

impl Proving<'_> {
    pub(super) fn health(
        &self,
        prover: &mut Prover<'_>,
        uris: Option<&Vec<Uri>>,
        protocol: Protocol,
    ) -> Option<HealthCheck> {
        let written = self.upstream.health.as_ref()?;
        let key = |name: &str| self.key(&format!("health.{name}"));
        let request = if protocol == Protocol::Tcp {
            self.reject_requests(prover, written);
            None
        } else {
            Some(self.health_request(prover, written, uris)?)
        };
        let times = (1, 1000);
        Some(HealthCheck {
            request,
            interval: prove_duration(
                prover,
                &key("interval"),
                written.interval.as_ref(),
                5 * SECOND,
            ),
            timeout: prove_duration(
                prover,
                &key("timeout"),
                written.timeout.as_ref(),
                2 * SECOND,
            ),
            healthy_after: in_range(
                prover,
                &key("healthy_after"),
                written.healthy_after.as_ref(),
                2,
                times,
            ),
            unhealthy_after: in_range(
                prover,
                &key("unhealthy_after"),
                written.unhealthy_after.as_ref(),
                3,
                times,
            ),
        })
    }

    /// An upstream without requests is connected to, and asked nothing.
    fn reject_requests(&self, prover: &mut Prover<'_>, written: &Health) {
        let spans = [
            ("path", written.path.as_ref().map(Spanned::span)),
            ("host", written.host.as_ref().map(Spanned::span)),
            ("statuses", written.statuses.as_ref().map(Spanned::span)),
        ];
        for (name, span) in spans {
            if let Some(span) = span {
                let problem = "is about a request, and this upstream carries none";
                let mend = "remove it: that a connection can be had is what is asked";
                prover.reject(&self.key(&format!("health.{name}")), span, problem, mend);
            }
        }
    }

    fn health_request(
        &self,
        prover: &mut Prover<'_>,
        written: &Health,
        uris: Option<&Vec<Uri>>,
    ) -> Option<HealthRequest> {
        let key = |name: &str| self.key(&format!("health.{name}"));
        let Some(path) = &written.path else {
            let name = &self.upstream.name;
            let problem = "its health check has no path";
            let mend = "add path = \"/healthz\" to it";
            prover.reject(&self.key("name"), name.span(), problem, mend);
            return None;
        };
        if !path.as_ref().starts_with('/') || path.as_ref().parse::<PathAndQuery>().is_err() {
            let mend = "write it like \"/healthz\"";
            prover.reject(&key("path"), path.span(), "is no path", mend);
        }
        let host = written.host.as_ref().map(|host| host.as_ref().clone());
        let host = host.or_else(|| {
            let authority = uris?.first()?.authority()?;
            Some(authority.as_str().to_owned())
        });
        let host = HeaderValue::try_from(host?);
        let Ok(host) = host else {
            let span = written.host.as_ref().map_or(path.span(), Spanned::span);
            prover.reject(&key("host"), span, "is no host", "write a host's name");
            return None;
        };
        let statuses = written
            .statuses
            .as_ref()
            .map_or([200, 399], |it| *it.as_ref());
        if let Some(given) = &written.statuses
            && !(100 <= statuses[0] && statuses[0] <= statuses[1] && statuses[1] < 600)
        {
            let mend = "write the first and the last, like [200, 299]";
            prover.reject(
                &key("statuses"),
                given.span(),
                "is no range of statuses",
                mend,
            );
        }
        Some(HealthRequest {
            path: path.as_ref().clone(),
            host,
            statuses: statuses[0]..=statuses[1],
        })
    }
}
