//! What has a name: column families, indexes, users.

use super::{Decided, Turn};
use crate::base::{CfId, ErrorKind};
use crate::catalog::command::Outcome;
use crate::catalog::event::Event;
use crate::catalog::ids::{IndexId, NodeId};
use crate::catalog::limits::{
    FAMILIES_MAX, INDEXES_MAX, OPAQUE_BYTES_MAX, USERS_MAX, VERIFIER_BYTES_MAX, check_length,
    check_name,
};
use crate::catalog::records::{Family, Index, User, UserRole};
use crate::catalog::refusal::Refusal;

impl Turn<'_> {
    pub(super) fn create_family(&mut self, name: &str) -> Decided {
        check_name("a column family", name)?;
        must_be_new("column family", name, self.view.family(name).is_some())?;
        must_have_room("column families", self.view.families.len(), FAMILIES_MAX)?;
        let id = self.next.family;
        if id >= CfId::SYSTEM_FIRST {
            return Err(Refusal::refused("all ids of column families were used"));
        }
        self.next.family = CfId(id.0 + 1);
        let value = Some(Family { id, name: name.to_string() });
        self.events.push(Event::CfChanged { name: name.to_string(), value });
        Ok(Outcome::Family(id))
    }

    pub(super) fn drop_family(&mut self, name: &str) -> Decided {
        let family = self.view.family(name);
        let family = family.ok_or_else(|| no_such("column family", name))?;
        if family.id == CfId::DEFAULT {
            return Err(Refusal::refused("the column family `default` always stays"));
        }
        self.events.push(Event::CfChanged { name: name.to_string(), value: None });
        Ok(Outcome::Done)
    }

    pub(super) fn create_index(
        &mut self,
        name: &str,
        kind: &str,
        config: &[u8],
        nodes: &[NodeId],
    ) -> Decided {
        check_name("an index", name)?;
        check_name("an index's kind", kind)?;
        check_length("an index's configuration", config.len(), OPAQUE_BYTES_MAX)?;
        must_be_new("index", name, self.view.index(name).is_some())?;
        must_have_room("indexes", self.view.indexes.len(), INDEXES_MAX)?;
        let nodes = self.hosts(nodes)?;
        let id = self.next.index;
        self.next.index = IndexId(id.0 + 1);
        let (name, kind, config) = (name.to_string(), kind.to_string(), config.to_vec());
        let value = Some(Index { id, name: name.clone(), kind, config, nodes });
        self.events.push(Event::IndexChanged { name, value });
        Ok(Outcome::Index(id))
    }

    pub(super) fn set_index_nodes(&mut self, name: &str, nodes: &[NodeId]) -> Decided {
        let known = self.view.index(name).ok_or_else(|| no_such("index", name))?;
        let index = Index { nodes: self.hosts(nodes)?, ..known.clone() };
        if index != *known {
            self.events.push(Event::IndexChanged { name: name.to_string(), value: Some(index) });
        }
        Ok(Outcome::Done)
    }

    pub(super) fn drop_index(&mut self, name: &str) -> Decided {
        let id = self.view.index(name).ok_or_else(|| no_such("index", name))?.id;
        self.events.push(Event::IndexChanged { name: name.to_string(), value: None });
        Ok(Outcome::Index(id))
    }

    fn hosts(&self, nodes: &[NodeId]) -> Decided<Vec<NodeId>> {
        let mut hosts = nodes.to_vec();
        hosts.sort();
        hosts.dedup();
        hosts.iter().try_for_each(|id| self.present_node(*id).map(|_| ()))?;
        Ok(hosts)
    }

    pub(super) fn create_user(&mut self, name: &str, role: UserRole, verifier: &[u8]) -> Decided {
        check_name("a user", name)?;
        check_length("a password's verifier", verifier.len(), VERIFIER_BYTES_MAX)?;
        must_be_new("user", name, self.view.user(name).is_some())?;
        must_have_room("users", self.view.users.len(), USERS_MAX)?;
        let (name, verifier) = (name.to_string(), verifier.to_vec());
        let value = Some(User { name: name.clone(), role, verifier, disabled: false });
        self.events.push(Event::UserChanged { name, value });
        Ok(Outcome::Done)
    }

    pub(super) fn change_user(
        &mut self,
        name: &str,
        role: Option<UserRole>,
        verifier: Option<&[u8]>,
        disabled: Option<bool>,
    ) -> Decided {
        let known = self.view.user(name).ok_or_else(|| no_such("user", name))?;
        let mut user = known.clone();
        user.role = role.unwrap_or(user.role);
        user.disabled = disabled.unwrap_or(user.disabled);
        if let Some(verifier) = verifier {
            check_length("a password's verifier", verifier.len(), VERIFIER_BYTES_MAX)?;
            user.verifier = verifier.to_vec();
        }
        if !governs(&user) {
            self.must_leave_an_admin(known)?;
        }
        if user != *known {
            self.events.push(Event::UserChanged { name: name.to_string(), value: Some(user) });
        }
        Ok(Outcome::Done)
    }

    pub(super) fn drop_user(&mut self, name: &str) -> Decided {
        let known = self.view.user(name).ok_or_else(|| no_such("user", name))?;
        self.must_leave_an_admin(known)?;
        self.events.push(Event::UserChanged { name: name.to_string(), value: None });
        Ok(Outcome::Done)
    }

    /// `user` is about to govern no longer: another must, if this one does.
    fn must_leave_an_admin(&self, user: &User) -> Decided<()> {
        let mut others = self.view.users().filter(|u| u.name != user.name);
        if governs(user) && !others.any(governs) {
            let message = format!("{} is the only admin; make another first", user.name);
            return Err(Refusal::refused(message));
        }
        Ok(())
    }
}

fn governs(user: &User) -> bool {
    user.role == UserRole::Admin && !user.disabled
}

fn must_be_new(what: &str, name: &str, exists: bool) -> Decided<()> {
    if exists {
        let message = format!("the {what} {name} exists; choose another name, or drop it first");
        return Err(Refusal::new(ErrorKind::AlreadyExists, message));
    }
    Ok(())
}

fn must_have_room(what: &str, held: usize, max: usize) -> Decided<()> {
    if held >= max {
        return Err(Refusal::refused(format!("there are {held} {what}; drop one first")));
    }
    Ok(())
}

/// What the name is said in is bounded, whatever was asked for.
fn no_such(what: &str, name: &str) -> Refusal {
    let short: String = name.chars().take(64).collect();
    Refusal::not_found(format_args!("{what} named {short:?}"))
}
