//! The embedded database: synchronous, in this process, on one folder.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::batch::WriteBatch;
use crate::lsm::check::CheckReport;
use crate::lsm::key::Meta;
use crate::lsm::{EngineStats, Iter, IterOptions, ReadOptions};
use crate::node::Options;
use crate::node::core::Core;
use crate::node::pipeline::adds;
use crate::op::kv::{CfInfo, Condition, Entry, Expiry, MergeOp, Stats, Write};
use crate::op::vector::{Floats, VectorAnswer, VectorCall, VectorId, VectorSearch, VectorsFound};
use crate::op::{Request, Response};
use bytes::Bytes;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

thread_local! {
    /// Memory of the thread's last single write.
    static SCRATCH: RefCell<Option<WriteBatch>> = const { RefCell::new(None) };
}

/// A larger batch's memory is not kept.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

/// A database open in this process. Clones share it; it closes when the last is dropped, and with
/// it every snapshot and iterator.
///
/// ```
/// # fn main() -> arqondb::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path();
/// let db = arqondb::DBImpl::open(path)?;
/// db.put(b"user:1", b"Ada")?;
/// assert_eq!(db.get(b"user:1")?.as_deref(), Some(&b"Ada"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Db(pub(crate) Arc<Core>);

impl Db {
    /// Opens the database in the folder `path`, creating it if it is not there, with the default
    /// [`Options`].
    ///
    /// # Errors
    /// `Refused` if another process has it open or the folder holds something else, `Corruption`
    /// if what is on disk is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Db::open_with(path, Options::default())
    }

    /// As [`Db::open`], with options.
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Db> {
        Ok(Db(Arc::new(Core::open(path.as_ref(), options)?)))
    }

    /// The value of a key of the default family.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get_cf(CfId::DEFAULT, key)
    }

    /// The value of a key.
    pub fn get_cf(&self, cf: CfId, key: &[u8]) -> Result<Option<Bytes>> {
        let shard = &self.0.shard;
        if shard.has_pending() {
            let request = Request::Get { cf, key: Bytes::copy_from_slice(key) };
            return match self.execute(request)? {
                Response::Entry(entry) => Ok(entry.map(|e| e.value)),
                other => Err(unexpected(&other)),
            };
        }
        let found = shard.engine().get(cf, key, &ReadOptions::default())?;
        // The clock is asked only where it matters.
        let is_live = |meta: Meta| meta.expire_at_ms.is_none_or(|at| at > self.now_ms());
        Ok(found.filter(|found| is_live(found.meta)).map(|found| found.value))
    }

    /// The value of a key with the sequence number of its last commit and its expiry.
    pub fn get_entry(&self, cf: CfId, key: &[u8]) -> Result<Option<Entry>> {
        match self.execute(Request::Get { cf, key: Bytes::copy_from_slice(key) })? {
            Response::Entry(entry) => Ok(entry),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a key of the default family. Returns once the write is as durable as
    /// [`Options::sync`] says.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write_one(|batch| batch.put(key, value))
    }

    /// Sets a key that expires `ttl_ms` milliseconds from now.
    pub fn put_ttl(&self, cf: CfId, key: &[u8], value: &[u8], ttl_ms: u64) -> Result<()> {
        let write = Write::Put {
            cf,
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            expiry: Expiry::InMs(ttl_ms),
        };
        self.execute(Request::Write { writes: vec![write], id: None }).map(drop)
    }

    /// Removes a key of the default family; an absent one is fine.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.write_one(|batch| batch.delete(key))
    }

    /// Merges an operand into a key of the default family.
    pub fn merge(&self, key: &[u8], op: MergeOp, operand: &[u8]) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.merge(key, op, operand);
        self.write(batch).map(drop)
    }

    /// Writes a batch, all or nothing; gives the sequence number of its last operation.
    ///
    /// # Errors
    /// `Unknown` if the log failed after the batch was placed; any other error means that
    /// nothing was written.
    pub fn write(&self, mut batch: WriteBatch) -> Result<Seq> {
        self.write_from(&mut batch)
    }

    /// Writes a batch of one operation, in memory that the thread keeps for that.
    fn write_one(&self, fill: impl FnOnce(&mut WriteBatch)) -> Result<()> {
        SCRATCH.with(|scratch| {
            let Ok(mut scratch) = scratch.try_borrow_mut() else {
                // Within another write of this thread.
                let mut batch = WriteBatch::new();
                fill(&mut batch);
                return self.write_from(&mut batch).map(drop);
            };
            let batch = scratch.get_or_insert_default();
            batch.clear();
            fill(batch);
            let done = self.write_from(batch);
            if batch.bytes_len() > SCRATCH_BYTES_MAX {
                *scratch = None;
            }
            done.map(drop)
        })
    }

    fn write_from(&self, batch: &mut WriteBatch) -> Result<Seq> {
        let shard = &self.0.shard;
        shard.engine().wait_for_room()?;
        let ticket = shard.write_batch(batch, self.0.rough_now_ms())?;
        shard.wait_committed(ticket)?;
        Ok(ticket.seq)
    }

    /// Sets a key if its last commit has the sequence number `expected` (`Seq(0)`: if it is
    /// absent). Gives the new sequence number, or what stands there now.
    pub fn cas(
        &self,
        cf: CfId,
        key: &[u8],
        expected: Seq,
        value: &[u8],
    ) -> Result<Result<Seq, Option<Entry>>> {
        let condition =
            if expected == Seq(0) { Condition::Absent } else { Condition::SeqIs(expected) };
        let response = self.execute(Request::PutIf {
            cf,
            key: Bytes::copy_from_slice(key),
            value: Some(Bytes::copy_from_slice(value)),
            expiry: Expiry::Never,
            condition,
            id: None,
            seal: false,
        })?;
        match response {
            Response::Conditional { applied: true, seq, .. } => Ok(Ok(seq)),
            Response::Conditional { current, .. } => Ok(Err(current)),
            other => Err(unexpected(&other)),
        }
    }

    /// Executes any request, and waits until it may be answered. May take as long as the request
    /// reads.
    pub fn execute(&self, request: Request) -> Result<Response> {
        let shard = &self.0.shard;
        if adds(&request) {
            shard.wait_for_room(&request)?;
        }
        let answer = shard.execute(request, self.0.now_ms())?;
        shard.wait_committed(answer.rests_on)?;
        Ok(answer.response)
    }

    /// The database as it is now, to read from while others write.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.0.shard.settle()?;
        Ok(Snapshot { inner: self.0.shard.engine().snapshot(), db: self.clone() })
    }

    /// Walks the keys of a family in order, forwards or backwards, as they are now.
    pub fn iter(&self, cf: CfId, options: IterOptions) -> Result<DbIter> {
        self.0.shard.settle()?;
        let options = IterOptions {
            now_ms: if options.now_ms == 0 { self.now_ms() } else { options.now_ms },
            ..options
        };
        Ok(DbIter { inner: self.0.shard.engine().iter(cf, options)?, _db: self.clone() })
    }

    /// Creates a column family.
    pub fn create_cf(&self, name: &str) -> Result<CfId> {
        match self.execute(Request::CreateCf { name: name.to_string() })? {
            Response::ColumnFamily(info) => Ok(info.id),
            other => Err(unexpected(&other)),
        }
    }

    /// Drops a column family and all it holds.
    pub fn drop_cf(&self, cf: CfId) -> Result<()> {
        self.execute(Request::DropCf { cf }).map(drop)
    }

    /// The column families, by id.
    pub fn list_cfs(&self) -> Result<Vec<CfInfo>> {
        match self.execute(Request::ListCfs)? {
            Response::ColumnFamilies(families) => Ok(families),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes everything written so far durable, whatever the sync level.
    pub fn sync(&self) -> Result<()> {
        self.0.shard.settle()?;
        self.0.log.sync_to(self.0.log.written())
    }

    /// Writes all memtables to sstables.
    pub fn flush(&self) -> Result<()> {
        self.0.shard.settle()?;
        self.0.shard.engine().flush_all()
    }

    /// Writes one family's memtables to sstables.
    pub fn flush_family(&self, cf: CfId) -> Result<()> {
        self.0.shard.settle()?;
        self.0.shard.engine().flush(cf)
    }

    /// Deletes keys that have expired, a bounded number of them; gives how many entries of the
    /// expiry index it dealt with. The database does so by itself ten times a second.
    pub fn collect_expired(&self) -> Result<usize> {
        self.0.shard.sweep_expired(self.0.now_ms())
    }

    /// Compacts the whole of a family down to its last level.
    pub fn compact(&self, cf: CfId) -> Result<()> {
        use std::ops::Bound::Unbounded;
        self.0.shard.engine().compact_range(cf, Unbounded, Unbounded)
    }

    /// Runs the compactions of a family that are due, and waits until none is.
    pub fn compact_due(&self, cf: CfId) -> Result<()> {
        self.0.shard.engine().compact_due(cf)
    }

    /// Makes a copy of the database in the new folder `dir` that opens by itself: sstables are
    /// hard-linked, so it takes no space at first. `dir` must be on the same file system.
    pub fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.0.shard.settle()?;
        self.0.checkpoint(dir)
    }

    /// Checks everything on disk; slow. Problems are in the report.
    pub fn check(&self) -> Result<CheckReport> {
        self.0.shard.settle()?;
        self.0.shard.engine().check()
    }

    /// Executes a call about vectors and their indexes.
    ///
    /// # Errors
    /// `NotFound` for an index that is not there; `InvalidArgument` for what is out of bounds.
    pub fn vectors(&self, call: VectorCall) -> Result<VectorAnswer> {
        match self.execute(Request::Vector(Box::new(call)))? {
            Response::Vector(answer) => Ok(*answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a vector of an index, with a JSON object as its payload or nothing. It returns once the
    /// write is as durable as [`Options::sync`] says; every search that begins later sees it.
    ///
    /// # Errors
    /// As [`Db::vectors`].
    pub fn put_vector(&self, index: &str, id: u64, vector: &[f32], payload: &[u8]) -> Result<()> {
        let write = Write::PutVector {
            index: index.to_string(),
            id: VectorId::new(id),
            vector: Floats::of(vector),
            payload: Bytes::copy_from_slice(payload),
        };
        self.execute(Request::Write { writes: vec![write], id: None }).map(drop)
    }

    /// Removes a vector of an index; an absent one is fine.
    ///
    /// # Errors
    /// `NotFound` for an index that is not there.
    pub fn delete_vector(&self, index: &str, id: u64) -> Result<()> {
        let write = Write::DeleteVector { index: index.to_string(), id: VectorId::new(id) };
        self.execute(Request::Write { writes: vec![write], id: None }).map(drop)
    }

    /// Searches among the vectors of an index.
    ///
    /// # Errors
    /// As [`Db::vectors`].
    pub fn search_vectors(&self, search: VectorSearch) -> Result<VectorsFound> {
        match self.vectors(VectorCall::Search(search))? {
            VectorAnswer::Found(found) => Ok(found),
            _ => Err(Error::new(ErrorKind::Internal, "the shard gave another answer to a search")),
        }
    }

    /// Does on this thread what the background would do for indexes of vectors: links, seals and
    /// writes down.
    pub fn settle_vectors(&self) {
        self.0.shard.settle_vectors();
    }

    /// Figures, as INFO shows them.
    pub fn stats(&self) -> Result<Stats> {
        self.0.stats()
    }

    /// Figures of the storage engine.
    pub fn engine_stats(&self) -> EngineStats {
        self.0.shard.engine().stats()
    }

    /// Whether two handles are of one open database.
    pub fn is_same(&self, other: &Db) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn now_ms(&self) -> u64 {
        self.0.shard.advance_now(self.0.now_ms())
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

/// The database as it was when the snapshot was taken.
pub struct Snapshot {
    inner: crate::lsm::Snapshot,
    db: Db,
}

impl Snapshot {
    /// The sequence number of the last operation it shows.
    pub fn seq(&self) -> Seq {
        self.inner.seq()
    }

    /// The value of a key of the default family.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get_cf(CfId::DEFAULT, key)
    }

    /// The value of a key. What has expired since the snapshot was taken is absent.
    pub fn get_cf(&self, cf: CfId, key: &[u8]) -> Result<Option<Bytes>> {
        let options = ReadOptions {
            at: Some(self.inner.seq()),
            now_ms: self.db.now_ms(),
            ..ReadOptions::default()
        };
        Ok(self.db.0.shard.engine().get(cf, key, &options)?.map(|found| found.value))
    }

    /// Walks the keys of a family.
    pub fn iter(&self, cf: CfId, options: IterOptions) -> Result<DbIter> {
        self.db.iter(cf, IterOptions { at: Some(self.inner.seq()), ..options })
    }
}

/// A position among the keys of a family. See [`Iter`] for how it moves.
pub struct DbIter {
    inner: Iter,
    _db: Db,
}

impl DbIter {
    /// What stands beside the present value. REQUIRES: valid.
    pub fn meta(&self) -> Meta {
        self.inner.meta()
    }
}

impl std::ops::Deref for DbIter {
    type Target = Iter;

    fn deref(&self) -> &Iter {
        &self.inner
    }
}

impl std::ops::DerefMut for DbIter {
    fn deref_mut(&mut self) -> &mut Iter {
        &mut self.inner
    }
}

fn unexpected(response: &Response) -> Error {
    Error::new(ErrorKind::Internal, format!("the shard gave another answer: {response:?}"))
}
