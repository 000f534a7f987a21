//! The engine as the demo uses it: text keys of the default family, in a folder of its own.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::log::SyncLevel;
use crate::node::{Db, Options, Snapshot};
use crate::op::kv::{Entry, Scan, Write};
use crate::op::{Request, Response};
use bytes::Bytes;
use std::path::Path;

/// Entries in a page of a scan.
const PAGE: u32 = 1_000;

/// An open database.
#[derive(Debug)]
pub struct Store(Db);

impl Store {
    /// Opens the folder, creating it if need be.
    ///
    /// # Errors
    /// Those of [`Db::open_with`].
    pub fn open(folder: &Path, sync: SyncLevel) -> Result<Store> {
        Db::open_with(folder, Options { sync, ..Options::default() }).map(Store)
    }

    /// A key's value with its sequence number and expiry.
    ///
    /// # Errors
    /// Those of [`Db::get_entry`].
    pub fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.0.get_entry(CfId::DEFAULT, key.as_bytes())
    }

    /// Writes a batch, all or nothing.
    ///
    /// # Errors
    /// Those of [`Db::execute`].
    pub fn write(&self, writes: Vec<Write>) -> Result<()> {
        self.0.execute(Request::Write { writes, id: None }).map(drop)
    }

    /// Executes any request.
    ///
    /// # Errors
    /// Those of [`Db::execute`].
    pub fn execute(&self, request: Request) -> Result<Response> {
        self.0.execute(request)
    }

    /// Sets a key if its last commit is `expected` (`Seq(0)`: if it is absent); otherwise gives
    /// what stands there.
    ///
    /// # Errors
    /// Those of [`Db::cas`].
    pub fn swap(&self, key: &str, expected: Seq, value: &str) -> Result<Option<Option<Entry>>> {
        let outcome = self.0.cas(CfId::DEFAULT, key.as_bytes(), expected, value.as_bytes())?;
        Ok(outcome.err())
    }

    /// Every entry with a prefix, in order, read page by page.
    ///
    /// # Errors
    /// Those of [`Db::execute`].
    pub fn scan(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut cursor = Bytes::new();
        loop {
            let prefix = Bytes::copy_from_slice(prefix.as_bytes());
            let scan = Scan { prefix, limit: PAGE, cursor, ..Scan::default() };
            match self.0.execute(Request::Scan(scan))? {
                Response::Page { entries, next } => {
                    found.extend(entries);
                    if next.is_empty() {
                        return Ok(found);
                    }
                    cursor = next;
                }
                other => {
                    let what = format!("a scan was answered by {other:?}");
                    return Err(Error::new(ErrorKind::Internal, what));
                }
            }
        }
    }

    /// The store as it is now.
    ///
    /// # Errors
    /// Those of [`Db::snapshot`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.0.snapshot()
    }
}
