//! Telling the service manager how the daemon is (sd_notify(3)). Nobody is told who didn't ask: without
//! `NOTIFY_SOCKET` in the environment, nothing is said.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use rustix::time::{ClockId, clock_gettime};

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    /// Requests are served.
    Ready,
    /// The configuration is read again; [`News::Ready`] follows.
    Reloading,
    /// No further requests are served.
    Stopping,
    /// The service's process is another one from now on.
    HandedOver { pid: u32 },
}

impl News {
    fn text(self) -> String {
        match self {
            Self::Ready => "READY=1\nSTATUS=serving".to_owned(),
            Self::Reloading => {
                let now = clock_gettime(ClockId::Monotonic);
                let now_us = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
                format!("RELOADING=1\nMONOTONIC_USEC={now_us}")
            }
            Self::Stopping => "STOPPING=1\nSTATUS=finishing what runs".to_owned(),
            Self::HandedOver { pid } => format!("MAINPID={pid}"),
        }
    }
}

/// Tells the service manager, where there is one.
pub(crate) fn notify(news: News) {
    let Some(place) = env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else {
        return;
    };
    if let Err(error) = say(&place, news) {
        tracing::warn!(%error, ?news, "the service manager could not be told");
    }
}

fn say(place: &OsStr, news: News) -> io::Result<()> {
    let address = match place.as_bytes() {
        // A name without a file (unix(7), abstract).
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(news.text().as_bytes(), &address)?;
    Ok(())
}
