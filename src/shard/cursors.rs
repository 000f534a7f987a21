//! Where SCANs stand: a number stands for the key a scan goes on from.
//!
//! A Redis cursor is a number below 2^64 that any connection may bring back. The last
//! [`CURSORS_MAX`] keys handed out are kept, and at most [`BYTES_MAX`] of them; a cursor older
//! than that is refused as unknown, and the client begins its scan again.

use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

const CURSORS_MAX: usize = 65_536;
const BYTES_MAX: usize = 16 << 20;

/// Cursors handed out.
#[derive(Default)]
pub(crate) struct Cursors(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u64,
    keys: HashMap<u64, Bytes>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cursors {
    /// Keeps `key` under a new number.
    pub(crate) fn save(&self, key: Bytes) -> u64 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.last += 1;
        let number = table.last;
        table.bytes += key.len();
        // A key of its own: the one given may be a slice of something large.
        table.keys.insert(number, Bytes::copy_from_slice(&key));
        table.order.push_back(number);
        while table.order.len() > CURSORS_MAX || table.bytes > BYTES_MAX {
            let Some(oldest) = table.order.pop_front() else { break };
            table.bytes -= table.keys.remove(&oldest).map_or(0, |key| key.len());
        }
        number
    }

    /// The key kept under `number`.
    pub(crate) fn load(&self, number: u64) -> Option<Bytes> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.keys.get(&number).cloned()
    }
}
