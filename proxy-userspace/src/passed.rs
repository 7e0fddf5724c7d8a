//! Listening sockets that this process was started with: of the service manager (sd_listen_fds(3)), or of the
//! process that it takes over from. They are used in place of binding.

use std::{
    env, fs,
    net::{self, SocketAddr},
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    path::Path,
};

use gateway::Sockets;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{
        AddressFamily, SocketType,
        sockopt::{socket_acceptconn, socket_domain, socket_type},
    },
};

use crate::{
    bound::ServiceError,
    config::Config,
    upgrade::{Handle, Label},
};

/// By which the service manager says what it passes. They are for this process and no other.
pub(crate) const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Why a socket that the service manager passes can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassedError {
    #[error(
        "LISTEN_FDS is {0:?}, which is no number of descriptors; start the daemon without it, or by a socket unit"
    )]
    NoNumber(String),
    #[error("{which}, which the service manager passes, isn't open; check what starts the daemon")]
    NotOpen { which: String },
    #[error(
        "{which}, which the service manager passes, {problem}; use ListenStream= with an address and a port, \
         and Accept=no, in the socket unit"
    )]
    WrongKind {
        which: String,
        problem: &'static str,
    },
    #[error(
        "{which}, which the service manager passes, listens on {address}, and nothing in the configuration \
         does; give a listener that address, name the socket after one (FileDescriptorName=listener[0]), or \
         take it out of the socket unit"
    )]
    NotWanted { which: String, address: SocketAddr },
}

/// Which part of the configuration asks for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Listener { at: usize },
    Plain,
    Observer,
}

impl For {
    /// Whether a name of the service manager's means this part: its table in the configuration.
    fn is_named(self, name: &str) -> bool {
        match self {
            Self::Listener { at } => name == format!("listener[{at}]"),
            Self::Plain => ["acme", "redirect"].contains(&name),
            Self::Observer => name == "observe",
        }
    }
}

#[derive(Debug)]
struct Socket {
    origin: Origin,
    socket: net::TcpListener,
}

#[derive(Debug)]
enum Origin {
    Manager {
        which: String,
        name: String,
        address: SocketAddr,
    },
    Predecessor {
        part: For,
        configured: SocketAddr,
    },
}

/// Sockets that nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    sockets: Vec<Socket>,
    admin: Vec<Handle>,
}

