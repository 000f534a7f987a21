//! Being woken at once. Linux alone has a call for it.
//!
//! A thread that waits for the disk most of the time wants the processor for some microseconds when
//! the disk is done. The kernel gives it one at once if it is idle; if not, whoever runs there goes
//! on until the next tick of its clock, up to 4 ms later: many times what a sync takes. A thread that
//! asks for shorter turns than others (Linux 6.12: the slice of its fair scheduler, "EEVDF") is put
//! before them when it wakes, and costs them nothing beside: its share of the processor stays the
//! same.

#![expect(unsafe_code, reason = "two system calls that no wrapper of ours knows")]

/// Turns of the processor that a thread asks for, in nanoseconds. The least that the kernel takes.
const SLICE_NS: u64 = 100_000;

/// The kernel's `struct sched_attr` as far as it is of use here: its first version.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Of a thread under the fair scheduler: its slice.
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SIZE: u32 = size_of::<Attributes>() as u32;

/// Has this thread be run soon after it is woken. A hint: an older kernel or a sandbox knows
/// nothing of it, and then it goes without.
pub(super) fn wake_promptly() {
    if let Some(mut attributes) = attributes() {
        attributes.runtime = SLICE_NS;
        // SAFETY: the memory that is passed lives through the call, and is as long as it says.
        _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}

/// What the kernel says of this thread; none if it is not run by the fair scheduler.
fn attributes() -> Option<Attributes> {
    let mut attributes = Attributes::default();
    let into = &raw mut attributes;
    // SAFETY: as above; the kernel writes no more than the size that it is given.
    let failed = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, into, SIZE, 0) } != 0;
    attributes.size = SIZE;
    let is_fair = attributes.policy == libc::SCHED_OTHER as u32;
    (!failed && is_fair).then_some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_asks_for_short_turns_and_keeps_its_priority() {
        let ask = || {
            let Some(before) = attributes() else { return };
            wake_promptly();
            let after = attributes().unwrap();
            assert_eq!((after.policy, after.nice), (before.policy, before.nice));
            // A kernel before 6.12 tells of no slice.
            assert!(after.runtime == SLICE_NS || before.runtime == 0, "{after:?}");
        };
        std::thread::spawn(ask).join().unwrap();
    }
}
