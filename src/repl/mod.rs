//! Floor 10: the prompt.

pub mod client;
