//! What holds at every moment, and what all replicas agree on in the end.

use crate::world::{Kind, World};
use arqondb::base::{CfId, Seq};
use arqondb::catalog::ShardId;
use arqondb::env::Clock;
use arqondb::lsm::IterOptions;
use arqondb::raft::ShardHandle;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of all files of a node that are too many for what is in it.
const DISK_BYTES_MAX: u64 = 24 << 20;

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Invariants {
    /// Who led a group in a term.
    leaders: BTreeMap<(u64, u64), u64>,
    /// The latest term that a replica was seen in.
    terms: BTreeMap<(u64, u64), u64>,
    /// The last sequence number of a shard that has applied so much.
    seqs: BTreeMap<(ShardId, u64), Seq>,
    pub(crate) applied: BTreeMap<ShardId, u64>,
    /// The catalog at a revision.
    pub(crate) views: BTreeMap<u64, Vec<u8>>,
    /// How far the log of each replica went.
    logs: BTreeMap<(ShardId, u64), u64>,
    /// Snapshots that were taken over.
    pub(crate) installs: u64,
    pub(crate) looks: u64,
}

impl Invariants {
    /// Looks at what may show for a moment only: no replica forgets the latest term it was in.
    pub(crate) fn glance(&mut self, world: &World) {
        for host in &world.hosts {
            let Some(process) = &host.process else { continue };
            if let Some(member) = process.member() {
                let troubles = member.troubles();
                // What is replaced shows in nothing else: no disk here damages what is on it.
                let lost = troubles.borrow().values().find(|told| is_lost(told)).cloned();
                assert!(lost.is_none(), "{} has lost a replica: {lost:?}", process.name);
            }
            let shards = process.replicas().into_iter().map(|(shard, group, _)| (shard.0, group));
            let meta = process.meta().map(|meta| (0, meta.group().clone()));
            for (shard, group) in shards.chain(meta) {
                let status = group.status();
                let known = self.terms.entry((shard, status.replica)).or_default();
                // One whose disk fails may be about to find that out.
                if status.stopped.is_none() && !host.disk_failed {
                    assert!(
                        status.term >= *known,
                        "{} was in term {known} of group {shard}, and is in {}",
                        process.name,
                        status.term
                    );
                    *known = status.term;
                }
            }
        }
    }

    /// Looks at everything.
    pub(crate) fn look(&mut self, world: &World) {
        self.looks += 1;
        for host in &world.hosts {
            let Some(process) = &host.process else { continue };
            for (shard, group, handle) in process.replicas() {
                let status = group.status();
                if status.leader == Some(status.replica) {
                    self.led(shard.0, status.term, status.replica);
                }
                let last = self.logs.entry((shard, status.replica)).or_default();
                // What it never had is cut off.
                self.installs += u64::from(status.purged.unwrap_or(0) > *last);
                *last = status.last.unwrap_or(0);
                let Ok(open) = handle.get() else { continue };
                let (index, seq) = (open.engine().applied_index().0, open.engine().last_seq());
                let known = *self.seqs.entry((shard, index)).or_insert(seq);
                assert_eq!(known, seq, "shard {shard} on {} at entry {index}", process.name);
                let most = self.applied.entry(shard).or_default();
                *most = (*most).max(index);
            }
            if let Some(meta) = process.meta() {
                let status = meta.group().status();
                if status.leader == Some(status.replica) {
                    self.led(0, status.term, status.replica);
                }
                let view = meta.view();
                let bytes = view.encode();
                let known = self.views.entry(view.revision()).or_insert_with(|| bytes.clone());
                assert!(*known == bytes, "two catalogs of revision {}", view.revision());
            }
            let bytes = process.disk.used_bytes();
            assert!(bytes <= DISK_BYTES_MAX, "{} has {bytes} bytes on its disk", process.name);
        }
    }

    fn led(&mut self, group: u64, term: u64, replica: u64) {
        let known = *self.leaders.entry((group, term)).or_insert(replica);
        assert_eq!(known, replica, "group {group} has two leaders in term {term}");
    }

    /// Whether all replicas have applied as much as any has, and the catalog is everywhere.
    pub(crate) fn is_settled(world: &World) -> bool {
        let metas = world.sites(|kind| matches!(kind, Kind::Meta(_)));
        let metas: Option<Vec<_>> = metas
            .iter()
            .map(|site| world.hosts[*site].process.as_ref()?.meta().map(|m| m.view().revision()))
            .collect();
        let Some(metas) = metas else { return false };
        let Some(view) = view(world) else { return false };
        let is_one = |items: &[u64]| items.windows(2).all(|pair| pair[0] == pair[1]);
        let mut replicas: BTreeMap<ShardId, Vec<u64>> = BTreeMap::new();
        for process in world.hosts.iter().filter_map(|host| host.process.as_ref()) {
            for (shard, _, handle) in process.replicas() {
                let Ok(open) = handle.get() else { return false };
                replicas.entry(shard).or_default().push(open.engine().applied_index().0);
            }
        }
        is_one(&metas)
            && view.shards().all(|shard| shard.split.is_none())
            && view.shards().all(|shard| {
                let found = replicas.get(&shard.id);
                found.is_some_and(|found| found.len() == shard.replicas.len() && is_one(found))
            })
    }

