//! A load balancer that passes connections on as they are, with some bytes in front.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::run::Rigged;

/// The balancer. Its threads end with the test.
pub struct Balancer(SocketAddr);

impl Balancer {
    /// Passes each connection on to `target`, behind these bytes.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start(target: SocketAddr, front: Vec<u8>) -> Rigged<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let front = front.clone();
                // What breaks is the test's to notice.
                thread::spawn(move || pass_on(client, target, &front));
            }
        });
        Ok(Self(address))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

fn pass_on(mut client: TcpStream, target: SocketAddr, front: &[u8]) -> io::Result<()> {
    let mut proxy = TcpStream::connect(target)?;
    proxy.write_all(front)?;
    let (mut up, mut down) = (client.try_clone()?, proxy.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut up, &mut proxy);
        proxy.shutdown(std::net::Shutdown::Write)
    });
    // However it ends: the client must not wait for more.
    let _ = io::copy(&mut down, &mut client);
    client.shutdown(std::net::Shutdown::Both)
}
