//! What a simulated node sends its private messages with: the engine's lanes or, with the defect, what they have replaced.

use std::time::Instant;

use super::defect::Defect;
use crate::engine::{Job, MessagingEngineConfig, Outbound, Outbox, RetryPolicy};
use crate::epoch::InstanceId;
use crate::network::NetworkError;

/// Senders that all peers share, with the defect.
const SHARED_SENDERS: usize = 3;

pub(super) enum Mail {
    Lanes(Outbox),
    Shared(SharedSenders),
}

/// A few senders, and one queue for all peers: what has been due for longest goes first. Peers that do not answer keep the
/// senders from all others.
pub(super) struct SharedSenders {
    policy: RetryPolicy,
    waiting: Vec<Job>,
    idle: usize,
}

impl Mail {
    pub(super) fn new(config: MessagingEngineConfig, defect: Option<Defect>) -> Self {
        let policy = config.policy();
        match defect {
            Some(Defect::SharedSenders) => {
                Mail::Shared(SharedSenders { policy, waiting: Vec::new(), idle: SHARED_SENDERS })
            }
            _ => Mail::Lanes(Outbox::new(policy)),
        }
    }

    pub(super) fn add(&mut self, outbound: Outbound, now: Instant) {
        match self {
            Mail::Lanes(outbox) => outbox.add(outbound, now),
            Mail::Shared(shared) => shared.waiting.push(Job { outbound, failures: 0, due: now }),
        }
    }

    /// Messages that wait.
    pub(super) fn len(&self) -> usize {
        match self {
            Mail::Lanes(outbox) => outbox.len(),
            Mail::Shared(shared) => shared.waiting.len(),
        }
    }

    pub(super) fn end_run(&mut self, instance: InstanceId) {
        match self {
            Mail::Lanes(outbox) => outbox.end_run(instance),
            Mail::Shared(shared) => {
                shared.waiting.retain(|job| job.outbound.message.dkg_instance_id != instance.as_str());
            }
        }
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<Job> {
        match self {
            Mail::Lanes(outbox) => outbox.take_due(now),
            Mail::Shared(shared) => shared.take_due(now),
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        match self {
            Mail::Lanes(outbox) => outbox.next_due(),
            Mail::Shared(SharedSenders { idle: 0, .. }) => None,
            Mail::Shared(shared) => shared.waiting.iter().map(|job| job.due).min(),
        }
    }

    pub(super) fn returned(&mut self, job: Job, result: Result<(), NetworkError>, now: Instant, random: u64) {
        match self {
            Mail::Lanes(outbox) => outbox.returned(job, result, now, random),
            Mail::Shared(shared) => shared.returned(job, &result, now, random),
        }
    }
}

impl SharedSenders {
    fn take_due(&mut self, now: Instant) -> Option<Job> {
        let (position, job) = self.waiting.iter().enumerate().min_by_key(|(_, job)| job.due)?;
        if self.idle == 0 || job.due > now {
            return None;
        }
        self.idle -= 1;
        Some(self.waiting.swap_remove(position))
    }

    fn returned(&mut self, mut job: Job, result: &Result<(), NetworkError>, now: Instant, random: u64) {
        self.idle += 1;
        if result.is_err() {
            job.failures += 1;
            if let Some(wait) = self.policy.wait(job.failures, random) {
                job.due = now + wait;
                self.waiting.push(job);
            }
        }
    }
}
