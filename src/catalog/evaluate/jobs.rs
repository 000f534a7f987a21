//! The job table.

use super::{Decided, Turn};
use crate::base::Error;
use crate::catalog::command::{JobChange, Outcome};
use crate::catalog::event::Event;
use crate::catalog::ids::{JobId, NodeId, ShardId};
use crate::catalog::limits::{
    ACTIVE_JOBS_MAX, FINISHED_JOBS_KEPT, LEASE_MS_MAX, OPAQUE_BYTES_MAX, TEXT_BYTES_MAX,
    check_length,
};
use crate::catalog::records::{Job, JobKind, JobState, Lease};
use crate::catalog::refusal::{Refusal, Standing};

impl Turn<'_> {
    pub(super) fn create_job(
        &mut self,
        kind: JobKind,
        shard: Option<ShardId>,
        node: Option<NodeId>,
        steps: &[u8],
    ) -> Decided {
        check_length("a job's steps", steps.len(), OPAQUE_BYTES_MAX)?;
        if (kind.needs_shard() && shard.is_none()) || (kind.needs_node() && node.is_none()) {
            let wanted = if kind.needs_shard() { "shard" } else { "node" };
            return Err(Error::invalid(format!("a job {kind} names the {wanted} it is for")).into());
        }
        shard.map(|id| self.shard(id)).transpose()?;
        node.map(|id| self.present_node(id)).transpose()?;
        let active = || self.view.jobs().filter(|job| job.state.is_active());
        let same = |job: &&Job| match shard {
            Some(_) => job.shard == shard,
            None => node.is_some() && job.shard.is_none() && job.node == node,
        };
        if let Some(first) = active().find(same) {
            let message = format!(
                "job {} ({}) concerns the same; wait for it, or cancel it",
                first.id, first.kind
            );
            return Err(Refusal::conflict(message, Standing::Job(first.clone())));
        }
        if active().count() >= ACTIVE_JOBS_MAX {
            return Err(Refusal::refused("there are too many jobs; wait until some have ended"));
        }
        let id = self.next.job;
        self.next.job = JobId(id.0 + 1);
        let (now, steps) = (self.now_ms, steps.to_vec());
        self.put(Job {
            id,
            kind,
            shard,
            node,
            steps,
            attempts: 0,
            state: JobState::Pending,
            lease: None,
            text: String::new(),
            created_ms: now,
            changed_ms: now,
        });
        Ok(Outcome::Job(id))
    }

    pub(super) fn change_job(&mut self, id: JobId, change: &JobChange) -> Decided {
        let known = self.view.job(id).ok_or_else(|| {
            Refusal::not_found(format_args!("job {id}, or it ended long ago and is forgotten"))
        })?;
        if !known.state.is_active() {
            let message = format!("job {id} is {}; it changes no more", known.state);
            return Err(Refusal::conflict(message, Standing::Job(known.clone())));
        }
        let mut job = known.clone();
        match change {
            JobChange::Claim { owner, lease_ms } => {
                let lease = self.lease(*owner, *lease_ms)?;
                let running = known.lease.filter(|held| held.until_ms > self.now_ms);
                if running.is_some_and(|held| held.owner != *owner) {
                    let message = format!("job {id} is run by another owner, whose lease runs");
                    return Err(Refusal::conflict(message, Standing::Job(known.clone())));
                }
                if known.lease.is_none_or(|held| held.owner != *owner) {
                    job.attempts = job.attempts.saturating_add(1);
                }
                job.lease = Some(lease);
                if job.state == JobState::Pending {
                    job.state = JobState::Running;
                    job.changed_ms = self.now_ms;
                }
            }
            JobChange::Advance { owner, lease_ms, steps } => {
                check_length("a job's steps", steps.len(), OPAQUE_BYTES_MAX)?;
                let lease = self.lease(*owner, *lease_ms)?;
                must_own(known, *owner)?;
                job.lease = Some(lease);
                job.steps = steps.clone();
            }
            JobChange::Finish { owner, done, text } => {
                must_own(known, *owner)?;
                let state = if *done { JobState::Done } else { JobState::Failed };
                self.end(&mut job, state, text)?;
            }
            JobChange::Cancel { text } => self.end(&mut job, JobState::Cancelled, text)?,
        }
        if job != *known {
            self.put(job);
        }
        Ok(Outcome::Job(id))
    }

    fn lease(&self, owner: u64, lease_ms: u64) -> Decided<Lease> {
        if lease_ms == 0 || lease_ms > LEASE_MS_MAX {
            let message = format!("a lease is from 1 to {LEASE_MS_MAX} milliseconds");
            return Err(Error::invalid(message).into());
        }
        Ok(Lease { owner, until_ms: self.now_ms.saturating_add(lease_ms) })
    }

    fn end(&mut self, job: &mut Job, state: JobState, text: &str) -> Decided<()> {
        check_length("a job's text", text.len(), TEXT_BYTES_MAX)?;
        (job.state, job.lease, job.changed_ms) = (state, None, self.now_ms);
        job.text = text.to_string();
        let ended = || self.view.jobs().filter(|job| !job.state.is_active());
        if ended().count() >= FINISHED_JOBS_KEPT
            && let Some(oldest) = ended().min_by_key(|job| (job.changed_ms, job.id))
        {
            let id = oldest.id;
            self.events.push(Event::JobChanged { id, value: None });
        }
        Ok(())
    }

    fn put(&mut self, job: Job) {
        self.events.push(Event::JobChanged { id: job.id, value: Some(Box::new(job)) });
    }
}

/// `owner` was the last to claim the job.
fn must_own(job: &Job, owner: u64) -> Decided<()> {
    if job.lease.is_none_or(|lease| lease.owner != owner) {
        let message = format!("job {} is run by another owner; leave it", job.id);
        return Err(Refusal::conflict(message, Standing::Job(job.clone())));
    }
    Ok(())
}
