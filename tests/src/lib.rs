//! The rig and the suites that drive Portcullis on real parts.
//!
//! ```text
//! privilege  may this process load programs? if not, say so
//! run        running programs, waiting for something to become true
//! scratch    a folder of a run's own
//! burden     what a process costs: processor time and memory
//! bpffs      a BPF filesystem of a run's own
//! netns      two hosts on a wire
//! pki        certificates and tokens
//! tokens     tokens with other claims than good ones, and what becomes of them
//! holder_key a client that proves to have the key that its token is bound to
//! node       programs of npm's packages
//! rotating_issuer  a real issuer, whose keys change, and which goes away and comes back
//! opaque_issuer  one of them: an issuer that is asked about its tokens
//! login      browsers that log in: an issuer that says what a test says
//! browser    a real browser, and an issuer that is real
//! responder  openssl as an authority that says which of its certificates are good
//! nginx      a real upstream
//! pebble     a real ACME authority
//! feeds      lists with a source
//! list_server  a real HTTPS server of lists, on good days and bad
//! daemon     the real portcullis
//! ground     what the proxy alone stands on, without the kernel side and without root
//! front      the proxy on it, with real clients
//! issuing    a proxy whose certificates an authority issues
//! tunnels    services and clients without requests
//! heirs      daemons that hand over to the next process
//! throng     clients that never pause, and what became of their requests
//! websocket  a real WebSocket server and client
//! wire       exact bytes to it
//! h2_peer    exact HTTP/2 frames to it
//! http3      a real client of HTTP/3
//! paths      targets by the thousand, and what record and upstream have of each
//! siege      attackers over HTTP/2, and others who are served meanwhile
//! scene      all of that together, with traffic
//! frames     Ethernet frames, header by header
//! loaded     the real program, run on one frame after another
//! pinned     maps in force, read and written past the daemon
//! held       what the daemon says that it blocks, and what the kernel drops
//! map_memory how much memory the maps hold
//! public_list  a public list, where it is at hand
//! reply      do replies to the guarded host's own connections arrive?
//! traffic    senders and sinks in the background
//! volley     who gets through and who doesn't
//! xdp        which program an interface runs, by which link
//! numbers    the same in every run of a seed
//! figures    what a requirement stands on
//! ban_timer  from the command to the first dropped packet
//! ```

pub mod balancer;
pub mod ban_timer;
pub mod bpffs;
pub mod browser;
pub mod burden;
pub mod client_pki;
pub mod daemon;
pub mod feeds;
pub mod figures;
pub mod frames;
pub mod front;
pub mod ground;
pub mod grpc;
pub mod h2_peer;
pub mod heirs;
pub mod held;
pub mod holder_key;
pub mod http3;
pub mod issuing;
pub mod key_server;
pub mod lasting;
pub mod list_server;
pub mod loaded;
pub mod login;
pub mod map_memory;
pub mod netns;
pub mod nginx;
pub mod node;
pub mod numbers;
pub mod opaque_issuer;
pub mod paths;
pub mod pebble;
pub mod pinned;
pub mod pki;
pub mod privilege;
pub mod public_list;
pub mod reply;
pub mod responder;
pub mod rotating_issuer;
pub mod run;
pub mod scene;
pub mod scratch;
pub mod scripted;
pub mod siege;
pub mod throng;
pub mod tokens;
pub mod traffic;
pub mod tunnels;
pub mod volley;
pub mod websocket;
pub mod wire;
pub mod xdp;
