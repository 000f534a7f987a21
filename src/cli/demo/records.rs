//! Numbered records: written by clients at a time, and looked for afterwards.

use crate::base::{Error, ErrorKind, Result};
use crate::env::rng;
use crate::op::kv::{Expiry, RequestId, Write};
use crate::op::{Request, Response};
use crate::rpc::Client;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Clients that write at a time.
const CLIENTS: u64 = 8;

/// An acknowledged write: its number, when it was answered, and how long that took.
#[derive(Debug)]
pub struct Acknowledged {
    /// The record's number.
    pub number: u64,
    /// Since the writing began.
    pub at: Duration,
    /// From the request to the answer.
    pub took: Duration,
}

fn put(key: &str, value: &str, id: Option<RequestId>) -> Request {
    let write = Write::Put {
        cf: Default::default(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expiry: Expiry::Never,
    };
    Request::Write { writes: vec![write], id }
}

/// Puts rows, several at a time.
///
/// # Errors
/// The first that a write met.
pub async fn load(client: &Client, rows: &[(String, String)]) -> Result<()> {
    use futures::{StreamExt, TryStreamExt};
    futures::stream::iter(rows)
        .map(|(key, value)| client.execute(put(key, value, None)))
        .buffer_unordered(64)
        .try_for_each(|_| async { Ok(()) })
        .await
}

/// The key of a record.
pub fn key(number: u64) -> String {
    format!("record:{number:08}")
}

fn value(number: u64) -> String {
    format!("{number} {:08x}", crc32c::crc32c(&number.to_le_bytes()))
}

/// Clients that write numbered records.
#[derive(Debug)]
pub struct Writing {
    /// When they began.
    pub begun: Instant,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Vec<Acknowledged>>>,
}

impl Writing {
    /// Begins to write records from `first` on.
    pub fn begin(client: &Client, first: u64) -> Writing {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let start = |first: u64| {
            let (client, stop, failed) = (client.clone(), stop.clone(), failed.clone());
            tokio::spawn(async move {
                let id = rng::entropy().max(1);
                let mut acknowledged = Vec::new();
                let mut number = first;
                for request in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let sent = begun.elapsed();
                    let request = RequestId { client: id, request };
                    let write = put(&key(number), &value(number), Some(request));
                    match client.execute(write).await {
                        Ok(_) => {
                            let at = begun.elapsed();
                            acknowledged.push(Acknowledged { number, at, took: at - sent });
                        }
                        Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                    }
                    number += CLIENTS;
                }
                acknowledged
            })
        };
        let clients = (first..first + CLIENTS).map(start).collect();
        Writing { begun, stop, failed, clients }
    }

    /// The acknowledged writes, in order of time, and how many failed.
    ///
    /// # Errors
    /// `Internal` if a client panicked.
    pub async fn end(self) -> Result<(Vec<Acknowledged>, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            let panicked = |_| Error::new(ErrorKind::Internal, "a writing client panicked");
            all.extend(client.await.map_err(panicked)?);
        }
        all.sort_by_key(|a| a.at);
        Ok((all, self.failed.load(Ordering::Relaxed)))
    }
}

/// The longest time without an acknowledgement that ends after `from`.
pub fn longest_gap<'a>(
    acknowledged: impl Iterator<Item = &'a Acknowledged>,
    from: Duration,
) -> Duration {
    let (mut last, mut longest) = (Duration::ZERO, Duration::ZERO);
    for a in acknowledged {
        if a.at > from {
            longest = longest.max(a.at - last);
        }
        last = a.at;
    }
    longest
}

/// How many of what was acknowledged is not there as it was written.
///
/// # Errors
/// The first that a read met.
pub async fn missing(
    client: &Client,
    acknowledged: &[Acknowledged],
    rows: &[(String, String)],
) -> Result<u64> {
    use futures::{StreamExt, TryStreamExt};
    let records = acknowledged.iter().map(|a| (key(a.number), value(a.number)));
    let all: Vec<(String, String)> = records.chain(rows.iter().cloned()).collect();
    futures::stream::iter(all)
        .map(|(key, value)| async move {
            let request = Request::Get { cf: Default::default(), key: Bytes::from(key) };
            match client.execute(request).await? {
                Response::Entry(Some(entry)) => Ok(u64::from(entry.value != value.as_bytes())),
                _ => Ok(1),
            }
        })
        .buffer_unordered(64)
        .try_fold(0, |lost, one| async move { Ok(lost + one) })
        .await
}
