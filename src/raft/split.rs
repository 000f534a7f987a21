//! A split of a shard, as an entry of its group.
//!
//! ```text
//! part: [0x81][first slot u16 LE][at u16 LE][last slot u16 LE][epoch varint][child group varint]
//!       [count varint]([replica varint][its child varint][voter u8])*
//! ```
//! Every replica that applies the entry makes, out of its own state, the first state of the child's
//! replica on its node: hard links, no copies. That replica begins at the entry of the split, as if
//! it had received a snapshot there, with a vote of that term: whoever misses the entry (because a
//! snapshot took it past) has an empty replica, which stands for no election and is sent a snapshot
//! by one that has the records.
//!
//! The leader lets nothing be placed from before the entry is proposed until it is applied, so no
//! batch stands behind it that was evaluated before it.

use crate::base::codec::{Reader, put_varint};
use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::env::disk::write_atomic;
use crate::lsm::manifest::Part;
use crate::op::route::{SLOTS, SlotRange};
use crate::raft::generation::{self, Current, remove_all_but, remove_dir_all};
use crate::raft::host::Shared;
use crate::raft::log_store::{LogStore, Recovered};
use crate::raft::vocabulary::{Membership, StoredMembership};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

/// The first byte of the part, which is no version of a batch.
const TAG: u8 = 0x81;
/// The file that is in a child's folder until the log has heard of its replica.
const MAKING: &str = "MAKING";
/// More replicas than any shard has.
const REPLICAS_MAX: u64 = 64;

/// A split of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The slots before.
    pub slots: SlotRange,
    /// The first slot of the child; above the first slot of the parent.
    pub at: u16,
    /// The version of their slots that both have afterwards.
    pub epoch: u64,
    /// The child's group.
    pub child: GroupId,
    /// The replicas of the parent, and of the child on the same nodes.
    pub replicas: Vec<Halves>,
}

/// A replica of the parent, and the one of the child on the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halves {
    /// The parent's.
    pub parent: u64,
    /// The child's.
    pub child: u64,
    /// Whether they vote.
    pub votes: bool,
}

impl Split {
    /// Whether a part of a proposal is a split.
    pub(crate) fn is_one(part: &[u8]) -> bool {
        part.first() == Some(&TAG)
    }

    /// What is left of the parent, and what the child gets.
    ///
    /// # Errors
    /// `InvalidArgument` if one would be empty.
    pub fn parts(&self) -> Result<(Part, Part)> {
        let (lower, upper) = self.slots.split(self.at).ok_or_else(|| {
            let message = format!("slot {} does not divide the slots {}", self.at, self.slots);
            Error::invalid(message)
        })?;
        let epoch = self.epoch;
        Ok((Part { slots: lower, epoch }, Part { slots: upper, epoch }))
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![TAG];
        for slot in [self.slots.first, self.at, self.slots.last] {
            out.extend_from_slice(&slot.to_le_bytes());
        }
        put_varint(&mut out, self.epoch);
        put_varint(&mut out, self.child.0);
        put_varint(&mut out, self.replicas.len() as u64);
        for replica in &self.replicas {
            put_varint(&mut out, replica.parent);
            put_varint(&mut out, replica.child);
            out.push(u8::from(replica.votes));
        }
        out.into()
    }

    /// The split of some bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Split> {
        let read = || {
            let mut r = Reader::new(bytes);
            let tag = r.u8()?;
            let (first, at, last) = (r.u16()?, r.u16()?, r.u16()?);
            let (epoch, child, count) = (r.varint()?, r.varint()?, r.varint()?);
            if tag != TAG || first > last || last >= SLOTS || count > REPLICAS_MAX {
                return None;
            }
            let mut replicas = Vec::new();
            for _ in 0..count {
                let (parent, child, votes) = (r.varint()?, r.varint()?, r.u8()?);
                replicas.push(Halves { parent, child, votes: votes == 1 });
            }
            let slots = SlotRange { first, last };
            r.is_empty().then_some(Split { slots, at, epoch, child: GroupId(child), replicas })
        };
        let malformed = || Error::new(ErrorKind::Corruption, "an entry that splits is malformed");
        let split = read().ok_or_else(malformed)?;
        split.parts().map_err(|_| malformed())?;
        Ok(split)
    }

    fn members(&self) -> Membership {
        let voters: BTreeSet<u64> =
            self.replicas.iter().filter(|r| r.votes).map(|r| r.child).collect();
        Membership::new_with_defaults(vec![voters], self.replicas.iter().map(|r| r.child))
    }
}

/// The groups whose first folder is being made, or seen to, each by one at a time: a group that takes
/// long is in no other's way.
#[derive(Debug, Default)]
pub(crate) struct Making {
    groups: Mutex<BTreeSet<GroupId>>,
    ended: Condvar,
}

