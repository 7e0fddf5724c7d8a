//! Two hundred times `kill -9` at random moments of bans, removals, imports and changes that revert:
//! after each, every change that was answered for is there, nothing else is, and the kernel agrees.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    daemon::Daemon,
    feeds::many_hosts,
    held,
    numbers::Numbers,
    privilege::kernel_or_skip,
    run::{eventually, output},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
};

const SEEDS: [u64; 4] = [
    0x9e37_79b9_7f4a_7c15,
    0xd1b5_4a32_d192_ed03,
    0x94d0_49bb_1331_11eb,
    0xbf58_476d_1ce4_e5b9,
];

/// Kills of one seed.
const KILLS: usize = 50;

/// The longest that changes go on before a kill.
const LONGEST_MS: u64 = 160;

const PATIENCE: Duration = Duration::from_secs(10);

/// How many hosts changes are about.
const NUMBERS: u32 = 6_000;

const BAN: Duration = Duration::from_secs(3_600);

/// What is asked of the daemon.
#[derive(Clone, Debug)]
enum Change {
    /// A ban of an hour.
    Ban(u32),
    Remove(u32),
    /// So many hosts from a number on, all or none.
    Import(u32, u32),
    /// A block that nobody confirms.
    Fleeting(u32),
}

fn prefix(number: u32) -> String {
    // 100.64.0.0/10, which nobody's lifelines are in here.
    format!(
        "{}/32",
        Ipv4Addr::from_bits((100 << 24 | 64 << 16) + number)
    )
}

/// What must be on the lists: the moment of its ban, none of those that are blocked for good.
type Model = BTreeMap<String, Option<Instant>>;

impl Change {
    fn draw(numbers: &mut Numbers, next: &mut u32, model: &Model) -> Self {
        // Round and round: a later change also meets what an earlier one left.
        let mut fresh = |count: u32| {
            let first = if *next + count > NUMBERS { 0 } else { *next };
            *next = first + count;
            first
        };
        match numbers.below(16) {
            0..=5 => Self::Ban(fresh(1)),
            6 | 7 if !model.is_empty() => {
                let at = numbers.index(model.len());
                let known = model.keys().nth(at).cloned().unwrap_or_default();
                let address: Ipv4Addr = known
                    .trim_end_matches("/32")
                    .parse()
                    .expect("one of our own prefixes");
                Self::Remove(address.to_bits() - (100 << 24 | 64 << 16))
            }
            6..=9 => Self::Fleeting(fresh(1)),
            10..=14 => {
                let count = 20 + numbers.below(300) as u32;
                Self::Import(fresh(count), count)
            }
            // So many that the tables are made anew.
            _ => Self::Import(fresh(4_500), 4_500),
        }
    }

    fn words(&self, scene: &Scene) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        match self {
            Self::Ban(number) => words(&["block", "add", &prefix(*number), "--ttl", "1h"]),
            Self::Remove(number) => words(&["block", "remove", &prefix(*number)]),
            Self::Fleeting(number) => {
                words(&["block", "add", &prefix(*number), "--confirm", "200ms"])
            }
            Self::Import(first, count) => {
                let list = many_hosts(*first, *count);
                let file = scene.scratch.write("list.txt", list);
                let file = file.expect("a list").display().to_string();
                // The same list as bans, so that a removal finds both.
                words(&["block", "import", &file, "--list", "manual"])
            }
        }
    }

    /// What is on the lists once it was made.
    fn made(&self, model: &mut Model) {
        match self {
            Self::Ban(number) => {
                // A ban extends: what is blocked for good stays so.
                if model.get(&prefix(*number)) != Some(&None) {
                    model.insert(prefix(*number), Some(Instant::now()));
                }
            }
            Self::Remove(number) => {
                model.remove(&prefix(*number));
            }
            Self::Import(first, count) => {
                model.extend((*first..first + count).map(|number| (prefix(number), None)));
            }
            Self::Fleeting(_) => {}
        }
    }
}

/// Makes changes until the daemon answers no more; returns the one that it left open.
fn change_until_killed(
    scene: &Scene,
    daemon: &Daemon,
    numbers: &mut Numbers,
    next: &mut u32,
    model: &mut Model,
) -> Change {
    loop {
        let change = Change::draw(numbers, next, model);
        let words = change.words(scene);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answered = output(&mut daemon.ask_command(&words)).expect("a command");
        if !answered.status.success() {
            return change;
        }
        change.made(model);
    }
}

/// Whether the lists are just this, and bans have what is left of their hour.
fn fits(listed: &BTreeMap<String, Option<u64>>, model: &Model) -> bool {
    listed.len() == model.len()
        && listed
            .iter()
            .zip(model)
            .all(|((prefix, left), (due, since))| {
                let in_time = match (left, since) {
                    (None, None) => true,
                    (Some(left_ms), Some(since)) => {
                        let due = BAN.saturating_sub(since.elapsed());
                        let left = Duration::from_millis(*left_ms);
                        left <= due + Duration::from_secs(2) && left + Duration::from_secs(5) >= due
                    }
                    _ => false,
                };
                prefix == due && in_time
            })
}

fn kill_again_and_again(seed: u64) {
    let scene = Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene");
    let (mut numbers, mut next, mut model) = (Numbers::new(seed), 0, Model::new());
    let (mut open, mut landed, mut answered) = (0, 0, 0);
    for kill in 0..KILLS {
        let daemon = scene.start().expect("a daemon");
        let before = model.len();
        let after = Duration::from_millis(numbers.below(LONGEST_MS));
        let left_open = thread::scope(|scope| {
            let changing = scope.spawn(|| {
                change_until_killed(&scene, &daemon, &mut numbers, &mut next, &mut model)
            });
            thread::sleep(after);
            daemon.signal("KILL").expect("killed");
            changing.join().expect("changes end with the daemon")
        });
        drop(daemon);
        answered += usize::from(model.len() != before);

        let daemon = scene.start().expect("a daemon");
        eventually("nothing waits to be confirmed", PATIENCE, || {
            let waiting = daemon.ask(&["confirm", "--list"]).ok()?;
            waiting["pending"].as_array()?.is_empty().then_some(())
        })
        .expect("reverted");
        let listed = held::listed(&daemon).expect("the entries");
        let mut with_open = model.clone();
        left_open.made(&mut with_open);
        let moment =
            format!("seed {seed}, kill {kill}, {after:?} into changes, amid {left_open:?}");
        open += 1;
        if fits(&listed, &with_open) && !fits(&listed, &model) {
            landed += 1;
            model = with_open;
        } else {
            assert!(
                fits(&listed, &model),
                "{moment}: {} listed, {} due",
                listed.len(),
                model.len()
            );
        }
        let kernel = held::in_kernel(&scene).expect("a table");
        assert!(
            kernel.iter().eq(listed.keys()),
            "{moment}: the kernel differs"
        );
        daemon.kill().expect("killed");
    }
    // The premise: kills came before, amid and after changes.
    assert_eq!(open, KILLS);
    assert!(
        answered > KILLS / 4,
        "{answered} rounds with changes that were answered for"
    );
    eprintln!("{answered} of {KILLS} rounds had answers, {landed} open changes were there whole");
}

#[test]
fn what_was_answered_for_is_there_after_each_of_two_hundred_kills() {
    if !kernel_or_skip("what_was_answered_for_is_there_after_each_of_two_hundred_kills") {
        return;
    }
    // Side by side: most of a round is waiting.
    thread::scope(|scope| {
        for seed in SEEDS {
            scope.spawn(move || kill_again_and_again(seed));
        }
    });
}
