//! The tables and settings as the program sees them: what userspace holds to be true is what the
//! kernel judges by, also after tampering, after an expiry and after a restart.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use datapath::{Claim, Plan, Rules, Truth, boot_ns};
use ipnet::IpNet;
use portcullis_tests::{
    bpffs::Bpffs,
    frames::datagram,
    loaded::{HASH_KEY, Loaded, options},
    pinned::{PinnedTable, pinned_ids, pinned_settings, table_id},
    privilege::kernel_or_skip,
};
use proxy_common::{
    Cell, Gcra, Limit, LimitSetting, Mode,
    Reason::{self, Banned, Blocked, Clean, SourcePackets, Trusted},
    abi::{LISTS_V4, LISTS_V6},
    table::{Code, set_code, v4, v6},
};

const HOUR_NS: u64 = 3_600_000_000_000;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
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
    Loaded::start(options(bpffs.pins()), truth).expect("the kernel side starts")
}

/// Cells and codes that the kernel holds otherwise than the truth.
fn differences(loaded: &mut Loaded, truth: &Truth) -> usize {
    let tables = loaded.datapath.tables();
    tables.differences(truth).expect("compared")
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
fn a_load_is_written_over_the_table_before_the_one_in_force() {
    if !kernel_or_skip("a_load_is_written_over_the_table_before_the_one_in_force") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let listing = |prefixes: &[&str]| {
        let mut truth = Truth::default();
        for prefix in prefixes {
            truth.set(net(prefix), 0, Some(Claim::BLOCKED));
        }
        truth
    };
    let truths = [
        listing(&["198.51.100.1/32", "203.0.113.0/24", "2001:db8::/48"]),
        listing(&["198.51.100.2/32", "192.0.2.0/24", "2001:db8:1::/48"]),
    ];
    let sources = [
        ["198.51.100.1", "203.0.113.5", "2001:db8::1"],
        ["198.51.100.2", "192.0.2.5", "2001:db8:1::1"],
    ];
    let mut loaded = start(&bpffs, &truths[0]);
    let one_each = loaded.datapath.tables().bytes();
    let in_force = || [LISTS_V4, LISTS_V6].map(|at| table_id(&bpffs.pins(), at).expect("a table"));
    let mut ids = vec![in_force()];
    for turn in 1..5 {
        let listed = turn % 2;
        let tables = loaded.datapath.tables();
        tables.load(&truths[listed]).expect("loaded");
        assert_eq!(tables.bytes(), 2 * one_each, "one in force, one behind it");
        ids.push(in_force());
        assert_eq!(differences(&mut loaded, &truths[listed]), 0);
        for source in sources[listed] {
            assert_judged(&loaded, source, Blocked);
        }
        for source in sources[1 - listed] {
            assert_judged(&loaded, source, Clean);
        }
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[..2], ids[2..4], "the same two by turns");
    assert_eq!(ids[4], ids[0]);

    let v4_only = Plan::rebuild_for([net("198.51.100.2/32")]);
    let mut truth = truths[0].clone();
    truth.set(net("198.51.100.2/32"), 0, Some(Claim::BLOCKED));
    let tables = loaded.datapath.tables();
    tables.apply(&v4_only, &truth).expect("loaded");
    assert_eq!(in_force(), [ids[1][0], ids[0][1]], "IPv6 stays as it is");
    assert_eq!(differences(&mut loaded, &truth), 0);
}

#[test]
fn a_table_of_another_size_is_not_kept() {
    if !kernel_or_skip("a_table_of_another_size_is_not_kept") {
        return;
    }
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let few = Truth::default();
    let mut many = Truth::default();
    for host in 0..50_000_u32 {
        let prefix = Ipv4Addr::from_bits(16 << 24 | host << 8).into();
        many.set(IpNet::new_assert(prefix, 32), 0, Some(Claim::BLOCKED));
    }
    let bytes = |size: Option<(u32, u32)>| size.map_or(0, |(_, lines)| u64::from(lines) * 64);
    let (small, large) = (bytes(v4::size_for(0)), bytes(v4::size_for(50_000)));
    let v6 = bytes(v6::size_for(0));
    assert!(0 < small && small < large, "{small}, {large}");

    let mut loaded = start(&bpffs, &few);
    let tables = loaded.datapath.tables();
    assert_eq!(tables.bytes(), small + v6);
    for (truth, expected) in [
        (&few, small + small),
        (&many, large),
        (&many, large + large),
        (&few, small),
    ] {
        tables.load(truth).expect("loaded");
        assert_eq!(tables.bytes(), expected + v6 + v6);
    }
    assert_eq!(differences(&mut loaded, &few), 0);
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
    assert_eq!(ids.len(), 7, "{ids:?}");
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
    truth.set(net("198.51.100.7/32"), 0, None::<Claim>);
    truth.set(net("203.0.113.0/24"), 0, Some(Claim::BLOCKED));
    let loaded = start(&bpffs, &truth);
    assert_judged(&loaded, "198.51.100.7", Clean);
    assert_judged(&loaded, "203.0.113.5", Blocked);
    assert_judged(&loaded, "2001:db8::1", Blocked);
}