/// A group's folder is the holder's until this is dropped.
pub(crate) struct Turn<'a> {
    of: &'a Making,
    group: GroupId,
}

impl Making {
    /// Waits until nobody else has the group.
    fn take(&self, group: GroupId) -> Turn<'_> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = self
            .ended
            .wait_while(groups, |groups| groups.contains(&group))
            .unwrap_or_else(PoisonError::into_inner);
        groups.insert(group);
        Turn { of: self, group }
    }

    /// As [`Making::take`], without waiting.
    ///
    /// # Errors
    /// `Unavailable` if another has it.
    pub(crate) fn try_take(&self, group: GroupId) -> Result<Turn<'_>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if !groups.insert(group) {
            let message =
                format!("a split makes the replica of group {group} here; try again soon");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(Turn { of: self, group })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut groups = self.of.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.remove(&self.group);
        self.of.ended.notify_all();
    }
}

/// Makes this node's replica of the child, as the entry at `index` of `parent` says; `fill` brings
/// its records into a folder. Nothing is done if the replica is here already, or the parent's
/// replica `own` has no counterpart. Durable on return; after a crash before that it is called
/// again.
pub(crate) fn make_child(
    host: &Shared,
    parent: GroupId,
    own: u64,
    index: LogIndex,
    split: &Split,
    fill: &dyn Fn(&Path) -> Result<()>,
) -> Result<()> {
    let Some(replica) = split.replicas.iter().find(|r| r.parent == own) else { return Ok(()) };
    let group = split.child;
    let _turn = host.making.take(group);
    if host.store_of(group).is_some() {
        return Ok(());
    }
    let at = index.0.saturating_sub(1);
    let entry = host.store_of(parent).and_then(|store| store.log_id(at)).ok_or_else(|| {
        let message = format!("the log does not know the entry {at} that splits group {parent}");
        Error::new(ErrorKind::Internal, message)
    })?;
    let membership = StoredMembership::new(Some(entry), split.members());
    let (disk, dir) = (&*host.disk, host.dir_of(group));
    // What was left half-way.
    undo(host, group)?;
    disk.create_dir_all(&dir)?;
    write_atomic(disk, &dir.join(MAKING), b"")?;
    fill(&dir.join("gen-1"))?;
    let current = Current { generation: 1, last: Some(entry), membership: membership.clone() };
    write_atomic(disk, &dir.join("CURRENT"), &generation::encode(&current))?;
    let store = LogStore::new(host.log.clone(), group, Recovered::default());
    store.begin_at(replica.child, entry, &membership)?;
    host.keep_store(group, store);
    // One that stays behind is removed at the next start.
    _ = disk.remove(&dir.join(MAKING));
    Ok(())
}

/// Sees to what was left half-way in [`make_child`] of a group's folder: all of it goes, unless the
/// log has heard of the replica. The parent may never come to the entry again, if a snapshot took it
/// past.
pub(crate) fn clear_making(host: &Shared, group: GroupId) -> Result<()> {
    let making = host.dir_of(group).join(MAKING);
    match host.disk.exists(&making) {
        true if host.replica_of(group).is_some() => host.disk.remove(&making),
        true => undo(host, group),
        false => Ok(()),
    }
}

/// Removes a group's folder, what says that it counts for nothing last.
fn undo(host: &Shared, group: GroupId) -> Result<()> {
    // A log that has failed may have heard of the replica all the same: the next start will know.
    if let Some(error) = host.log.poisoned() {
        return Err(error);
    }
    let (disk, dir) = (&*host.disk, host.dir_of(group));
    remove_all_but(disk, &dir, MAKING)?;
    remove_dir_all(disk, &dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_travels_and_what_is_none_is_refused() {
        let split = Split {
            slots: SlotRange { first: 100, last: 8_000 },
            at: 4_000,
            epoch: 2,
            child: GroupId(9),
            replicas: vec![
                Halves { parent: 1, child: 300, votes: true },
                Halves { parent: 2, child: 301, votes: false },
            ],
        };
        let bytes = split.encode();
        assert!(Split::is_one(&bytes));
        assert_eq!(Split::decode(&bytes).unwrap(), split);
        assert_eq!(
            &bytes[..],
            b"\x81\x64\x00\xa0\x0f\x40\x1f\x02\x09\x02\x01\xac\x02\x01\x02\xad\x02\x00"
        );
        for end in 0..bytes.len() {
            assert_eq!(Split::decode(&bytes[..end]).unwrap_err().kind(), ErrorKind::Corruption);
        }
        for at in [100, 99, 8_001] {
            let bad = Split { at, ..split.clone() };
            assert!(Split::decode(&bad.encode()).is_err());
        }
        // A program that knows of no splits stops there: the part is no batch.
        assert!(crate::lsm::batch::BatchView::read(&bytes).is_err());
    }
}
