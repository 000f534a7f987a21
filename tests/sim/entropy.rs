//! Chance that the operating system would give, taken from a fixed source instead: the keys of hash
//! maps, and with them tokio's own seeds, which would otherwise differ from run to run.

#![expect(unsafe_code, reason = "takes the place of a function of the C library")]

use std::sync::atomic::{AtomicU64, Ordering};

static DRAWN: AtomicU64 = AtomicU64::new(0x5EED);

/// What the standard library looks up before it asks the kernel. Everything in this program is
/// simulated, so nothing in it needs chance that nobody can foresee.
///
/// # Safety
/// `buffer` points to `bytes` writable bytes, as the C library's function demands.
// SAFETY: the name and the arguments are those of the C library's function.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, bytes: usize, _flags: u32) -> isize {
    for at in 0..bytes {
        let drawn = DRAWN.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        // SAFETY: within the buffer, as the caller promises.
        unsafe { buffer.add(at).write((drawn >> 32) as u8) };
    }
    bytes as isize
}
