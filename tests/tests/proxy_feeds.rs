//! Lists from files and to files, through the command line.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
};

use portcullis_tests::{
    daemon::portcullis,
    front::Front,
    run::{Rigged, output, succeed},
};
use serde_json::{Value, json};

const FORMATS: [&str; 9] = [
    "plain",
    "ipsum",
    "spamhaus",
    "spamhaus-json",
    "range",
    "csv",
    "json",
    "ipset",
    "nft",
];

fn excerpt(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/feeds");
    folder.join(name).display().to_string()
}

fn written(front: &Front, name: &str, text: impl AsRef<[u8]>) -> Rigged<String> {
    Ok(front
        .ground
        .scratch
        .write(name, text)?
        .display()
        .to_string())
}

fn prefixes(front: &Front, list: &str) -> Rigged<BTreeSet<String>> {
    let listed = front.daemon.ask(&["block", "list", "--list", list])?;
    let entries = listed["entries"].as_array().cloned().unwrap_or_default();
    let prefixes = entries.iter().filter_map(|entry| entry["prefix"].as_str());
    Ok(prefixes.map(str::to_owned).collect())
}

/// Whether a command without `--json` succeeds, and what it prints on stdout and stderr.
fn human(front: &Front, words: &[&str]) -> Rigged<(bool, String, String)> {
    let mut command = Command::new(portcullis());
    let socket = front.ground.scratch.join("admin.sock");
    let printed = output(command.args(words).arg("--socket").arg(socket))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        printed.status.success(),
        text(&printed.stdout),
        text(&printed.stderr),
    ))
}

#[test]
fn every_publishers_excerpt_is_imported_without_naming_its_format() -> Rigged<()> {
    let front = Front::open_secluded()?;
    for (name, field, format, entries) in [
        ("level1.netset", None, "plain", 3),
        ("ipsum.txt", None, "ipsum", 3),
        ("drop.txt", None, "spamhaus", 3),
        ("drop_v4.json", None, "spamhaus-json", 2),
        ("level1.p2p", None, "range", 7),
        ("servers.csv", Some("dst_ip"), "csv", 2),
        ("addresses.json", Some("ip"), "json", 2),
        ("saved.ipset", None, "ipset", 2),
        ("ruleset.nft", None, "nft", 10),
    ] {
        let file = excerpt(name);
        let mut words = vec!["block", "import", &file, "--list", name];
        words.extend(field.into_iter().flat_map(|field| ["--field", field]));
        let reply = front.daemon.ask(&words)?;
        assert_eq!(reply["format"], format, "{name}");
        assert_eq!(reply["changed"], entries, "{name}: {reply}");
    }
    let listed = front
        .daemon
        .ask(&["block", "list", "--list", "saved.ipset"])?;
    let left = listed["entries"][0]["left_ms"].as_u64().unwrap_or_default();
    assert!((1..=99_000).contains(&left), "{listed}");
    assert_eq!(listed["entries"][1]["left_ms"], Value::Null);
    Ok(())
}

#[test]
fn a_dry_run_tells_what_would_come_of_it_and_changes_nothing() -> Rigged<()> {
    let front = Front::open_secluded()?;
    let first = written(&front, "first", "192.0.2.1\n192.0.2.2\n")?;
    front
        .daemon
        .ask(&["block", "import", &first, "--ttl", "1h"])?;
    let second = written(&front, "second", "192.0.2.2\n192.0.2.3\n192.0.2.3\n")?;
    let before = front.daemon.ask(&["block", "list"])?["entries"].clone();
    let planned = front
        .daemon
        .ask(&["block", "import", &second, "--dry-run"])?;
    assert_eq!(planned["dry_run"], true);
    let counts = ["added", "extended", "unchanged"].map(|count| planned[count].clone());
    assert_eq!(counts, [json!(1), json!(1), json!(0)]);
    let (success, printed, _) = human(&front, &["block", "import", &second, "--dry-run"])?;
    assert!(success);
    assert_eq!(
        printed,
        "nothing was changed; 1 would be added, 1 changed, 0 removed, 0 stay as they are\n"
    );
    let elsewhere = ["block", "import", &second, "--dry-run", "--list", "new"];
    assert_eq!(front.daemon.ask(&elsewhere)?["added"], 2);
    let after = front.daemon.ask(&["block", "list"])?["entries"].clone();
    let plain = |entries: &Value| {
        let entries = entries.as_array().cloned().unwrap_or_default();
        let pair = |it: &Value| (it["prefix"].clone(), it["until_ms"].clone());
        entries.iter().map(pair).collect::<Vec<_>>()
    };
    assert_eq!(plain(&after), plain(&before));
    let lists = front.daemon.status()?["lists"].to_string();
    assert!(!lists.contains("\"new\""), "{lists}");
    Ok(())
}

#[test]
fn bad_lines_up_to_the_bound_are_left_out_and_told() -> Rigged<()> {
    let front = Front::open_secluded()?;
    let file = written(&front, "list", "192.0.2.1\nnonsense\n192.0.2.2-192.0.2.9\n")?;
    let import = |most: &'static str| {
        let mut words = vec!["block", "import", &file, "--format", "plain"];
        words.extend(["--max-bad-lines", most]);
        human(&front, &words)
    };
    let (success, _, told) = import("1")?;
    assert!(!success);
    assert!(told.contains("2 bad lines; nothing was changed"), "{told}");
    assert!(
        told.contains("line 3: 192.0.2.2-192.0.2.9: is a range"),
        "{told}"
    );
    assert!(prefixes(&front, "imported")?.is_empty());
    let (success, printed, told) = import("2")?;
    assert!(success);
    assert_eq!(printed, "1 changed, 0 as they were\n");
    assert!(told.contains("2 bad lines were left out"), "{told}");
    Ok(())
}

