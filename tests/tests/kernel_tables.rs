//! The tables, settings and pins as the program sees them: what userspace holds to be true is what
//! the kernel judges by, also after tampering, after an expiry and after a restart.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData, MapInfo};
use datapath::{Claim, Datapath, DatapathError, ListId, Pins, Rules, Standing, Truth, boot_ns};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portcullis_tests::{
    bpffs::Bpffs,
    frames::{IPV4, IPV6, UDP, ethernet, ipv4, ipv6, udp},
    loaded::{HASH_KEY, Loaded, options},
    pinned_table::PinnedTable,
    privilege::kernel_or_skip,
};
use proxy_common::{
    ABI_VERSION, Cell, Gcra, Limit, LimitSetting, Mode,
    Reason::{self, Banned, Blocked, Clean, SourcePackets, Trusted},
    Settings,
    abi::{LISTS_V4, LISTS_V6},
    table::{Code, set_code, v4, v6},
};

const HOUR_NS: u64 = 3_600_000_000_000;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn datagram(source: IpAddr) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => ethernet(IPV4, &ipv4(source.octets(), UDP, &udp(b"hello"))),
        IpAddr::V6(source) => ethernet(IPV6, &ipv6(source.segments(), UDP, &udp(b"hello"))),
    }
}

fn datagram_from(source: &str) -> Vec<u8> {
    datagram(source.parse().expect("an address"))
}

#[track_caller]
fn assert_judged(loaded: &Loaded, source: &str, expected: Reason) {
    let found = loaded.judge(&datagram_from(source)).expect("a verdict");
    assert_eq!(found, expected, "{source}");
}

fn start(bpffs: &Bpffs, truth: &Truth) -> Loaded {
    Loaded::start(options(bpffs.pins()), &truth).expect("the kernel side starts")
}

/// Cells and codes that the kernel holds otherwise than the truth.
fn differences(loaded: &mut Loaded, truth: &Truth) -> usize {
    let tables = loaded.datapath.tables();
    tables.differences(truth).expect("compared")
}

fn pinned(pins: &Pins, map: &str) -> Map {
    let data = MapData::from_pin(pins.root().join("maps").join(map)).expect("a pinned map");
    Map::from_map_data(data).expect("a map of a known type")
}

fn pinned_settings(pins: &Pins) -> Array<MapData, Settings> {
    pinned(pins, "SETTINGS").try_into().expect("an array")
}

/// Ids of all pinned maps, by name.
fn pinned_ids(pins: &Pins) -> Vec<(String, u32)> {
    let directory = fs::read_dir(pins.root().join("maps")).expect("pinned maps");
    let mut ids: Vec<_> = directory
        .map(|entry| {
            let entry = entry.expect("an entry");
            let info = MapInfo::from_pin(entry.path()).expect("a pinned map");
            (entry.file_name().to_string_lossy().into_owned(), info.id())
        })
        .collect();
    ids.sort();
    ids
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
                let length = 40 + self.below(89) as u8;
                Ipv6Net::new(address, length).expect("a length").into()
            }
        }
    }
}

fn reason_for(standing: Standing) -> Reason {
    match standing {
        Standing::Unlisted => Clean,
        Standing::Trusted => Trusted,
        Standing::Blocked => Blocked,
        Standing::Banned { .. } => Banned,
        Standing::Monitored => unreachable!("no list only watches"),
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
        let plan = match numbers.below(8) {
            // A short trusted prefix would outshine everything.
            0 if prefix.prefix_len() > 24 => truth.put(prefix, list, Claim::Trusted),
            1 => truth.put(prefix, list, Claim::BLOCKED),
            2 | 3 => truth.put(prefix, list, Claim::until(now_ns + HOUR_NS)),
            4 => truth.put(prefix, list, Claim::until(now_ns)),
            _ => truth.remove(prefix, list),
        };
        let tables = loaded.datapath.tables();
        tables.apply(&plan, &truth).expect("applied");
        listed.push(prefix);
    }

    let mut met: HashMap<Reason, u32> = HashMap::new();
    for probe in 0..2_000 {
        let source = match listed[numbers.below(listed.len() as u64) as usize] {
            prefix if probe % 4 == 1 => prefix.network(),
            prefix if probe % 4 == 2 => prefix.broadcast(),
            _ => numbers.address(),
        };
        let expected = reason_for(truth.standing(source, boot_ns()));
        let found = loaded.judge(&datagram(source)).expect("a verdict");
        assert_eq!(found, expected, "{source}: {:?}", truth.covering(source));
        *met.entry(expected).or_default() += 1;
    }
    for reason in [Clean, Trusted, Blocked, Banned] {
        let times = met.get(&reason).copied().unwrap_or_default();
        assert!(times >= 100, "{reason:?} was met too rarely: {met:?}");
    }
    assert_eq!(
        differences(&mut loaded, &truth),
        0,
        "the changes alone made the tables hold exactly the truth"
    );
}

