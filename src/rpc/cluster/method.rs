//! The numbers of the calls. They stay; new calls take new ones.

/// To a metadata node: a catalog command, whose time is set there. Answer: that of the catalog.
pub const PROPOSE: u16 = 1;
/// The same, passed on by a metadata node that does not lead: it is passed on once.
pub const PROPOSE_PASSED_ON: u16 = 2;
/// To a metadata node: the changes behind a revision, waited for. See [`super::meta`].
pub const FOLLOW: u16 = 3;
/// To a metadata node: what a node says of the shards it leads. See [`super::report`].
pub const REPORT: u16 = 4;
/// To a metadata node: all that was reported. See [`super::report`].
pub const REPORTS: u16 = 5;
/// Between metadata nodes: whether they speak with each other, which the greeting says, and whom each
/// knows. Answer: whether the group has begun there (u8), and whom it knows.
pub const MEET: u16 = 6;
/// To a metadata node: one that lost its folder, by its number and its new folder's incarnation (u64 LE
/// each), asks to be taken in. Answer: the replica it will be (u64 LE).
pub const READMIT: u16 = 7;
/// To a data node: requests for a shard. See [`super::shard_call`].
pub const SHARD: u16 = 16;
/// To a data node: hands the lead of a shard (u64 LE) to a replica (u64 LE).
pub const TRANSFER: u16 = 17;
/// To a data node that leads a shard: makes a copy of it and holds it. See [`super::copy_call`].
pub const COPY_BEGIN: u16 = 18;
/// To the node that holds a copy: the sum of one of its files.
pub const COPY_SUM: u16 = 19;
/// To the node that holds a copy: a part of one of its files.
pub const COPY_READ: u16 = 20;
/// To the node that holds a copy: lets it go.
pub const COPY_END: u16 = 21;
