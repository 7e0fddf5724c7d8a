//! Packets a second of every program under every traffic, in rounds over all of them.

use std::{net::Ipv6Addr, time::Duration};

use ipnet::IpNet;
use portcullis_tests::{figures::median, loaded::Failure, run::eventually};

use crate::{
    generator::{Generator, Traffic},
    lanes::Lane,
    lists::{self, SENT_FROM},
    netfilter::{IpSet, Nft, Set},
    ours::{Onward, Ours, Rate},
    plan::Sources,
    rivals::Rival,
    scale::Scale,
    subject::{Judge, Seen, Subject},
};

/// The limit that is on in all of these runs: nobody reaches it.
const RATE: Rate = Rate {
    per_second: 1_000,
    burst: 2_000,
};

/// The /32 that one list and its clean traffic share.
const OWN_32: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);

/// Packets that come before anything is measured: enough to fill the textbook's LRU map.
const WARM_UP_FRAMES: u32 = 1_500_000;

/// Packets to the ceiling before every sample: about 30 ms.
const CEILING_FRAMES: u32 = 250_000;

/// What the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Random sources.
    Clean,
    /// Sources of the list.
    Blocked,
    /// A million sources.
    Spoofed,
    /// Half random, half of the list.
    Mixed,
}

impl Kind {
    /// All, in the order they are shown.
    pub(crate) const ALL: [Self; 4] = [Self::Clean, Self::Blocked, Self::Spoofed, Self::Mixed];

    /// How it is called in output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Blocked => "blocked",
            Self::Spoofed => "spoofed",
            Self::Mixed => "mixed",
        }
    }

    const fn sources(self) -> Sources {
        match self {
            Self::Clean => Sources::Random,
            Self::Blocked => Sources::Listed,
            Self::Spoofed => Sources::Spoofed,
            Self::Mixed => Sources::Mixed,
        }
    }

    /// The share of packets that a program with this many entries must call blocked.
    fn blocked_share(self) -> std::ops::RangeInclusive<f64> {
        match self {
            // A random source meets one of a million hosts once in 4,295 packets.
            Self::Clean | Self::Spoofed => 0.0..=0.01,
            Self::Blocked => 0.999..=1.0,
            Self::Mixed => 0.49..=0.51,
        }
    }
}

/// What a program is called in output.
pub(crate) mod program {
    pub(crate) const EMPTY: &str = "empty";
    pub(crate) const CEILING: &str = "ceiling";
    pub(crate) const TEXTBOOK: &str = "textbook";
    pub(crate) const NFT_EXACT: &str = "nft exact set";
    pub(crate) const NFT_INTERVAL: &str = "nft interval set";
    pub(crate) const IPSET: &str = "ipset hash:net";
    pub(crate) const OURS: &str = "portcullis";
    pub(crate) const OURS_OWN_32: &str = "portcullis, list in the sources' /32";
}

/// One program under one traffic, over all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Speed {
    /// See [`program`].
    pub(crate) program: String,
    /// Length of its list.
    pub(crate) entries: usize,
    /// 4 or 6.
    pub(crate) version: u8,
    /// Its packets.
    pub(crate) kind: Kind,
    /// Million packets a second, the median of the rounds.
    pub(crate) mpps: f64,
    /// The slowest and the fastest round.
    pub(crate) range: (f64, f64),
    /// Share of the ceiling's speed, the median of the rounds: each sample is held against one of
    /// the ceiling right before it, so that what else the machine does slows both.
    pub(crate) of_ceiling: f64,
    /// Nanoseconds that a packet took longer than at the ceiling, the median of the rounds.
    pub(crate) extra_ns: f64,
}

struct Case {
    subject: usize,
    entries: usize,
    kind: Kind,
    traffic: Traffic,
    frames: u32,
    mpps: Vec<f64>,
    of_ceiling: Vec<f64>,
    extra_ns: Vec<f64>,
}

