//! Writing a backup's rows into a database, and comparing the two.
//!
//! Rows go the way of all writes, in batches, so it does not matter how many shards there are on
//! either side. A batch that may or may not have happened is written again: it says the same.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::cli::cluster::backup::document::Document;
use crate::cli::cluster::backup::repository::Repository;
use crate::cli::cluster::restore::rows::{Row, ShardRows, families};
use crate::op::kv::{Expiry, Scan, Write};
use crate::op::route::{SlotRange, slot_of};
use crate::op::vector::{NamedIndex, VectorCall, VectorId};
use crate::op::{KvOps, Request, Response};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;
use xxhash_rust::xxh3::Xxh3;

/// Writes of a batch, and their bytes, at which it goes.
const BATCH_WRITES: usize = 500;
const BATCH_BYTES: usize = 1 << 20;
/// Batches that are on their way at a time.
const WINDOW: usize = 8;
/// How often a batch is written before it is given up, and the pause between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// Entries of a page when what was written is read.
const PAGE: u32 = 1_000;
/// What expires later than so many milliseconds after the start is there when it is compared.
const LASTS_MS: u64 = 7 * 24 * 3600 * 1000;

/// Rows as a whole: how many, and a sum that does not depend on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Rows that are there for at least a week: how many, and the sum of their hashes.
    pub lasting: u64,
    /// The sum.
    pub sum: u128,
    /// Rows that expire sooner.
    pub passing: u64,
}

impl Tally {
    fn add(&mut self, family: &str, row: &Row, start_ms: u64) {
        if row.expire_at_ms.is_some_and(|at| at <= start_ms.saturating_add(LASTS_MS)) {
            self.passing += 1;
            return;
        }
        let mut hash = Xxh3::new();
        for part in [family.as_bytes(), &row.key, &row.value] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(&row.expire_at_ms.unwrap_or(0).to_le_bytes());
        self.lasting += 1;
        self.sum = self.sum.wrapping_add(hash.digest128());
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.lasting + self.passing
    }
}

