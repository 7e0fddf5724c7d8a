//! What a run found, for people and as JSON.

use portcullis_tests::figures::{
    Figure,
    Required::{AtLeast, AtMost, Below, Nothing},
};
use serde_json::{Map, Value, json};

use crate::{
    limiter::Limiter,
    tables::Tables,
    throughput::{Kind, Speed, program},
};

/// Everything that was measured.
pub(crate) struct Report {
    /// Whether the run was a small one, whose figures don't count.
    pub(crate) quick: bool,
    /// Entries of the largest list.
    pub(crate) entries: usize,
    /// Every program under every traffic.
    pub(crate) speeds: Vec<Speed>,
    /// The limiter.
    pub(crate) limiter: Limiter,
    /// The tables.
    pub(crate) tables: Tables,
}

impl Report {
    /// What was run under these conditions, if anything.
    fn speed(&self, name: &str, entries: usize, version: u8, kind: Kind) -> Option<&Speed> {
        self.speeds.iter().find(|speed| {
            (
                speed.program.as_str(),
                speed.entries,
                speed.version,
                speed.kind,
            ) == (name, entries, version, kind)
        })
    }

    /// Million packets a second; 0 where that wasn't run.
    pub(crate) fn mpps(&self, name: &str, entries: usize, version: u8, kind: Kind) -> f64 {
        self.speed(name, entries, version, kind)
            .map_or(0.0, |speed| speed.mpps)
    }

