//! Making a backup.
//!
//! ```text
//! the catalog -> for each shard: its leader makes a copy and holds it
//!                                  -> for each file: sum -> content that is not there: fetched
//!             -> the backup's file
//! ```
//! Each shard is a prefix of its own history; the copies of two shards are of different moments.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::View;
use crate::catalog::records::{Shard, UserRole};
use crate::cli::cluster::backup::document::{
    ClusterFact, Document, FamilyFact, FileFact, IndexFact, ShardFact, UserFact, hex, is_name,
};
use crate::cli::cluster::backup::repository::Repository;
use crate::cli::cluster::backup::source::Source;
use crate::rpc::cluster::copy_call::{HeldCopy, READ_BYTES_MAX};
use futures::{StreamExt, TryStreamExt};

/// Questions for parts of a file that are on their way at a time.
const WINDOW: usize = 4;
/// How often the copy of a shard is begun, and how often all of them when shards are split.
const TRIES: u32 = 5;

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The backup.
    pub document: Document,
    /// What it consists of.
    pub all: Amount,
    /// What of that was not in the folder before.
    pub new: Amount,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, file: &FileFact) {
        self.files += 1;
        self.bytes += file.size;
    }
}

/// Makes a backup of a cluster, and tells `say` of each shard that is done. What was fetched by a
/// call that failed is not fetched again.
///
/// # Errors
/// `AlreadyExists` if there is a backup of the name; `InvalidArgument` for a bad one; `Unavailable`
/// if a shard has no leader for long; what the disk answers.
pub async fn take(
    source: &Source,
    repository: &Repository,
    name: &str,
    now_ms: u64,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Taken> {
    if !is_name(name) {
        let message = format!(
            "{name:?} is no name for a backup: take letters, digits, '-', '_' and '.', at most 100"
        );
        return Err(Error::invalid(message));
    }
    if repository.has_backup(name) {
        let message = format!(
            "{} has a backup {name} already; choose another --name",
            repository.dir().display()
        );
        return Err(Error::new(ErrorKind::AlreadyExists, message));
    }
    let mut new = Amount::default();
    let mut tries = 1;
    let document = loop {
        let view = source.meta().view();
        match copy_shards(source, repository, &view, &mut new, say).await {
            Ok(shards) => break document(&view, shards, name, now_ms)?,
            // The shards are others by now: what was fetched of them is in the folder.
            Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    };
    repository.add(&document)?;
    let mut all = Amount::default();
    document.files().for_each(|file| all.add(file));
    Ok(Taken { document, all, new })
}

async fn copy_shards(
    source: &Source,
    repository: &Repository,
    view: &View,
    new: &mut Amount,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Vec<ShardFact>> {
    let mut shards: Vec<&Shard> = view.shards().collect();
    shards.sort_by_key(|shard| shard.slots);
    let mut facts = Vec::new();
    for (at, shard) in shards.iter().enumerate() {
        let before = *new;
        let mut tries = 1;
        let fact = loop {
            let held = source.begin(shard).await?;
            let copied = copy_shard(source, repository, shard, &held, new).await;
            source.end(&held).await;
            match copied {
                Ok(fact) => break fact,
                // Its node has lost it, or is gone: another makes one.
                Err(error) if is_lost(&error) && tries < TRIES => tries += 1,
                Err(error) => return Err(error.context(format!("shard {}", shard.id))),
            }
        };
        say(&format!(
            "shard {} ({} of {}): {} files, {} of them new with {} bytes",
            shard.id,
            at + 1,
            shards.len(),
            fact.files.len(),
            new.files - before.files,
            new.bytes - before.bytes
        ));
        facts.push(fact);
    }
    Ok(facts)
}

fn is_lost(error: &Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        ErrorKind::NotFound | ErrorKind::Unavailable | ErrorKind::Unknown | ErrorKind::Deadline
    )
}

async fn copy_shard(
    source: &Source,
    repository: &Repository,
    shard: &Shard,
    held: &HeldCopy,
    new: &mut Amount,
) -> Result<ShardFact> {
    let mut files = Vec::with_capacity(held.files.len());
    for (number, (name, size)) in (0..).zip(&held.files) {
        let sum = source.sum(held, number).await?;
        let file = FileFact { name: name.clone(), size: *size, sum: format!("{sum:032x}") };
        if !repository.has(&file)? {
            fetch(source, repository, held, number, &file).await?;
            new.add(&file);
        }
        files.push(file);
    }
    Ok(ShardFact {
        shard: shard.id.0,
        first: shard.slots.first,
        last: shard.slots.last,
        replicas: shard.desired,
        node: held.node,
        index: held.index.0,
        seq: held.seq.0,
        files,
    })
}

async fn fetch(
    source: &Source,
    repository: &Repository,
    held: &HeldCopy,
    number: u64,
    file: &FileFact,
) -> Result<()> {
    let mut part = repository.part(file)?;
    let offsets = (part.at()..file.size).step_by(READ_BYTES_MAX as usize);
    let parts = offsets.map(|offset| source.read(held, number, offset, file.size));
    let mut parts = futures::stream::iter(parts).buffered(WINDOW);
    while let Some(bytes) = parts.try_next().await? {
        part.push(&bytes)?;
    }
    part.finish()
}

fn document(view: &View, shards: Vec<ShardFact>, name: &str, now_ms: u64) -> Result<Document> {
    let cluster = view.cluster().ok_or_else(|| {
        let message = "the cluster is not initialised: there is nothing to back up";
        Error::new(ErrorKind::NotFound, message)
    })?;
    let role = |role: UserRole| role.name().to_string();
    Ok(Document {
        name: name.to_string(),
        made_ms: now_ms,
        software: env!("CARGO_PKG_VERSION").to_string(),
        cluster: ClusterFact {
            id: hex(&cluster.id),
            name: cluster.name.clone(),
            version: cluster.version,
        },
        families: view
            .families()
            .map(|family| FamilyFact { id: family.id.0, name: family.name.clone() })
            .collect(),
        indexes: view
            .indexes()
            .map(|index| IndexFact {
                name: index.name.clone(),
                kind: index.kind.clone(),
                config: hex(&index.config),
            })
            .collect(),
        users: view
            .users()
            .map(|user| UserFact {
                name: user.name.clone(),
                role: role(user.role),
                verifier: hex(&user.verifier),
                disabled: user.disabled,
            })
            .collect(),
        shards,
    })
}
