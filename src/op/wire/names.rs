//! Names that `op` holds as `&'static str`, from the wire: each is kept once, for good, and few are.

use crate::base::{Error, Result};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// All names a program of this version or a near one says: statuses, types, figures.
const NAMES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 64;

static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);

/// The name, held for good.
///
/// # Errors
/// `InvalidArgument` if it is too long, or too many others have come before.
pub(crate) fn interned(name: &str) -> Result<&'static str> {
    if name == "OK" {
        return Ok("OK");
    }
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_with(HashSet::new);
    if let Some(known) = names.get(name) {
        return Ok(known);
    }
    if name.len() > NAME_BYTES_MAX || names.len() >= NAMES_MAX {
        return Err(Error::invalid("another program of the cluster said too long or many a name"));
    }
    let kept: &'static str = Box::leak(name.to_string().into_boxed_str());
    names.insert(kept);
    Ok(kept)
}
