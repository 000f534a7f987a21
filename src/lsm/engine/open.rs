//! From the manifest to trees. What a crash left behind is cleared away.

use crate::base::{CfId, Error, ErrorKind, LogIndex, Result, Seq};
use crate::env::{Disk, Pool, RealClock, Spin};
use crate::lsm::cache::BlockCache;
use crate::lsm::engine::tree::{Totals, Tree};
use crate::lsm::engine::work::Work;
use crate::lsm::engine::{Inner, stats};
use crate::lsm::manifest::state::Family;
use crate::lsm::manifest::store::{file_name as manifest_name, load, read_current};
use crate::lsm::manifest::{Edit, Field, Manifest, State};
use crate::lsm::memtable::ArenaPool;
use crate::lsm::options::{CfOptions, EngineOptions};
use crate::lsm::version::file::file_name;
use crate::lsm::version::{TableFile, Version};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};

/// The families that always exist.
const BUILT_IN: [(CfId, &str); 5] = [
    (CfId::DEFAULT, "default"),
    (CfId::EXPIRY, "__expiry"),
    (CfId::DEDUP, "__dedup"),
    (CfId::TXN, "__txn"),
    (CfId::VECTORS, "__vectors"),
];

pub(super) fn open(
    disk: Arc<dyn Disk>,
    pool: Pool,
    cache: Arc<BlockCache>,
    options: EngineOptions,
) -> Result<Arc<Inner>> {
    options.validate()?;
    let mut lock = None;
    if !options.read_only {
        disk.create_dir_all(&options.dir)?;
        lock = Some(disk.lock(&options.dir.join("LOCK"))?);
    }
    let state = read_state(disk.as_ref(), &options)?;
    let arena = ArenaPool::for_budget(options.memtable_budget_bytes);
    if !options.read_only {
        arena.warm();
    }
    let mut trees = BTreeMap::new();
    for (&cf, family) in &state.families {
        trees.insert(cf, open_tree(&disk, &options, &cache, &arena, cf, family)?);
    }
    let keep: BTreeSet<u64> =
        state.families.values().flat_map(|f| f.files.keys().copied()).collect();
    let (last_seq, committed_ms) = (state.last_seq, state.committed_ms);
    let replay_from = state.replay_from();
    let part_epoch = state.part.map_or(0, |part| part.epoch);
    let manifest = match options.read_only {
        true => Manifest::read_only(disk.clone(), &options.dir, state),
        false => {
            let manifest = Manifest::begin(disk.clone(), &options.dir, state)?;
            remove_orphans(disk.as_ref(), &options.dir, &keep)?;
            manifest
        }
    };
    Ok(Arc::new(Inner {
        disk,
        pool,
        cache,
        arena,
        options,
        clock: RealClock::new(),
        apply: Spin::default(),
        manifest: Mutex::new(manifest),
        trees: ArcSwap::from_pointee(trees),
        snapshots: Mutex::new(BTreeMap::new()),
        work: Mutex::new(Work::default()),
        work_changed: Condvar::new(),
        closing: AtomicBool::new(false),
        poisoned: AtomicBool::new(false),
        visible_seq: AtomicU64::new(last_seq.0),
        applied_index: AtomicU64::new(replay_from.0),
        committed_ms: AtomicU64::new(committed_ms),
        replay_from: AtomicU64::new(replay_from.0),
        memtable_bytes: Default::default(),
        pressure: AtomicU64::new(0),
        on_flush: Mutex::new(None),
        log_barrier: Mutex::new(None),
        barrier_always: AtomicBool::new(false),
        part_epoch: AtomicU64::new(part_epoch),
        counters: stats::Counters::default(),
        lock: Mutex::new(lock),
    }))
}

