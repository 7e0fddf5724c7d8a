//! A proxy whose certificates an authority issues, and that authority; what is shown, told and kept.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    front::{Answer, Front},
    ground::{Ground, free_address},
    pebble::{Pebble, PebblePlace},
    run::{RigError, Rigged, eventually, output, succeed},
    scene::HOST,
};

/// How long an authority may take that is there.
pub const ISSUED: Duration = Duration::from_secs(30);
/// A life that doesn't end in a test.
pub const LONG: Duration = Duration::from_secs(90 * 86_400);
/// A life that is over soon; two thirds of it are eight seconds.
pub const SHORT: Duration = Duration::from_secs(12);

/// A proxy without a certificate, and an authority; neither is started yet.
pub struct Issuing {
    /// The proxy's configuration, and the rest that it needs.
    pub ground: Ground,
    /// The authority.
    pub place: PebblePlace,
    /// Where the proxy will listen.
    pub https: SocketAddr,
    /// Where it will over plain HTTP.
    pub http: SocketAddr,
}

impl Issuing {
    /// The authority checks `names` of one certificate in this way, which is good for so long.
    ///
    /// # Errors
    /// When any part can't be made.
    pub fn prepare(challenge: &str, names: &[&str], life: Duration) -> Rigged<Self> {
        let ground = Ground::set()?;
        let (https, http) = (free_address()?, free_address()?);
        let place = PebblePlace::prepare(&ground.scratch, https, http, life)?;
        let at = ground.scratch.path().display().to_string();
        let files = format!("certificate = \"{at}/server.pem\"\nkey = \"{at}/server.key\"\n");
        let acme = format!(
            "[acme]\ndirectory = \"{}\"\nca = \"{at}/pebble-ca.pem\"\n\
             contacts = [\"mailto:admin@api.example\"]\nagree_to_terms = true\n\
             storage = \"{at}/acme\"\nhttp_address = \"{http}\"\n\n[[listener]]",
            place.directory()
        );
        let own = format!("[[listener.acme]]\nnames = {names:?}\nchallenge = \"{challenge}\"\n");
        let ground = ground
            .alter("127.0.0.1:0", &https.to_string())?
            .alter(&files, &own)?
            .alter("[[listener]]", &acme)?;
        Ok(Self {
            ground,
            place,
            https,
            http,
        })
    }

    /// By a handshake, for the one name that the routes have.
    ///
    /// # Errors
    /// When any part can't be made.
    pub fn by_handshake(life: Duration) -> Rigged<Self> {
        Self::prepare("tls-alpn-01", &[HOST], life)
    }
}

/// The root that an authority has now, as a file.
///
/// # Errors
/// When it doesn't answer.
pub fn root_of(front: &Front, pebble: &Pebble) -> Rigged<PathBuf> {
    let root = pebble.root()?;
    Ok(front.ground.scratch.write("acme-root.pem", root)?)
}

/// What a client gets that trusts this authority and no other.
///
/// # Errors
/// See [`Front::curl`].
pub fn ask(front: &Front, root: &Path) -> Rigged<Answer> {
    front.curl("/public", &["--cacert", &root.display().to_string()])
}

/// Details of all steps of this name in the audit trail.
pub fn steps(front: &Front, step: &str) -> Vec<String> {
    let all = front.audit().into_iter();
    all.filter(|line| line["step"] == step)
        .map(|line| line["detail"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Waits until a certificate was obtained so many times.
///
/// # Errors
/// When it isn't in time; with all that was said.
pub fn await_obtained(front: &Front, place: &PebblePlace, times: usize) -> Rigged<()> {
    eventually("a certificate is obtained", ISSUED, || {
        (steps(front, "certificate_obtained").len() >= times).then_some(())
    })
    .map_err(|error| {
        let log = front.daemon.printed();
        RigError(format!("{error}: {log}\n{}", place.printed()))
    })
}

/// What openssl sees of a handshake that trusts nobody, with these further arguments.
///
/// # Errors
/// When openssl can't be run.
pub fn handshake(front: &Front, args: &[&str]) -> Rigged<String> {
    let mut client = Command::new("timeout");
    client.args(["8", "openssl", "s_client", "-servername", HOST, "-connect"]);
    client.arg(front.address.to_string()).args(args);
    let said = output(client.stdin(Stdio::null()))?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Serial number of the certificate that is shown.
///
/// # Errors
/// When none is.
pub fn serial(front: &Front) -> Rigged<String> {
    let shown = handshake(front, &[])?;
    let file = front.ground.scratch.write("shown.pem", shown)?;
    succeed(
        Command::new("openssl")
            .args(["x509", "-noout", "-serial", "-in"])
            .arg(file),
    )
}

/// All files and folders below a folder.
///
/// # Errors
/// What the system says.
pub fn files_in(folder: &Path) -> Rigged<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_in(&path)?);
        }
        found.push(path);
    }
    Ok(found)
}