#[test]
fn a_tampered_table_is_noticed_and_made_whole() {
    if !kernel_or_skip("a_tampered_table_is_noticed_and_made_whole") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut truth = Truth::default();
    for prefix in ["198.51.100.1/32", "198.51.100.2/32", "203.0.113.0/24"] {
        truth.set(net(prefix), 0, Some(Claim::BLOCKED));
    }
    truth.set(net("2001:db8::/48"), 0, Some(Claim::BLOCKED));
    let mut loaded = start(&bpffs, &truth);
    assert_eq!(differences(&mut loaded, &truth), 0);

    let table = |place| PinnedTable::open(&bpffs.pins(), place).expect("a table");
    let mut v4 = table(LISTS_V4);
    let address = |text: &str| text.parse::<Ipv4Addr>().expect("an address").to_bits();
    v4::remove(&mut v4, address("198.51.100.1"), 32);
    v4::put(&mut v4, address("198.51.100.9"), 32, Cell::blocked(0)).expect("room");
    set_code(&mut v4, address("203.0.113.0") >> 8, Code::Trusted);
    let mut v6 = table(LISTS_V6);
    let elsewhere = (0x2001_0db9_0000_0000, 0);
    v6::put(&mut v6, elsewhere, 48, Cell::blocked(0)).expect("room");
    set_code(&mut v6, 0x20_010d, Code::Closer);
    assert_judged(&loaded, "198.51.100.1", Clean);
    assert_judged(&loaded, "198.51.100.9", Blocked);
    assert_judged(&loaded, "203.0.113.5", Trusted);
    assert_judged(&loaded, "2001:db9::1", Blocked);

    assert_eq!(differences(&mut loaded, &truth), 4, "each word by itself");
    let tables = loaded.datapath.tables();
    tables.load(&truth).expect("made anew");
    assert_eq!(differences(&mut loaded, &truth), 0);
    assert_judged(&loaded, "198.51.100.1", Blocked);
    assert_judged(&loaded, "198.51.100.2", Blocked);
    assert_judged(&loaded, "198.51.100.9", Clean);
    assert_judged(&loaded, "203.0.113.5", Blocked);
    assert_judged(&loaded, "2001:db8::1", Blocked);
    assert_judged(&loaded, "2001:db9::1", Clean);
}

