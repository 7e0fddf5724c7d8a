//! Connections that were open when another configuration, or another revocation list, was put in force: their
//! next request is judged by what holds now.

use std::{
    io::{Read as _, Write as _},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use portcullis_tests::{
    client_pki::{ClientCertificate, ClientPki},
    front::Front,
    ground::Ground,
    pki::Pki,
    run::{RigError, Rigged, eventually},
    scripted::Scripted,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);
const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

/// A proxy whose upstream keeps the first answer back for as long as it is told to.
struct Kept {
    front: Front,
    upstream: Scripted,
    go: Arc<AtomicBool>,
}

/// One of several answers over one connection, as long as that goes on.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    /// The connection was made for this one.
    fresh: bool,
}

const fn got(status: u16, fresh: bool) -> Got {
    Got { status, fresh }
}

impl Kept {
    fn before(ground: Ground) -> Rigged<Self> {
        let go = Arc::new(AtomicBool::new(true));
        let may = Arc::clone(&go);
        let upstream = Scripted::start(move |_, stream| {
            while !may.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(10));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            Ok(true)
        })?;
        Ok(Self {
            front: ground.with_upstream(upstream.address())?.start()?,
            upstream,
            go,
        })
    }

    /// Asks four times, with this in the middle of the first answer.
    fn around(
        &mut self,
        args: &[&str],
        between: impl FnOnce(&mut Front) -> Rigged<()>,
    ) -> Rigged<Vec<Got>> {
        self.go.store(false, Ordering::SeqCst);
        let asked = self.upstream.seen().len();
        let mut curl = self.front.curl_command();
        curl.args(["--max-time", "60", "-w", "%{http_code} %{num_connects}\n"]);
        curl.args(args);
        for _ in 0..4 {
            curl.args(["-o", "/dev/null"])
                .arg(self.front.url("/public"));
        }
        let mut child = curl.stdout(Stdio::piped()).spawn()?;
        eventually("the first is asked", SOON, || {
            (self.upstream.seen().len() > asked).then_some(())
        })?;
        let done = between(&mut self.front);
        self.go.store(true, Ordering::SeqCst);
        let mut said = String::new();
        if let Some(stdout) = &mut child.stdout {
            stdout.read_to_string(&mut said)?;
        }
        child.wait()?;
        done?;
        said.lines()
            .map(|line| {
                let (status, connects) = line.split_once(' ')?;
                Some(got(status.parse().ok()?, connects != "0"))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| RigError(format!("curl said {said:?}")))
    }
}

/// Puts `to` in place of `from`, and has that read.
fn reload(front: &mut Front, from: &str, to: &str) -> Rigged<()> {
    if !front.ground.text.contains(from) {
        return Err(RigError(format!("{from:?} is not there")));
    }
    front.ground.text = front.ground.text.replacen(from, to, 1);
    let text = &front.ground.text;
    front.ground.scratch.write("portcullis.toml", text)?;
    front.daemon.ask(&["reload"]).map(drop)
}

fn rule(ground: &Ground, lines: &str) -> String {
    let at = ground.scratch.path().display();
    let lines = lines.replace("{at}", &at.to_string());
    format!("[[listener.client_certificates]]\nca = \"{at}/clients.pem\"\n{lines}\n\n")
}

fn asking(ground: Ground, lines: &str) -> Rigged<Ground> {
    let rule = rule(&ground, lines);
    ground.alter("[[issuer]]", &format!("{rule}[[issuer]]"))
}

fn with<'a>(version: &'a str, shown: &'a [String; 4]) -> Vec<&'a str> {
    let shown = shown.iter().map(String::as_str);
    [version].into_iter().chain(shown).collect()
}

fn outdated(front: &Front, count: usize) -> Rigged<()> {
    eventually("the refusals are recorded", SOON, || {
        let all = front.audit();
        let told = all.iter().filter(|line| {
            line["reason"] == "client_certificate_outdated" && line["status"] == 421
        });
        (told.count() >= count).then_some(())
    })
}

/// All over the one connection.
fn assert_kept(all: &[Got]) {
    let expected = [
        got(200, true),
        got(200, false),
        got(200, false),
        got(200, false),
    ];
    assert_eq!(all, expected);
}

/// Refused over the connection, and over another one this; over HTTP/2, a request may be on its way before the
/// connection's end is heard of.
fn assert_turned_away(all: &[Got], then: u16) {
    let refused = all.iter().skip(1).take_while(|it| !it.fresh).count();
    assert!((1..=2).contains(&refused), "{all:?}");
    let (before, after) = all.split_at(1 + refused);
    assert_eq!(before[0], got(200, true), "{all:?}");
    assert!(before[1..].iter().all(|it| it.status == 421), "{all:?}");
    assert!(after.iter().all(|it| it.status == then), "{all:?}");
}