/// What a restore needs to know, and whom it tells how far it is.
pub struct Filling<'a, K> {
    /// Where rows go.
    pub target: &'a K,
    /// The slots of each shard there, so that a batch is one shard's.
    pub shards: Vec<SlotRange>,
    /// The time at which it was begun, in milliseconds since 1970.
    pub start_ms: u64,
    /// Told of rows as they are written, and of about how many there are.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl<K: KvOps> Filling<'_, K> {
    /// Whether there is nothing yet.
    ///
    /// # Errors
    /// What the target answers.
    pub async fn is_empty(&self) -> Result<bool> {
        for (cf, _) in self.listed().await? {
            let scan = Scan { cf, limit: 1, keys_only: true, ..Scan::default() };
            match self.ask(Request::Scan(scan)).await? {
                Response::Page { entries, .. } if entries.is_empty() => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The families that are there.
    async fn listed(&self) -> Result<Vec<(CfId, String)>> {
        match self.ask(Request::ListCfs).await {
            Ok(Response::ColumnFamilies(all)) => {
                Ok(all.into_iter().map(|info| (info.id, info.name)).collect())
            }
            Ok(_) => Err(Error::new(ErrorKind::Internal, "an answer does not fit its question")),
            // A cluster of a version that has one family only.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Ok(vec![(CfId::DEFAULT, "default".to_string())])
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the families of a backup that are not there; says which is which.
    async fn map(&self, names: &BTreeMap<CfId, String>) -> Result<BTreeMap<CfId, CfId>> {
        let there: BTreeMap<String, CfId> =
            self.listed().await?.into_iter().map(|(cf, name)| (name, cf)).collect();
        let mut map = BTreeMap::new();
        for (cf, name) in names {
            let id = match there.get(name) {
                Some(id) => *id,
                None => match self.ask(Request::CreateCf { name: name.clone() }).await {
                    Ok(Response::ColumnFamily(info)) => info.id,
                    Ok(_) => {
                        let message = "an answer does not fit its question";
                        return Err(Error::new(ErrorKind::Internal, message));
                    }
                    Err(error) => {
                        return Err(error.context(format!("creating the family {name}")));
                    }
                },
            };
            map.insert(*cf, id);
        }
        Ok(map)
    }

    /// Writes all rows of a backup that have not expired.
    ///
    /// # Errors
    /// `Corruption` of the backup; what the target answers.
    pub async fn fill(&self, repository: &Repository, document: &Document) -> Result<Tally> {
        let names = families(repository, document)?;
        let map = self.map(&names).await?;
        let mut total = 0;
        for shard in &document.shards {
            let rows = ShardRows::open(repository, shard)?;
            total += rows.families().iter().map(|(cf, _)| rows.count(*cf)).sum::<u64>();
        }
        let mut tally = Tally::default();
        for shard in &document.shards {
            let rows = ShardRows::open(repository, shard)?;
            for (cf, name) in rows.families() {
                let to = map.get(&cf).copied().unwrap_or(cf);
                self.fill_family(&rows, (cf, to, &name), total, &mut tally).await?;
            }
            self.fill_vectors(&rows).await?;
        }
        Ok(tally)
    }

    /// Makes the indexes of a shard that are not there, and writes its vectors.
    async fn fill_vectors(&self, from: &ShardRows) -> Result<()> {
        for NamedIndex { id, spec } in from.vector_indexes()? {
            let create = Request::Vector(Box::new(VectorCall::Create(spec.clone())));
            match self.ask(create).await {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error.context(format!("creating the index {}", spec.name)));
                }
                _ => {}
            }
            let mut after = None;
            loop {
                let (vectors, next) = from.vectors(id, after, BATCH_WRITES)?;
                let mut batches: Vec<Vec<Write>> = vec![Vec::new(); self.shards.len()];
                for one in vectors {
                    let id = VectorId::new(one.id);
                    batches[self.place(id.as_bytes())?].push(Write::PutVector {
                        index: spec.name.clone(),
                        id,
                        vector: one.vector,
                        payload: one.payload,
                    });
                }
                for writes in batches.into_iter().filter(|writes| !writes.is_empty()) {
                    self.write(writes).await?;
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn fill_family(
        &self,
        from: &ShardRows,
        (cf, to, name): (CfId, CfId, &str),
        total: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut rows = from.rows(cf, self.start_ms)?;
        let mut batches: Vec<(Vec<Write>, usize)> = vec![Default::default(); self.shards.len()];
        let mut underway = FuturesUnordered::new();
        while let Some(row) = rows.next()? {
            tally.add(name, &row, self.start_ms);
            let batch = self.place(&row.key)?;
            let (writes, bytes) = &mut batches[batch];
            *bytes += row.key.len() + row.value.len();
            let expiry = row.expire_at_ms.map_or(Expiry::Never, Expiry::AtMs);
            writes.push(Write::Put { cf: to, key: row.key, value: row.value, expiry });
            if writes.len() >= BATCH_WRITES || *bytes >= BATCH_BYTES {
                *bytes = 0;
                underway.push(self.write(std::mem::take(writes)));
                if underway.len() >= WINDOW {
                    underway.next().await.transpose()?;
                }
                (self.progress)(tally.rows(), total);
            }
        }
        for (writes, _) in batches.into_iter().filter(|(writes, _)| !writes.is_empty()) {
            underway.push(self.write(writes));
        }
        while underway.next().await.transpose()?.is_some() {}
        (self.progress)(tally.rows(), total);
        Ok(())
    }

    fn place(&self, key: &[u8]) -> Result<usize> {
        let slot = slot_of(key);
        self.shards.iter().position(|slots| slots.contains(slot)).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("no shard of the cluster has slot {slot}"))
        })
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        self.ask(Request::Write { writes, id: None }).await.map(drop)
    }

    /// Asks until there is an answer that will not change.
    async fn ask(&self, request: Request) -> Result<Response> {
        let mut tries = 1;
        loop {
            match self.target.call(request.clone()).await {
                Err(error) if may_try_again(&error) && tries < TRIES => {
                    tries += 1;
                    sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Reads all that is there.
    ///
    /// # Errors
    /// What the target answers.
    pub async fn tally(&self) -> Result<Tally> {
        let mut tally = Tally::default();
        for (cf, name) in self.listed().await? {
            let mut scan = Scan { cf, limit: PAGE, ..Scan::default() };
            loop {
                let Response::Page { entries, next } =
                    self.ask(Request::Scan(scan.clone())).await?
                else {
                    let message = "an answer does not fit its question";
                    return Err(Error::new(ErrorKind::Internal, message));
                };
                for entry in entries {
                    let row = Row {
                        key: entry.key,
                        value: entry.value,
                        expire_at_ms: entry.expire_at_ms,
                    };
                    tally.add(&name, &row, self.start_ms);
                }
                if next.is_empty() {
                    break;
                }
                scan.cursor = next;
            }
        }
        Ok(tally)
    }
}

/// What is written here says the same however often it is written.
fn may_try_again(error: &Error) -> bool {
    let kind = error.kind();
    kind.is_retryable() || matches!(kind, ErrorKind::Unknown | ErrorKind::Deadline)
}

/// Says whether what was found is what was written. Rows that expire may have gone meanwhile.
///
/// # Errors
/// `Corruption` with the figures.
pub fn compare(written: &Tally, found: &Tally) -> Result<()> {
    let same = (written.lasting, written.sum) == (found.lasting, found.sum);
    if same && found.passing <= written.passing {
        return Ok(());
    }
    let message = format!(
        "what was restored is not what the backup holds: {} lasting and {} expiring rows were \
         written, {} and {} are there{}; did something else write to it?",
        written.lasting,
        written.passing,
        found.lasting,
        found.passing,
        if written.lasting == found.lasting && !same { ", with other contents" } else { "" }
    );
    Err(Error::new(ErrorKind::Corruption, message))
}
