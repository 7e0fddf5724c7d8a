//! The lists without the kernel side: enforced at accept and at every request, and changed
//! through the command line.

use std::{io::Write as _, path::PathBuf, process::Stdio};

use portcullis_tests::{
    daemon::portcullis,
    front::Front,
    ground::Ground,
    run::{Rigged, output},
};

const US: &str = "127.0.0.1";

/// The committed excerpt, beside this package's manifest.
fn excerpt() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/reputation-excerpt.txt");
    path.display().to_string()
}

fn standing(front: &Front, address: &str) -> Rigged<String> {
    let tested = front.daemon.ask(&["block", "test", address])?;
    Ok(tested["standing"].as_str().unwrap_or_default().to_owned())
}

/// How many changed and how many were as they were.
fn change(front: &Front, words: &[&str]) -> Rigged<(u64, u64)> {
    let reply = front.daemon.ask(words)?;
    let count = |name: &str| reply[name].as_u64().unwrap_or(u64::MAX);
    Ok((count("changed"), count("unchanged")))
}

#[test]
fn a_blocked_source_is_turned_away_at_accept_and_comes_back() -> Rigged<()> {
    let front = Front::open()?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    front
        .daemon
        .ask(&["block", "add", "127.0.0.1/32", "--force", US])?;
    assert_eq!(front.curl("/orders/blocked", &[])?.status, 0);
    let record = front.audited("a refusal", |line| line["reason"] == "source_blocked")?;
    assert_eq!(record["kind"], "connection");
    assert_eq!(record["verdict"], "deny");
    front.daemon.ask(&["block", "remove", US])?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    assert_eq!(front.heard()?, ["GET /public HTTP/1.1"; 2]);
    Ok(())
}

#[test]
fn a_ban_ends_by_itself() -> Rigged<()> {
    let front = Front::open()?;
    let ban = ["block", "add", US, "--ttl", "700ms", "--force", US];
    front.daemon.ask(&ban)?;
    assert_eq!(front.curl("/orders/banned", &[])?.status, 0);
    let record = front.audited("a refusal", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "source_banned");
    portcullis_tests::run::eventually("the ban ends", std::time::Duration::from_secs(10), || {
        (front.curl("/public", &[]).ok()?.status == 200).then_some(())
    })?;
    let expired = front.audited("the end", |line| line["action"] == "expire")?;
    assert_eq!(expired["prefix"], "127.0.0.1/32");
    Ok(())
}

