//! Requests and answers of [`op`](crate::op) as bytes between the programs of a cluster.
//!
//! In reading order:
//! - [`request`], [`response`]: each both ways; their formats are drawn there. What is kept as well
//!   as sent is below, in [`wire`](crate::op::wire).
//! - [`txn`]: those of transactions over several shards.
//! - `vector`: those about vectors.
//! - [`error`]: an [`Error`](crate::base::Error) that has travelled.
//!
//! Integers are varints unless named otherwise, byte strings stand behind their length. A kind that
//! is not known is `Unsupported`: a newer version sent it. What is read keeps the bounds of `op`, so
//! that nothing is allocated for a length that the bytes do not bear out.

pub mod error;
pub mod request;
pub mod response;
pub mod txn;
mod vector;

pub use crate::op::wire::Cut;
pub use error::{put_error, read_error};
pub use request::{put_request, read_request};
pub use response::{put_response, read_response};
