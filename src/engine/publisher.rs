//! What is put on the whiteboard next, through which client, when a try is made again and when it is given up: the
//! publisher's decisions, without its thread. Pure.

use std::collections::VecDeque;
use std::time::Instant;

use super::mail::PublisherInput;
use super::retry::{Failover, RetryPolicy, WhiteboardConfig};
use crate::chain::{ClientError, DkgResult};
use crate::epoch::InstanceId;

/// Posts and submissions that wait at most: a member of the largest committee makes at most one vector, 253 complaints and
/// 126 answers in a run.
pub const POST_LIMIT: usize = 1024;

/// Something to put on the board.
pub(crate) enum Publication {
    Post(String),
    Submission(DkgResult),
}

/// What waits to be posted, in the order in which it was made, and the choice of client.
pub(crate) struct Publisher {
    config: WhiteboardConfig,
    clients: Failover,
    waiting: VecDeque<(InstanceId, Publication)>,
    /// Tries of the first in vain.
    failures: u32,
    /// Those of them since somebody last got through to the board.
    in_a_row: u32,
    failing_since: Option<Instant>,
    tried_at: Option<Instant>,
    due: Option<Instant>,
}

impl Publisher {
    pub(crate) fn new(clients: usize, config: WhiteboardConfig) -> Self {
        Publisher {
            config,
            clients: Failover::new(clients),
            waiting: VecDeque::new(),
            failures: 0,
            in_a_row: 0,
            failing_since: None,
            tried_at: None,
            due: None,
        }
    }

    pub(crate) fn take(&mut self, input: PublisherInput) {
        match input {
            PublisherInput::Post { instance, content } => self.add(instance, Publication::Post(content)),
            PublisherInput::Submit { instance, result } => self.add(instance, Publication::Submission(result)),
            PublisherInput::EndRun(instance) => self.end_run(&instance),
        }
    }