/// The list is asked again at every request: a connection that is kept is no way around it.
#[test]
fn a_kept_connection_is_refused_while_its_source_is_blocked() -> Rigged<()> {
    let front = Front::open()?;
    let mut child = front
        .s_client(&["-quiet", "-alpn", "http/1.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take();
    let mut ask = |path: &str, more: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: api.example\r\n{more}\r\n");
        stdin
            .as_mut()
            .map_or(Ok(()), |stdin| stdin.write_all(request.as_bytes()))
    };
    let requests = |front: &Front| {
        let trail = front.audit();
        trail
            .iter()
            .filter(|line| line["kind"] == "request")
            .count()
    };
    let soon = std::time::Duration::from_secs(5);
    let recorded = |count: usize| {
        portcullis_tests::run::eventually("a request more", soon, || {
            (requests(&front) == count).then_some(())
        })
    };
    ask("/public?first", "")?;
    recorded(1)?;
    front.daemon.ask(&["block", "add", US, "--force", US])?;
    ask("/public?second", "")?;
    recorded(2)?;
    front.daemon.ask(&["block", "remove", US])?;
    ask("/public?third", "Connection: close\r\n")?;
    recorded(3)?;
    let said = child.wait_with_output()?.stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
    assert_eq!(said.matches("HTTP/1.1 403").count(), 1, "{said}");
    let reasons: Vec<_> = front
        .audit()
        .into_iter()
        .filter(|line| line["kind"] == "request")
        .map(|line| line["reason"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(reasons, ["permitted", "source_blocked", "permitted"]);
    assert!(!front.heard()?.iter().any(|line| line.contains("second")));
    Ok(())
}

#[test]
fn trust_beats_a_block() -> Rigged<()> {
    let front = Front::open()?;
    let loopback = "127.0.0.0/8";
    front
        .daemon
        .ask(&["block", "add", loopback, "--force", loopback])?;
    assert_eq!(standing(&front, US)?, "blocked");
    front.daemon.ask(&["allow", "add", US])?;
    assert_eq!(standing(&front, US)?, "trusted");
    assert_eq!(standing(&front, "127.0.0.2")?, "blocked");
    assert_eq!(front.curl("/public", &[])?.status, 200);
    front.daemon.ask(&["allow", "remove", US])?;
    assert_eq!(front.curl("/public", &[])?.status, 0);
    Ok(())
}

#[test]
fn an_entry_that_would_cut_the_host_off_is_refused_by_name() -> Rigged<()> {
    let front = Front::open()?;
    for (entry, told) in [
        ("127.0.0.53", "127.0.0.53/32 covers 127.0.0.0/8, loopback"),
        ("::1", "::1/128 covers ::1, loopback"),
    ] {
        let refused = front.daemon.ask_refused(&["block", "add", entry])?;
        assert!(refused.contains(told), "{refused}");
        assert!(refused.contains("nothing was changed"), "{refused}");
        assert!(refused.contains("--force"), "{refused}");
        assert_eq!(standing(&front, entry)?, "trusted");
    }
    // What is forced is what was typed twice, and nothing beside it.
    let words = [
        "block",
        "add",
        "127.0.0.53",
        "127.0.0.54",
        "--force",
        "127.0.0.53",
    ];
    let refused = front.daemon.ask_refused(&words)?;
    assert!(refused.contains("127.0.0.54/32 covers"), "{refused}");
    Ok(())
}

#[test]
fn an_entry_that_holds_the_operators_own_session_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let words = ["block", "add", "203.0.113.0/24"];
    let mut command = front.daemon.ask_command(&words);
    command.env("SSH_CONNECTION", "203.0.113.9 50222 192.0.2.1 22");
    let printed = output(&mut command)?;
    let said = String::from_utf8_lossy(&printed.stdout);
    assert!(!printed.status.success(), "{said}");
    let told = "203.0.113.0/24 covers 203.0.113.9, where you are logged in from";
    assert!(said.contains(told), "{said}");
    assert_eq!(standing(&front, "203.0.113.9")?, "trusted");
    let elsewhere = ["block", "add", "203.0.113.128/25"];
    assert_eq!(change(&front, &elsewhere)?, (1, 0));
    // Whoever has the daemon's ear from elsewhere can't cut him off either.
    let refused = front.daemon.ask_refused(&words)?;
    assert!(refused.contains("an operator's address"), "{refused}");
    Ok(())
}

#[test]
fn a_list_is_cut_around_what_keeps_the_host_reachable_and_says_so() -> Rigged<()> {
    let front = Front::open()?;
    let list = front.ground.scratch.path().join("reserved.txt");
    std::fs::write(&list, "127.0.0.1\n198.51.100.7\n203.0.113.0/24\n")?;
    let words = ["block", "import", &list.display().to_string()];
    let mut command = front.daemon.ask_command(&words);
    command.env("SSH_CONNECTION", "203.0.113.9 50222 192.0.2.1 22");
    let printed = output(&mut command)?.stdout;
    let reply: serde_json::Value = serde_json::from_slice(&printed).unwrap_or_default();
    let cut = |at: usize, key: &str| {
        reply["cut"][at][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        [cut(0, "entry"), cut(0, "what")],
        ["127.0.0.1/32", "loopback"]
    );
    assert_eq!(
        [cut(1, "entry"), cut(1, "around")],
        ["203.0.113.0/24", "203.0.113.9/32"]
    );
    // Eight prefixes hold all of a /24 but one address.
    assert_eq!(reply["changed"], 9);
    for (address, expected) in [
        (US, "trusted"),
        ("198.51.100.7", "blocked"),
        ("203.0.113.8", "blocked"),
        ("203.0.113.9", "trusted"),
        ("203.0.113.10", "blocked"),
    ] {
        assert_eq!(standing(&front, address)?, expected, "{address}");
    }
    let told = "203.0.113.0/24 of imported around 203.0.113.9, where you are logged in from";
    front.audited("a note", |line| {
        line["step"] == "cut_entry" && line["detail"] == told
    })?;
    Ok(())
}

#[test]
fn lists_of_the_configuration_are_enforced_and_fixed() -> Rigged<()> {
    let loopback = "\"127.0.0.0/8\"";
    let lists = format!("\n[lists]\nblocked = [{loopback}]\n\n[admin]");
    let front = Ground::set()?.alter("[admin]", &lists)?.start()?;
    assert_eq!(
        standing(&front, US)?,
        "trusted",
        "it keeps the host reachable"
    );
    assert_eq!(front.curl("/public", &[])?.status, 200);
    let (_, ground) = front.stop()?;
    let forced = format!("blocked = [{loopback}]\nforce = [{loopback}]");
    let front = ground
        .alter(&format!("blocked = [{loopback}]"), &forced)?
        .start()?;
    assert_eq!(front.curl("/public", &[])?.status, 0);
    let words = ["block", "remove", "127.0.0.0/8", "--list", "config"];
    let refused = front.daemon.ask_refused(&words)?;
    assert!(
        refused.contains("is written in the configuration file"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn adds_and_removes_change_once() -> Rigged<()> {
    let front = Front::open()?;
    let both = ["198.51.100.7", "2001:db8::/48"];
    let add = ["block", "add", both[0], both[1]];
    let remove = ["block", "remove", both[0], both[1]];
    assert_eq!(change(&front, &add)?, (2, 0));
    assert_eq!(change(&front, &add)?, (0, 2));
    assert_eq!(change(&front, &remove)?, (2, 0));
    assert_eq!(change(&front, &remove)?, (0, 2));
    let allow = ["allow", "add", both[0]];
    assert_eq!(change(&front, &allow)?, (1, 0));
    assert_eq!(change(&front, &allow)?, (0, 1));
    assert_eq!(change(&front, &["allow", "remove", both[0]])?, (1, 0));
    assert_eq!(change(&front, &["allow", "remove", both[0]])?, (0, 1));
    Ok(())
}

#[test]
fn every_change_is_recorded_with_who_made_it() -> Rigged<()> {
    let front = Front::open()?;
    let add = [
        "block",
        "add",
        "198.51.100.7/24",
        "--ttl",
        "1h",
        "--reason",
        "a\u{1b}[31mb",
    ];
    front.daemon.ask(&add)?;
    let record = front.audited("the change", |line| line["action"] == "add")?;
    assert_eq!(record["prefix"], "198.51.100.0/24");
    assert_eq!(record["list"], "manual");
    assert_eq!(record["changed"], 1);
    assert_eq!(record["reason"], "a\u{1b}[31mb");
    assert_eq!(record["by_uid"], rustix::process::geteuid().as_raw());
    assert!(record["until"].is_string(), "{record}");
    Ok(())
}

#[test]
fn a_file_with_bad_lines_changes_nothing_and_each_is_told_by_its_number() -> Rigged<()> {
    let front = Front::open()?;
    let text = "# comment\n198.51.100.1\nnonsense\n\n198.51.100.2\t7\n198.51.100.256\n0.0.0.0/0\n198.51.100.3 7 8\n";
    let list = front.ground.scratch.write("list", text)?;
    let list = list.display().to_string();
    let refused = front.daemon.ask_refused(&["block", "import", &list])?;
    let reply: serde_json::Value = serde_json::from_str(&refused).unwrap_or_default();
    let lines = reply["lines"].as_array().cloned().unwrap_or_default();
    let numbers: Vec<_> = lines.iter().map(|line| line["number"].as_u64()).collect();
    assert_eq!(numbers, [Some(3), Some(6), Some(7), Some(8)], "{refused}");
    assert_eq!(standing(&front, "198.51.100.1")?, "unlisted");
    let people = human(&front, &["block", "import", &list])?;
    assert!(!people.0, "{people:?}");
    assert!(people.1.contains("line 3: nonsense: "), "{people:?}");
    assert!(
        people.1.contains("4 bad lines; nothing was changed"),
        "{people:?}"
    );
    Ok(())
}

#[test]
fn the_excerpt_is_imported_and_its_entries_are_dropped() -> Rigged<()> {
    let front = Front::open()?;
    let import = ["block", "import", &excerpt(), "--list", "ipsum"];
    let (changed, unchanged) = change(&front, &import)?;
    assert!(changed >= 1_000, "{changed}");
    assert_eq!(unchanged, 0);
    assert_eq!(change(&front, &import)?, (0, changed));
    let entry = front.daemon.ask(&["block", "test", "77.90.185.20"])?;
    assert_eq!(entry["standing"], "blocked");
    assert_eq!(entry["dropped"], true);
    assert_eq!(entry["entries"][0]["list"], "ipsum");
    let mapped = front
        .daemon
        .ask(&["block", "test", "::ffff:77.90.185.20"])?;
    assert_eq!(mapped["standing"], "blocked");
    let other = front.daemon.ask(&["block", "test", "77.90.185.21"])?;
    assert_eq!(other["standing"], "unlisted");
    assert_eq!(other["dropped"], false);
    assert_eq!(other["entries"], serde_json::json!([]));
    let entries = front.daemon.ask(&["block", "list", "--list", "ipsum"])?;
    assert_eq!(
        entries["entries"].as_array().map(Vec::len),
        usize::try_from(changed).ok()
    );
    Ok(())
}

#[test]
fn a_prefix_that_is_too_wide_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    for (wide, meant, floor) in [
        ("0.0.0.0/0", "0.0.0.0/0", 8),
        ("198.0.0.0/7", "198.0.0.0/7", 8),
        ("::/0", "::/0", 16),
        ("2001::/15", "2000::/15", 16),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0", 8),
    ] {
        for command in ["block", "allow"] {
            let refused = front.daemon.ask_refused(&[command, "add", wide])?;
            let told = format!(
                "{meant} is wider than /{floor}: nothing was changed; block less, or repeat it \
                 with --force {meant}"
            );
            assert!(refused.contains(&told), "{wide}: {refused}");
        }
    }
    let refused = front.daemon.ask_refused(&["block", "add", "198.51.100"])?;
    assert!(
        refused.contains("is neither an address nor a CIDR"),
        "{refused}"
    );
    assert_eq!(
        front.daemon.ask(&["block", "list"])?["entries"],
        serde_json::json!([])
    );
    Ok(())
}

/// Whether a command without `--json` succeeds, and what it prints.
fn human(front: &Front, words: &[&str]) -> Rigged<(bool, String)> {
    let mut command = std::process::Command::new(portcullis());
    let socket = front.ground.scratch.join("admin.sock");
    let printed = output(command.args(words).arg("--socket").arg(socket))?;
    let text = [printed.stdout, printed.stderr].concat();
    Ok((
        printed.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[test]
fn every_command_prints_for_people_and_for_programs() -> Rigged<()> {
    let front = Front::open()?;
    for (words, people, reply) in [
        (
            vec!["block", "add", "198.51.100.1", "--ttl", "1h"],
            "1 changed, 0 as they were",
            "changed",
        ),
        (vec!["block", "list"], "1 entries", "entries"),
        (
            vec!["block", "test", "198.51.100.1"],
            "198.51.100.1 is banned: dropped",
            "tested",
        ),
        (
            vec!["block", "import", &excerpt()],
            "changed, 0 as they were",
            "changed",
        ),
        (
            vec!["block", "remove", "198.51.100.1"],
            "1 changed, 0 as they were",
            "changed",
        ),
        (
            vec!["allow", "add", "198.51.100.2"],
            "1 changed, 0 as they were",
            "changed",
        ),
        (
            vec!["allow", "list", "--list", "allow"],
            "1 entries",
            "entries",
        ),
        (vec!["allow", "list"], "loopback", "entries"),
        (
            vec!["why", "198.51.100.1"],
            "198.51.100.1: not dropped: no list covers it; no kernel side runs",
            "why",
        ),
        (
            vec!["block", "test", "198.51.100.2"],
            "198.51.100.2 is trusted: passes",
            "tested",
        ),
        (
            vec!["allow", "remove", "198.51.100.2"],
            "1 changed, 0 as they were",
            "changed",
        ),
        (vec!["status"], "WITHOUT THE KERNEL SIDE", "status"),
    ] {
        let (success, printed) = human(&front, &words)?;
        assert!(success, "{words:?}: {printed}");
        assert!(printed.contains(people), "{words:?}: {printed}");
        assert_eq!(front.daemon.ask(&words)?["reply"], reply, "{words:?}");
    }
    Ok(())
}

#[test]
fn without_the_kernel_side_there_are_no_limits_to_show_or_set() -> Rigged<()> {
    let front = Front::open()?;
    for words in [
        vec!["limit", "show"],
        vec!["limit", "set", "source_packets", "--rate", "1"],
    ] {
        let refused = front.daemon.ask_refused(&words)?;
        assert!(refused.contains("there is no kernel side"), "{refused}");
    }
    Ok(())
}