#[test]
fn a_ban_ends_on_time_without_anybody_removing_it() {
    if !kernel_or_skip("a_ban_ends_on_time_without_anybody_removing_it") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut loaded = start(&bpffs, &Truth::default());
    let mut truth = Truth::default();
    let until_ns = boot_ns() + 300_000_000;
    let plan = truth.put(net("198.51.100.7/32"), 0, Claim::until(until_ns));
    let tables = loaded.datapath.tables();
    tables.apply(&plan, &truth).expect("applied");

    let frame = datagram_from("198.51.100.7");
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut dropped = 0;
    loop {
        assert!(Instant::now() < deadline, "still banned: {dropped} drops");
        let before_ns = boot_ns();
        let reason = loaded.judge(&frame).expect("a verdict");
        let after_ns = boot_ns();
        if reason == Clean {
            assert!(after_ns >= until_ns, "let through {dropped} drops early");
            break;
        }
        assert_eq!(reason, Banned);
        assert!(before_ns < until_ns, "dropped after its end");
        dropped += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(dropped > 0, "the ban was never in force");
    assert_eq!(differences(&mut loaded, &truth), 0, "its entry is there");
}

#[test]
fn a_restart_adopts_tables_counters_buckets_and_hash_key() {
    if !kernel_or_skip("a_restart_adopts_tables_counters_buckets_and_hash_key") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut truth = Truth::default();
    truth.set(net("198.51.100.7/32"), 0, Some(Claim::BLOCKED));
    let hourly = Gcra {
        emission: HOUR_NS << 10,
        tolerance_ns: 0,
    };
    let hourly = LimitSetting::new(hourly, Mode::Enforce);
    let rules = Rules::NONE.with(Limit::SourcePackets, hourly);
    let mut first = options(bpffs.pins());
    first.rules = rules;
    let loaded = Loaded::start(first, &truth).expect("a first start");
    assert_judged(&loaded, "198.51.100.7", Blocked);
    assert_judged(&loaded, "100.64.9.9", Clean);
    assert_judged(&loaded, "100.64.9.9", SourcePackets);
    let counted = loaded.datapath.counters().expect("counters");
    let ids = pinned_ids(&bpffs.pins());
    assert_eq!(ids.len(), 6, "{ids:?}");
    drop(loaded);

    let mut second = options(bpffs.pins());
    second.rules = rules;
    second.hash_key = HASH_KEY.map(|word| !word);
    let mut loaded = Loaded::start(second, &truth).expect("a second start");
    assert_eq!(pinned_ids(&bpffs.pins()), ids, "the very same maps");
    assert_eq!(loaded.datapath.counters().expect("counters"), counted);
    let settings = pinned_settings(&bpffs.pins()).get(&0, 0).expect("settings");
    assert_eq!(settings.hash_key, HASH_KEY, "the first start's");
    assert_judged(&loaded, "198.51.100.7", Blocked);
    assert_judged(&loaded, "100.64.9.9", SourcePackets);
    assert_eq!(differences(&mut loaded, &truth), 0);
}

#[test]
fn a_restart_with_other_lists_makes_the_tables_hold_those() {
    if !kernel_or_skip("a_restart_with_other_lists_makes_the_tables_hold_those") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut truth = Truth::default();
    truth.set(net("198.51.100.7/32"), 0, Some(Claim::BLOCKED));
    truth.set(net("2001:db8::/48"), 0, Some(Claim::BLOCKED));
    drop(start(&bpffs, &truth));
    truth.set(net("198.51.100.7/32"), 0, None);
    truth.set(net("203.0.113.0/24"), 0, Some(Claim::BLOCKED));
    let loaded = start(&bpffs, &truth);
    assert_judged(&loaded, "198.51.100.7", Clean);
    assert_judged(&loaded, "203.0.113.5", Blocked);
    assert_judged(&loaded, "2001:db8::1", Blocked);
}

/// One end of a pair of virtual interfaces, gone when the test is.
struct Veth(String);

impl Veth {
    fn add() -> Self {
        let name = format!("pct{}", std::process::id());
        let peer = format!("{name}p");
        let mut add = Command::new("ip");
        add.args(["link", "add", &name, "type", "veth", "peer", "name", &peer]);
        let output = add.output().expect("ip runs");
        assert!(output.status.success(), "{add:?}: {output:?}");
        Self(name)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["link", "del", &self.0]).status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("left behind: interface {}", self.0);
        }
    }
}

