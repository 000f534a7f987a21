//! Requests and answers of [`op`](crate::op) as bytes between the programs of a cluster.
//!
//! In reading order:
//! - `cut`: reading within bounds, without copies.
//! - [`request`], [`reply`], [`response`]: each both ways; their formats are drawn there.
//! - [`error`]: an [`Error`](crate::base::Error) that has travelled.
//! - `names`: names that the program holds for good, from the wire.
//!
//! Integers are varints unless named otherwise, byte strings stand behind their length. A kind that
//! is not known is `Unsupported`: a newer version sent it. What is read keeps the bounds of `op`, so
//! that nothing is allocated for a length that the bytes do not bear out.

mod cut;
pub mod error;
mod names;
pub mod reply;
pub mod request;
pub mod response;

pub use cut::Cut;
pub use error::{put_error, read_error};
pub use request::{put_request, read_request};
pub use response::{put_response, read_response};
