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

/// Numbers are below this: a gateway puts more into the cursors it gives.
const NUMBERS: u64 = 1 << 31;

/// Cursors handed out.
pub(crate) struct Cursors(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u64,
    keys: HashMap<u64, Bytes>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cursors {
    /// None handed out; the first has the number behind `last`.
    pub(crate) fn behind(last: u64) -> Cursors {
        Cursors(Mutex::new(Table { last: last % NUMBERS, ..Table::default() }))
    }

    /// Keeps `key` under a new number.
    pub(crate) fn save(&self, key: Bytes) -> u64 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // 0 is where a scan begins and ends.
        table.last = (table.last + 1) % NUMBERS;
        table.last = table.last.max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_from_where_they_were_told_and_leave_out_0() {
        let cursors = Cursors::behind(0);
        assert_eq!((cursors.save("a".into()), cursors.save("b".into())), (1, 2));
        let cursors = Cursors::behind(5 * NUMBERS + NUMBERS - 2);
        assert_eq!(cursors.save("a".into()), NUMBERS - 1);
        assert_eq!(cursors.save("b".into()), 1);
        assert_eq!(cursors.load(NUMBERS - 1), Some("a".into()));
        assert_eq!(cursors.load(2), None);
    }
}