    /// Posts and submissions that wait.
    #[cfg(feature = "simulator")]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn add(&mut self, instance: InstanceId, publication: Publication) {
        // What an earlier run has left here can be of no use any more, and must not hold up this one.
        let before = self.waiting.len();
        self.waiting.retain(|(earlier, _)| *earlier == instance);
        if self.waiting.len() != before {
            self.next();
        }
        if self.waiting.len() >= POST_LIMIT {
            log::error!("{instance}: {POST_LIMIT} posts wait for the whiteboard; one more is dropped");
        } else {
            self.waiting.push_back((instance, publication));
        }
    }

    /// Posts of a run that has ended are of no use; its result is.
    fn end_run(&mut self, instance: &InstanceId) {
        let before = self.waiting.len();
        self.waiting.retain(|(other, what)| other != instance || matches!(what, Publication::Submission(_)));
        if self.waiting.len() != before {
            self.next();
        }
    }

    /// When to try next; `None` if there is nothing to post.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.waiting.front().map(|_| self.due.unwrap_or(now))
    }

    /// What to put on the board now, through which client, and the run it belongs to.
    pub(crate) fn due(&self, now: Instant) -> Option<(usize, &InstanceId, &Publication)> {
        let (instance, publication) = self.waiting.front().filter(|_| self.due.is_none_or(|due| due <= now))?;
        Some((self.clients.current(), instance, publication))
    }

    fn next(&mut self) {
        (self.failures, self.in_a_row) = (0, 0);
        (self.failing_since, self.tried_at, self.due) = (None, None, None);
    }

    /// Somebody has got through to the board, or has heard of it: what waits is tried again no later than a first wait after
    /// its last try.
    pub(crate) fn way_is_free(&mut self) {
        self.in_a_row = 0;
        if let (Some(due), Some(tried_at)) = (self.due, self.tried_at) {
            self.due = Some(due.min(tried_at + self.config.base_wait));
        }
    }

    /// Takes note of what came of a try; `random` spreads the next.
    pub(crate) fn tried(&mut self, result: Result<(), ClientError>, now: Instant, random: u64) {
        let given_up = match result {
            Ok(()) => {
                self.clients.succeeded();
                None
            }
            Err(ClientError::Refused(reason)) => {
                self.clients.succeeded();
                Some(format!("the whiteboard refused: {reason}"))
            }
            Err(ClientError::Unavailable(reason)) => {
                self.clients.failed();
                self.failures = self.failures.saturating_add(1);
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.tried_at = Some(now);
                let policy = self.config.post_policy();
                let failing_for = now.saturating_duration_since(*self.failing_since.get_or_insert(now));
                // Where the waits begin anew again and again there are more tries, and no less time.
                let used_up = policy.wait(self.failures, random).is_none() && failing_for >= self.config.patience();
                let policy = RetryPolicy { retries: None, ..policy };
                self.due = if used_up { None } else { policy.retry_at(self.in_a_row, now, random) };
                if self.due.is_some() {
                    log::debug!("posting on the whiteboard: {reason}; trying again");
                    return;
                }
                Some(format!("{reason}, {} times", self.failures))
            }
        };
        self.next();
        if let (Some((instance, publication)), Some(reason)) = (self.waiting.pop_front(), given_up) {
            let what = match publication {
                Publication::Post(_) => "a broadcast",
                Publication::Submission(_) => "the result",
            };
            log::error!("{instance}: {what} could not be posted: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::EpochCounter;

    #[test]
    fn what_an_earlier_run_could_not_submit_does_not_hold_up_the_next_runs_posts() {
        let run = |epoch| InstanceId::new("test", EpochCounter(epoch));
        let mut publisher = Publisher::new(1, WhiteboardConfig::default());
        publisher.take(PublisherInput::Submit { instance: run(1), result: DkgResult::Empty });
        let now = crate::sync::now();
        publisher.tried(Err(ClientError::Unavailable("away".into())), now, 0);
        assert!(publisher.due(now).is_none(), "it waits before it tries again");
        publisher.take(PublisherInput::Post { instance: run(2), content: "a vector".into() });
        let (_, instance, publication) = publisher.due(now).expect("nothing to wait for");
        assert_eq!(*instance, run(2));
        assert!(matches!(publication, Publication::Post(content) if content == "a vector"));
        publisher.tried(Ok(()), now, 0);
        assert!(publisher.next_due(now).is_none(), "the earlier result is let go of");
    }

    #[test]
    fn a_post_is_tried_at_least_every_longest_wait_and_for_as_long_as_before() {
        let config = WhiteboardConfig { jitter_percent: 0, ..WhiteboardConfig::default() };
        let mut publisher = Publisher::new(1, config);
        let instance = InstanceId::new("test", EpochCounter(1));
        publisher.take(PublisherInput::Post { instance, content: "a complaint".into() });
        let begun = crate::sync::now();
        let mut now = begun;
        while publisher.due(now).is_some() {
            publisher.tried(Err(ClientError::Unavailable("away".into())), now, 0);
            let Some(next) = publisher.next_due(now) else { break };
            assert!(next - now <= config.max_wait, "{:?} without a try", next - now);
            now = next;
        }
        // Ten waits of 1, 2, 4, ... seconds.
        assert!(now - begun >= std::time::Duration::from_secs(1023), "given up after {:?}", now - begun);
    }

    #[test]
    fn a_post_that_waits_is_tried_soon_after_anybody_has_got_through() {
        let config = WhiteboardConfig { jitter_percent: 0, ..WhiteboardConfig::default() };
        let mut publisher = Publisher::new(1, config);
        let instance = InstanceId::new("test", EpochCounter(1));
        publisher.take(PublisherInput::Post { instance, content: "a complaint".into() });
        let mut now = crate::sync::now();
        let mut fail = |publisher: &mut Publisher| {
            let tried_at = now;
            publisher.tried(Err(ClientError::Unavailable("away".into())), now, 0);
            now = publisher.next_due(now)?;
            Some((tried_at, now - tried_at))
        };
        let (tried_at, grown) = (0..8).filter_map(|_| fail(&mut publisher)).last().unwrap();
        assert_eq!(grown, config.max_wait);
        publisher.way_is_free();
        assert_eq!(publisher.next_due(tried_at), Some(tried_at + config.base_wait));
        assert_eq!(fail(&mut publisher).map(|(_, wait)| wait), Some(config.base_wait), "the waits begin anew");
        assert_eq!(fail(&mut publisher).map(|(_, wait)| wait), Some(2 * config.base_wait));
        // A board that is read, and takes no post: there are more tries, for no less time.
        let mut tries = 0;
        while fail(&mut publisher).is_some() {
            publisher.way_is_free();
            tries += 1;
        }
        assert!((800..1100).contains(&tries), "{tries}");
    }
}
