//! Column families and their counts.

use crate::base::{CfId, Error, ErrorKind, LogIndex, Result};
use crate::lsm::batch::BatchView;
use crate::lsm::engine::open::new_tree;
use crate::lsm::engine::tree::Tree;
use crate::lsm::engine::{Engine, Inner, lock};
use crate::lsm::family_change::{FAMILY_NAME_BYTES_MAX, FamilyChange};
use crate::lsm::manifest::{Edit, Field};
use crate::lsm::options::CfOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CfInfo {
    /// Its id.
    pub id: CfId,
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: CfOptions,
}

/// How many keys a family has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountsNow {
    /// Live keys, those that have expired but are not yet deleted included.
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
    /// Whether every write since the family began, or since the last recount, said how it changes
    /// the counts.
    pub exact: bool,
}

impl Engine {
    /// Creates a family under the next free id. It is durable on return.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is empty or longer than 255 bytes; `AlreadyExists`;
    /// `Refused` (read only); as [`Engine::flush`].
    pub fn create_cf(&self, name: &str, options: CfOptions) -> Result<CfId> {
        self.create(name, options, None)
    }

    /// Creates a family under a given id: what a replica does that is told the id by the log.
    ///
    /// # Errors
    /// As [`Engine::create_cf`]; `Refused` if the id was used before.
    pub fn create_cf_with_id(&self, id: CfId, name: &str, options: CfOptions) -> Result<()> {
        self.create(name, options, Some(id)).map(|_| ())
    }

    fn create(&self, name: &str, options: CfOptions, id: Option<CfId>) -> Result<CfId> {
        let inner = &self.inner;
        inner.check_writable()?;
        if name.is_empty() || name.len() > FAMILY_NAME_BYTES_MAX {
            return Err(Error::invalid("a family's name has 1 to 255 bytes"));
        }
        let applied = LogIndex(inner.applied_index.load(Ordering::Acquire));
        inner.sync_log(applied)?;
        let mut manifest = lock(&inner.manifest);
        let state = manifest.state();
        if state.families.values().any(|family| family.name == name) {
            let message = format!("there is a family {name} already");
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        let cf = id.unwrap_or(state.next_cf);
        if cf < state.next_cf || cf.is_system() {
            let message = format!("the family id {cf} cannot be given: ids are never reused");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        // Flushes may have raised the log's floor since: what lies below it is no longer there.
        let applied = applied.max(state.replay_from());
        let fields = vec![
            Field::NextCf(CfId(cf.0 + 1)),
            Field::CreateCf { cf, name: name.to_string(), options: options.clone() },
            Field::Flushed(cf, applied),
        ];
        inner.append(&mut manifest, Edit { fields }, &[])?;
        let tree = new_tree(inner, (cf, name.to_string()), options, applied);
        inner.change_trees(|trees| _ = trees.insert(cf, tree));
        Ok(cf)
    }

    /// Drops a family and all it holds, durably. Its files are removed when the last reader lets
    /// go of them; its id is never used again.
    ///
    /// # Errors
    /// `Refused` for the default family and the system's; `NotFound`; as [`Engine::flush`].
    pub fn drop_cf(&self, cf: CfId) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        if cf == CfId::DEFAULT || cf.is_system() {
            return Err(Error::new(ErrorKind::Refused, format!("family {cf} cannot be dropped")));
        }
        let tree = inner.tree(cf)?;
        {
            let mut manifest = lock(&inner.manifest);
            if !manifest.state().families.contains_key(&cf) {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no family {cf}")));
            }
            inner.append(&mut manifest, Edit { fields: vec![Field::DropCf(cf)] }, &[])?;
            tree.dropped.store(true, Ordering::Release);
            inner.change_trees(|trees| _ = trees.remove(&cf));
            tree.view().version.files().for_each(|(_, file)| file.set_obsolete());
        }
        inner.forget_memtables();
        inner.announce();
        Ok(())
    }

    /// Creates and drops what a batch of the log says, each once: a replay finds it done. It is
    /// durable on return. [`Engine::apply`] does so too; called before it, it keeps the wait for
    /// the disk out of whatever lock that is called under.
    ///
    /// An id that was used, or a name that is in use, is passed over: as the log is the same
    /// everywhere, so is that.
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub fn change_families(&self, batch: &BatchView<'_>) -> Result<()> {
        batch.family_changes().try_for_each(|change| match change {
            FamilyChange::Create { cf, name } => {
                let is_done = {
                    let manifest = lock(&self.inner.manifest);
                    let state = manifest.state();
                    cf < state.next_cf || state.families.values().any(|f| f.name == name)
                };
                if is_done {
                    Ok(())
                } else {
                    self.create_cf_with_id(cf, name, CfOptions::default())
                }
            }
            FamilyChange::Drop { cf } => match self.drop_cf(cf) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                done => done,
            },
        })
    }

    /// All families, by id.
    pub fn list_cfs(&self) -> Vec<CfInfo> {
        let info = |tree: &std::sync::Arc<super::tree::Tree>| CfInfo {
            id: tree.id,
            name: tree.name.clone(),
            options: tree.options.clone(),
        };
        self.inner.all_trees().iter().map(info).collect()
    }

    /// How many keys the family has, from what its writes said.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn counts(&self, cf: CfId) -> Result<CountsNow> {
        let totals = self.inner.tree(cf)?.view().counts();
        Ok(CountsNow { keys: totals.keys, expires: totals.expires, exact: totals.exact })
    }

    /// Sets the counts after a recount, durably, and flushes the family for that.
    /// REQUIRES: nothing is applied between the recount and the return of this call.
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub fn set_counts(&self, cf: CfId, keys: u64, expires: u64) -> Result<()> {
        self.flush(cf)?;
        let inner = &self.inner;
        let tree = inner.tree(cf)?;
        let mut manifest = lock(&inner.manifest);
        let fields = vec![Field::Counts { cf, keys, expires, exact: true }];
        inner.append(&mut manifest, Edit { fields }, &[])?;
        tree.update(|view| view.totals = super::tree::Totals { keys, expires, exact: true });
        Ok(())
    }
}

impl Inner {
    /// Replaces the list of trees. REQUIRES: the manifest is locked.
    fn change_trees(&self, change: impl FnOnce(&mut BTreeMap<CfId, Arc<Tree>>)) {
        let mut trees = BTreeMap::clone(&self.trees.load());
        change(&mut trees);
        self.trees.store(Arc::new(trees));
    }

    /// Counts the memory in memtables anew, after some have gone with their family.
    fn forget_memtables(&self) {
        let mut applying = self.apply.lock();
        applying.forget_all();
        self.count_memtables();
        self.refresh_pressure();
    }
}
