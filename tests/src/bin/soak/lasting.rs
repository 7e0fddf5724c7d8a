//! What lasts as long as the run: a stream of events, and a WebSocket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use portcullis_tests::{
    run::{RigError, Rigged},
    scene::HOST,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    runtime, time,
};

use crate::{
    backend::STREAM,
    line::{Http, Line, Sent, Target, told},
};

/// Where messages come back.
pub(crate) const TALK: &str = "/talk";
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(15);

/// RFC 6455, 5.2: frames that are a whole message each, and the mask's bit.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;

/// What came of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasted {
    pub(crate) events: u64,
    pub(crate) messages: u64,
}

/// Begins both; they go on until `over`, and fail at the first thing that is lost.
pub(crate) fn begin(
    target: &Target,
    token: &str,
    over: &Arc<AtomicBool>,
) -> JoinHandle<Rigged<Lasted>> {
    let (target, token, over) = (target.clone(), token.to_owned(), Arc::clone(over));
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let lines = [Http::One, Http::Two].map(|http| Line::new(&target, http));
            let [first, second] = &lines;
            let (one, two, messages) = tokio::try_join!(
                events(first, &token, &over),
                events(second, &token, &over),
                messages(&target, &token, &over)
            )?;
            Ok(Lasted {
                events: one + two,
                messages,
            })
        })
    })
}

fn request(path: &str, token: &str) -> http::request::Builder {
    Request::builder()
        .uri(format!("https://{HOST}{path}"))
        .header(header::HOST, HOST)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
}

/// Reads events, which are numbered without a gap.
async fn events(line: &Line, token: &str, over: &AtomicBool) -> Rigged<u64> {
    let asked: Sent = request(STREAM, token).body(Full::default()).map_err(told)?;
    let mut answer = line.ask(asked).await?;
    if answer.status() != StatusCode::OK {
        return Err(RigError(format!("the stream: {}", answer.status())));
    }
    let (mut text, mut count) = (String::new(), 0_u64);
    while !over.load(Ordering::Relaxed) {
        let frame = time::timeout(PATIENCE, answer.frame()).await;
        let frame = frame.map_err(|_| RigError(format!("the stream stalls after {count}")))?;
        let frame = frame.ok_or_else(|| RigError(format!("the stream ends after {count}")))?;
        let frame = frame.map_err(|error| RigError(format!("the stream: {error:?}")))?;
        text.push_str(&String::from_utf8_lossy(
            frame.data_ref().unwrap_or(&Bytes::new()),
        ));
        while let Some((event, rest)) = text.split_once("\n\n") {
            if event != format!("data: {count}") {
                return Err(RigError(format!("event {count} is {event:?}")));
            }
            count += 1;
            text = rest.to_owned();
        }
    }
    Ok(count)
}

/// Sends messages, each of which comes back.
async fn messages(target: &Target, token: &str, over: &AtomicBool) -> Rigged<u64> {
    let line = Line::new(target, Http::One);
    let asked = request(TALK, token)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        // The example of RFC 6455, 1.3.
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Full::default())
        .map_err(told)?;
    let answer = line.ask(asked).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(RigError(format!("the WebSocket: {}", answer.status())));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(told)?;
    let mut talk = TokioIo::new(upgraded);
    // Who is calling.
    hear(&mut talk).await?;
    let mut count = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let message = count.to_string();
        say(&mut talk, TEXT, message.as_bytes()).await?;
        let heard = hear(&mut talk).await?;
        if heard != message.as_bytes() {
            return Err(RigError(format!("message {count} came back as {heard:?}")));
        }
        count += 1;
        time::sleep(PAUSE).await;
    }
    // 1000: its purpose is fulfilled.
    say(&mut talk, CLOSE, &1_000_u16.to_be_bytes()).await?;
    hear(&mut talk).await?;
    Ok(count)
}

async fn say(talk: &mut (impl AsyncWrite + Unpin), kind: u8, payload: &[u8]) -> Rigged<()> {
    // A mask of zeros changes nothing (RFC 6455, 5.3).
    let mut frame = vec![kind, MASKED | payload.len() as u8, 0, 0, 0, 0];
    frame.extend(payload);
    Ok(talk.write_all(&frame).await?)
}

/// The next short message; a server that asks whether anybody is there is told so.
async fn hear(talk: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Rigged<Vec<u8>> {
    let hearing = async {
        loop {
            let mut head = [0; 2];
            talk.read_exact(&mut head).await?;
            let mut payload = vec![0; usize::from(head[1])];
            talk.read_exact(&mut payload).await?;
            match head[0] {
                TEXT | CLOSE => return Ok(payload),
                PING => say(talk, PONG, &payload).await?,
                other => return Err(RigError(format!("the WebSocket: a frame {other:#x}"))),
            }
        }
    };
    let heard = time::timeout(PATIENCE, hearing).await;
    heard.map_err(|_| RigError("the WebSocket stalls".to_owned()))?
}
