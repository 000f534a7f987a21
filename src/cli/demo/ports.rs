//! Ports for processes that are started a moment later.

use crate::base::{Error, Result};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where ports are looked for. Systems give higher ones to whoever connects (from 32768 on Linux,
/// 49152 elsewhere); such a connection could take a port before its process listens, or while that
/// is killed and started again.
const RANGE: Range<u16> = 18_000..32_000;
/// Ports by which two processes begin apart for each number between theirs.
const APART: u32 = 32;

/// `n` ports of this machine that nobody listens on, all different. Programs that look at the same
/// moment begin at different places, and each call goes on where the last ended. Another program may
/// take one before it is used; then its user says so.
///
/// # Errors
/// `Io` if ports are not to be had.
pub fn free_ports(n: usize) -> Result<Vec<u16>> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let failed = |e| Error::io("find a free port on", "127.0.0.1", e);
    let span = u32::from(RANGE.end - RANGE.start);
    let begin = std::process::id().wrapping_mul(APART) % span;
    let mut found = BTreeMap::new();
    for _ in 0..span {
        if found.len() == n {
            break;
        }
        let offset = (begin + TRIED.fetch_add(1, Ordering::Relaxed) % span) % span;
        let port = RANGE.start + offset as u16;
        // Those found are held meanwhile, so none is found twice.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            found.insert(port, listener);
        }
    }
    while found.len() < n {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        found.insert(listener.local_addr().map_err(failed)?.port(), listener);
    }
    Ok(found.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_free_and_below_those_of_connections() {
        let ports = free_ports(20).unwrap();
        let held: Vec<_> =
            ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).unwrap()).collect();
        assert_eq!(held.len(), 20);
        assert!(ports.iter().all(|port| RANGE.contains(port)), "{ports:?}");
    }
}
