//! Floor 1: the outside world, real and simulated: files, clocks, randomness, threads.
//!
//! In reading order:
//! - [`disk`]: [`Disk`] and [`File`], the seam between the engine and storage, with the promises
//!   an implementation makes about durability.
//! - [`real_disk`]: files of the operating system; what differs between Linux and macOS stands here.
//! - `mapped`: log segments written by copying into a shared mapping, and why that is safe.
//! - [`sim_disk`]: a disk in memory that can lose unsynced data, tear writes, fill up and fail.
//! - [`clock`]: [`Clock`], real and simulated.
//! - [`rng`]: seeded randomness; [`rng::entropy`] for a seed.
//! - [`process`]: what the operating system says of this process and of itself.
//! - [`mod@prefetch`]: hints about memory.
//! - `prompt`: being woken at once.
//! - `write_back`: asking the kernel to begin writing a part of a file.
//! - [`chunk`]: memory in huge pages.
//! - [`spin`]: a lock for where nobody else is.
//! - [`pool`]: a bounded pool of named threads, or a queue that a test turns by hand; [`Workers`],
//!   the choice between them.
//!
//! Invariants owed to the floors above:
//! - Nothing above this floor names `std::fs`, `std::time::SystemTime` or `Instant::now`.
//! - What [`SimDisk`] keeps after a crash is never more than a real disk might lose, nor less
//!   than it promises to keep.

pub mod chunk;
pub mod clock;
pub mod disk;
mod mapped;
pub mod pool;
pub mod prefetch;
pub mod process;
#[cfg(target_os = "linux")]
mod prompt;
pub mod real_disk;
pub mod rng;
pub mod sim_disk;
pub mod spin;
#[cfg(target_os = "linux")]
mod write_back;

pub use chunk::Chunk;
pub use clock::{Clock, RealClock, SimClock};
pub use disk::{Appending, DirEntry, Disk, File, FileLock};
pub use pool::{Pool, Workers};
pub use prefetch::{prefetch_for_read, prefetch_for_write};
pub use real_disk::RealDisk;
pub use rng::Rng;
pub use sim_disk::SimDisk;
pub use spin::{Spin, SpinGuard};

/// Has this thread be run soon after it is woken, also where others compute: for one that waits for
/// the disk or for messages most of the time. A hint, and none on systems that know nothing of it.
pub fn wake_promptly() {
    #[cfg(target_os = "linux")]
    prompt::wake_promptly();
}