impl Passed {
    /// Those of the service manager. To be called once, before there are threads.
    pub(crate) fn by_service_manager() -> Result<Self, PassedError> {
        let [pid, count, names] = VARIABLES.map(|name| env::var(name).unwrap_or_default());
        for variable in VARIABLES {
            // SAFETY: there is no other thread that could read the environment meanwhile.
            #[expect(unsafe_code, reason = "what is for this process must not be inherited")]
            unsafe {
                env::remove_var(variable);
            }
        }
        let mut passed = Self::default();
        if pid != std::process::id().to_string() {
            return Ok(passed);
        }
        let all: RawFd = count.parse().map_err(|_| PassedError::NoNumber(count))?;
        let mut names = names.split(':');
        for descriptor in FIRST..FIRST.saturating_add(all) {
            let name = names.next().unwrap_or_default().to_owned();
            let which = match name.as_str() {
                "" => format!("descriptor {descriptor}"),
                name => format!("descriptor {descriptor} ({name:?})"),
            };
            if !fs::exists(format!("/proc/self/fd/{descriptor}")).unwrap_or(false) {
                return Err(PassedError::NotOpen { which });
            }
            #[expect(
                unsafe_code,
                reason = "a descriptor that is inherited has no other origin"
            )]
            // SAFETY: it is open, the variables say that it is meant for this process, and nothing else has
            // it: this is called once, before anything is opened.
            let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
            passed
                .sockets
                .push(Socket::of_manager(socket, which, name)?);
        }
        Ok(passed)
    }

    /// Those of the process that this one takes over from, besides.
    pub(crate) fn add(&mut self, handles: Vec<Handle>) {
        for handle in handles {
            let (part, configured) = match handle.label {
                Label::Listener { at, configured } => (For::Listener { at }, configured),
                Label::Plain { configured } => (For::Plain, configured),
                Label::Observer { configured } => (For::Observer, configured),
                Label::Admin { .. } => {
                    self.admin.push(handle);
                    continue;
                }
            };
            self.sockets.push(Socket {
                origin: Origin::Predecessor { part, configured },
                socket: handle.socket.into(),
            });
        }
    }

    /// Binds what a configuration asks for and isn't here, so that a start fails early.
    pub(crate) async fn complete(&mut self, config: &Config) -> Result<(), ServiceError> {
        let service = &config.service;
        for (at, listener) in service.listeners.iter().enumerate() {
            let part = For::Listener { at };
            if self.group(part, listener.address).is_some() {
                continue;
            }
            let sockets = Sockets::bind(listener.address, service.workers).await;
            let handles = sockets.and_then(|sockets| sockets.handles());
            let handles =
                handles.map_err(|source| ServiceError::binding(listener.place.clone(), source))?;
            self.sockets
                .extend(handles.into_iter().map(|handle| Socket {
                    origin: Origin::Predecessor {
                        part,
                        configured: listener.address,
                    },
                    socket: handle.into(),
                }));
        }
        let plain = service.acme.as_ref().and_then(|acme| acme.plain.as_ref());
        let plain = plain.map(|plain| (For::Plain, plain.address, &plain.place));
        let observe = config.observe.as_ref();
        let observe = observe.map(|(address, place)| (For::Observer, *address, place));
        for (part, configured, place) in plain.into_iter().chain(observe) {
            if self.group(part, configured).is_some() {
                continue;
            }
            let bound = tokio::net::TcpListener::bind(configured).await;
            let socket = bound
                .and_then(tokio::net::TcpListener::into_std)
                .map_err(|source| ServiceError::binding(place.clone(), source))?;
            self.sockets.push(Socket {
                origin: Origin::Predecessor { part, configured },
                socket,
            });
        }
        Ok(())
    }

    /// The sockets for a part of the configuration; none where it has to bind its own.
    pub(crate) fn take(&mut self, part: For, configured: SocketAddr) -> Vec<net::TcpListener> {
        let Some(group) = self.group(part, configured) else {
            return Vec::new();
        };
        let all = std::mem::take(&mut self.sockets).into_iter();
        let (taken, rest): (Vec<_>, Vec<_>) = all.partition(|socket| match &socket.origin {
            Origin::Manager { name, address, .. } => {
                group == Group::Manager && means(part, name, *address, configured)
            }
            Origin::Predecessor {
                part,
                configured: of,
            } => group == Group::Predecessor(*part) && *of == configured,
        });
        self.sockets = rest;
        taken.into_iter().map(|socket| socket.socket).collect()
    }

    /// The one socket for a part of the configuration; further ones stay, and are refused.
    pub(crate) fn take_one(
        &mut self,
        part: For,
        configured: SocketAddr,
    ) -> Option<net::TcpListener> {
        let mut taken = self.take(part, configured).into_iter();
        taken.next()
    }

    /// The admin socket of the process that this one takes over from, if it is at this path.
    pub(crate) fn take_admin(&mut self, path: &Path) -> Option<UnixListener> {
        let is_it =
            |handle: &Handle| matches!(&handle.label, Label::Admin { path: at } if at == path);
        let at = self.admin.iter().position(is_it)?;
        Some(self.admin.swap_remove(at).socket.into())
    }

    /// Refuses what the service manager passes and nobody has asked for.
    pub(crate) fn refuse_rest(&self) -> Result<(), PassedError> {
        for socket in &self.sockets {
            if let Origin::Manager { which, address, .. } = &socket.origin {
                return Err(PassedError::NotWanted {
                    which: which.clone(),
                    address: *address,
                });
            }
        }
        Ok(())
    }

    /// Which sockets are for a part of the configuration.
    fn group(&self, part: For, configured: SocketAddr) -> Option<Group> {
        let of = self
            .sockets
            .iter()
            .filter_map(|socket| match &socket.origin {
                Origin::Manager { name, address, .. } => {
                    means(part, name, *address, configured).then_some(Group::Manager)
                }
                Origin::Predecessor {
                    part: before,
                    configured: of,
                } => {
                    // With port 0 it isn't the address that tells sockets apart.
                    let fits = *of == configured && (configured.port() != 0 || same(*before, part));
                    fits.then_some(Group::Predecessor(*before))
                }
            });
        // Of two listeners that are configured alike, each has its own before it has the other's.
        let groups: Vec<Group> = of.collect();
        let own = groups.iter().find(|it| **it == Group::Predecessor(part));
        own.or(groups.first()).copied()
    }
}

/// Sockets that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Manager,
    Predecessor(For),
}

/// Whether both are listeners, or both the same other part.
fn same(one: For, other: For) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

/// Whether a socket of the service manager's is for a part of the configuration: by its name, or by where it
/// listens.
fn means(part: For, name: &str, address: SocketAddr, configured: SocketAddr) -> bool {
    part.is_named(name) || address == configured
}

impl Socket {
    fn of_manager(socket: OwnedFd, which: String, name: String) -> Result<Self, PassedError> {
        let problem = match (socket_domain(&socket), socket_type(&socket)) {
            (Err(_), _) | (_, Err(_)) => Some("is no socket"),
            (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::STREAM)) => None,
            (Ok(AddressFamily::INET | AddressFamily::INET6), _) => {
                Some("is a socket for datagrams")
            }
            _ => Some("is no TCP socket"),
        };
        let problem = problem.or_else(|| {
            let listens = socket_acceptconn(&socket).unwrap_or(false);
            (!listens).then_some("does not listen")
        });
        if let Some(problem) = problem {
            return Err(PassedError::WrongKind { which, problem });
        }
        let closed = fcntl_setfd(&socket, FdFlags::CLOEXEC);
        let socket = net::TcpListener::from(socket);
        match (closed, socket.local_addr()) {
            (Ok(()), Ok(address)) => Ok(Self {
                origin: Origin::Manager {
                    which,
                    name,
                    address,
                },
                socket,
            }),
            _ => Err(PassedError::WrongKind {
                which,
                problem: "has no address",
            }),
        }
    }
}

#[cfg(test)]
mod tests;