    /// All replicas hold the same, and as much as was ever applied.
    pub(crate) fn agree(&self, world: &World) {
        let mut states: BTreeMap<ShardId, (String, State)> = BTreeMap::new();
        // Each drops what has expired by the latest time of a commit, when it comes to it.
        let mut latest: BTreeMap<ShardId, u64> = BTreeMap::new();
        for process in world.hosts.iter().filter_map(|host| host.process.as_ref()) {
            for (shard, _, handle) in process.replicas() {
                let committed_ms = handle.get().unwrap().engine().committed_ms();
                let latest = latest.entry(shard).or_default();
                *latest = committed_ms.max(*latest);
            }
        }
        for process in world.hosts.iter().filter_map(|host| host.process.as_ref()) {
            for (shard, _, handle) in process.replicas() {
                let applied = handle.get().unwrap().engine().applied_index().0;
                let most = self.applied.get(&shard).copied().unwrap_or(0);
                assert!(applied >= most, "shard {shard} is at {applied}, and was at {most}");
                let until_ms = latest[&shard];
                let state = state(&handle, until_ms);
                let open = handle.get().unwrap();
                let keys = state.keys().filter(|(cf, _)| *cf == CfId::DEFAULT).count() as u64;
                let counted = open.stats(process.local.unix_ms()).unwrap().keys;
                // A split leaves a count that says of itself that it may be wrong.
                let is_exact = open.engine().counts(CfId::DEFAULT).unwrap().exact;
                assert!(
                    counted == keys || !is_exact,
                    "shard {shard} on {} has {keys} keys, and counts {counted}",
                    process.name
                );
                let (first, known) =
                    states.entry(shard).or_insert_with(|| (process.name.clone(), state.clone()));
                assert!(
                    *known == state,
                    "shard {shard}: {} differs from {first}, of what expires after {until_ms}: {}",
                    process.name,
                    differences(known, &state)
                );
            }
        }
    }
}

/// Whether a trouble is that of a replica that is damaged, and goes or would.
fn is_lost(told: &str) -> bool {
    told.contains("is given another") || told.contains("no majority")
}

/// The first records that only one of two replicas has, or that differ.
fn differences(a: &State, b: &State) -> String {
    let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differ = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    let told = differ.take(8).map(|key| format!("{key:?}: {:?} / {:?}", a.get(key), b.get(key)));
    told.collect::<Vec<_>>().join("; ")
}

/// How far everything is, for whoever wonders why it does not settle.
pub(crate) fn told(world: &World) -> String {
    use std::fmt::Write;
    let mut told = String::new();
    for host in &world.hosts {
        let Some(process) = &host.process else {
            _ = writeln!(told, "a host is down");
            continue;
        };
        let member = process.member();
        let numbered =
            member.as_ref().map(|member| (member.id(), member.troubles().borrow().clone()));
        _ = writeln!(told, "{} runs: {numbered:?}", process.name);
        for (shard, group, handle) in process.replicas() {
            let at = handle.get().map(|open| open.engine().applied_index());
            let status = group.status();
            _ = writeln!(told, "{} shard {shard} applied {at:?}: {status:?}", process.name);
        }
        if let Some(meta) = process.meta() {
            let status = meta.group().status();
            _ = writeln!(told, "{} at {}: {status:?}", process.name, meta.view().revision());
            for shard in meta.view().shards() {
                _ = writeln!(told, "  {shard:?}");
            }
        }
    }
    told
}

fn view(world: &World) -> Option<arqondb::catalog::View> {
    let process = world.hosts.iter().filter_map(|host| host.process.as_ref());
    process.filter_map(|process| process.meta()).map(|meta| meta.view()).next()
}

/// Every record of a replica that has not expired by then: family and key to value and sequence number.
type State = BTreeMap<(CfId, Bytes), (Bytes, Seq)>;

fn state(handle: &ShardHandle, until_ms: u64) -> State {
    let shard = handle.get().unwrap();
    let mut state = State::new();
    for cf in [CfId::DEFAULT, CfId::EXPIRY, CfId::DEDUP, CfId::TXN] {
        let mut iter = shard.engine().iter(cf, IterOptions::default()).unwrap();
        iter.first().unwrap();
        while iter.valid() {
            if iter.meta().expire_at_ms.is_none_or(|at| at > until_ms) {
                let key = (cf, Bytes::copy_from_slice(iter.key()));
                state.insert(key, (Bytes::copy_from_slice(iter.value()), iter.seq()));
            }
            iter.next().unwrap();
        }
    }
    state
}