    /// The figures, in the order they are shown. Ratios are over the ceiling of the same IP
    /// version and traffic; one program against another is a ratio of those.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        use Kind::{Blocked, Clean};
        let ceiling = |version| self.mpps(program::CEILING, 0, version, Clean);
        let of_ceiling = |name, entries, version, kind| {
            self.speed(name, entries, version, kind)
                .map_or(0.0, |speed| speed.of_ceiling)
        };
        let ratio = |entries, version, kind| of_ceiling(program::OURS, entries, version, kind);
        let most = self.entries;
        let rival = |name, kind| ratio(most, 4, kind) / of_ceiling(name, most, 4, kind);
        let extra = |version, kind| {
            self.speed(program::OURS, most, version, kind)
                .map_or(0.0, |speed| speed.extra_ns)
        };
        let own_32 = of_ceiling(program::OURS_OWN_32, most, 6, Clean);
        let Self {
            limiter, tables, ..
        } = self;
        vec![
            Figure::new("ceiling_mpps", ceiling(4), Nothing),
            Figure::new("ceiling_v6_mpps", ceiling(6), Nothing),
            Figure::new("clean_1m_ratio", ratio(most, 4, Clean), AtLeast(0.70)),
            Figure::new("clean_0_ratio", ratio(0, 4, Clean), Nothing),
            Figure::new(
                "clean_1m_over_0",
                ratio(most, 4, Clean) / ratio(0, 4, Clean),
                AtLeast(0.90),
            ),
            Figure::new("blocked_1m_ratio", ratio(most, 4, Blocked), AtLeast(0.60)),
            Figure::new("v6_clean_1m_ratio", ratio(most, 6, Clean), AtLeast(0.65)),
            Figure::new("v6_clean_0_ratio", ratio(0, 6, Clean), Nothing),
            Figure::new("v6_clean_own32_ratio", own_32, Nothing),
            Figure::new(
                "v6_clean_own32_over_0",
                own_32 / ratio(0, 6, Clean),
                AtLeast(0.90),
            ),
            Figure::new(
                "v6_blocked_1m_ratio",
                ratio(most, 6, Blocked),
                AtLeast(0.45),
            ),
            Figure::new("clean_1m_ns_over_ceiling", extra(4, Clean), Nothing),
            Figure::new("blocked_1m_ns_over_ceiling", extra(4, Blocked), Nothing),
            Figure::new("v6_clean_1m_ns_over_ceiling", extra(6, Clean), Nothing),
            Figure::new("v6_blocked_1m_ns_over_ceiling", extra(6, Blocked), Nothing),
            Figure::new(
                "vs_nft_exact_clean",
                rival(program::NFT_EXACT, Clean),
                AtLeast(2.2),
            ),
            Figure::new(
                "vs_nft_exact_blocked",
                rival(program::NFT_EXACT, Blocked),
                AtLeast(2.2),
            ),
            Figure::new(
                "vs_textbook_clean",
                rival(program::TEXTBOOK, Clean),
                AtLeast(6.0),
            ),
            Figure::new("innocent_loss", limiter.innocent_loss, Below(0.001)),
            Figure::new("limit_error", limiter.worst_error(), AtMost(0.05)),
            Figure::new("load_1m_seconds", tables.load_seconds, AtMost(2.5)),
            Figure::new("reload_10pct_seconds", tables.reload_seconds, AtMost(1.0)),
            Figure::new("add_at_1m_p99_ms", tables.add_p99_ms, AtMost(2.0)),
            Figure::new("kernel_mib_1m", tables.kernel_mib, AtMost(160.0)),
            Figure {
                key: "kernel_mib_ipsum",
                value: tables.kernel_mib_ipsum,
                required: AtMost(32.0),
            },
        ]
    }

    /// Prints it all; with `json`, one object as the last line.
    pub(crate) fn print(&self, json: bool) {
        self.print_speeds();
        self.print_figures();
        if json {
            println!("{}", self.json());
        }
    }

    fn print_speeds(&self) {
        println!("\nmillion packets a second on one core, median of the rounds");
        print!("{:<44}", "program");
        for kind in Kind::ALL {
            print!("{:>9}", kind.name());
        }
        println!();
        let mut shown = Vec::new();
        for speed in &self.speeds {
            let row = (speed.program.as_str(), speed.entries, speed.version);
            if shown.contains(&row) {
                continue;
            }
            shown.push(row);
            let (name, entries, version) = row;
            print!("{:<44}", format!("{name}, {entries} entries, IPv{version}"));
            for kind in Kind::ALL {
                let mpps = self.mpps(name, entries, version, kind);
                if mpps > 0.0 {
                    print!("{mpps:>9.2}");
                } else {
                    print!("{:>9}", "-");
                }
            }
            println!();
        }
    }

    fn print_figures(&self) {
        if self.quick {
            println!(
                "\na quick run: `1m` stands for {} entries, and nothing here counts",
                self.entries
            );
        }
        println!("\n{:<30}{:>12}{:>12}", "figure", "required", "measured");
        for figure in self.figures() {
            println!("{figure}");
        }
        let Limiter {
            innocent_packets,
            flood_pps,
            error_one_cpu,
            error_two_cpus,
            ..
        } = self.limiter;
        println!(
            "\nthe flood: {innocent_packets} packets of innocents, {:.2} million packets a second \
             in all",
            flood_pps / 1e6
        );
        println!(
            "the limit: off by {:+.2} % on one CPU, {} over two",
            error_one_cpu * 100.0,
            error_two_cpus.map_or("unknown".to_owned(), |error| format!(
                "{:+.2} %",
                error * 100.0
            ))
        );
        println!(
            "the tables: an entry is in force after {:.3} ms in the median; {:.0} MiB hold the \
             IPv6 list",
            self.tables.add_p50_ms, self.tables.kernel_mib_v6
        );
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        for figure in self.figures() {
            object.insert(figure.key.to_owned(), json!(figure.value));
        }
        let speeds: Vec<Value> = self
            .speeds
            .iter()
            .map(|speed| {
                json!({
                    "program": speed.program,
                    "entries": speed.entries,
                    "ip_version": speed.version,
                    "traffic": speed.kind.name(),
                    "mpps": speed.mpps,
                    "of_ceiling": speed.of_ceiling,
                    "ns_over_ceiling": speed.extra_ns,
                    "mpps_slowest": speed.range.0,
                    "mpps_fastest": speed.range.1,
                })
            })
            .collect();
        object.insert("speeds".to_owned(), Value::from(speeds));
        object.insert("entries".to_owned(), json!(self.entries));
        object.insert("quick".to_owned(), json!(self.quick));
        object.insert(
            "limit_error_one_cpu".to_owned(),
            json!(self.limiter.error_one_cpu),
        );
        object.insert(
            "limit_error_two_cpus".to_owned(),
            json!(self.limiter.error_two_cpus),
        );
        object.insert("flood_mpps".to_owned(), json!(self.limiter.flood_pps / 1e6));
        object.insert("kernel_mib_v6".to_owned(), json!(self.tables.kernel_mib_v6));
        Value::from(object)
    }
}
