//! A real nginx as upstream.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    netns::Namespace,
    run::{RigError, Rigged, eventually, succeed},
    scratch::Scratch,
};

/// A running nginx; ends when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    access_log: PathBuf,
}

/// What it answers: what it was told, one `name=value` a line.
const ANSWER: &str = "uri=$request_uri\\nhost=$http_host\\nsubject=$http_x_portcullis_subject\\nscopes=$http_x_portcullis_scopes\\nissuer=$http_x_portcullis_issuer\\nproven_by=$http_x_portcullis_proven_by\\ndpop=$http_dpop\\ncookie=$http_cookie\\nfor=$http_x_forwarded_for\\nproto=$http_x_forwarded_proto\\nforwarded_host=$http_x_forwarded_host\\nforwarded_uri=$http_x_forwarded_uri\\nforwarded=$http_forwarded\\nreal_ip=$http_x_real_ip\\nrequest_id=$http_x_request_id\\nauthorization=$http_authorization\\nconnection_field=$http_connection\\nkeep_alive=$http_keep_alive\\nte=$http_te\\nupgrade=$http_upgrade\\nproxy_authorization=$http_proxy_authorization\\nsecret=$http_x_secret\\nlength=$http_content_length\\ntraceparent=$http_traceparent\\ntracestate=$http_tracestate\\nconnection=$connection\\n";

/// What is asked to see that it is there, and by nobody else.
pub(crate) const PROBE: &str = "/pc-probe";

impl Nginx {
    /// Starts nginx on `address`. It answers every request with what the proxy told it of the
    /// caller, one `name=value` a line, and serves `/files/` from the scratch folder's `files`.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(
        scratch: &Scratch,
        address: SocketAddr,
        namespace: Option<&Namespace>,
    ) -> Rigged<Self> {
        fs::create_dir_all(scratch.join("files"))?;
        let files = scratch.path().display();
        let server = format!(
            r#"listen {address};
    location / {{
      default_type text/plain;
      return 200 "{ANSWER}";
    }}
    location /files/ {{ root {files}; dav_methods PUT; create_full_put_path on; }}"#
        );
        let probe = format!("http://{address}{PROBE}");
        Self::launch(scratch, "nginx", &server, &[&probe], namespace)
    }

    /// Starts another one, in a folder of this name, with these lines in its `server` block. It is there
    /// when curl with these arguments gets an answer.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn serve(scratch: &Scratch, name: &str, server: &str, probe: &[&str]) -> Rigged<Self> {
        Self::launch(scratch, name, server, probe, None)
    }

    fn launch(
        scratch: &Scratch,
        name: &str,
        server: &str,
        probe: &[&str],
        namespace: Option<&Namespace>,
    ) -> Rigged<Self> {
        let folder = scratch.join(name);
        fs::create_dir_all(folder.join("body"))?;
        let at = folder.display();
        let config = format!(
            r#"daemon off; master_process off; worker_processes 1;
pid {at}/pid; error_log {at}/error.log info;
events {{ worker_connections 512; }}
http {{
  access_log {at}/access.log;
  client_body_temp_path {at}/body; proxy_temp_path {at}/body; fastcgi_temp_path {at}/body;
  uwsgi_temp_path {at}/body; scgi_temp_path {at}/body;
  client_max_body_size 0;
  # As CGI-style applications do: X_Y is taken for X-Y.
  underscores_in_headers on;
  server {{
    {server}
  }}
}}
"#
        );
        let config = scratch.write(&format!("{name}/nginx.conf"), config)?;
        let mut command = match namespace {
            Some(namespace) => namespace.command(nginx_binary()),
            None => Command::new(nginx_binary()),
        };
        let mut child = command
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("stderr.log"))?)
            .spawn()?;
        let asked = |namespace: Option<&Namespace>| {
            let mut curl = match namespace {
                Some(namespace) => namespace.command("curl"),
                None => Command::new("curl"),
            };
            succeed(curl.args(["-s", "-o", "/dev/null"]).args(probe)).ok()
        };
        let up = eventually("nginx answers", Duration::from_secs(10), || {
            if child.try_wait().ok().flatten().is_some() {
                return Some(false);
            }
            asked(namespace).map(|_| true)
        });
        if !matches!(up, Ok(true)) {
            let printed = fs::read_to_string(folder.join("stderr.log")).unwrap_or_default();
            let _ = child.kill();
            let _ = child.wait();
            return Err(RigError(format!("nginx did not start: {printed}")));
        }
        Ok(Self {
            child,
            access_log: folder.join("access.log"),
        })
    }

    /// Request lines it has seen.
    pub fn seen(&self) -> String {
        fs::read_to_string(&self.access_log).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps it where an ordinary user's PATH doesn't look.
pub fn nginx_binary() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/nginx");
    if debian.exists() {
        debian
    } else {
        PathBuf::from("nginx")
    }
}
