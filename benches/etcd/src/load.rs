//! Clients that ask one thing after the other for a time.
// tidy: sleeps because a load lasts a time, and a client that failed waits before it goes on

use crate::Result;
use crate::grpc::Connection;
use crate::messages::{
    ArqonGet, ArqonGetAnswer, ArqonPut, ArqonPutAnswer, ArqonReadOptions, EtcdPut, EtcdPutAnswer,
    EtcdRange, EtcdRangeAnswer,
};
use crate::servers::System;
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How many keys there are.
pub const KEYS: u64 = 10_000;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;
/// Clients that share a connection.
const CLIENTS_A_CONNECTION: usize = 8;

/// What clients ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Writes.
    Put,
    /// Reads that see every write acknowledged before.
    Get,
    /// Reads that ask nobody else: by the leader's lease (ours), or however old (etcd).
    Local,
}

impl Work {
    /// The work of a name.
    pub fn named(name: &str) -> Result<Work> {
        [Work::Put, Work::Get, Work::Local]
            .into_iter()
            .find(|work| work.name(System::Arqon(1)) == name || work.name(System::Etcd) == name)
            .ok_or_else(|| format!("there is no work {name}: put, get, lease").into())
    }

    /// Its name, for a system.
    pub fn name(self, system: System) -> &'static str {
        match (self, system) {
            (Work::Put, _) => "put",
            (Work::Get, _) => "get",
            (Work::Local, System::Etcd) => "serializable",
            (Work::Local, System::Arqon(_) | System::Echo) => "lease",
        }
    }
}

/// What clients met.
pub struct Met {
    /// Operations in the time that was measured.
    pub operations: u64,
    /// How long that was.
    pub time: Duration,
    /// How long each took, in microseconds.
    pub latency: Histogram<u64>,
}

/// A connection and how it is spoken on.
#[derive(Clone)]
pub struct Client {
    connection: Connection,
    system: System,
    put: crate::grpc::Call,
    get: crate::grpc::Call,
}

impl Client {
    /// Connects.
    pub async fn open(system: System, address: std::net::SocketAddr) -> Result<Client> {
        let connection = Connection::open(address).await?;
        let (put, get) = match system {
            System::Etcd => ("/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"),
            System::Arqon(_) | System::Echo => {
                ("/arqondb.v1.ArqonDb/Put", "/arqondb.v1.ArqonDb/Get")
            }
        };
        let (put, get) = (connection.method(put), connection.method(get));
        Ok(Client { connection, system, put, get })
    }

    /// Writes.
    pub async fn put(&self, key: Bytes, value: Bytes) -> Result<()> {
        match self.system {
            System::Etcd => {
                let message = EtcdPut { key, value };
                _ = self.connection.call::<EtcdPutAnswer>(&self.put, &message).await?;
            }
            System::Arqon(_) | System::Echo => {
                let message = ArqonPut { key, value };
                let answer: ArqonPutAnswer = self.connection.call(&self.put, &message).await?;
                if !answer.applied {
                    return Err("a put was not applied".into());
                }
            }
        }
        Ok(())
    }

    /// Reads; gives the bytes of the value.
    pub async fn get(&self, key: Bytes, local: bool) -> Result<usize> {
        match self.system {
            System::Etcd => {
                let message = EtcdRange { key, serializable: local };
                let answer: EtcdRangeAnswer = self.connection.call(&self.get, &message).await?;
                Ok(answer.kvs.first().ok_or("a key is not there")?.value.len())
            }
            System::Arqon(_) | System::Echo => {
                let read_options = local.then_some(ArqonReadOptions::LEASE);
                let message = ArqonGet { key, read_options };
                let answer: ArqonGetAnswer = self.connection.call(&self.get, &message).await?;
                Ok(answer.value.len())
            }
        }
    }
}

/// The `n`th key.
pub fn key(n: u64) -> Bytes {
    format!("key-{n:012}").into()
}

/// A value that compresses as little as any.
pub fn value(seed: u64) -> Bytes {
    let mut state = seed;
    let words = (0..VALUE_BYTES / 8).flat_map(|_| next(&mut state).to_le_bytes());
    words.collect::<Vec<u8>>().into()
}

/// Weyl's sequence, mixed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Connections to all servers for so many clients, in turn.
pub async fn connect(
    system: System,
    doors: &[std::net::SocketAddr],
    clients: usize,
) -> Result<Vec<Client>> {
    let count = clients.div_ceil(CLIENTS_A_CONNECTION).next_multiple_of(doors.len());
    let mut open = Vec::new();
    for n in 0..count {
        open.push(Client::open(system, doors[n % doors.len()]).await?);
    }
    Ok(open)
}

/// Has `clients` of them work for `warm` and then for `time`; `began` and `ended` are called around
/// what is measured.
pub async fn run(
    connections: &[Client],
    work: Work,
    clients: usize,
    (warm, time): (Duration, Duration),
    mut mark: impl FnMut(bool) -> Result<()>,
) -> Result<Met> {
    let phase = Arc::new(AtomicU8::new(0));
    let tasks: Vec<_> = (0..clients)
        .map(|n| {
            let (client, phase) = (connections[n % connections.len()].clone(), phase.clone());
            tokio::spawn(one(client, work, n as u64 + 1, phase))
        })
        .collect();
    tokio::time::sleep(warm).await;
    mark(false)?;
    let began = Instant::now();
    phase.store(1, Ordering::Release);
    tokio::time::sleep(time).await;
    phase.store(2, Ordering::Release);
    let time = began.elapsed();
    mark(true)?;
    let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for task in tasks {
        latency.add(task.await?.map_err(|e| e.to_string())?)?;
    }
    Ok(Met { operations: latency.len(), time, latency })
}

type Sent<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

async fn one(client: Client, work: Work, seed: u64, phase: Arc<AtomicU8>) -> Sent<Histogram<u64>> {
    let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut state = seed << 32;
    let value = value(seed);
    loop {
        let (key, asked) = (key(next(&mut state) % KEYS), Instant::now());
        match work {
            Work::Put => client.put(key, value.clone()).await?,
            Work::Get | Work::Local => {
                let found = client.get(key, work == Work::Local).await?;
                if found != VALUE_BYTES {
                    return Err(format!("a value of {found} bytes was read").into());
                }
            }
        }
        match phase.load(Ordering::Acquire) {
            0 => {}
            1 => latency.record((asked.elapsed().as_micros() as u64).max(1))?,
            _ => return Ok(latency),
        }
    }
}
