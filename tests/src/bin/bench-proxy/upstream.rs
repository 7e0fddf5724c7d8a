//! The upstream: one nginx for all proxies, which answers from memory and keeps count.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use portcullis_tests::{
    ground::free_address,
    nginx::nginx_binary,
    run::{RigError, Rigged, eventually},
    scratch::Scratch,
};

use crate::process::Serving;

/// Bytes of the answer to most requests.
pub(crate) const SMALL: usize = 128;
/// Bytes of the large answer.
pub(crate) const LARGE: usize = 1 << 20;

/// How long nothing comes when nothing comes any more: longer than 64 requests take.
const REST: Duration = Duration::from_millis(50);

/// A running upstream.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Questions for the count, which are in the count.
    asked: AtomicU64,
    _nginx: Serving,
}

impl Upstream {
    /// Starts it, on the core of the load.
    pub(crate) fn start(scratch: &Scratch) -> Rigged<Self> {
        let address = free_address()?;
        let folder = scratch.join("upstream");
        fs::create_dir_all(folder.join("body"))?;
        fs::write(folder.join("large"), vec![b'x'; LARGE])?;
        let at = folder.display();
        let small = "x".repeat(SMALL);
        let config = format!(
            r#"daemon off; master_process off; worker_processes 1;
pid {at}/pid; error_log {at}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {at}/body; proxy_temp_path {at}/body; fastcgi_temp_path {at}/body;
  uwsgi_temp_path {at}/body; scgi_temp_path {at}/body;
  # Whoever closes a kept connection must be the proxy.
  keepalive_requests 1000000000; keepalive_timeout 1h; keepalive_time 24h;
  sendfile on; tcp_nopush on;
  server {{
    listen {address} backlog=4096;
    location = /count {{ stub_status; }}
    location = /orders {{ default_type text/plain; return 200 "{small}"; }}
    location = /orders/large {{ default_type application/octet-stream; alias {at}/large; }}
  }}
}}
"#
        );
        let config = scratch.write("upstream/nginx.conf", config)?;
        let mut command = Command::new(nginx_binary());
        command.arg("-p").arg(&folder).arg("-c").arg(&config);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let nginx = Serving::start(&mut command, address, &folder.join("error.log"))?;
        Ok(Self {
            address,
            asked: AtomicU64::new(0),
            _nginx: nginx,
        })
    }

    /// Requests that it has had from anybody else.
    pub(crate) fn requests(&self) -> Rigged<u64> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET /count HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        handled(&answer)
            .and_then(|handled| handled.checked_sub(asked))
            .ok_or_else(|| RigError(format!("the upstream's count is {answer:?}")))
    }

    /// The same, as soon as nothing comes any more: when a tool has left, a proxy may still send what
    /// it had been asked.
    pub(crate) fn requests_at_rest(&self) -> Rigged<u64> {
        let mut last = self.requests()?;
        eventually("the upstream is at rest", Duration::from_secs(10), || {
            thread::sleep(REST);
            let now = self.requests().ok()?;
            let rests = now == last;
            last = now;
            rests.then_some(now)
        })
    }
}

/// The third figure below `server accepts handled requests` (ngx_http_stub_status_module).
fn handled(answer: &str) -> Option<u64> {
    let (_, below) = answer.split_once("requests\n")?;
    below.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_the_third_figure() {
        let answer = "HTTP/1.1 200 OK\r\n\r\nActive connections: 2 \n\
            server accepts handled requests\n 16 17 31070 \nReading: 0 Writing: 1 Waiting: 1 \n";
        assert_eq!(handled(answer), Some(31_070));
        assert_eq!(handled("HTTP/1.1 404"), None);
    }
}
