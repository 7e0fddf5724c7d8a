//! nginx without any authentication: what TLS, HTTP, an access record and forwarding cost at
//! least.

use std::{fs, process::Stdio};

use portcullis_tests::{ground::free_address, nginx::nginx_binary, run::Rigged, scene::HOST};

use crate::{
    process::{Serving, on_proxy_core},
    stage::Stage,
    subject::{Kind, Records, Subject},
};

/// One record: what the others tell, but for who called.
const RECORD: &str = r#"{"time":"$time_iso8601","id":"$request_id","peer":"$remote_addr:$remote_port","method":"$request_method","host":"$host","path":"$uri","status":$status,"upstream":"$upstream_addr","bytes":$bytes_sent,"ms":$request_time}"#;

pub(crate) fn start(stage: &Stage) -> Rigged<Subject> {
    let address = free_address()?;
    let scratch = &stage.scratch;
    let folder = scratch.join("floor");
    fs::create_dir_all(folder.join("body"))?;
    let (at, keys) = (folder.display(), scratch.path().display());
    let (upstream, echo) = (stage.upstream.address, stage.echo.address());
    let config = format!(
        r#"daemon off; master_process off; worker_processes 1;
pid {at}/pid; error_log {at}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  log_format record escape=json '{RECORD}';
  # Buffered, as Envoy does of itself.
  access_log {at}/access.jsonl record buffer=64k flush=1s;
  client_body_temp_path {at}/body; proxy_temp_path {at}/body; fastcgi_temp_path {at}/body;
  uwsgi_temp_path {at}/body; scgi_temp_path {at}/body;
  keepalive_requests 1000000000; keepalive_timeout 1h; keepalive_time 24h;
  ssl_certificate {keys}/server.pem; ssl_certificate_key {keys}/server.key;
  ssl_protocols TLSv1.3;
  upstream app {{
    server {upstream};
    keepalive 512; keepalive_requests 1000000000; keepalive_timeout 1h; keepalive_time 24h;
  }}
  proxy_http_version 1.1;
  # Or a large body would go by way of a file.
  proxy_max_temp_file_size 0;
  server {{
    listen {address} ssl http2 backlog=4096;
    server_name {HOST};
    location /orders {{
      proxy_pass http://app;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https;
    }}
    location /socket {{
      proxy_pass http://{echo};
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_set_header Host $host;
      proxy_read_timeout 1h;
    }}
  }}
}}
"#
    );
    let config = scratch.write("floor/nginx.conf", config)?;
    let mut command = on_proxy_core(nginx_binary());
    command.arg("-p").arg(&folder).arg("-c").arg(&config);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Subject {
        kind: Kind::Nginx,
        serving: Serving::start(&mut command, address, &folder.join("error.log"))?,
        address,
        records: Records::new(folder.join("access.jsonl")),
        made: 0..=0,
    })
}
