//! Pieces of requests and answers as bytes, for what keeps them and for what sends them.
//!
//! In reading order:
//! - [`cut`]: reading within bounds, without copies.
//! - `names`: names that the program holds for good, from bytes.
//! - [`reply`]: a Redis reply.
//! - [`txn`]: what transactions over several shards lock and write.
//! - [`vector`]: how an index of vectors is made.
//!
//! Integers are varints unless named otherwise, byte strings stand behind their length. A kind that
//! is not known is `Unsupported`: a newer version wrote it.

pub mod cut;
pub(crate) mod names;
pub mod reply;
pub mod txn;
pub mod vector;

pub use cut::Cut;
pub use reply::{put_reply, read_reply};
