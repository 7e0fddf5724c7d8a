//! An HTTP/2 client that says exactly what it is told to, over a real TLS connection, and hears what the
//! proxy says to it.
//!
//! ```text
//! frame  frames, byte by byte
//! hpack  field sections
//! fate   what becomes of a request that isn't as it should be
//! ```

pub mod fate;
pub mod frame;
pub mod hpack;

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{
    front::Front,
    run::{RigError, Rigged},
    scene::HOST,
};

/// How long the proxy may take to say something.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long one read waits.
const GLANCE: Duration = Duration::from_millis(20);
/// How long one read waits between two pieces of a flood.
const BETWEEN: Duration = Duration::from_millis(1);
/// How long a proxy that takes nothing more is waited for.
const TAKES: Duration = Duration::from_secs(2);

/// What the proxy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Head of an answer, or its trailers.
    Head {
        /// Its stream.
        stream: u32,
        /// What a test asks of it.
        head: hpack::Head,
        /// There is no body.
        last: bool,
    },
    /// Part of an answer's body.
    Data {
        /// Its stream.
        stream: u32,
        /// The bytes.
        bytes: Vec<u8>,
        /// The last part.
        last: bool,
    },
    /// A stream ends.
    Reset {
        /// Which.
        stream: u32,
        /// Error code.
        code: u32,
    },
    /// The connection ends.
    GoAway {
        /// The last stream that may still be answered.
        last: u32,
        /// Error code.
        code: u32,
        /// What the proxy says about it.
        why: String,
    },
    /// The proxy asks for an answer with this payload.
    Ping(Vec<u8>),
    /// Anything else, by its type and flags.
    Other(u8, u8),
    /// Nothing more comes.
    End,
}

/// A client.
pub struct Peer {
    stream: StreamOwned<ClientConnection, TcpStream>,
    reader: hpack::Reader,
    /// Heard and not read yet.
    held: Vec<u8>,
}

