//! A real gRPC server and client: Python's `grpcio`.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::{
    front::Front,
    run::{RigError, Rigged, output},
};

/// Debian's, which has its packages.
const PYTHON: &str = "/usr/bin/python3";

/// Echoes; says who the proxy says is calling, and what became of a call, in trailing metadata.
const SERVER: &str = r#"
import grpc, sys, threading
from concurrent import futures
def subject(context):
    return dict(context.invocation_metadata()).get("x-portcullis-subject", "nobody")
def unary(request, context):
    context.set_trailing_metadata((("x-served-for", subject(context)),))
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    return request * 2
def stream(requests, context):
    context.add_callback(lambda: print("over", flush=True))
    for request in requests:
        yield request * 2
same = lambda message: message
handlers = grpc.method_handlers_generic_handler("echo.Echo", {
    "Unary": grpc.unary_unary_rpc_method_handler(unary, same, same),
    "Stream": grpc.stream_stream_rpc_method_handler(stream, same, same),
})
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handlers,))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
"#;

/// Calls, and prints what came of each.
const CLIENT: &str = r#"
import grpc, queue, sys
ca, port, token, calls = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
channel = grpc.secure_channel("127.0.0.1:" + port, credentials, [
    ("grpc.ssl_target_name_override", "api.example"),
    ("grpc.default_authority", "api.example"),
])
metadata = (("authorization", "Bearer " + token),) if token else ()
for call in calls:
    try:
        if call == "stream":
            asked = queue.Queue()
            answers = channel.stream_stream("/echo.Echo/Stream")(
                iter(asked.get, None), metadata=metadata, timeout=10)
            # Each answer is there before the next question is asked.
            for n in range(100):
                asked.put(b"%d" % n)
                assert next(answers) == b"%d" % n * 2
            asked.put(None)
            assert list(answers) == []
            print("streamed", answers.code().name)
        elif call == "cancel":
            asked = queue.Queue()
            answers = channel.stream_stream("/echo.Echo/Stream")(
                iter(asked.get, None), metadata=metadata, timeout=10)
            asked.put(b"x")
            next(answers)
            answers.cancel()
            print("cancelled")
        else:
            method, message = call.split("=")
            answer, done = channel.unary_unary("/echo.Echo/" + method).with_call(
                message.encode(), metadata=metadata, timeout=10)
            print(answer.decode(), dict(done.trailing_metadata()).get("x-served-for"))
    except grpc.RpcError as error:
        print(error.code().name)
"#;

/// The server, until it is dropped.
pub struct GrpcServer {
    child: Child,
    address: SocketAddr,
    lines: BufReader<std::process::ChildStdout>,
}

impl GrpcServer {
    /// Starts one on a free port, without TLS.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start() -> Rigged<Self> {
        let mut child = Command::new(PYTHON)
            .args(["-c", SERVER])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| RigError("no output of the gRPC server".to_owned()))?;
        let mut lines = BufReader::new(stdout);
        let mut port = String::new();
        lines.read_line(&mut port)?;
        let port: u16 = port
            .trim()
            .parse()
            .map_err(|_| RigError("the gRPC server didn't start".to_owned()))?;
        Ok(Self {
            child,
            address: ([127, 0, 0, 1], port).into(),
            lines,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it says that a streaming call is over.
    ///
    /// # Errors
    /// When it ends instead.
    pub fn wait_for_the_end_of_a_stream(&mut self) -> Rigged<()> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        match line.trim() {
            "over" => Ok(()),
            other => Err(RigError(format!("the gRPC server said {other:?}"))),
        }
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client says of these calls, one line each: `Method=message`, `stream` or `cancel`.
///
/// # Errors
/// When it can't be run, or a stream didn't bring what it should.
pub fn call(front: &Front, token: Option<&str>, calls: &[&str]) -> Rigged<Vec<String>> {
    let said = output(
        Command::new("timeout")
            .args(["30", PYTHON, "-c", CLIENT])
            .arg(&front.ground.pki.ca)
            .arg(front.address.port().to_string())
            .arg(token.unwrap_or_default())
            .args(calls),
    )?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(RigError(format!("the gRPC client: {text}{why}")));
    }
    Ok(text.lines().map(str::to_owned).collect())
}
