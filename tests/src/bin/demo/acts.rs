//! The acts.

use std::{path::PathBuf, time::Duration};

use datapath::PinnedCounters;
use portcullis_tests::{
    ban_timer::time_ban,
    daemon::{Daemon, portcullis},
    netns::{ALICE, BOB, EDGE},
    run::{RigError, Rigged},
    scene::{HOST, PORT, Scene, SceneLimits},
};
use proxy_common::Reason;

use crate::report::Report;

/// First address of the committed excerpt.
const LISTED: &str = "77.90.185.20";

const LIMITS: SceneLimits = SceneLimits {
    source_rate: 2_000,
    source_burst: 200,
};

pub(crate) fn play(prefix: &str, keep: bool, report: &mut Report) -> Rigged<()> {
    println!("Setting the stage: a guarded host with nginx behind it, and the network it faces.");
    let scene = Scene::set(prefix, LIMITS)?;
    scene.wire.add_client(LISTED)?;
    let daemon = scene.start()?;
    let token = scene.issuer.token("alice", "orders:read")?;
    let play = Play {
        scene: &scene,
        token,
    };
    play.serve(report, &daemon)?;
    play.refuse(report)?;
    play.import(report, &daemon)?;
    play.ban(report, &daemon)?;
    play.flood(report, &daemon)?;
    let daemon = play.crash(report, daemon)?;
    play.account(report, &daemon)?;
    if keep {
        play.keep(&daemon);
    }
    play.leave(report, daemon)
}

struct Play<'a> {
    scene: &'a Scene,
    token: String,
}

