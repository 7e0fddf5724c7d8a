//! The sockets of a listener: one for each worker, bound here or by somebody else before.

use std::{
    io,
    net::{self, SocketAddr},
    num::NonZeroUsize,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::net::sockopt::socket_reuseport;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait in the kernel's queue to be accepted, of each socket.
const BACKLOG: u32 = 1024;

/// Listening sockets at one address.
#[derive(Debug)]
pub struct Sockets {
    address: SocketAddr,
    workers: NonZeroUsize,
    /// None once they are closed.
    all: Mutex<Vec<net::TcpListener>>,
}

impl Sockets {
    /// Binds `address` for so many workers: the kernel spreads connections over their sockets
    /// (`SO_REUSEPORT`, Linux 3.9).
    ///
    /// # Errors
    /// What the system says, `AddrInUse` above all.
    pub async fn bind(address: SocketAddr, workers: NonZeroUsize) -> io::Result<Self> {
        // Sockets that share a port are let in beside any others that do: another daemon is found by one
        // that doesn't.
        let address = listen_on(address, false)?.local_addr()?;
        let all = (0..workers.get()).map(|_| listen_on(address, true)?.into_std());
        Ok(Self {
            address,
            workers,
            all: Mutex::new(all.collect::<io::Result<_>>()?),
        })
    }

    /// Serves what was bound by somebody else. Every socket is served, because connections may wait in each:
    /// a worker has several where there are fewer workers. Where there are more, further sockets are bound,
    /// or the ones that are there shared, where they let none in beside them.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidInput`] without a socket.
    pub async fn take_over(
        mut all: Vec<net::TcpListener>,
        workers: NonZeroUsize,
    ) -> io::Result<Self> {
        let first = all.first().ok_or(io::ErrorKind::InvalidInput)?;
        let address = first.local_addr()?;
        let shares_port = socket_reuseport(first)?;
        for at in 0..workers.get().saturating_sub(all.len()) {
            let further = if shares_port {
                listen_on(address, true)?.into_std()?
            } else {
                all[at].try_clone()?
            };
            all.push(further);
        }
        for socket in &all {
            socket.set_nonblocking(true)?;
        }
        Ok(Self {
            address,
            workers,
            all: Mutex::new(all),
        })
    }

    /// The address they are bound to, with the port the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All of them once more, for another process.
    ///
    /// # Errors
    /// What the system says.
    pub fn handles(&self) -> io::Result<Vec<OwnedFd>> {
        let all = self.all();
        all.iter()
            .map(|socket| Ok(socket.try_clone()?.into()))
            .collect()
    }

    /// A worker's share.
    pub(crate) fn share(&self, worker: usize) -> io::Result<Vec<net::TcpListener>> {
        let all = self.all();
        let own = all.iter().skip(worker).step_by(self.workers.get());
        own.map(net::TcpListener::try_clone).collect()
    }

    /// Closes them, except what workers have of them.
    pub(crate) fn close(&self) {
        self.all().clear();
    }

    fn all(&self) -> MutexGuard<'_, Vec<net::TcpListener>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen_on(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shared)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).expect("some")
    }

    async fn handed_over(from: usize, to: usize) -> (Sockets, Sockets) {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let before = Sockets::bind(address, workers(from)).await.expect("bound");
        let handles = before.handles().expect("handles");
        let handles = handles.into_iter().map(net::TcpListener::from).collect();
        let after = Sockets::take_over(handles, workers(to)).await;
        (before, after.expect("taken over"))
    }

    #[tokio::test]
    async fn every_socket_is_served_by_one_worker_also_when_there_are_fewer_workers() {
        for (from, to) in [(1, 1), (4, 4), (5, 2), (3, 1)] {
            let (before, after) = handed_over(from, to).await;
            let shares = (0..to).map(|worker| after.share(worker).expect("a share").len());
            assert_eq!(shares.sum::<usize>(), from, "{from} to {to}");
            assert_eq!(before.address(), after.address());
        }
    }

    #[tokio::test]
    async fn more_workers_have_sockets_of_their_own_beside_those_that_were_there() {
        let (_before, after) = handed_over(1, 3).await;
        for worker in 0..3 {
            let share = after.share(worker).expect("a share");
            assert_eq!(share.len(), 1, "worker {worker}");
            assert_eq!(share[0].local_addr().expect("an address"), after.address());
        }
    }

    #[tokio::test]
    async fn a_socket_that_lets_none_in_beside_it_is_shared() {
        let alone = net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let shared = Sockets::take_over(vec![alone], workers(2)).await;
        let shared = shared.expect("taken over");
        for worker in 0..2 {
            assert_eq!(shared.share(worker).expect("a share").len(), 1);
        }
        assert!(Sockets::take_over(Vec::new(), workers(1)).await.is_err());
    }
}
