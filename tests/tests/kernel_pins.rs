//! Pins of another shape: refused by name while they drop, replaced when they don't.

use std::{fs, process::Command};

use datapath::{Claim, Datapath, DatapathError, Pins, Truth};
use ipnet::IpNet;
use portcullis_tests::{
    bpffs::Bpffs,
    frames::datagram,
    loaded::{Loaded, options},
    pinned::{pinned_ids, pinned_settings},
    privilege::kernel_or_skip,
};
use proxy_common::{
    ABI_VERSION,
    Reason::{self, Blocked},
};

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
        |pins| swap(pins, "SAMPLING", "SETTINGS"),
        "map SETTINGS has type 6, this binary needs 2",
    ),
    (
        |pins| swap(pins, "SETTINGS", "LISTS"),
        "map LISTS has type 2, this binary needs 12",
    ),
    (
        |pins| swap(pins, "RATE_BUCKETS", "SETTINGS"),
        "map SETTINGS has value size 32, this binary needs 344",
    ),
    (
        |pins| swap(pins, "SETTINGS", "RATE_BUCKETS"),
        "map RATE_BUCKETS has value size 344, this binary needs 32",
    ),
    (
        |pins| swap(pins, "COUNTERS", "SAMPLING"),
        "map SAMPLING has capacity 64, this binary needs 1",
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
        "ABI version 5, this binary has 4",
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
        assert_eq!(new.len(), 7, "{difference}: {new:?}");
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
