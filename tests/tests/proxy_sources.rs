//! Lists with a source: files that change, contents that are held back, feeds begun at run time.

use std::{fs, time::Duration};

use portcullis_tests::{
    feeds::{PATIENCE, await_entries, await_problem, hosts, of_file, shown, standing, with},
    front::Front,
    ground::Ground,
    run::{RigError, Rigged, eventually},
};
use serde_json::Value;

#[test]
fn a_file_is_followed_as_it_changes_and_entries_that_go_are_taken_off() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground
        .scratch
        .write("list.txt", "# ours\n198.51.100.1\n198.51.100.2\n")?;
    let lines = of_file(&ground, "");
    let front = with(ground, &lines)?.start_secluded()?;
    let feed = await_entries(&front, 2)?;
    assert_eq!(feed["state"], "good", "{feed}");
    assert_eq!(feed["format"], "plain");
    fs::write(&file, "198.51.100.2\n198.51.100.3\n198.51.100.4\n")?;
    await_entries(&front, 3)?;
    assert_eq!(standing(&front, "198.51.100.1")?, "unlisted");
    assert_eq!(standing(&front, "198.51.100.3")?, "blocked");
    // Put there as a new file, as a careful publisher does.
    let next = front.ground.scratch.write("next.txt", "198.51.100.9\n")?;
    fs::rename(next, &file)?;
    await_entries(&front, 1)?;
    assert_eq!(standing(&front, "198.51.100.9")?, "blocked");
    front.audited("a refresh", |line| line["step"] == "feed_refresh")?;
    Ok(())
}

#[test]
fn a_bad_file_is_told_with_line_and_text_and_the_last_good_content_stays() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground.scratch.write("list.txt", hosts(0, 3))?;
    let lines = of_file(&ground, "max_bad_lines = 1");
    let front = with(ground, &lines)?.start_secluded()?;
    await_entries(&front, 3)?;
    fs::write(&file, "198.51.100.7\nnonsense\n300.1.1.1\n0.0.0.0/0\n")?;
    await_problem(
        &front,
        "3 lines can't be read, and max_bad_lines is 1: line 2 (nonsense) is neither an address nor a CIDR",
    )?;
    assert_eq!(shown(&front)?["state"], "failing");
    assert_eq!(shown(&front)?["entries"], 3);
    fs::write(&file, "198.51.100.7\nnonsense\n")?;
    let feed = await_entries(&front, 1)?;
    assert_eq!(feed["bad_lines"], 1);
    assert_eq!(feed["bad"][0]["text"], "nonsense");
    fs::remove_file(&file)?;
    let refused = front.daemon.ask_refused(&["feed", "refresh", "drop"])?;
    assert!(refused.contains("No such file"), "{refused}");
    assert!(refused.contains("the last good content stays"), "{refused}");
    assert_eq!(standing(&front, "198.51.100.7")?, "blocked");
    Ok(())
}

