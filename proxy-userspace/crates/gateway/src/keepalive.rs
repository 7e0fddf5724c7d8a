//! Peers that are gone without a word are noticed, however quiet a connection may be.

use std::{os::fd::AsFd, time::Duration};

use rustix::net::sockopt;

/// Silence before the first probe, between two, and how many go unanswered before the connection ends: a
/// dead peer is noticed within two minutes, where the system would take two hours.
const IDLE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// Has the kernel ask a silent peer whether it is there (RFC 1122, 4.2.3.6). What can't be set is left: the
/// connection works without.
pub(crate) fn keep_alive(socket: impl AsFd) {
    let socket = socket.as_fd();
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, IDLE);
    let _ = sockopt::set_tcp_keepintvl(socket, INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(socket, PROBES);
}
