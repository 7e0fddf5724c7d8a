//! Loads of our own client, each on threads that share the load's core.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::run::{RigError, Rigged};
use rustix::thread::set_current_timer_slack;

use crate::{
    Load, Scale,
    connection::{Connection, Http},
    hpack::Blocks,
    http1::{Asking, request},
    http2::Streams,
    spent::{Clock, Spent},
    stage::Stage,
    subject::Subject,
    upstream::{LARGE, SMALL},
};

/// Connections of HTTP/2.
const H2_CONNECTIONS: usize = 16;
/// Connections at a fixed rate.
const PACED_CONNECTIONS: usize = 64;
/// Requests a second at a fixed rate: well below what the slowest of the proxies can do, or what is
/// measured is a queue.
pub(crate) const RATE: u32 = 1_000;
/// Clients that open connections.
const OPENING: usize = 8;
/// Connections that large bodies come over.
const LARGE_CONNECTIONS: usize = 8;

/// HTTP/2: 16 connections of 16 streams, each with the next request as soon as it has its answer.
pub(crate) fn h2(subject: &Subject, stage: &Stage, scale: Scale) -> Rigged<Load> {
    let blocks = Blocks::new("/orders", &stage.tokens.good);
    let stop = AtomicBool::new(false);
    let apart = stage.tokens.good.len() / H2_CONNECTIONS;
    let streams: Vec<Streams<'_>> = connections(subject, stage, Http::Two, H2_CONNECTIONS)
        .enumerate()
        .map(|(index, connection)| Ok(Streams::over(connection?, &blocks, index * apart)))
        .collect::<Rigged<_>>()?;
    let (spent, done) = thread::scope(|scope| {
        let asking = each(scope, streams, |streams| streams.keep_asking(&stop));
        thread::sleep(scale.warm);
        let spent = Spent::within(subject, &stage.upstream, scale.h2);
        stop.store(true, Ordering::Relaxed);
        let done = joined(asking)?;
        Ok::<_, RigError>((spent?, done.iter().sum::<u64>()))
    })?;
    Ok(Load {
        spent,
        requests: done..=done,
    })
}

/// HTTP/1.1 at a fixed rate over 64 connections.
pub(crate) fn paced_h1(subject: &Subject, stage: &Stage, scale: Scale) -> Rigged<(Load, Vec<f64>)> {
    let requests: Vec<_> = stage
        .tokens
        .good
        .iter()
        .map(|t| request("/orders", t))
        .collect();
    let clients = connections(subject, stage, Http::One, PACED_CONNECTIONS)
        .map(|connection| Ok(Asking::over(connection?)))
        .collect::<Rigged<Vec<_>>>()?;
    paced(subject, scale.paced, clients, |client, turn| {
        client.ask(&requests[turn % requests.len()], SMALL)
    })
}

/// HTTP/2 at a fixed rate over 64 connections, one stream at a time on each.
pub(crate) fn paced_h2(subject: &Subject, stage: &Stage, scale: Scale) -> Rigged<(Load, Vec<f64>)> {
    let blocks = Blocks::new("/orders", &stage.tokens.good);
    let apart = stage.tokens.good.len() / PACED_CONNECTIONS;
    let clients = connections(subject, stage, Http::Two, PACED_CONNECTIONS)
        .enumerate()
        .map(|(index, connection)| Ok(Streams::over(connection?, &blocks, index * apart)))
        .collect::<Rigged<Vec<_>>>()?;
    paced(subject, scale.paced, clients, |client, _| client.ask())
}

