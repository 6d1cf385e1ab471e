//! How often a peer is dialled, and how fast one may talk. Pure.

use std::time::{Duration, Instant};

/// When a peer that could not be reached may be dialled again: after a wait that doubles with every failure.
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    wait: Option<Duration>,
    /// When it has failed last.
    since: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, wait: None, since: None }
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.wait = Some(self.wait.map_or(self.first, |wait| wait.saturating_mul(2)).min(self.most));
        self.since = Some(now);
    }

    pub(super) fn succeeded(&mut self) {
        self.wait = None;
        self.since = None;
    }

    /// How long to wait yet.
    pub(super) fn left(&self, now: Instant) -> Duration {
        match (self.wait, self.since) {
            (Some(wait), Some(since)) => wait.saturating_sub(now.saturating_duration_since(since)),
            _ => Duration::ZERO,
        }
    }
}

/// How fast frames are read from one connection: so many at once, and then one every so often.
pub(super) struct Pace {
    /// What one frame costs.
    step: Duration,
    /// What can be saved up.
    burst: Duration,
    /// Paid for until then.
    until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let step = Duration::from_secs(1) / per_second.max(1);
        Pace { step, burst: step.saturating_mul(burst), until: None }
    }

    /// A frame has been read: how long to wait before the next.
    pub(super) fn read(&mut self, now: Instant) -> Duration {
        let until = self.until.map_or(now, |until| until.max(now)) + self.step;
        self.until = Some(until);
        until.saturating_duration_since(now).saturating_sub(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_is_forgotten_by_a_success() {
        let now = Instant::now();
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        assert_eq!(backoff.left(now), Duration::ZERO);
        for wait in [1, 2, 4, 5, 5] {
            backoff.failed(now);
            assert_eq!(backoff.left(now), wait * SECOND);
            assert_eq!(backoff.left(now + wait * SECOND), Duration::ZERO);
        }
        backoff.succeeded();
        assert_eq!(backoff.left(now), Duration::ZERO);
        backoff.failed(now);
        assert_eq!(backoff.left(now), SECOND);
    }

    #[test]
    fn a_burst_passes_and_what_is_more_waits_its_turn() {
        let now = Instant::now();
        let mut pace = Pace::new(10, 3);
        let step = SECOND / 10;
        let waits: Vec<_> = (0..5).map(|_| pace.read(now)).collect();
        assert_eq!(waits, [Duration::ZERO, Duration::ZERO, Duration::ZERO, step, 2 * step]);
        assert_eq!(pace.read(now + SECOND), Duration::ZERO, "after a while it may talk again");
    }
}