#[test]
fn a_certificate_that_is_revoked_is_refused_on_the_next_request() -> Rigged<()> {
    let ground = Ground::set()?;
    let clients = ClientPki::new(&ground.scratch, "clients")?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let bob = clients.issue(&ground.scratch, "bob", 2)?;
    let list = |revoked: &[&ClientCertificate]| clients.revocation_list(revoked, 2100);
    ground.scratch.write("clients.crl", list(&[])?)?;
    let lines = "mode = \"required\"\ncrls = [\"{at}/clients.crl\"]";
    let mut kept = Kept::before(asking(ground, lines)?)?;
    let put = |front: &Front, revoked: &[&ClientCertificate]| -> Rigged<()> {
        let times = |front: &Front| {
            let all = front.audit();
            let told = |line: &&Value| line["step"] == "client_certificates_reloaded";
            all.iter().filter(told).count()
        };
        let before = times(front);
        front.ground.scratch.write("clients.crl", list(revoked)?)?;
        eventually("the list is read", SOON, || {
            (times(front) > before).then_some(())
        })
    };
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let shown = bob.curl_args();
        let own = kept.around(&with(version, &shown), |front| put(front, &[&bob]))?;
        // And another connection can't be had.
        assert_turned_away(&own, 0);
        outdated(&kept.front, number + 1)?;
        let shown = alice.curl_args();
        let other = kept.around(&with(version, &shown), |front| put(front, &[]))?;
        assert_kept(&other);
    }
    Ok(())
}

#[test]
fn a_certificate_that_is_asked_for_now_has_to_have_been_shown() -> Rigged<()> {
    for version in VERSIONS {
        let ground = Ground::set()?;
        let clients = ClientPki::new(&ground.scratch, "clients")?;
        let alice = clients.issue(&ground.scratch, "alice", 1)?.curl_args();
        let required = rule(&ground, "mode = \"required\"");
        let mut kept = Kept::before(ground)?;
        // Nothing was asked: whoever has a certificate shows it over the next connection.
        let asked = format!("{required}[[issuer]]");
        let all = kept.around(&with(version, &alice), |front| {
            reload(front, "[[issuer]]", &asked)
        })?;
        assert_turned_away(&all, 200);
        outdated(&kept.front, 1)?;

        // From required to optional, and to nothing: whoever is in stays.
        let all = kept.around(&with(version, &alice), |front| {
            reload(front, "\"required\"", "\"optional\"")
        })?;
        assert_kept(&all);
        // And back: not with nothing to show.
        let all = kept.around(&[version], |front| {
            reload(front, "\"optional\"", "\"required\"")
        })?;
        assert_turned_away(&all, 0);
        let all = kept.around(&with(version, &alice), |front| reload(front, &required, ""))?;
        assert_kept(&all);
    }
    Ok(())
}

#[test]
fn a_certificate_of_an_authority_that_is_believed_no_more_is_refused() -> Rigged<()> {
    let ground = Ground::set()?;
    let clients = ClientPki::new(&ground.scratch, "clients")?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?.curl_args();
    ClientPki::new(&ground.scratch, "others")?;
    let mut kept = Kept::before(asking(ground, "mode = \"required\"")?)?;
    for version in VERSIONS {
        let all = kept.around(&with(version, &alice), |front| {
            reload(front, "/clients.pem", "/others.pem")
        })?;
        assert_turned_away(&all, 0);
        reload(&mut kept.front, "/others.pem", "/clients.pem")?;
    }
    Ok(())
}

#[test]
fn a_rule_for_the_host_alone_holds_for_what_is_open() -> Rigged<()> {
    for version in VERSIONS {
        let ground = Ground::set()?;
        ClientPki::new(&ground.scratch, "clients")?;
        let names = ["api.example", "admin.example", "localhost", "127.0.0.1"];
        Pki::issue(&ground.scratch, &names)?;
        let of = |host: &str| {
            rule(
                &ground,
                &format!("mode = \"required\"\nhosts = [\"{host}\"]"),
            )
        };
        let (other, own) = (of("admin.example"), of("api.example"));
        let mut kept = Kept::before(ground)?;
        let all = kept.around(&[version], |front| {
            reload(front, "[[issuer]]", &format!("{other}[[issuer]]"))
        })?;
        assert_kept(&all);
        let all = kept.around(&[version], |front| reload(front, &other, &own))?;
        assert_turned_away(&all, 0);
    }
    Ok(())
}

#[test]
fn who_is_believed_about_where_a_request_comes_from_is_who_is_trusted_now() -> Rigged<()> {
    let hops = "trusted_hops = [\"127.0.0.0/8\"]";
    let ground = Ground::set()?.add("[[listener]]", hops)?;
    let mut kept = Kept::before(ground)?;
    for version in VERSIONS {
        let before = kept.upstream.seen().len();
        let args = [version, "-H", "X-Forwarded-For: 198.51.100.7"];
        let all = kept.around(&args, |front| reload(front, hops, "trusted_hops = []"))?;
        assert_kept(&all);
        let seen = kept.upstream.seen();
        let told: Vec<&str> = seen[before..]
            .iter()
            .filter_map(|seen| {
                let mut lines = seen.head.iter();
                lines.find_map(|line| line.strip_prefix("x-forwarded-for: "))
            })
            .collect();
        assert_eq!(told[0], "198.51.100.7, 127.0.0.1");
        assert_eq!(told[1..], ["127.0.0.1"; 3]);
        reload(&mut kept.front, "trusted_hops = []", hops)?;
    }
    Ok(())
}
