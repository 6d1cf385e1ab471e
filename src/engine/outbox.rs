//! What waits to be sent to peers, and when: the dispatcher's decisions, without its thread. Pure.

use std::time::Instant;

use super::mail::{Job, Outbound};
use super::retry::RetryPolicy;
use crate::epoch::InstanceId;
use crate::network::NetworkError;

/// Messages that wait to be sent at most.
pub const OUTBOUND_LIMIT: usize = 2048;

/// Private messages on their way out, each with its next try.
pub(crate) struct Outbox {
    policy: RetryPolicy,
    waiting: Vec<Job>,
    /// Runs whose messages are of no use any more. Only the last: older ones have none left.
    ended: Option<InstanceId>,
}

impl Outbox {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Outbox { policy, waiting: Vec::new(), ended: None }
    }

    pub(crate) fn add(&mut self, outbound: Outbound, now: Instant) {
        if self.waiting.len() >= OUTBOUND_LIMIT {
            log::error!("{} messages wait to be sent; the one to {} is dropped", OUTBOUND_LIMIT, outbound.to);
            return;
        }
        self.waiting.push(Job { outbound, failures: 0, due: now });
    }

    /// Messages that wait.
    #[cfg(feature = "simulator")]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The messages of this run are of no use any more.
    pub(crate) fn end_run(&mut self, instance: InstanceId) {
        self.waiting.retain(|job| job.outbound.message.dkg_instance_id != instance.as_str());
        self.ended = Some(instance);
    }

    /// The message that has waited longest, if it is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Job> {
        let (position, job) = self.waiting.iter().enumerate().min_by_key(|(_, job)| job.due)?;
        if job.due > now { None } else { Some(self.waiting.swap_remove(position)) }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.iter().map(|job| job.due).min()
    }

    /// A try has failed; `random` spreads the next.
    pub(crate) fn failed(&mut self, mut job: Job, error: &NetworkError, now: Instant, random: u64) {
        let instance = &job.outbound.message.dkg_instance_id;
        if self.ended.as_ref().is_some_and(|ended| ended.as_str() == instance) {
            return;
        }
        job.failures += 1;
        match self.policy.retry_at(job.failures, now, random) {
            Some(due) => {
                log::debug!("{instance}: message to {} not delivered ({error}); trying again", job.outbound.to);
                job.due = due;
                self.waiting.push(job);
            }
            None => log::error!(
                "{instance}: message to {} given up after {} tries: {error}; if it was a share, its receiver will complain",
                job.outbound.to,
                job.failures
            ),
        }
    }
}