/// What is done to the pins of a run, and the difference a start must then name.
type Tampering = (fn(&Pins), &'static str);

/// Pins `map` in the place of `instead_of`.
fn swap(pins: &Pins, map: &str, instead_of: &str) {
    let maps = pins.root().join("maps");
    fs::remove_file(maps.join(instead_of)).expect("unpinned");
    fs::hard_link(maps.join(map), maps.join(instead_of)).expect("pinned again");
}

const TAMPERINGS: [Tampering; 7] = [
    (
        |pins| swap(pins, "SAMPLE_TAT", "SETTINGS"),
        "map SETTINGS has type 6, this binary needs 2",
    ),
    (
        |pins| swap(pins, "SETTINGS", "LISTS"),
        "map LISTS has type 2, this binary needs 12",
    ),
    (
        |pins| swap(pins, "RATE_BUCKETS", "SETTINGS"),
        "map SETTINGS has value size 8, this binary needs 336",
    ),
    (
        |pins| swap(pins, "SETTINGS", "RATE_BUCKETS"),
        "map RATE_BUCKETS has value size 336, this binary needs 8",
    ),
    (
        |pins| swap(pins, "COUNTERS", "SAMPLE_TAT"),
        "map SAMPLE_TAT has value size 16, this binary needs 8",
    ),
    (
        |pins| fs::remove_file(pins.root().join("maps/COUNTERS")).expect("unpinned"),
        "map COUNTERS is not pinned",
    ),
    (
        |pins| {
            let mut settings = pinned_settings(pins);
            let mut other = settings.get(&0, 0).expect("settings");
            other.abi_version = ABI_VERSION + 1;
            settings.set(0, other, 0).expect("written");
        },
        "ABI version 3, this binary has 2",
    ),
];

#[test]
fn pins_of_another_shape_are_refused_by_name_while_a_link_is_pinned() {
    if !kernel_or_skip("pins_of_another_shape_are_refused_by_name_while_a_link_is_pinned") {
        return;
    }
    for (tamper, difference) in TAMPERINGS {
        let bpffs = Bpffs::mount().expect("a BPF filesystem");
        let veth = Veth::add();
        let mut guarding = options(bpffs.pins());
        guarding.interfaces = vec![veth.0.clone()];
        let loaded = Loaded::start(guarding.clone(), &Truth::default()).expect("a first start");
        let program_id = loaded.datapath.attachments()[0].program_id;
        drop(loaded);
        tamper(&bpffs.pins());
        let ids = pinned_ids(&bpffs.pins());

        let refusal = Datapath::start(guarding, &Truth::default())
            .err()
            .expect("refused");
        let root = bpffs.pins().root().display().to_string();
        assert!(
            matches!(&refusal, DatapathError::IncompatiblePins { path, difference: found }
                if *path == bpffs.pins().root() && found == difference),
            "{refusal:?}"
        );
        let message = refusal.to_string();
        assert!(
            message.contains(&root) && message.contains(difference),
            "{message}"
        );
        assert!(message.contains("`portcullis detach`"), "{message}");

        assert_eq!(pinned_ids(&bpffs.pins()), ids, "nothing was changed");
        assert_eq!(
            bpffs.pins().interfaces().expect("pinned links"),
            [veth.0.as_str()]
        );
        assert!(
            aya::programs::loaded_programs()
                .flatten()
                .any(|program| program.id() == program_id),
            "the interface lost its program"
        );
    }
}

#[test]
fn pins_of_another_shape_are_replaced_when_no_link_is_pinned() {
    if !kernel_or_skip("pins_of_another_shape_are_replaced_when_no_link_is_pinned") {
        return;
    }
    for (tamper, difference) in TAMPERINGS {
        let bpffs = Bpffs::mount().expect("a BPF filesystem");
        let mut truth = Truth::default();
        truth.set(net("198.51.100.7/32"), 0, Some(Claim::BLOCKED));
        let loaded = start(&bpffs, &truth);
        assert_judged(&loaded, "198.51.100.7", Blocked);
        drop(loaded);
        tamper(&bpffs.pins());
        let old = pinned_ids(&bpffs.pins());

        let loaded = start(&bpffs, &truth);
        let new = pinned_ids(&bpffs.pins());
        assert_eq!(new.len(), 6, "{difference}: {new:?}");
        for (name, id) in &new {
            assert!(
                !old.iter().any(|(_, old)| old == id),
                "{difference}: {name} is an old map"
            );
        }
        for count in loaded.datapath.counters().expect("counters") {
            assert_eq!(count.packets, 0, "{difference}: {count:?}");
        }
        assert_judged(&loaded, "198.51.100.7", Blocked);
    }
}

#[test]
fn an_unknown_interface_is_refused_with_the_names_of_those_that_exist() {
    if !kernel_or_skip("an_unknown_interface_is_refused_with_the_names_of_those_that_exist") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut guarding = options(bpffs.pins());
    guarding.interfaces = vec!["no-such-if0".to_owned()];
    let message = Datapath::start(guarding, &Truth::default())
        .err()
        .expect("refused")
        .to_string();
    let (said, names) = message
        .split_once("; this host has: ")
        .expect("the names of interfaces");
    assert_eq!(said, r#"no network interface named "no-such-if0""#);
    let names: Vec<&str> = names.split(", ").collect();
    assert!(names.contains(&"lo"), "{names:?}");
    assert!(!bpffs.pins().root().exists(), "nothing was pinned");
}