#[test]
fn what_empties_or_shrinks_or_grows_too_much_is_held_back_until_it_is_let_in() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground.scratch.write("list.txt", hosts(0, 100))?;
    let lines = of_file(&ground, "");
    let front = with(ground, &lines)?.start_secluded()?;
    await_entries(&front, 100)?;
    let mut looked_at = Vec::new();
    for (text, why) in [
        (
            "# nothing\n".to_owned(),
            "it is empty, and the list has 100 entries",
        ),
        (
            hosts(0, 20),
            "it has 20 entries, and the list 100: more would go than the share in max_shrink",
        ),
        (
            hosts(0, 250),
            "it has 250 entries, and the list 100: more would come than the share in max_growth",
        ),
    ] {
        fs::write(&file, text)?;
        let held = eventually(why, PATIENCE, || {
            let feed = shown(&front).ok()?;
            (feed["held"]["why"] == why).then_some(feed)
        })?;
        assert_eq!(held["state"], "held");
        assert_eq!(held["entries"], 100);
        let digest = held["held"]["content"]["digest"].as_str();
        looked_at.extend(digest.map(|digest| digest[..16].to_owned()));
    }
    let listed = front.daemon.ask(&["feed", "list"])?;
    assert_eq!(listed["feeds"][0]["state"], "held", "{listed}");
    assert!(front.daemon.printed().contains("HELD BACK"));
    // Also over a restart.
    let ground = front.crash()?;
    let front = ground.start_secluded()?;
    assert_eq!(shown(&front)?["state"], "held");
    let refreshed = front.daemon.ask(&["feed", "refresh", "drop"])?;
    assert_eq!(refreshed["state"], "held", "{refreshed}");
    let planned = front.daemon.ask(&["feed", "accept", "drop", "--dry-run"])?;
    assert_eq!(
        (&planned["added"], &planned["removed"]),
        (&150.into(), &0.into())
    );
    assert_eq!(shown(&front)?["entries"], 100);
    // Nobody lets in what came after somebody had looked.
    let [_, early, last] = &looked_at[..] else {
        return Err(RigError(format!("{looked_at:?}")));
    };
    let accept = |digest| ["feed", "accept", "drop", "--digest", digest];
    let refused = front.daemon.ask_refused(&accept(early))?;
    assert!(refused.contains("is another content"), "{refused}");
    let refused = front.daemon.ask_refused(&accept("everything"))?;
    assert!(refused.contains("16 hexadecimal digits"), "{refused}");
    front.daemon.ask(&accept(last))?;
    let feed = await_entries(&front, 250)?;
    assert_eq!(feed["state"], "good", "{feed}");
    let refused = front.daemon.ask_refused(&["feed", "accept", "drop"])?;
    assert!(
        refused.contains("nothing of \\\"drop\\\" is held back"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn nothing_of_a_removed_feed_comes_back_when_a_change_of_it_was_not_confirmed() -> Rigged<()> {
    let front = Front::open_secluded()?;
    let file = front.ground.scratch.write("list.txt", hosts(0, 20))?;
    let file = file.display().to_string();
    front
        .daemon
        .ask(&["feed", "add", "drop", "--file", &file])?;
    await_entries(&front, 20)?;
    front.daemon.ask(&["feed", "pause", "drop"])?;
    front.ground.scratch.write("list.txt", hosts(5, 15))?;
    let refresh = ["feed", "refresh", "drop", "--confirm", "1s"];
    assert_eq!(front.daemon.ask(&refresh)?["removed"], 5);
    front.daemon.ask(&["feed", "remove", "drop"])?;
    let waiting = front.daemon.ask(&["confirm", "--list"])?;
    assert_eq!(waiting["pending"], serde_json::json!([]));
    std::thread::sleep(Duration::from_secs(2));
    let listed = front.daemon.ask(&["block", "list", "--list", "drop"])?;
    assert_eq!(listed["entries"], serde_json::json!([]));
    Ok(())
}

#[test]
fn what_was_let_in_reverts_unless_it_is_confirmed() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground.scratch.write("list.txt", hosts(0, 100))?;
    let lines = of_file(&ground, "");
    let front = with(ground, &lines)?.start_secluded()?;
    await_entries(&front, 100)?;
    fs::write(&file, hosts(0, 20))?;
    eventually("it is held back", PATIENCE, || {
        (shown(&front).ok()?["state"] == "held").then_some(())
    })?;
    front
        .daemon
        .ask(&["feed", "accept", "drop", "--confirm", "1s"])?;
    assert_eq!(shown(&front)?["entries"], 20);
    await_entries(&front, 100)?;
    // The source says it still, so it is held back once more.
    let refreshed = front.daemon.ask(&["feed", "refresh", "drop"])?;
    assert_eq!(refreshed["state"], "held", "{refreshed}");
    Ok(())
}

#[test]
fn a_paused_feed_keeps_its_entries_and_asks_nothing_also_after_a_restart() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground.scratch.write("list.txt", hosts(0, 3))?;
    let lines = of_file(&ground, "");
    let front = with(ground, &lines)?.start_secluded()?;
    await_entries(&front, 3)?;
    let paused = front.daemon.ask(&["feed", "pause", "drop"])?;
    assert_eq!(paused["state"], "paused");
    fs::write(&file, hosts(0, 4))?;
    let ground = front.crash()?;
    let front = ground.start_secluded()?;
    std::thread::sleep(Duration::from_secs(3));
    let feed = shown(&front)?;
    assert_eq!(
        (&feed["state"], &feed["entries"]),
        (&"paused".into(), &3.into()),
        "{feed}"
    );
    front.daemon.ask(&["feed", "resume", "drop"])?;
    await_entries(&front, 4)?;
    Ok(())
}