fn read_state(disk: &dyn Disk, options: &EngineOptions) -> Result<State> {
    let dir = &options.dir;
    let mut state = match read_current(disk, dir)? {
        Some(number) => load(disk, dir, number)?.0,
        None if options.read_only => {
            let message = format!("there is no database in {}", dir.display());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        None => {
            refuse_without_current(disk, dir)?;
            State::default()
        }
    };
    let missing = BUILT_IN.iter().filter(|(cf, _)| !state.families.contains_key(cf));
    // What an older program wrote has nothing of them: they are as far as the others.
    let begun = state.replay_from();
    let create = |(cf, name): &(CfId, &str)| {
        let (name, options) = (name.to_string(), CfOptions::default());
        [Field::CreateCf { cf: *cf, name, options }, Field::Flushed(*cf, begun)]
    };
    let fields = missing.flat_map(create).collect();
    state.apply(&Edit { fields }).map_err(|what| Error::new(ErrorKind::Internal, what))?;
    Ok(state)
}

/// A folder with sstables but without `CURRENT` has lost it: to begin anew would remove them.
fn refuse_without_current(disk: &dyn Disk, dir: &Path) -> Result<()> {
    match disk.list(dir)?.iter().find(|entry| entry.name.ends_with(".sst")) {
        None => Ok(()),
        Some(entry) => Err(Error::corruption(
            dir.join("CURRENT"),
            0,
            "the name of a manifest",
            format!("no such file, beside sstables such as {}", entry.name),
        )),
    }
}

fn open_tree(
    disk: &Arc<dyn Disk>,
    options: &EngineOptions,
    cache: &Arc<BlockCache>,
    arena: &ArenaPool,
    cf: CfId,
    family: &Family,
) -> Result<Arc<Tree>> {
    let mut files = Vec::new();
    for (level, meta) in family.files.values() {
        let path = options.dir.join(file_name(meta.number));
        if !disk.exists(&path) {
            return Err(Error::corruption(
                path,
                0,
                "an sstable that the manifest names",
                "no file",
            ));
        }
        let file = TableFile::open(disk, &options.dir, (cf, meta.clone()), cache)?;
        if file.table().file_bytes() != meta.size {
            let found = file.table().file_bytes().to_string();
            return Err(Error::corruption(path, 0, format!("{} bytes", meta.size), found));
        }
        files.push((usize::from(*level), file));
    }
    let version = Version::empty(options.levels).with(&[], &files, family.collected);
    let totals = Totals { keys: family.keys, expires: family.expires, exact: family.exact };
    let (name, flushed) = (family.name.clone(), family.flushed);
    Ok(Tree::new(
        (cf, name),
        family.options.clone(),
        flushed,
        version,
        totals,
        (arena, options.dead_span_after),
    ))
}

/// Builds the tree of a family that has just been created.
pub(super) fn new_tree(
    inner: &Inner,
    named: (CfId, String),
    options: CfOptions,
    flushed: LogIndex,
) -> Arc<Tree> {
    let version = Version::empty(inner.options.levels).with(&[], &[], Seq(0));
    let totals = Totals { keys: 0, expires: 0, exact: true };
    Tree::new(
        named,
        options,
        flushed,
        version,
        totals,
        (&inner.arena, inner.options.dead_span_after),
    )
}

/// Removes sstables, manifests and temporary files that nothing names.
fn remove_orphans(disk: &dyn Disk, dir: &Path, keep: &BTreeSet<u64>) -> Result<()> {
    let current = read_current(disk, dir)?.map(manifest_name);
    for entry in disk.list(dir)?.iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.as_str();
        let number = |name: &str| name.strip_suffix(".sst").and_then(|n| n.parse::<u64>().ok());
        let orphan = match number(name) {
            Some(number) => !keep.contains(&number),
            None => {
                name == "CURRENT.tmp"
                    || (name.starts_with("MANIFEST-") && current.as_deref() != Some(name))
            }
        };
        if orphan {
            disk.remove(&dir.join(name))?;
        }
    }
    Ok(())
}
