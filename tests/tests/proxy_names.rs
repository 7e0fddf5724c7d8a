//! Upstreams and issuers by name, with a resolver that says what a test wants: names that lead where no request should go
//! (cases 50 and 69), at once or later.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use portcullis_tests::{
    daemon::portcullis,
    front::Front,
    ground::Ground,
    key_server::KeyServer,
    run::{Rigged, eventually},
    scene::HOST,
    scripted::Scripted,
};

const SOON: Duration = Duration::from_secs(15);

/// The daemon with a hosts file of its own (nsswitch.conf(5): `files` come first), in a mount namespace.
struct Named {
    ground: Ground,
    hosts: PathBuf,
    binary: PathBuf,
}

fn named(hosts: &str) -> Rigged<Named> {
    let ground = Ground::set()?;
    let hosts = ground.scratch.write("hosts", hosts)?;
    let script = format!(
        "#!/bin/sh\nexec unshare --mount {} sh -c 'mount --bind {} /etc/hosts && exec {} \"$@\"' sh \"$@\"\n",
        // A user who isn't root gets a user namespace as well, in which he is.
        if rustix::process::geteuid().is_root() {
            ""
        } else {
            "--map-root-user"
        },
        hosts.display(),
        portcullis().display()
    );
    let binary = ground.scratch.write("named", script)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    Ok(Named {
        ground,
        hosts,
        binary,
    })
}

fn recorder() -> Rigged<Scripted> {
    Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        Ok(true)
    })
}

fn refused(front: &Front, address: &str) -> Rigged<()> {
    let told = front.audited(address, |line| {
        let detail = line["detail"].as_str().unwrap_or_default();
        line["step"] == "upstream_refused" && detail.contains(address)
    })?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("allow_addresses"), "{told}");
    Ok(())
}

#[test]
fn a_name_that_leads_where_no_request_should_go_is_refused() -> Rigged<()> {
    let recorder = recorder()?;
    let port = recorder.address().port();
    for address in [
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "fd00:ec2::254",
        "::1",
        "127.0.0.1",
        "0.0.0.0",
        "::ffff:127.0.0.1",
    ] {
        let named = named(&format!("{address} service.example\n"))?;
        let front = named
            .ground
            .with_upstream_at(
                &format!("http://service.example:{port}"),
                "connect_timeout = \"300ms\"",
            )?
            .start_binary(named.binary)?;
        // A mapped address is the one that it maps.
        refused(&front, address.trim_start_matches("::ffff:"))?;
        let answer = front.curl("/public", &[])?;
        assert_eq!(answer.status, 502, "{address}");
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["reason"], "upstream_unresolved", "{record}");
    }
    assert_eq!(recorder.connections(), 0);
    Ok(())
}

#[test]
fn a_name_that_leads_there_later_is_refused_then_and_the_last_good_address_serves() -> Rigged<()> {
    let (good, trap) = (recorder()?, recorder()?);
    // One address of this host is listed, and no other.
    let named = named("127.0.0.1 service.example\n")?;
    let front = named
        .ground
        .with_upstream_at(
            &format!("http://service.example:{}", good.address().port()),
            "allow_addresses = [\"127.0.0.1/32\"]\nresolve_interval = \"1s\"\nconnect_timeout = \"300ms\"",
        )?
        .start_binary(named.binary)?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    // In place: a file that is bound elsewhere stays the same file.
    fs::write(
        &named.hosts,
        "127.0.0.2 service.example\n169.254.169.254 service.example\n",
    )?;
    refused(&front, "127.0.0.2")?;
    eventually("the last address serves", SOON, || {
        let answer = front.curl("/public", &[]).ok()?;
        (answer.status == 200).then_some(())
    })?;
    assert_eq!(trap.connections(), 0);
    Ok(())
}

/// Case 50: the keys of an issuer whose name leads inside the network later.
#[test]
fn keys_at_a_name_that_leads_there_later_are_not_asked_for_and_the_last_good_ones_serve()
-> Rigged<()> {
    let named = named(&format!("127.0.0.1 {HOST}\n"))?;
    let keys = KeyServer::start(&named.ground)?;
    let front = KeyServer::keys_at(
        named.ground,
        &keys.url(HOST, "/jwks.json"),
        "\"127.0.0.1/32\"",
    )?
    .add("name = \"main\"", "jwks_refresh = \"100ms\"")?
    .start_binary(named.binary)?;
    let token = front.token("orders:read")?;
    assert_eq!(front.get("/orders/1", &token)?.status, 200);
    for address in [
        "169.254.169.254",
        "127.0.0.2",
        "10.0.0.1",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
    ] {
        let good = format!("127.0.0.1 {HOST}\n{address} {HOST}\n");
        fs::write(&named.hosts, good)?;
        let told = format!(
            "{} is not a public address",
            address.trim_start_matches("::ffff:")
        );
        let said = front.daemon.printed().matches(&told).count();
        eventually(&told, SOON, || {
            let printed = front.daemon.printed();
            (printed.matches(&told).count() > said).then_some(())
        })?;
        let served = front.get("/orders/1", &token)?;
        assert_eq!(served.status, 200, "{address}: {served:?}");
    }
    Ok(())
}
