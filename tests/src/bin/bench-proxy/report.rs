//! The figures of all rounds: medians, and ratios within a round.

use portcullis_tests::figures::{Figure, Required, median, quantile};
use serde_json::{Map, Value, json};

use crate::{
    LoadKind::{self, H2, H2load, Handshakes, Large, PacedH1, PacedH2, Wrk},
    idle::Sockets,
    loads::RATE,
    spent::Spent,
    subject::Kind,
};

/// Share of the proxy's core that others may have before costs aren't worth much.
const QUIET: f64 = 0.05;

/// What came of all rounds for one proxy.
pub(crate) struct Measured {
    pub(crate) rss_mib: f64,
    /// Of each load, by [`LoadKind`].
    pub(crate) spent: [Vec<Spent>; LoadKind::ALL.len()],
    /// At a fixed rate.
    pub(crate) late_h1: Lateness,
    pub(crate) late_h2: Lateness,
    pub(crate) sockets: Option<Sockets>,
}

/// How late answers were, in microseconds, of each round.
#[derive(Default)]
pub(crate) struct Lateness {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Lateness {
    pub(crate) fn push(&mut self, took: &[f64]) {
        self.p50.push(quantile(took, 0.5));
        self.p99.push(quantile(took, 0.99));
    }

    fn p50(&self) -> f64 {
        median(&self.p50)
    }

    fn p99(&self) -> f64 {
        median(&self.p99)
    }
}

impl Measured {
    /// Nothing but the memory with idle connections.
    pub(crate) fn new(rss_mib: f64) -> Self {
        Self {
            rss_mib,
            spent: Default::default(),
            late_h1: Lateness::default(),
            late_h2: Lateness::default(),
            sockets: None,
        }
    }

    /// A line of the last round.
    pub(crate) fn last_round(&self) -> String {
        let us = LoadKind::ALL.map(|kind| {
            let last = self.spent[kind as usize].last();
            last.map_or(0.0, |spent| spent.us_each())
        });
        let [h1, h2, h2load, paced_h1, paced_h2, handshake, large] = us;
        format!(
            "h1 {h1:.1} us, h2 {h2:.1} us, h2load {h2load:.1} us, paced {paced_h1:.1} and {paced_h2:.1} us, \
             handshake {handshake:.0} us, MiB {large:.0} us"
        )
    }

    /// The median over all rounds.
    fn of(&self, kind: LoadKind, value: fn(Spent) -> f64) -> f64 {
        let spent = self.spent[kind as usize].iter();
        let values: Vec<f64> = spent.map(|spent| value(*spent)).collect();
        median(&values)
    }

    fn us(&self, kind: LoadKind) -> f64 {
        self.of(kind, Spent::us_each)
    }

    fn rate(&self, kind: LoadKind) -> f64 {
        self.of(kind, Spent::per_second)
    }

    fn busy(&self, kind: LoadKind) -> f64 {
        self.of(kind, Spent::busy)
    }

    /// How many times another's cost ours is: the median of the ratios within a round.
    fn ratio(&self, other: &Self, kind: LoadKind) -> f64 {
        let rounds = self.spent[kind as usize]
            .iter()
            .zip(&other.spent[kind as usize]);
        let ratios: Vec<f64> = rounds
            .map(|(ours, theirs)| ours.us_each() / theirs.us_each())
            .collect();
        median(&ratios)
    }

