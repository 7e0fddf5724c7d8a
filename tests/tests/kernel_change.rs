//! The lists change while packets arrive: what userspace holds to be true is what the kernel judges
//! by, after any changes, and on the way nobody slips through who is blocked before and after.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use datapath::{Claim, ListId, Plan, Standing, Truth, boot_ns};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portcullis_tests::{
    bpffs::Bpffs,
    frames::datagram,
    loaded::{Loaded, Prober, options},
    privilege::kernel_or_skip,
};
use proxy_common::Mode;

const HOUR_NS: u64 = 3_600_000_000_000;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn start(bpffs: &Bpffs, truth: &Truth) -> Loaded {
    Loaded::start(options(bpffs.pins()), truth).expect("the kernel side starts")
}

/// Cells and codes that the kernel holds otherwise than the truth.
fn differences(loaded: &mut Loaded, truth: &Truth) -> usize {
    let tables = loaded.datapath.tables();
    tables.differences(truth).expect("compared")
}

/// Numbers that are the same on every run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// An address in 10.0.0.0/8 or 2001:db8::/32 with few bits set, so that prefixes nest and
    /// addresses meet them.
    fn address(&mut self) -> IpAddr {
        if self.below(2) == 0 {
            let bits = (0..6).fold(0, |bits, _| bits | 1 << self.below(24));
            Ipv4Addr::from_bits(10 << 24 | bits).into()
        } else {
            let bits = (0..6).fold(0, |bits, _| bits | 1 << self.below(96));
            Ipv6Addr::from_bits(0x2001_0db8 << 96 | bits).into()
        }
    }

    fn prefix(&mut self) -> IpNet {
        match self.address() {
            IpAddr::V4(address) => {
                let length = 12 + self.below(21) as u8;
                Ipv4Net::new(address, length).expect("a length").into()
            }
            IpAddr::V6(address) => {
                // Few so short that they hold all the others.
                let shortest = if self.below(64) == 0 { 16 } else { 40 };
                let length = shortest + self.below(129 - u64::from(shortest)) as u8;
                Ipv6Net::new(address, length).expect("a length").into()
            }
        }
    }

    /// In another order.
    fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The address behind the last of a prefix.
fn after(prefix: IpNet) -> IpAddr {
    match prefix.broadcast() {
        IpAddr::V4(last) => Ipv4Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(last) => Ipv6Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
    }
}

/// The name of a verdict, and whether it was only watched.
fn verdict(standing: Standing) -> (&'static str, bool) {
    match standing {
        Standing::Unlisted => ("clean", false),
        Standing::Trusted => ("trusted", false),
        Standing::Blocked => ("blocked", false),
        Standing::Banned { .. } => ("banned", false),
        Standing::Monitored => ("watched", true),
    }
}

#[test]
fn the_kernel_agrees_with_the_truth_after_random_changes() {
    if !kernel_or_skip("the_kernel_agrees_with_the_truth_after_random_changes") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut loaded = start(&bpffs, &Truth::default());
    let mut numbers = Numbers(11);
    let mut truth = Truth::default();
    let now_ns = boot_ns();
    let mut listed: Vec<IpNet> = Vec::new();
    for _ in 0..1_500 {
        let list = numbers.below(3) as ListId;
        // Half of the changes meet a prefix that is there already.
        let prefix = match listed.len() as u64 {
            known if known > 0 && numbers.below(2) == 0 => listed[numbers.below(known) as usize],
            _ => numbers.prefix(),
        };
        let watched = |until_ns| Claim::Blocked {
            until_ns,
            mode: Mode::Monitor,
        };
        let plan = match numbers.below(12) {
            // A short trusted prefix would outshine everything.
            0 if prefix.prefix_len() > prefix.max_prefix_len() / 4 * 3 => {
                truth.put(prefix, list, Claim::Trusted)
            }
            1 => truth.put(prefix, list, Claim::BLOCKED),
            2 | 3 => truth.put(prefix, list, Claim::until(now_ns + HOUR_NS)),
            4 => truth.put(prefix, list, Claim::until(now_ns)),
            5 | 6 => truth.replace(prefix, list, watched(None)),
            7 => truth.replace(prefix, list, watched(Some(now_ns + HOUR_NS))),
            _ => truth.remove(prefix, list),
        };
        let tables = loaded.datapath.tables();
        tables.apply(&plan, &truth).expect("applied");
        listed.push(prefix);
    }

    let mut met: HashMap<&str, u32> = HashMap::new();
    for probe in 0..4_000 {
        let source = match listed[numbers.below(listed.len() as u64) as usize] {
            prefix if probe % 4 == 1 => prefix.network(),
            prefix if probe % 4 == 2 => prefix.broadcast(),
            prefix if probe % 4 == 3 => after(prefix),
            _ => numbers.address(),
        };
        let expected = verdict(truth.standing(source, boot_ns()));
        let found = match loaded.judge_all(&datagram(source)).expect("a verdict") {
            (_, true) => ("watched", true),
            (reason, false) => (reason.name(), false),
        };
        assert_eq!(found, expected, "{source}: {:?}", truth.covering(source));
        *met.entry(expected.0).or_default() += 1;
    }
    for name in ["clean", "trusted", "blocked", "banned", "watched"] {
        let times = met.get(name).copied().unwrap_or_default();
        assert!(times >= 100, "{name} was met too rarely: {met:?}");
    }
    assert_eq!(
        differences(&mut loaded, &truth),
        0,
        "the changes alone made the tables hold exactly the truth"
    );
}

