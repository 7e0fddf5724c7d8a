//! Certificates from a real authority: obtained, renewed, kept through restarts.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    time::Instant,
};

use portcullis_tests::{
    ground::free_address,
    issuing::{
        Issuing, LONG, SHORT, ask, await_obtained, files_in, handshake, root_of, serial, steps,
    },
    run::{RigError, Rigged, output},
    scene::HOST,
};

#[test]
fn a_certificate_is_obtained_by_a_handshake() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let root = root_of(&front, &pebble)?;
    for version in ["--http1.1", "--http2"] {
        let path = root.display().to_string();
        let answer = front.curl("/public", &["--cacert", &path, version])?;
        assert_eq!(answer.status, 200, "{version}: {answer:?}");
    }
    // As openssl sees it, too.
    let root = root.display().to_string();
    let verified = output(front.s_client(&["-CAfile", &root]).stdin(Stdio::null()))?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let told = steps(&front, "certificate_obtained");
    assert!(told[0].starts_with("api.example: good until 2"), "{told:?}");
    Ok(())
}

#[test]
fn several_names_are_one_certificate_by_plain_http() -> Rigged<()> {
    let other = "www.api.example";
    let issuing = Issuing::prepare("http-01", &[HOST, other], LONG)?;
    let pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let root = root_of(&front, &pebble)?;
    assert_eq!(ask(&front, &root)?.status, 200);
    let (port, root) = (issuing.https.port(), root.display().to_string());
    let resolve = format!("{other}:{port}:127.0.0.1");
    let url = format!("https://{other}:{port}/public");
    let answer = front.curl_at(&url, &["--cacert", &root, "--resolve", &resolve])?;
    // No route has this host, which is known only once the handshake is done.
    assert_eq!(answer.status, 404, "{answer:?}");
    Ok(())
}

#[test]
fn what_is_kept_is_for_the_owner_alone() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let _pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let files = files_in(&front.ground.scratch.join("acme"))?;
    let mode = |path: &Path| Ok::<_, RigError>(fs::metadata(path)?.permissions().mode() & 0o777);
    let names: Vec<String> = files
        .iter()
        .filter(|path| path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.iter().any(|name| name.ends_with("/account.json")),
        "{names:?}"
    );
    for path in &files {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(path)?, wanted, "{}", path.display());
    }
    assert_eq!(mode(&front.ground.scratch.join("acme"))?, 0o700);
    Ok(())
}

