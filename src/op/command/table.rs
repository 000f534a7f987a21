//! The commands, in alphabetical order.

use super::Spec;

/// Every command, by name.
pub static COMMANDS: &[Spec] = &[];
