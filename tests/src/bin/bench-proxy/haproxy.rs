//! HAProxy from Debian. It keeps no verified tokens, and none of its parts checks claims by name:
//! a configuration asks for each of them.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use portcullis_tests::{
    ground::free_address,
    run::{RigError, Rigged},
    scene::HOST,
};

use crate::{
    process::{Serving, on_proxy_core},
    stage::Stage,
    subject::{Kind, Records, Subject},
    tokens::{AUDIENCE, ISSUER, SCOPE},
};

/// One record: what the others tell, too.
const RECORD: &str = r#"{"time":"%tr","id":"%ID","peer":"%ci:%cp","method":"%HM","host":"%[capture.req.hdr(0)]","path":"%HPO","status":%ST,"subject":"%[var(txn.sub)]","route":"%b","upstream":"%s","bytes":%B,"ms":%Ta}"#;

pub(crate) fn start(stage: &Stage) -> Rigged<Subject> {
    let address = free_address()?;
    let scratch = &stage.scratch;
    let at = scratch.path().display();
    let (upstream, echo) = (stage.upstream.address, stage.echo.address());
    let mut pair = fs::read_to_string(&stage.pki.certificate)?;
    pair.push_str(&fs::read_to_string(&stage.pki.key)?);
    scratch.write("haproxy.pem", pair)?;
    scratch.write("issuer.pem", stage.issuer.public_key_pem())?;
    // A scope is a word of a list. 403 for a good token without it, as Portcullis answers.
    let config = format!(
        r#"global
  nbthread 1
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.3
  # Straight into the file: no syslog daemon, which would cost more.
  log stdout len 4096 format raw local0 info

defaults
  mode http
  log global
  option dontlognull
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  timeout http-keep-alive 1h
  http-reuse always

frontend main
  bind {address} ssl crt {at}/haproxy.pem alpn h2,http/1.1
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  declare capture request len 64
  http-request capture hdr(host) id 0
  log-format '{RECORD}'
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
  http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
  http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
  http-request set-var(txn.sub) var(txn.bearer),jwt_payload_query('$.sub')
  http-request set-var(txn.scope) var(txn.bearer),jwt_payload_query('$.scope')
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{at}/issuer.pem") 1 }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str {AUDIENCE} }}
  http-request deny deny_status 401 unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}
  http-request deny deny_status 403 unless {{ var(txn.scope) -m reg '(^| ){SCOPE}( |$)' }}
  acl api hdr(host) -m str {HOST}
  use_backend orders if api {{ path_beg /orders }}
  use_backend sockets if api {{ path_beg /socket }}

backend orders
  server upstream {upstream}

backend sockets
  server echo {echo}
"#
    );
    let config = scratch.write("haproxy.cfg", config)?;
    let records = scratch.join("haproxy.jsonl");
    let log = scratch.join("haproxy.log");
    let mut command = on_proxy_core(binary()?);
    command.args(["-db", "-f"]).arg(config);
    command.stdout(File::options().create(true).append(true).open(&records)?);
    command.stderr(File::create(&log)?);
    Ok(Subject {
        kind: Kind::Haproxy,
        serving: Serving::start(&mut command, address, &log)?,
        address,
        records: Records::new(records),
        made: 0..=0,
    })
}

/// Debian keeps it where an ordinary user's PATH doesn't look.
fn binary() -> Rigged<PathBuf> {
    let debian = PathBuf::from("/usr/sbin/haproxy");
    if debian.exists() {
        return Ok(debian);
    }
    Err(RigError(format!("no {}", debian.display())))
}