impl Peer {
    /// A TLS connection on which nothing was said yet.
    ///
    /// # Errors
    /// When there is none.
    pub fn silent(front: &Front) -> Rigged<Self> {
        let told = |error: &dyn std::fmt::Display| RigError(format!("the client: {error}"));
        let mut roots = RootCertStore::empty();
        let authority =
            CertificateDer::from_pem_file(&front.ground.pki.ca).map_err(|e| told(&e))?;
        roots.add(authority).map_err(|e| told(&e))?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| told(&e))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(HOST).map_err(|e| told(&e))?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(|e| told(&e))?;
        let socket = TcpStream::connect(front.address)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(TAKES))?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        if stream.conn.alpn_protocol() != Some(b"h2") {
            return Err(RigError("the proxy doesn't speak HTTP/2".to_owned()));
        }
        stream.sock.set_read_timeout(Some(GLANCE))?;
        Ok(Self {
            stream,
            reader: hpack::Reader::default(),
            held: Vec::new(),
        })
    }

    /// A connection on which both sides have said what they take; these are the client's settings.
    ///
    /// # Errors
    /// When there is none.
    pub fn greet(front: &Front, settings: &[(u16, u32)]) -> Rigged<Self> {
        let mut peer = Self::silent(front)?;
        peer.say(&[frame::PREFACE, &frame::settings(settings)])?;
        peer.hear_until(|said| *said == Said::Other(frame::SETTINGS, frame::ACK))?;
        peer.say(&[&frame::frame(frame::SETTINGS, frame::ACK, 0, &[])])?;
        Ok(peer)
    }

    /// Says this.
    ///
    /// # Errors
    /// When the proxy takes no more.
    pub fn say(&mut self, frames: &[&[u8]]) -> Rigged<()> {
        self.stream.write_all(&frames.concat())?;
        Ok(self.stream.flush()?)
    }

    /// Says this again and again, hearing meanwhile, until the proxy ends the connection or takes no more
    /// or `times` is reached. Whether it came to an end before.
    ///
    /// # Errors
    /// When the socket can't be set up.
    pub fn flood(&mut self, times: usize, mut piece: impl FnMut(usize) -> Vec<u8>) -> Rigged<bool> {
        self.stream.sock.set_read_timeout(Some(BETWEEN))?;
        let mut ends = |time| {
            let taken = self.say(&[&piece(time)]);
            taken.is_err() || !self.glance().unwrap_or(false)
        };
        let ended = (0..times).any(&mut ends);
        self.stream.sock.set_read_timeout(Some(GLANCE))?;
        Ok(ended)
    }

    /// What is heard next.
    ///
    /// # Errors
    /// When nothing is in time.
    pub fn hear(&mut self) -> Rigged<Said> {
        let heard = self.hear_until(|_| true)?.pop();
        Ok(heard.unwrap_or(Said::End))
    }

    /// What is heard until something fits, that included; at the latest until the end.
    ///
    /// # Errors
    /// When neither comes in time; with what was heard.
    pub fn hear_until(&mut self, fits: impl Fn(&Said) -> bool) -> Rigged<Vec<Said>> {
        let start = Instant::now();
        let mut heard = Vec::new();
        loop {
            while let Some(said) = self.next_frame() {
                heard.push(said);
                if heard.last().is_some_and(&fits) {
                    return Ok(heard);
                }
            }
            if !self.glance().unwrap_or(false) {
                // What came with the end.
                heard.extend(std::iter::from_fn(|| self.next_frame()));
                heard.push(Said::End);
                return Ok(heard);
            }
            if start.elapsed() > PATIENCE {
                return Err(RigError(format!("not heard in time, but {heard:?}")));
            }
        }
    }

    /// What is heard until the proxy ends the connection.
    ///
    /// # Errors
    /// When it doesn't in time.
    pub fn hear_out(&mut self) -> Rigged<Vec<Said>> {
        self.hear_until(|_| false)
    }

    /// What is heard until this stream ends: with the end of its answer, or for an error.
    ///
    /// # Errors
    /// When it doesn't in time.
    pub fn hear_answer(&mut self, of: u32) -> Rigged<Vec<Said>> {
        self.hear_until(|said| match said {
            Said::Head { stream, last, .. } | Said::Data { stream, last, .. } => {
                *stream == of && *last
            }
            Said::Reset { stream, .. } => *stream == of,
            _ => false,
        })
    }

    /// Reads what is there; whether more may come.
    fn glance(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(length) => {
                self.held.extend_from_slice(&piece[..length]);
                Ok(length > 0)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn next_frame(&mut self) -> Option<Said> {
        let (head, rest) = self.held.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = rest.get(..length)?.to_vec();
        self.held.drain(..9 + length);
        let number = |at: usize| {
            let bytes = payload.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let last = flags & frame::END_STREAM != 0;
        Some(match kind {
            frame::HEADERS => Said::Head {
                stream,
                head: self.reader.read(&payload),
                last,
            },
            frame::DATA => Said::Data {
                stream,
                bytes: payload,
                last,
            },
            frame::RST_STREAM => Said::Reset {
                stream,
                code: number(0)?,
            },
            frame::GOAWAY => Said::GoAway {
                last: number(0)?,
                code: number(4)?,
                why: String::from_utf8_lossy(&payload[8..]).into_owned(),
            },
            frame::PING if flags & frame::ACK == 0 => Said::Ping(payload),
            _ => Said::Other(kind, flags),
        })
    }
}

/// The head of an answer on this stream.
pub fn head_on(heard: &[Said], of: u32) -> Option<&hpack::Head> {
    heard.iter().find_map(|said| match said {
        Said::Head { stream, head, .. } if *stream == of => Some(head),
        _ => None,
    })
}

/// The code with which this stream was ended.
pub fn reset_of(heard: &[Said], of: u32) -> Option<u32> {
    heard.iter().find_map(|said| match said {
        Said::Reset { stream, code } if *stream == of => Some(*code),
        _ => None,
    })
}

/// The code with which the connection was ended.
pub fn goaway_of(heard: &[Said]) -> Option<u32> {
    heard.iter().find_map(|said| match said {
        Said::GoAway { code, .. } => Some(*code),
        _ => None,
    })
}
