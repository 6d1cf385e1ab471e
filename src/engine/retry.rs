//! When to try again, and whom to ask. Pure.

use std::time::{Duration, Instant};

/// No wait is longer than this, however often something has failed.
pub const MAX_WAIT: Duration = Duration::from_secs(1024);

/// After so many failures in a row the wait no longer grows.
const MAX_DOUBLINGS: u32 = 32;

/// Exponential backoff with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first; `None` for as many as it takes.
    pub retries: Option<u32>,
    /// The first wait; each further one is twice as long.
    pub base_wait: Duration,
    /// How far a wait may stray from that, in percent, either way.
    pub jitter_percent: u32,
    /// No wait is longer than this (before jitter).
    pub max_wait: Duration,
}

impl RetryPolicy {
    /// The wait after `failures` failures in a row (1, 2, …), or `None` when it is time to give up. `random` is any number,
    /// drawn anew each time.
    pub fn wait(&self, failures: u32, random: u64) -> Option<Duration> {
        if self.retries.is_some_and(|retries| failures > retries) {
            return None;
        }
        let doublings = failures.saturating_sub(1).min(MAX_DOUBLINGS - 1);
        let wait = self.base_wait.saturating_mul(1 << doublings).min(self.max_wait).min(MAX_WAIT);
        let spread = wait.mul_f64(f64::from(self.jitter_percent.min(100)) / 100.0);
        // From -spread to +spread.
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        Some(wait - spread + (2 * spread).mul_f64(share))
    }

    /// The moment after that wait.
    pub(super) fn retry_at(&self, failures: u32, now: Instant, random: u64) -> Option<Instant> {
        Some(now + self.wait(failures, random)?)
    }
}

/// No wait for a whiteboard is longer than this part of a phase, if the waits are made for phases.
const WAITS_IN_A_PHASE: u32 = 16;

/// How a node deals with a whiteboard that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhiteboardConfig {
    /// Tries after the first to post or submit, if every wait were twice as long as the one before; a wait longer than
    /// `max_wait` is divided into several that are not, with a try after each.
    pub post_retries: u32,
    /// Tries after the first to read within a phase. The read at a phase's end goes on until it succeeds.
    pub read_retries: u32,
    /// The first wait; each further one is twice as long.
    pub base_wait: Duration,
    /// How far a wait may stray from that, in percent.
    pub jitter_percent: u32,
    /// The longest wait between two tries of a post or of a read that must succeed. Less than a phase: when the way to the
    /// board is free again, a complaint or an answer has to be there before the phase ends.
    pub max_wait: Duration,
}

impl Default for WhiteboardConfig {
    fn default() -> Self {
        WhiteboardConfig {
            post_retries: 10,
            read_retries: 3,
            base_wait: Duration::from_secs(1),
            jitter_percent: 25,
            max_wait: Duration::from_secs(16),
        }
    }
}

impl WhiteboardConfig {
    /// Waits made for phases of this length, in which nothing happens faster than `view`: the longest is a sixteenth of a
    /// phase, and no longer than by default.
    pub fn for_phases_of(phase: Duration, view: Duration) -> Self {
        let default = WhiteboardConfig::default();
        let max_wait = default.max_wait.min(phase / WAITS_IN_A_PHASE).max(Duration::from_millis(1));
        WhiteboardConfig { base_wait: default.base_wait.min(view).min(max_wait), max_wait, ..default }
    }

    /// Goes on for as long as `post_retries` waits that double without end would take, but tries at least every
    /// `max_wait`.
    pub(super) fn post_policy(self) -> RetryPolicy {
        let longest = self.max_wait.as_millis().max(1);
        let doubling = RetryPolicy { jitter_percent: 0, ..self.policy(None, MAX_WAIT) };
        // Beyond so many doublings every wait is the longest there is.
        let tries = |failures: u32| {
            let wait = doubling.wait(failures, 0).unwrap_or(MAX_WAIT).as_millis();
            u32::try_from(wait.div_ceil(longest).max(1)).unwrap_or(u32::MAX)
        };
        let doubled = self.post_retries.min(MAX_DOUBLINGS);
        let after = tries(MAX_DOUBLINGS).saturating_mul(self.post_retries - doubled);
        let retries = (1..=doubled).map(tries).fold(after, u32::saturating_add);
        self.policy(Some(retries), self.max_wait)
    }

    /// How long all those waits take at least.
    pub(super) fn patience(self) -> Duration {
        let doubling = RetryPolicy { jitter_percent: 0, ..self.policy(None, MAX_WAIT) };
        let wait = |failures| doubling.wait(failures, 0).unwrap_or(MAX_WAIT);
        let doubled = self.post_retries.min(MAX_DOUBLINGS);
        let after = wait(MAX_DOUBLINGS).saturating_mul(self.post_retries - doubled);
        let whole = (1..=doubled).map(wait).fold(after, Duration::saturating_add);
        whole.mul_f64(f64::from(100 - self.jitter_percent.min(100)) / 100.0)
    }

    pub(super) fn policy(self, retries: Option<u32>, max_wait: Duration) -> RetryPolicy {
        RetryPolicy { retries, base_wait: self.base_wait, jitter_percent: self.jitter_percent, max_wait }
    }
}

/// Failures in a row after which the next client is tried.
pub const FAILURES_BEFORE_NEXT: u32 = 2;

/// Which of several whiteboard clients to ask: the first, and after 2 failures in a row the next, round and round. The last
/// that worked stays preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    clients: usize,
    current: usize,
    failures: u32,
}

impl Failover {
    /// Among this many clients (at least one).
    pub fn new(clients: usize) -> Self {
        Failover { clients: clients.max(1), current: 0, failures: 0 }
    }

    /// The client to ask.
    pub fn current(&self) -> usize {
        self.current
    }

    /// The client answered.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The client did not answer.
    pub fn failed(&mut self) {
        self.failures += 1;
        if self.failures >= FAILURES_BEFORE_NEXT {
            self.failures = 0;
            self.current = (self.current + 1) % self.clients;
        }
    }
}
