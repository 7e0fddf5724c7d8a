//! Every command of docs/operating-lists.md does what the page says, in the order of the page.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use portcullis_tests::{
    daemon::portcullis,
    front::Front,
    ground::Ground,
    run::{RigError, Rigged, eventually, output, succeed},
};

/// A fenced block of the page: what stands behind its fence, and its lines.
struct Block {
    kind: String,
    lines: Vec<String>,
}

fn blocks() -> Rigged<Vec<Block>> {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operating-lists.md");
    let text = fs::read_to_string(page)?;
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                open = Some(Block {
                    kind: kind.to_owned(),
                    lines: Vec::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    Ok(blocks)
}

/// A folder with `portcullis` on the path and the files that the page names.
fn desk(ground: &Ground) -> Rigged<PathBuf> {
    let desk = ground.scratch.join("desk");
    fs::create_dir_all(desk.join("bin"))?;
    symlink(portcullis(), desk.join("bin/portcullis"))?;
    fs::write(desk.join("ipsum.txt"), "192.0.2.50\t5\n192.0.2.51\t1\n")?;
    let saved = "create old hash:net family inet\nadd old 192.0.2.60\nadd old 192.0.2.128/25\n";
    fs::write(desk.join("saved.ipset"), saved)?;
    succeed(Command::new("gzip").arg(desk.join("saved.ipset")))?;
    fs::write(desk.join("incident.txt"), "192.0.2.70\n")?;
    fs::write(ground.scratch.join("office.txt"), "192.0.2.80\n")?;
    fs::write(ground.scratch.join("trial.txt"), hosts(100))?;
    Ok(desk)
}

fn hosts(count: u8) -> String {
    (0..count).map(|n| format!("198.18.0.{n}\n")).collect()
}

/// What a line of the page prints, and whether it succeeds.
fn typed(front: &Front, desk: &Path, line: &str) -> Rigged<(bool, String)> {
    let path = format!(
        "{}:{}",
        desk.join("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let printed = output(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(desk)
            .env("PATH", path)
            .env("PORTCULLIS_SOCKET", front.ground.scratch.join("admin.sock")),
    )?;
    let text = [printed.stdout, printed.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((printed.status.success(), text))
}

fn feed_is(front: &Front, name: &str, state: &str) -> Rigged<()> {
    eventually(
        &format!("{name} is {state}"),
        Duration::from_secs(10),
        || {
            let feed = front.daemon.ask(&["feed", "show", name]).ok()?;
            (feed["state"] == state).then_some(())
        },
    )
}

#[test]
fn every_command_of_the_page_on_lists_does_what_the_page_says() -> Rigged<()> {
    let blocks = blocks()?;
    let ground = Ground::set()?;
    let desk = desk(&ground)?;
    let config = blocks.iter().find(|block| block.kind == "toml");
    let config = config
        .map(|block| block.lines.join("\n"))
        .unwrap_or_default();
    let here = ground.scratch.path().display().to_string();
    let config = config.replace("/etc/portcullis/lists", &here);
    let front = ground
        .alter("[admin]", &format!("{config}\n\n[admin]"))?
        .start_secluded()?;
    feed_is(&front, "trial", "good")?;

    let mut commands = 0;
    for block in blocks.iter().filter(|block| block.kind.starts_with("sh")) {
        for line in &block.lines {
            if line.starts_with("portcullis feed accept trial --dry-run") {
                // The page has come to what was held back.
                fs::write(front.ground.scratch.join("trial.txt"), hosts(3))?;
                feed_is(&front, "trial", "held")?;
            }
            let (success, text) = typed(&front, &desk, line)?;
            let expected = block.kind == "sh";
            if success != expected {
                return Err(RigError(format!("{line}: success {success}: {text}")));
            }
            commands += 1;
        }
    }
    assert!(commands >= 30, "{commands} commands were found");

    // What the page promises on the way has come true.
    let told = |words: &[&str]| front.daemon.ask(words);
    assert_eq!(
        told(&["block", "test", "203.0.113.20"])?["standing"],
        "trusted"
    );
    assert_eq!(
        told(&["block", "test", "203.0.113.9"])?["standing"],
        "blocked"
    );
    assert_eq!(
        told(&["block", "test", "198.51.100.7"])?["standing"],
        "unlisted"
    );
    assert_eq!(
        told(&["block", "test", "192.0.2.80"])?["standing"],
        "trusted"
    );
    assert_eq!(
        told(&["block", "test", "192.0.2.60"])?["standing"],
        "banned"
    );
    assert_eq!(
        told(&["block", "test", "192.0.2.51"])?["standing"],
        "unlisted"
    );
    assert_eq!(
        told(&["block", "test", "192.0.2.70"])?["standing"],
        "unlisted"
    );
    assert_eq!(told(&["feed", "show", "trial"])?["entries"], 3);
    assert!(fs::read_to_string(desk.join("moved.nft"))?.contains("192.0.2.60"));
    eventually("the forced block reverts", Duration::from_secs(10), || {
        let tested = told(&["block", "test", "127.0.0.53"]).ok()?;
        (tested["standing"] == "trusted").then_some(())
    })?;
    Ok(())
}
