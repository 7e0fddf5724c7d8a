//! Which socket is for what.

use super::*;

fn bound() -> (net::TcpListener, SocketAddr) {
    let socket = net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

fn managed(name: &str) -> (Passed, SocketAddr) {
    let (socket, address) = bound();
    let socket = Socket::of_manager(socket.into(), "descriptor 3".to_owned(), name.to_owned());
    let passed = Passed {
        sockets: vec![socket.expect("a good one")],
        admin: Vec::new(),
    };
    (passed, address)
}

#[test]
fn a_socket_is_wanted_by_its_address_or_its_name() {
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let second = For::Listener { at: 1 };
    let (mut passed, address) = managed("portcullis.socket");
    assert!(passed.take(second, elsewhere).is_empty());
    assert_eq!(passed.take(second, address).len(), 1);
    passed.refuse_rest().expect("none is left");
    for (name, part) in [
        ("listener[1]", second),
        ("observe", For::Observer),
        ("redirect", For::Plain),
        ("acme", For::Plain),
    ] {
        let (mut passed, _) = managed(name);
        let other = For::Listener { at: 0 };
        assert!(passed.take(other, elsewhere).is_empty(), "{name}");
        assert_eq!(passed.take(part, elsewhere).len(), 1, "{name}");
    }
}

#[test]
fn a_socket_that_nothing_wants_is_named() {
    let (passed, address) = managed("");
    let refused = passed.refuse_rest().expect_err("a refusal").to_string();
    assert!(refused.starts_with("descriptor 3, "), "{refused}");
    assert!(refused.contains(&address.to_string()), "{refused}");
}

#[test]
fn what_does_not_listen_for_connections_is_refused() {
    let datagrams = net::UdpSocket::bind(("127.0.0.1", 0)).expect("bound");
    let (listening, address) = bound();
    let connected = net::TcpStream::connect(address).expect("connected");
    let (_end, pipe) = std::io::pipe().expect("a pipe");
    let unix = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    for (descriptor, problem) in [
        (OwnedFd::from(datagrams), "is a socket for datagrams"),
        (connected.into(), "does not listen"),
        (pipe.into(), "is no socket"),
        (unix.into(), "is no TCP socket"),
    ] {
        let which = "descriptor 7".to_owned();
        let refused = Socket::of_manager(descriptor, which, String::new());
        let refused = refused.expect_err("a refusal").to_string();
        assert!(refused.contains(problem), "{refused}");
    }
    drop(listening);
}

#[test]
fn listeners_that_are_configured_alike_keep_each_its_own_sockets() {
    let alike = SocketAddr::from(([127, 0, 0, 1], 0));
    let ((first, first_at), (second, second_at)) = (bound(), bound());
    let mut passed = Passed::default();
    passed.add(
        [(0, first), (1, second)]
            .map(|(at, socket)| Handle {
                label: Label::Listener {
                    at,
                    configured: alike,
                },
                socket: socket.into(),
            })
            .into(),
    );
    for (at, address) in [(1, second_at), (0, first_at)] {
        let taken = passed.take(For::Listener { at }, alike);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].local_addr().expect("an address"), address);
    }
    assert!(passed.take(For::Observer, alike).is_empty());
}
