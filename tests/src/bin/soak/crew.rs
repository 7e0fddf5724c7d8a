//! Clients that ask at a steady rate, and what became of each request.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use portcullis_tests::{
    run::{RigError, Rigged},
    scene::HOST,
};
use tokio::{runtime, task::JoinSet, time};

use crate::{
    backend::{PATH, body_of},
    line::{Http, Line, Target, told},
};

/// Connections over HTTP/1.1, each for one request at a time.
const SINGLE: usize = 16;
/// Connections over HTTP/2, and requests on each at a time.
const SHARED: (usize, usize) = (2, 16);
/// Of so many requests, one carries a body.
const POSTS: u64 = 4;
/// Bytes of that.
const BODY_BYTES: usize = 1_024;
/// How long any answer may take: longer than the proxy waits for an upstream.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that wasn't answered with 200, or not to its end.
#[derive(Clone, Debug)]
pub(crate) struct Odd {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    /// 0 where no head of an answer came.
    pub(crate) status: u16,
    pub(crate) whole: bool,
    #[expect(dead_code, reason = "shown where a request is lost")]
    pub(crate) said: String,
}

/// What became of all requests: those that aren't odd were answered with 200, to the last byte.
#[derive(Default)]
pub(crate) struct Fates {
    asked: AtomicU64,
    odd: Mutex<BTreeMap<u64, Odd>>,
}

impl Fates {
    /// Requests so far; their numbers begin at 0.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn odd(&self) -> MutexGuard<'_, BTreeMap<u64, Odd>> {
        self.odd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks.
pub(crate) struct Crew {
    target: Target,
    tokens: Arc<Vec<String>>,
    pub(crate) fates: Arc<Fates>,
}

impl Crew {
    pub(crate) fn new(target: Target, tokens: Vec<String>) -> Self {
        Self {
            target,
            tokens: Arc::new(tokens),
            fates: Arc::default(),
        }
    }

    /// Asks until `over`, `rate` requests a second, or as fast as answers come; returns how many a second
    /// that were.
    pub(crate) fn ask(&self, rate: Option<f64>, over: &Arc<AtomicBool>) -> Rigged<f64> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let before = self.fates.asked();
        let begin = Instant::now();
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            let count = SINGLE + SHARED.0 * SHARED.1;
            let every = rate.map(|rate| Duration::from_secs_f64(count as f64 / rate));
            let mut hire = |line: &Arc<Line>, at: usize| {
                let client = Client {
                    line: Arc::clone(line),
                    tokens: Arc::clone(&self.tokens),
                    fates: Arc::clone(&self.fates),
                };
                let first = every.unwrap_or_default().mul_f64(at as f64 / count as f64);
                clients.spawn(client.keep_asking(first, every, Arc::clone(over)));
            };
            for at in 0..SINGLE {
                hire(&Arc::new(Line::new(&self.target, Http::One)), at);
            }
            for connection in 0..SHARED.0 {
                let line = Arc::new(Line::new(&self.target, Http::Two));
                for at in 0..SHARED.1 {
                    hire(&line, SINGLE + connection * SHARED.1 + at);
                }
            }
            while let Some(done) = clients.join_next().await {
                done.map_err(told)??;
            }
            Rigged::Ok(())
        })?;
        let done = self.fates.asked() - before;
        Ok(done as f64 / begin.elapsed().as_secs_f64())
    }
}

struct Client {
    line: Arc<Line>,
    tokens: Arc<Vec<String>>,
    fates: Arc<Fates>,
}

impl Client {
    async fn keep_asking(
        self,
        first: Duration,
        every: Option<Duration>,
        over: Arc<AtomicBool>,
    ) -> Rigged<()> {
        let mut due = time::Instant::now() + first;
        while !over.load(Ordering::Relaxed) {
            if let Some(every) = every {
                time::sleep_until(due).await;
                due += every;
            }
            let number = self.fates.asked.fetch_add(1, Ordering::Relaxed);
            let from = Instant::now();
            let (status, whole, said) = match time::timeout(PATIENCE, self.one(number)).await {
                Ok(done) => done?,
                Err(_) => (0, false, "no answer in time".to_owned()),
            };
            if status != 200 || !whole {
                let odd = Odd {
                    from,
                    until: Instant::now(),
                    status,
                    whole,
                    said,
                };
                self.fates.odd().insert(number, odd);
            }
        }
        Ok(())
    }

    /// Status, whether the answer was whole, and what was said in place of one.
    async fn one(&self, number: u64) -> Rigged<(u16, bool, String)> {
        let token = &self.tokens[number as usize % self.tokens.len()];
        let (method, body) = if number.is_multiple_of(POSTS) {
            (Method::POST, Bytes::from(vec![b'x'; BODY_BYTES]))
        } else {
            (Method::GET, Bytes::new())
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{HOST}{PATH}{number}"))
            .header(header::HOST, HOST)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::new(body))
            .map_err(told)?;
        let answer = match self.line.ask(request).await {
            Ok(answer) => answer,
            Err(RigError(error)) => return Ok((0, false, error)),
        };
        let status = answer.status().as_u16();
        let body = match answer.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Ok((status, false, format!("{error:?}"))),
        };
        if status == 200 && body != body_of(number) {
            return Ok((status, false, format!("another's answer: {body:?}")));
        }
        let said = String::from_utf8_lossy(&body).into_owned();
        Ok((
            status,
            true,
            if status == 200 { String::new() } else { said },
        ))
    }
}