/// Sets everything up, measures, takes it down.
///
/// # Errors
/// When a part of the rig fails, or a premise doesn't hold.
pub(crate) fn measure(
    object: &[u8],
    generator: &mut Generator,
    scale: &Scale,
) -> Result<Vec<Speed>, Failure> {
    let mut field = Field::default();
    field.enlist(object, scale)?;
    let Field {
        mut subjects,
        mut cases,
    } = field;
    let ceiling = subjects
        .iter()
        .position(|subject| subject.name == program::CEILING)
        .ok_or("there is no ceiling to measure against")?;
    for case in &mut cases {
        let subject = &mut subjects[case.subject];
        if subject.name == program::TEXTBOOK && case.kind == Kind::Clean {
            sample(generator, subject, case.kind, &case.traffic, WARM_UP_FRAMES)?;
        }
        let mpps = sample(generator, subject, case.kind, &case.traffic, 100_000)?;
        case.frames = (mpps * 1e6 * scale.sample.as_secs_f64()) as u32;
    }
    for round in 1..=scale.rounds {
        eprintln!("bench-xdp: round {round} of {}", scale.rounds);
        for case in &mut cases {
            let mut speed = |at: usize, frames| {
                sample(
                    generator,
                    &mut subjects[at],
                    case.kind,
                    &case.traffic,
                    frames,
                )
            };
            let most = speed(ceiling, CEILING_FRAMES)?;
            let mpps = speed(case.subject, case.frames)?;
            case.mpps.push(mpps);
            case.of_ceiling.push(mpps / most);
            case.extra_ns.push(1e3 / mpps - 1e3 / most);
        }
    }
    Ok(cases
        .into_iter()
        .map(|case| Speed {
            program: subjects[case.subject].name.clone(),
            entries: case.entries,
            version: case.traffic.version,
            kind: case.kind,
            mpps: median(&case.mpps),
            of_ceiling: median(&case.of_ceiling),
            extra_ns: median(&case.extra_ns),
            range: (
                case.mpps.iter().copied().fold(f64::INFINITY, f64::min),
                case.mpps.iter().copied().fold(0.0, f64::max),
            ),
        })
        .collect())
}

#[derive(Default)]
struct Field {
    subjects: Vec<Subject>,
    cases: Vec<Case>,
}

impl Field {
    fn enlist(&mut self, object: &[u8], scale: &Scale) -> Result<(), Failure> {
        let hosts = lists::hosts_v4(scale.largest());
        let v4: Vec<IpNet> = hosts.iter().map(|entry| entry.prefix).collect();
        let mixed = lists::mixed_v6(scale.largest());
        let v6: Vec<IpNet> = mixed.iter().map(|entry| entry.prefix).collect();

        self.rivals(object, scale, &v4)?;
        for &size in scale.sizes {
            self.ours(program::OURS, 4, &v4[..size], &Kind::ALL)?;
            self.ours(program::OURS, 6, &v6[..size], &Kind::ALL)?;
        }
        let own = lists::within_v6(scale.largest(), OWN_32);
        self.ours(program::OURS_OWN_32, 6, &own, &[Kind::Clean])
    }

    fn rivals(&mut self, object: &[u8], scale: &Scale, v4: &[IpNet]) -> Result<(), Failure> {
        let xdp = |name: &'static str, lane: &Lane| Rival::attach(object, name, lane);
        let lane = self.lane()?;
        let judge = xdp("empty", &lane)?;
        let at = self.subject(program::EMPTY, lane, true, judge);
        self.cases(at, 0, 4, &[Kind::Clean]);

        let lane = self.lane()?;
        let judge = xdp("ceiling", &lane)?;
        let at = self.subject(program::CEILING, lane, true, judge);
        for version in [4, 6] {
            self.cases(at, 0, version, &Kind::ALL);
        }

        let lane = self.lane()?;
        let mut judge = xdp("textbook", &lane)?;
        told("the textbook's trie", || judge.list(v4.iter().copied()))?;
        let at = self.subject(program::TEXTBOOK, lane, true, judge);
        self.cases(at, v4.len(), 4, &Kind::ALL);

        let lane = self.lane()?;
        let judge = told("nftables' exact set", || Nft::hook(&lane, Set::Exact, v4))?;
        let at = self.subject(program::NFT_EXACT, lane, false, judge);
        self.cases(at, v4.len(), 4, &Kind::ALL);
        if !scale.all_programs {
            return Ok(());
        }
        let lane = self.lane()?;
        let judge = told("nftables' intervals", || {
            Nft::hook(&lane, Set::Interval, v4)
        })?;
        let at = self.subject(program::NFT_INTERVAL, lane, false, judge);
        self.cases(at, v4.len(), 4, &Kind::ALL);

        let lane = self.lane()?;
        let judge = told("ipset", || IpSet::hook(&lane, v4))?;
        let at = self.subject(program::IPSET, lane, false, judge);
        self.cases(at, v4.len(), 4, &Kind::ALL);
        Ok(())
    }