    /// Share of its core that others had.
    fn disturbed(&self) -> f64 {
        self.of(Wrk, Spent::disturbed)
    }
}

/// A figure that every proxy has.
struct Row {
    /// For a reader.
    title: &'static str,
    /// Keys in the JSON object, in the order of [`Kind::ALL`].
    keys: [&'static str; 4],
    /// Its value.
    of: fn(&Measured) -> f64,
}

/// Portcullis has the bare name, the others theirs behind it.
macro_rules! row {
    ($title:literal, $key:literal, $of:expr) => {
        Row {
            title: $title,
            keys: [
                $key,
                concat!($key, "_haproxy"),
                concat!($key, "_envoy"),
                concat!($key, "_nginx"),
            ],
            of: $of,
        }
    };
}

const ROWS: [Row; 21] = [
    row!("us a request, HTTP/1.1", "cpu_us_h1", |m| m.us(Wrk)),
    row!("us a request, HTTP/2", "cpu_us_h2", |m| m.us(H2)),
    row!("the same, h2load, one token", "cpu_us_h2load", |m| m
        .us(H2load)),
    row!("us, fixed rate, HTTP/1.1", "cpu_us_paced_h1", |m| m
        .us(PacedH1)),
    row!("us, fixed rate, HTTP/2", "cpu_us_paced_h2", |m| m
        .us(PacedH2)),
    row!("us a handshake", "cpu_us_handshake", |m| m.us(Handshakes)),
    row!("us a body of 1 MiB", "cpu_us_mib", |m| m.us(Large)),
    row!("p50, fixed rate, HTTP/1.1", "p50_us_h1", |m| m
        .late_h1
        .p50()),
    row!("p99, fixed rate, HTTP/1.1", "p99_us_h1", |m| m
        .late_h1
        .p99()),
    row!("p50, fixed rate, HTTP/2", "p50_us_h2", |m| m.late_h2.p50()),
    row!("p99, fixed rate, HTTP/2", "p99_us_h2", |m| m.late_h2.p99()),
    row!("requests/s, HTTP/1.1", "per_second_h1", |m| m.rate(Wrk)),
    row!("requests/s, HTTP/2", "per_second_h2", |m| m.rate(H2)),
    row!("handshakes/s", "per_second_handshake", |m| m
        .rate(Handshakes)),
    row!("share of the core, HTTP/1.1", "busy_h1", |m| m.busy(Wrk)),
    row!("share of the core, HTTP/2", "busy_h2", |m| m.busy(H2)),
    row!("share, handshakes", "busy_handshake", |m| m
        .busy(Handshakes)),
    row!("share that others had", "others", Measured::disturbed),
    row!("MiB, 1,000 idle connections", "rss_mib", |m| m.rss_mib),
    row!("KiB an idle WebSocket", "socket_kib", |m| m
        .sockets
        .map_or(0.0, |s| s.kib)),
    row!("ms/s with 256 idle of them", "sockets_cpu_ms", |m| m
        .sockets
        .map_or(0.0, |s| s.core_ms)),
];

/// What is required, beside what was measured.
fn required(measured: &[Measured]) -> Vec<Figure> {
    use Required::AtMost;
    let of = |kind: Kind| &measured[kind as usize];
    let ours = of(Kind::Portcullis);
    let h1 = |kind| ours.ratio(of(kind), Wrk);
    let h2 = |kind| ours.ratio(of(kind), H2);
    let handshake = ours.ratio(of(Kind::Haproxy), Handshakes);
    vec![
        Figure::new("vs_nginx_h1", h1(Kind::Nginx), AtMost(1.3)),
        Figure::new("vs_nginx_h2", h2(Kind::Nginx), AtMost(1.3)),
        Figure::new("vs_envoy_h1", h1(Kind::Envoy), AtMost(0.5)),
        Figure::new("vs_envoy_h2", h2(Kind::Envoy), AtMost(0.5)),
        Figure::new("vs_haproxy_h1", h1(Kind::Haproxy), AtMost(0.4)),
        Figure::new("vs_haproxy_h2", h2(Kind::Haproxy), AtMost(0.4)),
        Figure::new("vs_haproxy_handshake", handshake, AtMost(1.0)),
        Figure::new(
            "vs_envoy_rss",
            ours.rss_mib / of(Kind::Envoy).rss_mib,
            AtMost(1.0),
        ),
    ]
}

/// For a reader.
pub(crate) fn print(measured: &[Measured]) {
    print!("{:<30}", "of each proxy's own core time");
    for kind in Kind::ALL {
        print!("{:>12}", kind.name());
    }
    println!();
    for row in &ROWS {
        print!("{:<30}", row.title);
        for measured in measured {
            let value = (row.of)(measured);
            let digits = if value < 10.0 { 2 } else { 1 };
            print!("{value:>12.digits$}");
        }
        println!();
    }
    println!("the fixed rate is {RATE} requests/s; nginx asks for no token");
    if measured.iter().any(|m| m.disturbed() > QUIET) {
        println!(
            "this machine isn't quiet: others worked on the proxy's core, and all costs are too high"
        );
    }
    println!();
    println!("{:<30}{:>12}{:>12}", "figure", "required", "measured");
    for figure in required(measured) {
        println!("{figure}");
    }
}

/// For a program.
pub(crate) fn json(measured: &[Measured], quick: bool) -> Value {
    let mut object = Map::new();
    for row in &ROWS {
        for (key, measured) in row.keys.iter().zip(measured) {
            object.insert((*key).to_owned(), json!((row.of)(measured)));
        }
    }
    for figure in required(measured) {
        object.insert(figure.key.to_owned(), json!(figure.value));
    }
    object.insert("rate".to_owned(), json!(RATE));
    object.insert("quick".to_owned(), json!(quick));
    Value::from(object)
}