#[test]
fn a_feed_begun_at_run_time_stays_over_a_restart_and_goes_with_its_entries() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground
        .scratch
        .write("list.txt", "198.51.100.1\t5\n198.51.100.2\t1\n")?;
    let file = file.display().to_string();
    let front = ground.start_secluded()?;
    let add = [
        "feed",
        "add",
        "drop",
        "--file",
        &file,
        "--format",
        "ipsum",
        "--min-score",
        "3",
        "--monitor",
    ];
    front.daemon.ask(&add)?;
    let feed = await_entries(&front, 1)?;
    assert_eq!(
        (&feed["mode"], &feed["below_score"]),
        (&"monitor".into(), &1.into()),
        "{feed}"
    );
    assert_eq!(standing(&front, "198.51.100.1")?, "monitored");
    let again = front.daemon.ask_refused(&add)?;
    assert!(again.contains("is there already"), "{again}");
    for command in ["add", "remove"] {
        let refused =
            front
                .daemon
                .ask_refused(&["block", command, "198.51.100.9", "--list", "drop"])?;
        assert!(refused.contains("is what its source says"), "{refused}");
    }
    let ground = front.crash()?;
    let front = ground.start_secluded()?;
    assert_eq!(shown(&front)?["entries"], 1);
    assert_eq!(standing(&front, "198.51.100.1")?, "monitored");
    let gone = front.daemon.ask(&["feed", "remove", "drop"])?;
    assert_eq!(gone["removed"], 1);
    assert_eq!(standing(&front, "198.51.100.1")?, "unlisted");
    let refused = front.daemon.ask_refused(&["feed", "show", "drop"])?;
    assert!(refused.contains("there is no feed"), "{refused}");
    let bad = front.daemon.ask_refused(&[
        "feed",
        "add",
        "manual",
        "--url",
        "http://lists.example/x",
        "--refresh",
        "1s",
    ])?;
    for told in [
        "name is one of Portcullis's own lists",
        "refresh is shorter than min_interval, 1m",
        "is no https:// URL",
    ] {
        assert!(bad.contains(told), "{bad}");
    }
    Ok(())
}

#[test]
fn a_feed_that_is_taken_out_of_the_configuration_takes_its_entries_with_it() -> Rigged<()> {
    let ground = Ground::set()?;
    ground.scratch.write("list.txt", hosts(0, 3))?;
    let lines = of_file(&ground, "");
    let front = with(ground, &lines)?.start_secluded()?;
    await_entries(&front, 3)?;
    let (_, ground) = front.stop()?;
    let front = ground.alter(&lines, "")?.start_secluded()?;
    assert_eq!(standing(&front, "198.51.100.0")?, "unlisted");
    assert!(front.daemon.printed().contains("no longer defined"));
    Ok(())
}

#[test]
fn entries_stay_for_their_time_after_the_source_named_them_last() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground.scratch.write("list.txt", hosts(0, 3))?;
    let lines = of_file(&ground, "ttl = \"3s\"");
    let front = with(ground, &lines)?.start_secluded()?;
    await_entries(&front, 3)?;
    fs::write(&file, hosts(2, 1))?;
    front.daemon.ask(&["feed", "refresh", "drop"])?;
    assert_eq!(
        shown(&front)?["entries"],
        3,
        "those that are gone stay for their time"
    );
    assert_eq!(standing(&front, "198.51.100.0")?, "banned");
    eventually("two have ended", PATIENCE, || {
        front.daemon.ask(&["feed", "refresh", "drop"]).ok()?;
        (shown(&front).ok()?["entries"] == 1).then_some(())
    })?;
    assert_eq!(standing(&front, "198.51.100.2")?, "banned");
    Ok(())
}