impl Play<'_> {
    fn serve(&self, report: &mut Report, daemon: &Daemon) -> Rigged<()> {
        report.act("a request with a valid token is served through TLS");
        let status = daemon.status()?;
        let mode = status["interfaces"][0]["mode"].as_str().unwrap_or("none");
        report.expect_equal("XDP on the guarded interface", "native", mode);
        let answer = self.scene.curl(ALICE, "/orders/7", Some(&self.token))?;
        report.expect_equal("GET /orders/7 with a token", 200, answer.status);
        report.expect_equal("protocol", "2", answer.version.as_str());
        let told = |line: &str| answer.body.lines().any(|told| told == line);
        report.expect(
            "the upstream is told who calls",
            "subject=alice",
            line_of(&answer.body, "subject="),
            told("subject=alice"),
        );
        report.expect(
            "the token stays here",
            "authorization=",
            line_of(&answer.body, "authorization="),
            told("authorization="),
        );
        Ok(())
    }

    fn refuse(&self, report: &mut Report) -> Rigged<()> {
        report.act("who may not is refused, and the upstream never hears of it");
        let poor = self.scene.issuer.token("alice", "orders:list")?;
        for (what, path, token, status) in [
            ("no token", "/orders/no-token", None, 401),
            ("wrong scope", "/orders/wrong-scope", Some(&poor), 403),
            ("unknown route", "/unknown", Some(&self.token), 404),
            (
                "two readings of a path",
                "/orders/%2e%2e/x",
                Some(&self.token),
                400,
            ),
        ] {
            let mut curl = self
                .scene
                .curl_command(ALICE, path, token.map(String::as_str));
            // curl would resolve the dots itself.
            let answer = portcullis_tests::run::output(curl.arg("--path-as-is"))?.stdout;
            let printed = String::from_utf8_lossy(&answer).into_owned();
            let facts = printed.lines().last().unwrap_or_default();
            let saw = facts.split(' ').next().unwrap_or_default();
            report.expect(what, status, saw, saw == status.to_string());
        }
        let heard = self.scene.nginx.seen();
        let leaked = ["no-token", "wrong-scope", "unknown", "%2e"]
            .iter()
            .filter(|path| heard.contains(**path))
            .count();
        report.expect_equal("refused requests that nginx saw", 0, leaked);
        Ok(())
    }

    fn import(&self, report: &mut Report, daemon: &Daemon) -> Rigged<()> {
        report.act("a reputation list is imported, and a listed client dies at the driver");
        let before = self.scene.curl(LISTED, "/orders/1", Some(&self.token))?;
        report.expect_equal("the client before the import", 200, before.status);
        let list = excerpt()?;
        let reply = daemon.ask(&["block", "import", &list, "--list", "ipsum"])?;
        let imported = reply["changed"].as_u64().unwrap_or(0);
        report.expect(
            "entries imported",
            "at least 1000",
            imported,
            imported >= 1_000,
        );
        let connections = self.connections_of(LISTED)?;
        let blocked = daemon.packets("blocked")?;

        let sink = self.scene.count(Duration::from_millis(1_500))?;
        let from_listed = self.scene.send(LISTED, 500, Duration::from_secs(1))?;
        let from_alice = self.scene.send(ALICE, 500, Duration::from_secs(1))?;
        let answer = self.scene.curl(LISTED, "/orders/2", Some(&self.token))?;
        let sent_by_listed = from_listed.finish()?;
        let sent_by_alice = from_alice.finish()?;
        let received = sink.finish()?;

        report.expect_equal("the client after the import", 0, answer.status);
        let dropped = daemon.packets("blocked")? - blocked;
        report.expect(
            "packets the driver dropped",
            format!("at least the {sent_by_listed} datagrams"),
            dropped,
            dropped >= sent_by_listed,
        );
        report.expect_equal(
            "datagrams a socket saw of the client",
            0,
            received.from(LISTED),
        );
        report.expect_equal(
            "datagrams a socket saw of another client",
            sent_by_alice,
            received.from(ALICE),
        );
        let connections = self.connections_of(LISTED)? - connections;
        report.expect_equal("connections the proxy saw of the client", 0, connections);
        Ok(())
    }

    fn ban(&self, report: &mut Report, daemon: &Daemon) -> Rigged<()> {
        report.act("one command bans a client, one brings it back");
        let counters =
            PinnedCounters::open(&self.scene.pins).map_err(|error| RigError(error.to_string()))?;
        let sender = self.scene.send(ALICE, 1_000, Duration::from_secs(20))?;
        std::thread::sleep(Duration::from_millis(200));
        let time = time_ban(daemon, &counters, ALICE)?;
        drop(sender);
        report.expect(
            "from `block add` to the first dropped packet",
            "at most 100 ms",
            format!("{:.1} ms", time.as_secs_f64() * 1e3),
            time <= Duration::from_millis(100),
        );
        let banned = self.scene.curl(ALICE, "/orders/3", Some(&self.token))?;
        report.expect_equal("the banned client", 0, banned.status);
        daemon.ask(&["block", "remove", ALICE])?;
        let back = self.scene.curl(ALICE, "/orders/4", Some(&self.token))?;
        report.expect_equal("the client after `block remove`", 200, back.status);
        Ok(())
    }

    fn flood(&self, report: &mut Report, daemon: &Daemon) -> Rigged<()> {
        report.act("one source floods at ten times its limit, another goes on undisturbed");
        let seconds = 3.0;
        let flood_pps = u32::try_from(LIMITS.source_rate * 10).unwrap_or(u32::MAX);
        let limited = daemon.packets("source_packets")?;
        let sink = self.scene.count(Duration::from_secs_f64(seconds + 1.0))?;
        let flood = self
            .scene
            .send(BOB, flood_pps, Duration::from_secs_f64(seconds))?;
        let calm = self
            .scene
            .send(ALICE, 500, Duration::from_secs_f64(seconds))?;
        let mut served = 0;
        let requests = 20;
        for request in 0..requests {
            let path = format!("/orders/flood-{request}");
            let answer = self.scene.curl(ALICE, &path, Some(&self.token))?;
            served += u32::from(answer.status == 200);
        }
        let flooded = flood.finish()?;
        let calm = calm.finish()?;
        let received = sink.finish()?;
        report.tell(format!(
            "the flood sent {flooded} datagrams in {seconds} s; its limit is {} a second and {} at once",
            LIMITS.source_rate, LIMITS.source_burst
        ));
        let due = LIMITS.source_rate as f64 * seconds + LIMITS.source_burst as f64;
        let got = received.from(BOB);
        report.expect(
            "datagrams of the flood that passed",
            format!("{due:.0} ± 5 %"),
            got,
            (got as f64 - due).abs() <= due * 0.05,
        );
        let limited = daemon.packets("source_packets")? - limited;
        report.expect_equal("the rest died at the driver", flooded - got, limited);
        report.expect_equal("the other's datagrams", calm, received.from(ALICE));
        report.expect_equal("the other's requests served", requests, served);
        Ok(())
    }

    fn crash(&self, report: &mut Report, daemon: Daemon) -> Rigged<Daemon> {
        report.act("kill -9: drops go on; a restart adopts; bans keep their remaining time");
        daemon.ask(&["block", "add", BOB, "--ttl", "1h", "--reason", "flooded us"])?;
        let left_before = left_ms(&daemon, BOB)?;
        let sink = self.scene.count(Duration::from_secs(6))?;
        let from_listed = self.scene.send(LISTED, 500, Duration::from_secs(5))?;
        let from_banned = self.scene.send(BOB, 500, Duration::from_secs(5))?;
        let before = daemon.packets("blocked")?;
        daemon.kill()?;
        report.tell("killed; nobody is at home for a second");
        let dead =
            PinnedCounters::open(&self.scene.pins).map_err(|error| RigError(error.to_string()))?;
        std::thread::sleep(Duration::from_secs(1));
        let blocked = dead
            .packets(Reason::Blocked)
            .map_err(|error| RigError(error.to_string()))?;
        report.expect(
            "drops while the daemon is dead",
            "more than before",
            format!("{} more", blocked - before),
            blocked > before,
        );
        let daemon = self.scene.start()?;
        let status = daemon.status()?;
        let adopted = status["interfaces"][0]["adopted"] == true;
        report.expect(
            "the restart",
            "adopted",
            if adopted { "adopted" } else { "attached anew" },
            adopted,
        );
        let left = left_ms(&daemon, BOB)?;
        let lost_s = (left_before.saturating_sub(left)) / 1_000;
        report.expect(
            "remaining time of the ban",
            "less by the seconds that passed",
            format!("less by {lost_s} s"),
            left < left_before && lost_s < 30,
        );
        from_listed.finish()?;
        from_banned.finish()?;
        let received = sink.finish()?;
        report.expect_equal(
            "packets that slipped through, listed",
            0,
            received.from(LISTED),
        );
        report.expect_equal(
            "packets that slipped through, banned",
            0,
            received.from(BOB),
        );
        Ok(daemon)
    }

    fn account(&self, report: &mut Report, daemon: &Daemon) -> Rigged<()> {
        report.act("what the audit trail and the counters say of all this");
        // The kernel's counters are recorded every second.
        std::thread::sleep(Duration::from_millis(1_200));
        let lines = self.scene.audit_lines()?;
        let count = |key: &str, value: &str| lines.iter().filter(|line| line[key] == value).count();
        for (what, key, value) in [
            ("requests permitted", "reason", "permitted"),
            ("requests without token", "reason", "token_missing"),
            ("requests without scope", "reason", "scope_missing"),
            ("requests without route", "reason", "no_route"),
            ("requests with two readings", "reason", "path_dot_segment"),
            ("list changes: add", "action", "add"),
            ("list changes: remove", "action", "remove"),
            ("list changes: import", "action", "import"),
            ("adoptions", "step", "adopt"),
            ("records of kernel counters", "kind", "kernel"),
            ("samples of dropped packets", "kind", "drop"),
        ] {
            let saw = count(key, value);
            report.expect(what, "at least 1", saw, saw >= 1);
        }
        let attributed = lines
            .iter()
            .filter(|line| line["kind"] == "drop" && line["source"] == LISTED)
            .filter(|line| line["lists"][0] == "ipsum")
            .count();
        report.expect(
            "samples that name their list",
            "at least 1",
            attributed,
            attributed >= 1,
        );
        for line in last_of_each_kind(&lines) {
            report.tell(line);
        }
        let status = daemon.status()?;
        for reason in status["reasons"].as_array().into_iter().flatten() {
            if reason["packets"] != 0 {
                let verdict = if reason["dropped"] == true {
                    "dropped"
                } else {
                    "passed"
                };
                let name = reason["reason"].as_str().unwrap_or_default();
                report.tell(format!(
                    "{verdict} {:>7} packets as {name}",
                    reason["packets"]
                ));
            }
        }
        Ok(())
    }

    fn leave(&self, report: &mut Report, daemon: Daemon) -> Rigged<()> {
        report.act("the daemon stops, the operator detaches");
        let status = daemon.stop()?;
        report.expect("SIGTERM", "exit 0", status, status.success());
        let still = self.scene.wire.edge.ip("link show edge0")?.contains("xdp");
        report.expect_equal(
            "the program after that",
            "attached",
            if still { "attached" } else { "gone" },
        );
        self.scene.detach()?;
        let still = self.scene.wire.edge.ip("link show edge0")?.contains("xdp");
        report.expect_equal(
            "after `portcullis detach`",
            "gone",
            if still { "attached" } else { "gone" },
        );
        let pins = self.scene.pins.root().exists();
        report.expect_equal("its pins", "gone", if pins { "there" } else { "gone" });
        Ok(())
    }

    fn keep(&self, daemon: &Daemon) {
        let namespace = self.scene.wire.outside.name();
        let edge = self.scene.wire.edge.name();
        let binary = portcullis();
        let binary = binary.display();
        let socket = self.scene.socket.display();
        let ca = self.scene.pki.ca.display();
        println!(
            "\nEverything goes on running (pid {}). Try, in another terminal as root:\n
  export PORTCULLIS_SOCKET={socket}
  {binary} status
  {binary} block list
  {binary} block test {LISTED}
  {binary} block add {ALICE} --ttl 30s --reason 'just trying'
  ip netns exec {namespace} curl -s --max-time 2 --interface {ALICE} --cacert {ca} \\
    --resolve {HOST}:{PORT}:{EDGE} -H 'Authorization: Bearer {}' https://{HOST}:{PORT}/orders/1
  ip -n {edge} link show edge0
  tail -f {}
\nEnter or Ctrl-C ends it and cleans up.",
            daemon.pid(),
            self.token,
            self.scene.audit.display()
        );
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    fn connections_of(&self, source: &str) -> Rigged<usize> {
        let peer = format!("{source}:");
        let lines = self.scene.audit_lines()?;
        let of_source =
            |line: &&serde_json::Value| line["peer"].as_str().is_some_and(|p| p.starts_with(&peer));
        Ok(lines.iter().filter(of_source).count())
    }
}

/// The committed excerpt, beside this package's manifest.
fn excerpt() -> Rigged<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/reputation-excerpt.txt");
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| RigError("the excerpt's path is no UTF-8".to_owned()))
}

fn left_ms(daemon: &Daemon, address: &str) -> Rigged<u64> {
    let tested = daemon.ask(&["block", "test", address])?;
    tested["entries"][0]["left_ms"]
        .as_u64()
        .ok_or_else(|| RigError(format!("no remaining time in {tested}")))
}

fn line_of(body: &str, begin: &str) -> String {
    let line = body.lines().find(|line| line.starts_with(begin));
    line.unwrap_or("nothing").to_owned()
}

fn last_of_each_kind(lines: &[serde_json::Value]) -> Vec<String> {
    ["request", "list", "drop", "kernel", "lifecycle"]
        .iter()
        .filter_map(|kind| lines.iter().rev().find(|line| line["kind"] == *kind))
        .map(ToString::to_string)
        .collect()
}
