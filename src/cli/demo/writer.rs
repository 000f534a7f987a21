//! The process that is killed: writes numbered records and prints a number once its record is
//! acknowledged, until it dies or nobody reads any more.

use super::packages::{self, Package};
use super::store::Store;
use crate::base::{Error, ErrorKind, Result};
use crate::log::SyncLevel;
use crate::op::kv::{Expiry, Write};
use bytes::Bytes;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Threads that write at a time.
const THREADS: u64 = 4;
/// Where it stops if nobody kills it.
const RECORDS_MAX: u64 = 10_000_000;

/// The two keys of a record, written in one batch.
pub fn keys(number: u64) -> [String; 2] {
    [format!("record:{number:08}"), format!("checksum:{number:08}")]
}

/// The values of those keys: a package, and the checksum of it.
pub fn values(number: u64, packages: &[Package<'_>]) -> [String; 2] {
    let package = packages[(number % packages.len() as u64) as usize];
    let record = format!("{number} {} {} {}", package.name, package.version, package.long);
    let checksum = crc32c::crc32c(record.as_bytes());
    [record, checksum.to_string()]
}

/// Writes into `folder` until the process is killed or its output is closed.
///
/// # Errors
/// Those of opening and writing.
pub fn write_until_killed(folder: &Path, sync: SyncLevel) -> Result<()> {
    let text = packages::unpack()?;
    let packages = packages::parse(&text)?;
    let store = Store::open(folder, sync)?;
    let closed = AtomicBool::new(false);
    let (store, packages, closed) = (&store, &packages, &closed);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| scope.spawn(move || write_share(store, packages, first, closed)))
            .collect();
        let panicked = || Err(Error::new(ErrorKind::Internal, "a writing thread panicked"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| panicked()))
    })
}

/// Writes every `THREADS`-th record.
fn write_share(
    store: &Store,
    packages: &[Package<'_>],
    first: u64,
    closed: &AtomicBool,
) -> Result<()> {
    let mut number = first;
    while number < RECORDS_MAX && !closed.load(Ordering::Relaxed) {
        let pairs = keys(number).into_iter().zip(values(number, packages));
        let writes = pairs.map(|(key, value)| Write::Put {
            cf: Default::default(),
            key: Bytes::from(key),
            value: Bytes::from(value),
            expiry: Expiry::Never,
        });
        store.write(writes.collect())?;
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{number}").and_then(|()| out.flush()).is_err() {
            closed.store(true, Ordering::Relaxed);
        }
        number += THREADS;
    }
    Ok(())
}