#[test]
fn the_authoritys_protocol_is_spoken_with_nobody_else() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let _pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let offering = |protocols: &str| handshake(&front, &["-alpn", protocols]);
    // Alone: nothing is pending any more, so there is no certificate to show.
    let alone = offering("acme-tls/1")?;
    assert!(!alone.contains("BEGIN CERTIFICATE"), "{alone}");
    // Beside others it is as if it weren't there.
    for (offered, chosen) in [
        ("acme-tls/1,h2", "ALPN protocol: h2"),
        ("http/1.1,acme-tls/1", "ALPN protocol: http/1.1"),
    ] {
        let said = offering(offered)?;
        assert!(said.contains(chosen), "{offered}: {said}");
    }
    Ok(())
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_and_no_connection_ends() -> Rigged<()> {
    let issuing = Issuing::by_handshake(SHORT)?;
    let pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let begun = Instant::now();
    let root = root_of(&front, &pebble)?;
    let root = root.display().to_string();
    let before = serial(&front)?;

    let args = ["-CAfile", &root, "-quiet", "-alpn", "http/1.1"];
    let mut client = front
        .s_client(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = client
        .stdin
        .take()
        .ok_or_else(|| RigError("no stdin".into()))?;
    let stdout = client
        .stdout
        .take()
        .ok_or_else(|| RigError("no stdout".into()))?;
    let mut stdout = BufReader::new(stdout);
    let mut status = || -> Rigged<String> {
        stdin.write_all(format!("HEAD /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
        let mut first = String::new();
        loop {
            let mut line = String::new();
            if stdout.read_line(&mut line)? == 0 || line == "\r\n" {
                return Ok(first);
            }
            if first.is_empty() {
                first = line;
            }
        }
    };
    assert_eq!(status()?, "HTTP/1.1 200 OK\r\n");
    await_obtained(&front, &issuing.place, 2)?;
    let after = begun.elapsed();
    assert!(after > SHORT / 2 && after < SHORT, "{after:?}");
    assert_ne!(serial(&front)?, before);
    assert_eq!(status()?, "HTTP/1.1 200 OK\r\n");
    client.kill()?;
    client.wait()?;
    Ok(())
}

#[test]
fn a_restart_serves_what_was_kept_while_the_authority_is_gone() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let root = root_of(&front, &pebble)?;
    let before = serial(&front)?;
    drop(pebble);
    let front = front.crash()?.start()?;
    assert_eq!(ask(&front, &root)?.status, 200);
    assert_eq!(serial(&front)?, before);
    assert_eq!(steps(&front, "certificate_obtained").len(), 1);
    assert!(steps(&front, "certificate_not_obtained").is_empty());
    Ok(())
}

#[test]
fn a_reload_asks_for_a_name_that_is_new() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let _pebble = issuing.place.start()?;
    let mut front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let before = serial(&front)?;
    let more =
        "[[listener.acme]]\nnames = [\"new.example\"]\nchallenge = \"http-01\"\n\n[[issuer]]";
    let text = front.ground.text.replacen("[[issuer]]", more, 1);
    front.ground.text = text.replacen("mailto:admin@", "mailto:other@", 1);
    front
        .ground
        .scratch
        .write("portcullis.toml", &front.ground.text)?;
    front.daemon.ask(&["reload"])?;
    // What there was serves on, before and after.
    assert_eq!(serial(&front)?, before);
    await_obtained(&front, &issuing.place, 2)?;
    let told = steps(&front, "certificate_obtained");
    assert!(told[1].starts_with("new.example: "), "{told:?}");
    assert_eq!(serial(&front)?, before);
    // The account is the one that there was, with the other contact.
    let files = files_in(&front.ground.scratch.join("acme"))?;
    let account = files.iter().find(|path| path.ends_with("account.json"));
    let account = account.ok_or_else(|| RigError(format!("{files:?}")))?;
    let account = fs::read_to_string(account)?;
    assert!(
        account.contains("mailto:other@api.example"),
        "no other contact"
    );
    assert!(steps(&front, "acme_account").is_empty());
    Ok(())
}

#[test]
fn listeners_that_write_the_same_names_share_a_certificate() -> Rigged<()> {
    let mut issuing = Issuing::by_handshake(LONG)?;
    let second = free_address()?;
    let entry = format!(
        "[[listener]]\naddress = \"{second}\"\n\n[[listener.acme]]\nnames = [{HOST:?}]\n\
         challenge = \"tls-alpn-01\"\n\n[[issuer]]"
    );
    issuing.ground = issuing.ground.alter("[[issuer]]", &entry)?;
    let _pebble = issuing.place.start()?;
    let mut front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let one = serial(&front)?;
    front.address = second;
    assert_eq!(serial(&front)?, one);
    assert_eq!(steps(&front, "certificate_obtained").len(), 1);
    Ok(())
}

#[test]
fn a_folder_that_is_lost_is_made_again_at_the_next_renewal() -> Rigged<()> {
    let issuing = Issuing::by_handshake(SHORT)?;
    let _pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let folder = front.ground.scratch.join("acme");
    fs::remove_dir_all(&folder)?;
    // What was in it serves on.
    let before = serial(&front)?;
    await_obtained(&front, &issuing.place, 2)?;
    assert_ne!(serial(&front)?, before);
    let files = files_in(&folder)?;
    let is_pem = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "pem");
    assert_eq!(
        files.iter().filter(|path| is_pem(path)).count(),
        1,
        "{files:?}"
    );
    Ok(())
}