/// Lists that look different and all drop the same sources.
struct Region {
    probed: Vec<IpAddr>,
    shapes: Vec<Vec<(IpNet, Claim)>>,
    current: usize,
}

impl Region {
    fn new(probed: &[&str], shapes: Vec<Vec<(IpNet, Claim)>>) -> Self {
        Self {
            probed: probed
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            shapes,
            current: 0,
        }
    }
}

fn banned() -> Claim {
    Claim::until(boot_ns() + HOUR_NS)
}

fn each(prefixes: impl IntoIterator<Item = IpNet>, claim: Claim) -> Vec<(IpNet, Claim)> {
    prefixes.into_iter().map(|prefix| (prefix, claim)).collect()
}

fn parts(prefix: &str, length: u8) -> Vec<IpNet> {
    match net(prefix) {
        IpNet::V4(net) => net
            .subnets(length)
            .expect("longer")
            .map(IpNet::from)
            .collect(),
        IpNet::V6(net) => net
            .subnets(length)
            .expect("longer")
            .map(IpNet::from)
            .collect(),
    }
}

/// Codes 1 and 3 of the front, every step of nesting, blocks and bans.
fn regions() -> Vec<Region> {
    let one = |prefix: &str, claim| vec![(net(prefix), claim)];
    let v4 = "198.51.100.0/24";
    let hosts = ["198.51.100.0", "198.51.100.7", "198.51.100.255"];
    let v6 = "2001:db8:1::/48";
    let v6_hosts = [
        "2001:db8:1::7",
        "2001:db8:1:8000::",
        "2001:db8:1:ffff:ffff::1",
    ];
    let exactly = |hosts: &[&str], length: u8| -> Vec<IpNet> {
        let network = |host: &&str| net(&format!("{host}/{length}")).trunc();
        hosts.iter().map(network).collect()
    };
    let nested = |prefix, hosts: &[&str], length, inside| {
        [
            one(prefix, Claim::BLOCKED),
            each(exactly(hosts, length), inside),
        ]
        .concat()
    };
    vec![
        Region::new(
            &hosts,
            vec![
                one(v4, Claim::BLOCKED),
                each(parts(v4, 32), Claim::BLOCKED),
                one(v4, banned()),
                each(parts(v4, 25), Claim::BLOCKED),
                each(parts(v4, 30), banned()),
                one("198.51.100.0/23", Claim::BLOCKED),
                one("198.51.96.0/20", banned()),
                nested(v4, &hosts, 32, banned()),
                nested("198.51.0.0/16", &hosts, 28, Claim::BLOCKED),
                each(exactly(&hosts, 32), Claim::BLOCKED),
                each(exactly(&hosts, 31), banned()),
            ],
        ),
        Region::new(
            &v6_hosts,
            vec![
                one(v6, Claim::BLOCKED),
                each(exactly(&v6_hosts, 128), Claim::BLOCKED),
                one("2001:d00::/24", Claim::BLOCKED),
                each(exactly(&v6_hosts, 64), banned()),
                one("2001::/16", Claim::BLOCKED),
                one("2001:db8::/29", banned()),
                each(parts(v6, 53), Claim::BLOCKED),
                nested("2001:c00::/22", &v6_hosts, 127, banned()),
                nested(v6, &v6_hosts, 65, Claim::BLOCKED),
                each(exactly(&v6_hosts, 61), Claim::BLOCKED),
            ],
        ),
    ]
}