/// Requests at a fixed rate over these, in turn. Microseconds from when each request was due to the
/// last byte of its answer, so that one that is late makes those behind it late too.
fn paced<C: Send>(
    subject: &Subject,
    length: Duration,
    mut clients: Vec<C>,
    ask: impl Fn(&mut C, usize) -> Rigged<()> + Send + Sync,
) -> Rigged<(Load, Vec<f64>)> {
    let count = clients.len();
    let apart = Duration::from_secs(1) / RATE;
    let each_waits = apart * count as u32;
    for client in &mut clients {
        ask(client, 0)?;
    }
    let clock = Clock::start(&subject.serving)?;
    let begin = Instant::now() + Duration::from_millis(20);
    let end = begin + length;
    let took: Vec<f64> = thread::scope(|scope| {
        let numbered: Vec<_> = clients.into_iter().enumerate().collect();
        let asking = each(scope, numbered, |(index, mut client)| {
            // Or the kernel wakes it up to 50 us late (PR_SET_TIMERSLACK).
            set_current_timer_slack(NonZeroU64::new(1))
                .map_err(|error| RigError(format!("timer slack: {error}")))?;
            let mut took = Vec::new();
            let mut due = begin + apart * index as u32;
            for turn in (index..).step_by(count) {
                if due >= end {
                    break;
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
                ask(&mut client, turn)?;
                took.push(due.elapsed().as_secs_f64() * 1e6);
                due += each_waits;
            }
            Ok(took)
        });
        Ok::<_, RigError>(joined(asking)?.concat())
    })?;
    let done = took.len() as u64;
    let all = done + count as u64;
    let load = Load {
        spent: clock.stop(done)?,
        requests: all..=all,
    };
    Ok((load, took))
}

/// Connections with a full handshake, closed as soon as they are there.
pub(crate) fn handshakes(subject: &Subject, stage: &Stage, scale: Scale) -> Rigged<Load> {
    let spent = until(subject, scale.handshakes, vec![(); OPENING], |()| {
        Connection::open(subject.address, &stage.trust, Http::One)?.close()
    })?;
    Ok(Load {
        spent,
        requests: 0..=0,
    })
}

/// Bodies of 1 MiB over HTTP/1.1.
pub(crate) fn large(subject: &Subject, stage: &Stage, scale: Scale) -> Rigged<Load> {
    let request = request("/orders/large", &stage.tokens.good[0]);
    let clients = connections(subject, stage, Http::One, LARGE_CONNECTIONS)
        .map(|connection| Ok(Asking::over(connection?)))
        .collect::<Rigged<Vec<_>>>()?;
    let spent = until(subject, scale.large, clients, |client| {
        client.ask(&request, LARGE)
    })?;
    Ok(Load {
        spent,
        requests: spent.done..=spent.done,
    })
}

/// Each client does its work again and again for this long, and then to its end.
fn until<C: Send>(
    subject: &Subject,
    length: Duration,
    clients: Vec<C>,
    work: impl Fn(&mut C) -> Rigged<()> + Sync,
) -> Rigged<Spent> {
    let clock = Clock::start(&subject.serving)?;
    let end = Instant::now() + length;
    let done = thread::scope(|scope| {
        let working = each(scope, clients, |mut client| {
            let mut done = 0_u64;
            while Instant::now() < end {
                work(&mut client)?;
                done += 1;
            }
            Ok(done)
        });
        joined(working)
    })?;
    clock.stop(done.iter().sum())
}

fn connections<'a>(
    subject: &'a Subject,
    stage: &'a Stage,
    http: Http,
    count: usize,
) -> impl Iterator<Item = Rigged<Connection>> + 'a {
    (0..count).map(move |_| Connection::open(subject.address, &stage.trust, http))
}

/// A thread for each client.
fn each<'scope, C: Send + 'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    clients: Vec<C>,
    work: impl Fn(C) -> Rigged<T> + Send + Sync + 'scope,
) -> Vec<thread::ScopedJoinHandle<'scope, Rigged<T>>> {
    let work = Arc::new(work);
    clients
        .into_iter()
        .map(|client| {
            let work = Arc::clone(&work);
            scope.spawn(move || work(client))
        })
        .collect()
}

fn joined<T>(threads: Vec<thread::ScopedJoinHandle<'_, Rigged<T>>>) -> Rigged<Vec<T>> {
    threads
        .into_iter()
        .map(|thread| {
            thread
                .join()
                .map_err(|_| RigError("a client panicked".to_owned()))?
        })
        .collect()
}
