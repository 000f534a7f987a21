//! Every setting, declared once.
//!
//! In reading order: [`roles`] (a section for each server), [`shared`] (sections that several read).
//!
//! A declaration gives the field that code reads, its type, its kind with the bounds, and its
//! default as it would be written. Nothing else lists settings: flags, variables, the sample file
//! and `arqon config` are made from this.

pub mod roles;
pub mod shared;

use crate::cli::settings::{Role, Section, Setting};
use roles::{Dev, Gateway, Meta, Node};
use shared::{Cluster, Raft, Redis, Server, Storage};

/// Every section, in the order of the sample.
pub static SECTIONS: [Section; 9] = [
    Meta::SECTION,
    Node::SECTION,
    Gateway::SECTION,
    Dev::SECTION,
    Storage::SECTION,
    Raft::SECTION,
    Cluster::SECTION,
    Redis::SECTION,
    Server::SECTION,
];

/// Every setting.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// The settings that a role reads; all of them without one.
pub fn of_role(role: Option<Role>) -> impl Iterator<Item = &'static Setting> + Clone {
    all().filter(move |setting| role.is_none_or(|role| setting.is_for(role)))
}

/// The setting of a key.
pub fn find(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests;
