//! Sends or counts UDP datagrams; the rig runs it inside network namespaces.
//!
//! ```text
//! traffic send FROM TO PPS SECONDS BYTES    prints how many were sent, each of that payload
//! traffic once TO FROM…               one datagram from each
//! traffic count AT SECONDS            prints {"source": datagrams, …}
//! traffic accept AT                   accepts TCP connections until it is killed
//! traffic connect TO                  opens one and prints whether it could
//! ```
//!
//! Where SECONDS is `-`, it goes on until standard input is closed.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for a connection: a SYN that was dropped is sent again after a second.
const PATIENCE: Duration = Duration::from_millis(900);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match act(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(args: &[&str]) -> io::Result<()> {
    let unreadable = |_| io::Error::new(ErrorKind::InvalidInput, "an argument can't be read");
    match args {
        ["send", from, to, pps, seconds, bytes] => send(
            from.parse().map_err(|_| unreadable(()))?,
            to.parse().map_err(|_| unreadable(()))?,
            pps.parse().map_err(|_| unreadable(()))?,
            End::parse(seconds)?,
            bytes.parse().map_err(|_| unreadable(()))?,
        ),
        ["accept", at] => accept(at.parse().map_err(|_| unreadable(()))?),
        ["connect", to] => {
            let to = to.parse().map_err(|_| unreadable(()))?;
            println!("{}", TcpStream::connect_timeout(&to, PATIENCE).is_ok());
            Ok(())
        }
        ["once", to, sources @ ..] => {
            let to: SocketAddr = to.parse().map_err(|_| unreadable(()))?;
            for from in sources {
                let from: IpAddr = from.parse().map_err(|_| unreadable(()))?;
                UdpSocket::bind(SocketAddr::new(from, 0))?.send_to(&[0; 18], to)?;
            }
            Ok(())
        }
        ["count", at, seconds] => count(
            at.parse().map_err(|_| unreadable(()))?,
            End::parse(seconds)?,
        ),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "send FROM TO PPS SECONDS BYTES, once TO FROM…, count AT SECONDS, accept AT, connect TO",
        )),
    }
}

/// When to end.
enum End {
    After(Duration),
    WhenClosed(Receiver<()>),
}

impl End {
    fn parse(seconds: &str) -> io::Result<Self> {
        if seconds != "-" {
            let seconds: f64 = seconds
                .parse()
                .map_err(|_| io::Error::new(ErrorKind::InvalidInput, "seconds can't be read"))?;
            return Ok(Self::After(Duration::from_secs_f64(seconds)));
        }
        let (open, closed) = mpsc::channel();
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            drop(open);
        });
        Ok(Self::WhenClosed(closed))
    }

    fn has_come(&self, start: Instant) -> bool {
        match self {
            Self::After(duration) => start.elapsed() >= *duration,
            Self::WhenClosed(closed) => closed.try_recv() == Err(TryRecvError::Disconnected),
        }
    }
}

/// Sends at an even pace: whatever is due is sent, then a rest of half a millisecond at most.
fn send(from: IpAddr, to: SocketAddr, pps: u32, end: End, bytes: usize) -> io::Result<()> {
    let payload = vec![0; bytes];
    let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
    let start = Instant::now();
    let mut sent = 0_u64;
    while !end.has_come(start) {
        let due = (start.elapsed().as_secs_f64() * f64::from(pps)) as u64;
        while sent < due {
            // A refusal by the host itself (no listener) is as good as sent: the packet was.
            match socket.send_to(&payload, to) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
            sent += 1;
        }
        let gap = Duration::from_secs_f64(1.0 / f64::from(pps.max(1)));
        thread::sleep(gap.min(Duration::from_micros(500)));
    }
    println!("{sent}");
    Ok(())
}

fn accept(at: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    eprintln!("counting");
    loop {
        listener.accept()?;
    }
}

fn count(at: SocketAddr, end: End) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let start = Instant::now();
    // Tells whoever waits that datagrams count from now on.
    eprintln!("counting");
    while !end.has_come(start) {
        match socket.recv_from(&mut [0; 2048]) {
            Ok((_, source)) => *counts.entry(source.ip().to_string()).or_default() += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    println!(
        "{}",
        serde_json::to_string(&counts).map_err(io::Error::other)?
    );
    Ok(())
}