/// Puts another shape in the place of a region's, all edits in one plan and in any order.
fn reshape(
    region: &mut Region,
    generation: usize,
    truth: &mut Truth,
    numbers: &mut Numbers,
) -> Plan {
    let next = (region.current + 1 + numbers.below(region.shapes.len() as u64 - 1) as usize)
        % region.shapes.len();
    // Two lists by turns: a prefix of both shapes has two claims for a moment.
    let (old, new) = ((generation % 2) as ListId, ((generation + 1) % 2) as ListId);
    let removals = region.shapes[region.current]
        .iter()
        .map(|(prefix, _)| (*prefix, old, None));
    let additions = region.shapes[next]
        .iter()
        .map(|(prefix, claim)| (*prefix, new, Some(*claim)));
    let mut edits: Vec<_> = removals.chain(additions).collect();
    numbers.shuffle(&mut edits);
    region.current = next;
    let whole = numbers.below(32) == 0;
    let mut plans = Vec::new();
    for (prefix, list, claim) in edits {
        match claim {
            _ if whole => truth.set(prefix, list, claim),
            Some(claim) => plans.push(truth.put(prefix, list, claim)),
            None => plans.push(truth.remove(prefix, list)),
        }
    }
    if whole {
        Plan::rebuild()
    } else {
        Plan::all(plans)
    }
}

/// What a prober has seen.
#[derive(Default)]
struct Probes {
    over: AtomicBool,
    made: AtomicUsize,
}

/// Probes until it is over; returns the first source that slipped through.
fn probe(prober: &Prober, sources: &[IpAddr], probes: &Probes) -> Option<(IpAddr, usize)> {
    let frames: Vec<_> = sources
        .iter()
        .map(|source| (*source, datagram(*source)))
        .collect();
    while !probes.over.load(Ordering::Relaxed) {
        for (source, frame) in &frames {
            let number = probes.made.fetch_add(1, Ordering::Relaxed);
            if !prober.drops(frame).expect("a verdict") {
                return Some((*source, number));
            }
        }
    }
    None
}

#[test]
fn nobody_slips_through_who_is_on_the_old_and_on_the_new_lists() {
    if !kernel_or_skip("nobody_slips_through_who_is_on_the_old_and_on_the_new_lists") {
        return;
    }
    const WRITES: usize = 60_000;
    const PROBES: usize = 500_000;
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut regions = regions();
    let mut truth = Truth::default();
    for region in &regions {
        for (prefix, claim) in &region.shapes[0] {
            truth.set(*prefix, 0, Some(*claim));
        }
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut loaded = start(&bpffs, &truth);
    let prober = loaded.prober().expect("a prober");
    let sources: Vec<IpAddr> = regions
        .iter()
        .flat_map(|region| region.probed.clone())
        .collect();
    let probes = Probes::default();
    let mut numbers = Numbers(23);
    let (mut writes, mut loads, mut generation) = (0, 0, 0);
    let slipped = thread::scope(|scope| {
        let probing = scope.spawn(|| probe(&prober, &sources, &probes));
        let deadline = Instant::now() + PATIENCE;
        let enough = |writes| writes >= WRITES && probes.made.load(Ordering::Relaxed) >= PROBES;
        while !enough(writes) && !probing.is_finished() && Instant::now() < deadline {
            for region in &mut regions {
                let plan = reshape(region, generation, &mut truth, &mut numbers);
                writes += plan.changes().len();
                loads += usize::from(plan.is_rebuild());
                loaded
                    .datapath
                    .tables()
                    .apply(&plan, &truth)
                    .expect("applied");
            }
            generation += 1;
        }
        probes.over.store(true, Ordering::Relaxed);
        probing.join().expect("a prober that ends")
    });
    let made = probes.made.load(Ordering::Relaxed);
    let done = format!("{writes} writes, {loads} loads, {made} probes");
    assert_eq!(slipped, None, "after {done}");
    assert!(writes >= WRITES && loads >= 10 && made >= PROBES, "{done}");
    assert_eq!(differences(&mut loaded, &truth), 0);
}