    fn ours(
        &mut self,
        name: &str,
        version: u8,
        entries: &[IpNet],
        kinds: &[Kind],
    ) -> Result<(), Failure> {
        let lane = self.lane()?;
        let mut ours = Ours::start(RATE, Onward::Nowhere, &[&lane])?;
        told(
            &format!("{name}, {} entries, IPv{version}", entries.len()),
            || ours.set_list(entries.to_vec()),
        )?;
        if ours.entries() != entries.len() {
            return Err(format!(
                "{name} holds {} entries where {} were given",
                ours.entries(),
                entries.len()
            )
            .into());
        }
        let at = self.subject(name, lane, true, ours);
        let listless = |kind: &&Kind| !entries.is_empty() || *kind.blocked_share().start() == 0.0;
        let kinds: Vec<Kind> = kinds.iter().filter(listless).copied().collect();
        self.cases(at, entries.len(), version, &kinds);
        if name == program::OURS_OWN_32 {
            for case in self.cases.iter_mut().filter(|case| case.subject == at) {
                case.traffic.sources = Sources::InPrefix;
                case.traffic.fixed = OWN_32.octets();
            }
        }
        Ok(())
    }

    fn lane(&self) -> Result<Lane, Failure> {
        Lane::new(&format!("lane{}", self.subjects.len()))
    }

    fn subject(&mut self, name: &str, lane: Lane, xdp: bool, judge: impl Judge + 'static) -> usize {
        self.subjects.push(Subject {
            name: name.to_owned(),
            lane,
            xdp,
            judge: Box::new(judge),
        });
        self.subjects.len() - 1
    }

    fn cases(&mut self, subject: usize, entries: usize, version: u8, kinds: &[Kind]) {
        let listed = (entries as u32).min(SENT_FROM);
        self.cases.extend(kinds.iter().map(|&kind| Case {
            subject,
            entries,
            kind,
            traffic: Traffic::new(version, kind.sources(), listed),
            frames: 0,
            mpps: Vec::new(),
            of_ceiling: Vec::new(),
            extra_ns: Vec::new(),
        }));
    }
}

/// Says on stderr what takes long.
fn told<T>(what: &str, act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let start = std::time::Instant::now();
    let done = act().map_err(|error| format!("{what}: {error}"))?;
    eprintln!("bench-xdp: {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

/// Sends so many frames and returns the million packets that arrived a second.
fn sample(
    generator: &mut Generator,
    subject: &mut Subject,
    kind: Kind,
    traffic: &Traffic,
    frames: u32,
) -> Result<f64, Failure> {
    let blame = |what: String| -> Failure {
        let Traffic { version, .. } = traffic;
        format!("{}, {} IPv{version}: {what}", subject.name, kind.name()).into()
    };
    let lost_before = subject.lane.lost()?;
    let arrived_before = subject.lane.arrived()?;
    let seen_before = subject.judge.seen()?;
    let took = generator.send(&subject.lane, traffic, frames)?;
    let lost = subject.lane.lost()? - lost_before;
    let wanted = u64::from(frames) - lost;
    let (mut arrived, mut seen) = (0, None);
    let all = eventually("all packets", Duration::from_secs(2), || {
        seen = subject.judge.seen().ok()?;
        if let (Some(now), Some(before)) = (&mut seen, seen_before) {
            *now = now.since(before);
        }
        arrived = match (subject.xdp, seen) {
            (false, Some(seen)) => seen.total(),
            _ => subject.lane.arrived().ok()? - arrived_before,
        };
        (arrived == wanted).then_some(())
    });
    if all.is_err() {
        return Err(blame(format!(
            "{frames} packets were sent and {lost} lost on the way, yet {arrived} arrived"
        )));
    }
    if lost * 20 > u64::from(frames) {
        return Err(blame(format!(
            "{lost} of {frames} packets were lost on the way"
        )));
    }
    if let Some(seen) = seen {
        judge(subject, kind, seen, arrived).map_err(blame)?;
    }
    Ok(arrived as f64 / took.as_secs_f64() / 1e6)
}

/// Whether the verdicts are those that this traffic must get.
/// Of all packets, those that may be of no kind that was sent.
const STRAY_SHARE: f64 = 1e-4;

fn judge(subject: &Subject, kind: Kind, seen: Seen, arrived: u64) -> Result<(), String> {
    if seen.total() != arrived {
        return Err(format!(
            "{arrived} packets arrived, {} were judged",
            seen.total()
        ));
    }
    let share = |packets: u64| packets as f64 / arrived as f64;
    let wanted = if subject.name == program::CEILING {
        0.0..=0.0
    } else {
        kind.blocked_share()
    };
    // The host's own ends of the wire say a word now and then, such as a router solicitation.
    let admitted = 1.0 - wanted.end() - STRAY_SHARE;
    if !wanted.contains(&share(seen.blocked)) || share(seen.clean) < admitted {
        return Err(format!(
            "{seen:?} of {arrived} packets, where a share of {wanted:?} should be blocked and the \
             rest clean"
        ));
    }
    Ok(())
}
