//! Hints about memory that is read or written to next.

#![expect(unsafe_code, reason = "an intrinsic without preconditions")]

/// Has the processor fetch, to be written to, the cache lines of `bytes` bytes at `at`, a few of
/// them at most. Only a hint: `at` may be any address.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn prefetch_for_write(at: *const u8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
    const LINE_BYTES: usize = 64;
    const LINES_MAX: usize = 4;
    for line in 0..bytes.div_ceil(LINE_BYTES).min(LINES_MAX) {
        let at = at.wrapping_add(line * LINE_BYTES).cast();
        // SAFETY: a hint: nothing is read or written, and no address makes it fault.
        unsafe {
            _mm_prefetch::<_MM_HINT_ET0>(at);
        }
    }
}

/// Has the processor fetch, to be read, the cache lines of `bytes` bytes at `at`, some of them at
/// most. Only a hint: `at` may be any address.
#[inline]
pub fn prefetch_for_read(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE_BYTES: usize = 64;
        const LINES_MAX: usize = 16;
        for line in 0..bytes.div_ceil(LINE_BYTES).min(LINES_MAX) {
            let at = at.wrapping_add(line * LINE_BYTES).cast();
            // SAFETY: a hint: nothing is read, and no address makes it fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

/// Other processors are not told.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn prefetch_for_write(_at: *const u8, _bytes: usize) {}
