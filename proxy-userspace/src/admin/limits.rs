//! The kernel's limits: shown, and set for as long as the daemon runs.

use std::time::Duration;

use proxy_common::{Limit, LimitSetting, Mode};
use tokio::net::unix::UCred;

use super::{Admin, LimitReport, Reply, mode_name};
use crate::{config::limit_setting, lists::ListError, trail::note};

impl Admin {
    /// The limits in force.
    pub(super) fn limits(&self) -> Result<Reply, ListError> {
        let rules = self.lists.with_kernel(|datapath| *datapath.rules());
        let Some(rules) = rules else {
            return Ok(no_kernel());
        };
        let limits = Limit::ALL
            .into_iter()
            .map(|limit| report(limit, &rules.limits[limit as usize]))
            .collect();
        Ok(Reply::Limits {
            limits,
            pending: None,
        })
    }

    /// Puts a limit in force for the next packet, until the daemon is started again.
    pub(super) fn set_limit(
        &self,
        name: &str,
        rate: u64,
        burst: Option<u64>,
        mode: Option<&str>,
        confirm: Option<Duration>,
        peer: &UCred,
    ) -> Result<Reply, ListError> {
        let refuse = |message: String| Ok(Reply::Error { message });
        let Some(limit) = Limit::ALL.into_iter().find(|limit| limit.name() == name) else {
            let names = Limit::ALL.map(Limit::name).join(", ");
            return refuse(format!("there is no limit {name:?}; there are: {names}"));
        };
        let mode = match mode {
            None => None,
            Some("enforce") => Some(Mode::Enforce),
            Some("monitor") => Some(Mode::Monitor),
            Some(other) => {
                return refuse(format!("mode {other:?} is neither enforce nor monitor"));
            }
        };
        let most = proxy_common::Gcra::FASTEST;
        if rate > most || burst.is_some_and(|burst| burst > most || burst < rate.min(1)) {
            return refuse(format!("rate goes from 0 to {most}, burst from 1"));
        }
        let set = |before: LimitSetting| {
            let mode = mode.unwrap_or(before.mode());
            limit_setting(rate, burst.unwrap_or(rate), mode)
        };
        let Some((setting, pending)) = self.lists.set_limit(limit, set, confirm)? else {
            return Ok(no_kernel());
        };
        let report = report(limit, &setting);
        self.note_limit(&report, peer);
        Ok(Reply::Limits {
            limits: vec![report],
            pending,
        })
    }

    fn note_limit(&self, report: &LimitReport, peer: &UCred) {
        let LimitReport {
            limit,
            rate,
            burst,
            mode,
        } = report;
        let uid = peer.uid();
        let detail = format!("{limit} rate {rate} burst {burst} mode {mode} by uid {uid}");
        note(&self.journal, "set_limit", &detail);
    }
}

pub(super) fn report(limit: Limit, setting: &LimitSetting) -> LimitReport {
    LimitReport {
        limit: limit.name().to_owned(),
        rate: setting.gcra.rate(),
        burst: setting.gcra.burst(),
        mode: mode_name(setting.mode()).to_owned(),
    }
}

fn no_kernel() -> Reply {
    Reply::Error {
        message: "there is no kernel side, so there are no limits; see `portcullis status`"
            .to_owned(),
    }
}
