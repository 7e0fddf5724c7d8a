//! Portcullis, as this tree builds it.

use std::fs::File;

use portcullis_tests::{daemon, ground::free_address, run::Rigged, scene::HOST};

use crate::{
    process::{Serving, on_proxy_core},
    stage::Stage,
    subject::{Kind, Records, Subject},
    tokens::{AUDIENCE, ISSUER, SCOPE},
};

pub(crate) fn start(stage: &Stage) -> Rigged<Subject> {
    let address = free_address()?;
    let (scratch, upstream, echo) = (&stage.scratch, stage.upstream.address, stage.echo.address());
    let at = scratch.path().display();
    // Workers are as many as the cores that the process may have: one.
    let config = format!(
        r#"[[listener]]
address = "{address}"
certificate = "{at}/server.pem"
key = "{at}/server.key"
max_connections_per_source = 8000

[[issuer]]
name = "main"
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["ES256"]
jwks_file = "{at}/jwks.json"

[[upstream]]
name = "app"
url = "http://{upstream}"
max_idle = 512

[[upstream]]
name = "sockets"
url = "http://{echo}"

[[route]]
name = "orders"
host = "{HOST}"
path = "/orders"
methods = ["GET"]
upstream = "app"
issuers = ["main"]
scopes = ["{SCOPE}"]

[[route]]
name = "socket"
host = "{HOST}"
path = "/socket"
methods = ["GET"]
upstream = "sockets"
issuers = ["main"]
scopes = ["{SCOPE}"]
websocket = true

[admin]
socket = "{at}/admin.sock"

[audit]
path = "{at}/audit.jsonl"

[state]
directory = "{at}/state"
"#
    );
    let config = scratch.write("portcullis.toml", config)?;
    let log = scratch.join("portcullis.log");
    let mut command = on_proxy_core(daemon::portcullis());
    command.args(["run", "--config"]).arg(config);
    command.stderr(File::create(&log)?);
    Ok(Subject {
        kind: Kind::Portcullis,
        serving: Serving::start(&mut command, address, &log)?,
        address,
        records: Records::new(scratch.join("audit.jsonl")),
        made: 0..=0,
    })
}