#[test]
fn what_is_handed_over_is_judged_like_what_a_source_says() -> Rigged<()> {
    let ground = Ground::set()?;
    let front = with(ground, "[[feed]]\nname = \"drop\"\ninput = true\n")?.start_secluded()?;
    let refused = front.daemon.ask_refused(&["feed", "refresh", "drop"])?;
    assert!(refused.contains("--input FILE"), "{refused}");
    let refresh = |text: String| -> Rigged<Value> {
        let file = front.ground.scratch.write("input.txt", text)?;
        let file = file.display().to_string();
        front
            .daemon
            .ask(&["feed", "refresh", "drop", "--input", &file])
    };
    assert_eq!(refresh(hosts(0, 100))?["added"], 100);
    assert_eq!(refresh(hosts(0, 100))?["state"], "unchanged");
    assert_eq!(refresh(hosts(0, 9))?["state"], "held");
    assert_eq!(shown(&front)?["entries"], 100);
    Ok(())
}

#[test]
fn a_feed_is_cut_around_what_keeps_the_host_reachable() -> Rigged<()> {
    let ground = Ground::set()?;
    ground
        .scratch
        .write("list.txt", "127.0.0.0/8\n198.51.100.1\n")?;
    let lines = of_file(&ground, "");
    let front = with(ground, &lines)?.start_secluded()?;
    let feed = await_entries(&front, 1)?;
    assert_eq!(feed["cuts"], 1, "{feed}");
    let told = "127.0.0.0/8 around 127.0.0.0/8, loopback";
    assert_eq!(feed["cut"][0], told, "{feed}");
    assert_eq!(standing(&front, "127.0.0.1")?, "trusted");
    Ok(())
}

#[test]
fn why_names_the_line_of_the_source_and_what_wins() -> Rigged<()> {
    let ground = Ground::set()?;
    ground
        .scratch
        .write("list.txt", "# ours\n\n198.51.100.0/24\n")?;
    let lines = of_file(&ground, "");
    let front = with(ground, &lines)?.start_secluded()?;
    await_entries(&front, 1)?;
    front.daemon.ask(&[
        "block",
        "add",
        "198.51.100.7",
        "--ttl",
        "1h",
        "--reason",
        "flood",
    ])?;
    let why = |address: &str| front.daemon.ask(&["why", address]);
    let told = why("198.51.100.7")?;
    assert_eq!(told["dropped"], true);
    let entries = told["entries"].as_array().cloned().unwrap_or_default();
    let facts: Vec<_> = entries
        .iter()
        .map(|entry| (&entry["list"], &entry["wins"], &entry["line"]))
        .collect();
    assert_eq!(
        facts,
        [
            (&"drop".into(), &true.into(), &3.into()),
            (&"manual".into(), &false.into(), &Value::Null)
        ],
        "{told}"
    );
    assert_eq!(entries[1]["reason"], "flood");
    assert!(
        entries[0]["source"]
            .as_str()
            .unwrap_or_default()
            .ends_with("list.txt")
    );
    front.daemon.ask(&["allow", "add", "198.51.100.7"])?;
    let told = why("198.51.100.7")?;
    let verdict = told["verdict"].as_str().unwrap_or_default();
    assert!(
        verdict.starts_with(
            "not dropped: 198.51.100.7/32 on \"allow\" is trusted, and trust beats every block, which \
             beats the 2 other entries"
        ),
        "{verdict}"
    );
    let told = why("192.0.2.77")?;
    assert_eq!(
        (&told["dropped"], &told["entries"]),
        (&false.into(), &Value::Array(vec![]))
    );
    assert!(
        told["verdict"]
            .as_str()
            .unwrap_or_default()
            .starts_with("not dropped: no list covers it")
    );
    Ok(())
}
