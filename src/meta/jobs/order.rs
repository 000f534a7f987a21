//! Orders: what a job is to do, as its steps hold it.
//!
//! ```text
//! order: [version u8 = 1][kind u8] fields, parent job (0: none); numbers are varints
//!        1 leader:  replica
//!        2 replica: replica that goes (0: none), node that gets one (0: none)
//!        3 many:    moves made for it so far
//! ```

use crate::base::codec::{Reader, put_varint};
use crate::base::{Error, Result};
use crate::catalog::plan::Move;
use crate::catalog::records::Job;
use crate::catalog::{JobId, NodeId, ReplicaId, ShardId};

const VERSION: u8 = 1;

/// What a job is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Another replica leads.
    Leader {
        /// The one that shall.
        to: ReplicaId,
    },
    /// See [`Move::Replica`].
    Replica {
        /// The replica that goes.
        from: Option<ReplicaId>,
        /// The node that gets one.
        to: Option<NodeId>,
    },
    /// Plans moves, each a job of its own, until there is nothing more to do.
    Many {
        /// Moves made so far.
        made: u64,
    },
}

/// A job's task, and the job it is done for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub task: Task,
    /// The job that made this one.
    pub parent: Option<JobId>,
}

impl Order {
    /// The order for a move.
    pub fn of_move(made: &Move, parent: Option<JobId>) -> Order {
        let task = match *made {
            Move::Leader { to, .. } => Task::Leader { to },
            Move::Replica { from, to, .. } => Task::Replica { from, to },
        };
        Order { task, parent }
    }

    /// The order to plan until nothing is to be done.
    pub fn many(made: u64) -> Order {
        Order { task: Task::Many { made }, parent: None }
    }

    /// The move of `shard` that is ordered; `None` if many are.
    pub fn step_of(&self, shard: ShardId) -> Option<Move> {
        match self.task {
            Task::Leader { to } => Some(Move::Leader { shard, to }),
            Task::Replica { from, to } => Some(Move::Replica { shard, from, to }),
            Task::Many { .. } => None,
        }
    }

    /// As a job's steps.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self.task {
            Task::Leader { to } => {
                out.push(1);
                put_varint(&mut out, to.0);
            }
            Task::Replica { from, to } => {
                out.push(2);
                put_varint(&mut out, from.map_or(0, |from| from.0));
                put_varint(&mut out, to.map_or(0, |to| to.0));
            }
            Task::Many { made } => {
                out.push(3);
                put_varint(&mut out, made);
            }
        }
        put_varint(&mut out, self.parent.map_or(0, |parent| parent.0));
        out
    }

    /// The order of a job.
    ///
    /// # Errors
    /// `InvalidArgument` if its steps are none of this version.
    pub fn of(job: &Job) -> Result<Order> {
        Order::decode(&job.steps).ok_or_else(|| {
            Error::invalid(format!("what job {} is to do is not understood", job.id))
        })
    }

    fn decode(bytes: &[u8]) -> Option<Order> {
        let (version, rest) = bytes.split_first()?;
        let (kind, rest) = rest.split_first()?;
        if *version != VERSION {
            return None;
        }
        let mut numbers = Reader::new(rest);
        let mut next = || numbers.varint();
        let task = match kind {
            1 => Task::Leader { to: ReplicaId(next()?) },
            2 => {
                let from = Some(next()?).filter(|from| *from != 0).map(ReplicaId);
                let to = Some(next()?).filter(|to| *to != 0).map(NodeId);
                Task::Replica { from, to }
            }
            3 => Task::Many { made: next()? },
            _ => return None,
        };
        let parent = Some(next()?).filter(|parent| *parent != 0).map(JobId);
        numbers.is_empty().then_some(Order { task, parent })
    }
}
