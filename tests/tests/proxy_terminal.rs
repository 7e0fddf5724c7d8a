//! What long commands show on a terminal, and that they show nothing of it elsewhere.

use std::process::Command;

use portcullis_tests::{
    daemon::portcullis,
    feeds::many_hosts,
    front::Front,
    run::{Rigged, output},
};

/// Back to the line's begin, and the line erased.
const ERASE: &str = "\r\x1b[K";

/// So many that reading and applying them takes seconds in a debug build.
const HOSTS: u32 = 400_000;

#[test]
fn a_long_import_tells_what_it_is_at_on_a_terminal_and_nothing_in_a_pipe() -> Rigged<()> {
    let front = Front::open()?;
    let scratch = &front.ground.scratch;
    let file = scratch.write("hosts.txt", many_hosts(0, HOSTS))?;
    let socket = scratch.join("admin.sock");
    let import = |list: &str| {
        let mut command = Command::new(portcullis());
        command.args(["block", "import"]).arg(&file);
        command.args(["--list", list, "--socket"]).arg(&socket);
        command
    };

    let words = format!("{:?}", import("seen")).replace('"', "'");
    let mut on_a_terminal = Command::new("script");
    on_a_terminal.args(["--quiet", "--return", "--command", &words, "/dev/null"]);
    let seen = output(&mut on_a_terminal)?;
    let said = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.status.success(), "{said}");
    let put = format!("{ERASE}{HOSTS} entries read, the daemon puts them in force (");
    assert!(said.contains(&put), "{said:?}");
    // What was shown is gone before the answer comes.
    let (_, answer) = said.rsplit_once(ERASE).unwrap_or_default();
    assert!(answer.contains(&HOSTS.to_string()), "{said:?}");
    assert!(!answer.contains("in force ("), "{said:?}");

    let piped = output(&mut import("piped"))?;
    assert!(piped.status.success(), "{piped:?}");
    assert_eq!(String::from_utf8_lossy(&piped.stderr), "");
    assert_eq!(
        String::from_utf8_lossy(&piped.stdout),
        answer.replace('\r', "").replace("seen", "piped")
    );
    Ok(())
}
