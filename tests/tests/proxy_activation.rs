//! Sockets that a service manager binds and passes, and what it is told.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use portcullis_tests::{
    daemon::portcullis,
    ground::{Ground, free_address},
    heirs::steps,
    run::{Rigged, output},
};

const SOON: Duration = Duration::from_secs(15);

/// Binds and executes, as a service manager does with a socket unit. Like one, it leaves nothing else open.
const LAUNCHER: &str = r#"#!/usr/bin/python3
import os, socket, sys
sockets = []
for kind, place in %PASSED%:
    if kind == "file":
        sockets.append(os.open(place, os.O_RDONLY))
        continue
    it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    host, port = place.rsplit(":", 1)
    it.bind((host, int(port)))
    if kind == "stream":
        it.listen(64)
    sockets.append(it.detach())
high = [os.dup2(own, 100 + at) for at, own in enumerate(sockets)]
for at, own in enumerate(high):
    os.dup2(own, 3 + at, inheritable=True)
    os.close(own)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(high))
os.environ["LISTEN_FDNAMES"] = %NAMES%
if %NOTIFIED%:
    os.environ["NOTIFY_SOCKET"] = %NOTIFIED%
os.execv(%PORTCULLIS%, [%PORTCULLIS%] + sys.argv[1:])
"#;

/// What is passed, and by which names.
struct Manager<'a> {
    passed: &'a [(&'a str, String)],
    names: &'a str,
    notified: &'a str,
}

impl Manager<'_> {
    /// A launcher in a ground's folder.
    fn beside(&self, ground: &Ground) -> Rigged<PathBuf> {
        let passed: Vec<String> = self
            .passed
            .iter()
            .map(|(kind, place)| format!("({kind:?}, {place:?}),"))
            .collect();
        let text = LAUNCHER
            .replace("%PASSED%", &format!("[{}]", passed.concat()))
            .replace("%NAMES%", &format!("{:?}", self.names))
            .replace("%NOTIFIED%", &format!("{:?}", self.notified))
            .replace(
                "%PORTCULLIS%",
                &format!("{:?}", portcullis().display().to_string()),
            );
        let path = ground.scratch.join("manager.py");
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// What a start says that fails.
    fn refused(&self, ground: &Ground) -> Rigged<String> {
        let config = ground.scratch.write("portcullis.toml", &ground.text)?;
        let mut command = Command::new("timeout");
        command.arg("20").arg(self.beside(ground)?);
        let said = output(command.args(["run", "--config"]).arg(config))?;
        assert!(!said.status.success());
        Ok(String::from_utf8_lossy(&said.stderr).into_owned())
    }
}

fn stream(address: SocketAddr) -> (&'static str, String) {
    ("stream", address.to_string())
}

#[test]
fn a_socket_is_taken_by_the_name_of_a_part_and_shared_by_all_workers() -> Rigged<()> {
    let (address, watched) = (free_address()?, free_address()?);
    let ground = Ground::set()?.alter(
        "[shutdown]",
        "[runtime]\nworkers = 3\n\n[observe]\naddress = \"127.0.0.1:0\"\n\n[shutdown]",
    )?;
    let manager = Manager {
        passed: &[stream(watched), stream(address)],
        names: "observe:listener[0]",
        notified: "",
    };
    let launcher = manager.beside(&ground)?;
    let front = ground.start_binary(launcher)?;
    assert_eq!(front.address, address);
    for _ in 0..24 {
        assert_eq!(front.curl("/public", &[])?.status, 200);
    }
    assert!(TcpStream::connect(watched).is_ok());
    Ok(())
}

#[test]
fn a_socket_is_taken_by_its_address() -> Rigged<()> {
    let address = free_address()?;
    let written = format!("address = \"{address}\"");
    let ground = Ground::set()?.alter("address = \"127.0.0.1:0\"", &written)?;
    let manager = Manager {
        passed: &[stream(address)],
        names: "portcullis.socket",
        notified: "",
    };
    let launcher = manager.beside(&ground)?;
    let front = ground.start_binary(launcher)?;
    assert_eq!(front.address, address);
    assert_eq!(front.curl("/public", &[])?.status, 200);
    Ok(())
}

#[test]
fn what_is_passed_and_is_of_no_use_ends_the_start_by_name() -> Rigged<()> {
    let address = free_address()?;
    let ground = Ground::set()?;
    for (passed, names, why) in [
        (
            stream(address),
            "web",
            format!(
                "descriptor 3 (\"web\"), which the service manager passes, listens on {address}"
            ),
        ),
        (
            ("datagram", address.to_string()),
            "listener[0]",
            "is a socket for datagrams".to_owned(),
        ),
        (
            ("bound", address.to_string()),
            "listener[0]",
            "does not listen".to_owned(),
        ),
        (
            ("file", "/etc/hostname".to_owned()),
            "",
            "descriptor 3, which the service manager passes, is no socket".to_owned(),
        ),
    ] {
        let manager = Manager {
            passed: &[passed],
            names,
            notified: "",
        };
        let said = manager.refused(&ground)?;
        assert!(said.contains(&why), "{said}");
    }
    Ok(())
}

#[test]
fn the_service_manager_is_told_of_each_step() -> Rigged<()> {
    let ground = Ground::set()?;
    let place = ground.scratch.join("notified");
    let told = UnixDatagram::bind(&place)?;
    told.set_read_timeout(Some(SOON))?;
    let hear = || -> Rigged<String> {
        let mut text = [0; 4096];
        let read = told.recv(&mut text)?;
        Ok(String::from_utf8_lossy(&text[..read]).into_owned())
    };
    let address = free_address()?;
    let manager = Manager {
        passed: &[stream(address)],
        names: "listener[0]",
        notified: &place.display().to_string(),
    };
    let launcher = manager.beside(&ground)?;
    let mut front = ground.start_binary(launcher)?;
    assert_eq!(hear()?, "READY=1\nSTATUS=serving");
    front.daemon.ask(&["reload"])?;
    let reloading = hear()?;
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(hear()?, "READY=1\nSTATUS=serving");
    let before = front.daemon.pid();
    let pid = front.daemon.upgrade()?;
    assert_ne!(pid, before);
    let said = [hear()?, hear()?];
    assert!(said.contains(&format!("MAINPID={pid}")), "{said:?}");
    assert!(
        said.contains(&"READY=1\nSTATUS=serving".to_owned()),
        "{said:?}"
    );
    front.daemon.await_end(before)?;
    // What was passed is served still.
    assert_eq!(front.address, address);
    assert_eq!(front.curl("/public", &[])?.status, 200);
    assert_eq!(steps(&front, "upgrade_failed").len(), 0);
    let stopped = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()?;
    assert!(stopped.success());
    assert!(hear()?.starts_with("STOPPING=1"));
    front.daemon.await_end(pid)?;
    Ok(())
}