#[test]
fn a_least_score_is_told_of_and_says_where_there_are_none() -> Rigged<()> {
    let front = Front::open_secluded()?;
    let scored = excerpt("ipsum.txt");
    let words = ["block", "import", &scored, "--min-score", "8"];
    let (_, printed, told) = human(&front, &words)?;
    assert_eq!(printed, "2 changed, 0 as they were\n");
    assert_eq!(told, "1 entries were left out for their score\n");
    let unscored = excerpt("level1.netset");
    let words = ["block", "import", &unscored, "--min-score", "8"];
    let (_, _, told) = human(&front, &words)?;
    assert_eq!(
        told,
        "plain gives no scores, so --min-score left nothing out\n"
    );
    Ok(())
}

/// Packs a file; `gzip` is in every Debian.
fn packed(front: &Front, name: &str, text: impl AsRef<[u8]>) -> Rigged<String> {
    let file = written(front, name, text)?;
    succeed(Command::new("gzip").args(["--force", &file]))?;
    Ok(format!("{file}.gz"))
}

#[test]
fn a_gzipped_list_is_imported_and_one_that_unpacks_too_far_is_refused() -> Rigged<()> {
    let front = Front::open_secluded()?;
    let good = packed(&front, "good", "192.0.2.1\n")?;
    front.daemon.ask(&["block", "import", &good])?;
    let mut command = front.daemon.ask_command(&["block", "import", "-"]);
    let reply = succeed(command.stdin(Stdio::from(File::open(&good)?)))?;
    assert!(reply.contains("\"unchanged\":1"), "{reply}");
    let bomb = packed(&front, "bomb", vec![b'\n'; (64 << 20) + 1])?;
    let refused = front.daemon.ask_refused(&["block", "import", &bomb])?;
    assert!(
        refused.contains("is longer than 67108864 bytes when unpacked"),
        "{refused}"
    );
    let bytes = fs::read(&good)?;
    let cut = written(&front, "cut.gz", &bytes[..bytes.len() - 3])?;
    let refused = front.daemon.ask_refused(&["block", "import", &cut])?;
    assert!(
        refused.contains("begins like gzip and can't be unpacked"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn a_file_that_cannot_be_read_is_refused_by_name() -> Rigged<()> {
    let front = Front::open_secluded()?;
    let page = written(&front, "page", "<html>\n")?;
    let refused = front.daemon.ask_refused(&["block", "import", &page])?;
    assert!(
        refused.contains("page: the lines are of no known format"),
        "{refused}"
    );
    let binary = written(&front, "binary", [0xff, 0xfe, 0, 1])?;
    let refused = front.daemon.ask_refused(&["block", "import", &binary])?;
    assert!(refused.contains("binary is no text"), "{refused}");
    let refused = front.daemon.ask_refused(&["block", "import", "/nowhere"])?;
    assert!(refused.contains("can't read /nowhere"), "{refused}");
    Ok(())
}

#[test]
fn what_is_exported_is_imported_in_every_format() -> Rigged<()> {
    let front = Front::open_secluded()?;
    let add = [
        "block",
        "add",
        "192.0.2.1",
        "198.51.100.0/24",
        "2001:db8::/32",
    ];
    front.daemon.ask(&add)?;
    let add = [
        "block",
        "add",
        "203.0.113.7",
        "--ttl",
        "1h",
        "--reason",
        "a, \"b\"",
    ];
    front.daemon.ask(&add)?;
    for format in FORMATS {
        let export = ["block", "export", "--list", "manual", "--format", format];
        let (success, printed, told) = human(&front, &export)?;
        assert!(success, "{told}");
        let loses_time = !["csv", "json", "ipset", "nft"].contains(&format);
        assert_eq!(
            told.contains("1 entries lose the time of their end"),
            loses_time,
            "{format}: {told}"
        );
        let file = written(&front, format, &printed)?;
        front
            .daemon
            .ask(&["block", "import", &file, "--list", format])?;
        assert_eq!(prefixes(&front, format)?, prefixes(&front, "manual")?);
    }
    Ok(())
}

#[test]
fn an_export_goes_to_a_file_and_one_that_cannot_be_written_is_told() -> Rigged<()> {
    let front = Front::open_secluded()?;
    front.daemon.ask(&["block", "add", "192.0.2.1"])?;
    let file = front.ground.scratch.join("out").display().to_string();
    let (success, printed, _) = human(&front, &["block", "export", "--output", &file])?;
    assert!(success);
    assert_eq!(printed, format!("1 entries written to {file}\n"));
    assert_eq!(fs::read_to_string(&file)?, "192.0.2.1\n");
    let nowhere = ["block", "export", "--output", "/nowhere/out"];
    let refused = front.daemon.ask_refused(&nowhere)?;
    assert!(refused.contains("can't write /nowhere/out"), "{refused}");
    Ok(())
}
