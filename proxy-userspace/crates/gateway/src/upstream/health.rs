//! Asking endpoints whether they are well, so that no request has to find out.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use http::{HeaderValue, Request, StatusCode, header};
use tokio::time;

use super::{
    Upstream, UpstreamBody, UpstreamNews,
    connect::{Purpose, Sender},
    endpoint::Endpoint,
    form::{as_http1, as_http2},
};
use crate::flow::Flow;

/// A connection of the proxy's own.
const OWN: Purpose = Purpose {
    only_http1: false,
    client: None,
};

/// How an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What; without it, it is enough that a connection can be had.
    pub request: Option<HealthRequest>,
    /// How often.
    pub interval: Duration,
    /// Longest wait for the answer's head, or the connection.
    pub timeout: Duration,
    /// Good answers in a row after which an endpoint serves again.
    pub healthy_after: u32,
    /// Failed ones after which it no longer does.
    pub unhealthy_after: u32,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRequest {
    /// Path and query of a GET.
    pub path: String,
    /// `Host` of it.
    pub host: HeaderValue,
    /// Statuses of a good answer.
    pub statuses: RangeInclusive<u16>,
}

impl Upstream {
    /// Asks every endpoint again and again, where that is configured. Never ends.
    pub async fn keep_checking(self: Arc<Self>, tell: impl Fn(&str, UpstreamNews)) {
        let Some(check) = self.spec.health.clone() else {
            return std::future::pending().await;
        };
        // Of each endpoint: answers in a row that say otherwise than it stands.
        let mut against: Vec<(Arc<Endpoint>, u32)> = Vec::new();
        let mut ticks = time::interval(check.interval);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let endpoints = self.endpoints.load_full();
            against.retain(|(known, _)| endpoints.iter().any(|it| Arc::ptr_eq(it, known)));
            let asked: Vec<_> = endpoints
                .iter()
                .map(|endpoint| {
                    let (upstream, endpoint) = (Arc::clone(&self), Arc::clone(endpoint));
                    let check = check.clone();
                    tokio::spawn(async move {
                        let outcome = upstream.ask(&endpoint, &check).await;
                        (endpoint, outcome)
                    })
                })
                .collect();
            for asked in asked {
                let Ok((endpoint, outcome)) = asked.await else {
                    continue;
                };
                let known = against
                    .iter()
                    .position(|(it, _)| Arc::ptr_eq(it, &endpoint));
                let known = known.unwrap_or_else(|| {
                    against.push((Arc::clone(&endpoint), 0));
                    against.len() - 1
                });
                let count = &mut against[known].1;
                if outcome.is_ok() == endpoint.is_healthy() {
                    *count = 0;
                    continue;
                }
                *count += 1;
                let needed = if outcome.is_ok() {
                    check.healthy_after
                } else {
                    check.unhealthy_after
                };
                if *count >= needed && endpoint.set_healthy(outcome.is_ok()) {
                    *count = 0;
                    let news = match outcome {
                        Ok(()) => UpstreamNews::Healthy(endpoint.address),
                        Err(why) => UpstreamNews::Unhealthy(endpoint.address, why),
                    };
                    tell(self.name(), news);
                }
            }
        }
    }

    /// Asks one endpoint, on a connection of its own.
    async fn ask(&self, endpoint: &Endpoint, check: &HealthCheck) -> Result<(), String> {
        let asking = async {
            let host = &self.hosts[endpoint.target];
            let (connector, address) = (&self.connector, endpoint.address);
            let Some(asked) = &check.request else {
                let reached = connector.reach(address, host, OWN).await;
                return reached.map(drop).map_err(|fault| fault.to_string());
            };
            let sender = connector
                .connect(address, host, OWN, None)
                .await
                .map_err(|fault| fault.to_string())?;
            let mut request = Request::new(UpstreamBody::empty(Flow::begin(
                time::Instant::now().into_std(),
            )));
            *request.uri_mut() = asked
                .path
                .parse()
                .map_err(|error| format!("{}: {error}", asked.path))?;
            request
                .headers_mut()
                .insert(header::HOST, asked.host.clone());
            let agent = HeaderValue::from_static("portcullis-health");
            request.headers_mut().insert(header::USER_AGENT, agent);
            let answer = match sender {
                Sender::Http1(mut sender) => {
                    as_http1(&mut request);
                    sender.send_request(request).await
                }
                Sender::Http2(mut sender) => {
                    as_http2(&mut request, connector.tls.is_some());
                    sender.send_request(request).await
                }
            };
            let status = answer.map_err(|error| error.to_string())?.status();
            is_good(status, &asked.statuses)
        };
        time::timeout(check.timeout, asking)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", check.timeout)))
    }
}

fn is_good(status: StatusCode, statuses: &RangeInclusive<u16>) -> Result<(), String> {
    if statuses.contains(&status.as_u16()) {
        return Ok(());
    }
    Err(format!("it answered {}", status.as_u16()))
}
