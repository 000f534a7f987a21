//! Hints about memory that is read or written to next.

#![expect(unsafe_code, reason = "an instruction without preconditions")]

const LINE_BYTES: usize = 64;

/// Has the processor fetch, to be written to, the cache lines of `bytes` bytes at `at`, a few of
/// them at most. Only a hint: `at` may be any address.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn prefetch_for_write(at: *const u8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
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
    const LINES_MAX: usize = 16;
    for line in 0..bytes.div_ceil(LINE_BYTES).min(LINES_MAX) {
        let at = at.wrapping_add(line * LINE_BYTES);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint: nothing is read, and no address makes it fault.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = at;
    }
}

/// Other processors are not told.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn prefetch_for_write(_at: *const u8, _bytes: usize) {}
