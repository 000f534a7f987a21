//! Links: how the programs of a cluster speak to each other.
//!
//! A link is a connection that carries calls with their answers, and messages without, many at
//! once.
//!
//! In reading order:
//! - [`frame`]: the bytes, drawn; reading them within bounds.
//! - [`hello`]: who speaks, and how a stranger is refused.
//! - [`net`]: the seam to the network: [`Net`] and [`Door`].
//! - [`dial`]: [`Link`], the end that calls; connects when there is something to say.
//! - [`table`]: [`Links`], to many nodes by their numbers.
//! - [`serve`]: the end that answers; [`listen`]: links as others open them.
//!
//! Invariants owed to the floors above:
//! - Messages of one link arrive in order, once or never; a call is executed once or never.
//! - A call that may have been executed is not reported as one that was not.
//! - A frame is bounded, and its memory taken as its bytes come.

pub mod dial;
pub mod frame;
pub mod hello;
pub mod listen;
pub mod net;
pub mod serve;
pub mod table;

pub use dial::{CallError, Link, LinkOptions};
pub use frame::Frame;
pub use hello::{Hello, Role};
pub use listen::listen;
pub use net::{Door, Net};
pub use serve::{LinkService, serve};
pub use table::Links;
