//! Vector indexes against exact search: random histories, filters, churn, recall on real
//! embeddings, damaged bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bounds;
mod churn;
mod data;
mod disk;
mod filters;
mod flat;
mod large;
mod model;
mod oracle;
mod quantised;
mod recall;
mod refusals;
mod spfresh;
mod stored;
