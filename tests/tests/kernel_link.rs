//! The kernel side alone on a wire: no daemon, no upstream, no client, so that it also runs where
//! there is room for nothing else, as in the machines of `cargo xtask vm`.

use std::{
    io::{self, ErrorKind, Write as _},
    net::UdpSocket,
    time::Duration,
};

use datapath::{AttachmentMode, Claim, Datapath, ListId, Options, Truth};
use ipnet::IpNet;
use portcullis_tests::{
    bpffs::Bpffs,
    loaded::{Loaded, options},
    netns::{ALICE, BOB, EDGE, Wire},
    privilege::kernel_or_skip,
    run::Rigged,
    scratch::unique_name,
    xdp::xdp_on,
};
use proxy_common::Reason;

const LIST: ListId = 0;
const VOLLEY: usize = 20;

/// Two hosts on a wire, and the kernel side on the end of one.
struct Guarded {
    wire: Wire,
    datapath: Datapath,
    _bpffs: Bpffs,
}

impl Guarded {
    fn start() -> Rigged<Self> {
        let bpffs = Bpffs::mount()?;
        let wire = Wire::new(&unique_name())?;
        let guarding = Options {
            interfaces: vec![wire.interface.to_owned()],
            ..options(bpffs.pins())
        };
        let started = wire
            .edge
            .within(|| Datapath::start(guarding, &Truth::default()))?;
        Ok(Self {
            wire,
            datapath: started.expect("the kernel side starts"),
            _bpffs: bpffs,
        })
    }

    /// How many datagrams of a volley from each of two clients arrive.
    fn volley(&self) -> Rigged<[usize; 2]> {
        let sink = self.wire.edge.within(|| UdpSocket::bind((EDGE, 0)))??;
        let to = sink.local_addr()?;
        for client in [ALICE, BOB] {
            let source = self
                .wire
                .outside
                .within(|| UdpSocket::bind((client, 0)))??;
            for _ in 0..VOLLEY {
                source.send_to(b"hello", to)?;
            }
        }
        // Silence for as long ends the volley; a datagram is there within milliseconds.
        sink.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut arrived = [0, 0];
        let mut buffer = [0; 64];
        loop {
            match sink.recv_from(&mut buffer) {
                Ok((_, from)) if from.ip().to_string() == ALICE => arrived[0] += 1,
                Ok(_) => arrived[1] += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(arrived),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn packets(&self, reason: Reason) -> u64 {
        let counts = self.datapath.counters().expect("counters");
        let of = |count: &&datapath::ReasonCount| count.reason == reason;
        counts
            .iter()
            .find(of)
            .map(|count| count.packets)
            .expect("a counter")
    }
}

#[test]
fn a_veth_takes_the_program_natively_and_a_listed_peer_goes_unheard() {
    if !kernel_or_skip("a_veth_takes_the_program_natively_and_a_listed_peer_goes_unheard") {
        return;
    }
    let mut guarded = Guarded::start().expect("a guarded wire");
    let attachment = &guarded.datapath.attachments()[0];
    assert_eq!(attachment.mode, AttachmentMode::Native);
    let present = xdp_on(&guarded.wire.edge, guarded.wire.interface).expect("an interface");
    assert!(present.expect("a program").native);
    assert_eq!(guarded.volley().expect("traffic"), [VOLLEY, VOLLEY]);

    let bob: IpNet = format!("{BOB}/32").parse().expect("a prefix");
    let mut truth = Truth::default();
    let blocked = truth.put(bob, LIST, Claim::BLOCKED);
    let tables = guarded.datapath.tables();
    tables.apply(&blocked, &truth).expect("blocked");
    assert_eq!(guarded.volley().expect("traffic"), [VOLLEY, 0]);
    assert_eq!(guarded.packets(Reason::Blocked), VOLLEY as u64);

    let free = truth.remove(bob, LIST);
    let tables = guarded.datapath.tables();
    tables.apply(&free, &truth).expect("unblocked");
    assert_eq!(guarded.volley().expect("traffic"), [VOLLEY, VOLLEY]);
    assert_eq!(guarded.packets(Reason::Blocked), VOLLEY as u64);
}

/// The verifier's budget for one program (`BPF_COMPLEXITY_LIMIT_INSNS` in linux/bpf.h).
const BUDGET: u32 = 1_000_000;

#[test]
fn the_verifier_has_a_tenth_of_its_budget_left() {
    if !kernel_or_skip("the_verifier_has_a_tenth_of_its_budget_left") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let _loaded = Loaded::start(options(bpffs.pins()), &Truth::default()).expect("a program");
    let pinned = bpffs.pins().root().join("program");
    let info = aya::programs::ProgramInfo::from_pin(pinned).expect("a pinned program");
    let verified = info.verified_instruction_count().expect("since Linux 5.16");
    // Past libtest's capture: each kernel's figure is worth reading.
    let _ = writeln!(io::stderr(), "\nthe verifier read {verified} instructions");
    assert!(verified <= BUDGET / 10 * 9, "{verified}");
}
