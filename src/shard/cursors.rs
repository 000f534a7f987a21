//! Where SCANs stand: a number stands for the key a scan goes on from.
//!
//! A Redis cursor is a number below 2^64 that any connection may bring back. The last
//! [`CURSORS_MAX`] keys handed out are kept; one older than that is refused as unknown, and the
//! client begins its scan again.

use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

const CURSORS_MAX: usize = 65_536;

/// Cursors handed out.
#[derive(Default)]
pub(crate) struct Cursors(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u64,
    keys: HashMap<u64, Bytes>,
    order: VecDeque<u64>,
}

impl Cursors {
    /// Keeps `key` under a new number.
    pub(crate) fn save(&self, key: Bytes) -> u64 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.last += 1;
        let number = table.last;
        table.keys.insert(number, key);
        table.order.push_back(number);
        if table.order.len() > CURSORS_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.keys.remove(&oldest);
        }
        number
    }

    /// The key kept under `number`.
    pub(crate) fn load(&self, number: u64) -> Option<Bytes> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.keys.get(&number).cloned()
    }
}
