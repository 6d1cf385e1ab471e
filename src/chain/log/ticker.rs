//! When a member says that its clock has reached a view. Pure: told the time, it decides.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::chain::log::ChainConfig;
use crate::epoch::View;

/// The longest a member waits before it looks again at its clock, its engine and whether it is to stop.
pub const MAX_TICK_WAIT: Duration = Duration::from_millis(250);

/// A tick is put off by a random part of this part of a view, so that most members find the view final when their turn
/// comes, and say nothing.
const DELAY_DIVISOR: u64 = 4;

/// What a member does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickerStep {
    /// Tick this view now.
    Tick(View),
    /// Nothing to say for so long, unless the log goes on. Never more than [`MAX_TICK_WAIT`].
    Wait(Duration),
}

/// Decides when one member ticks which view.
///
/// A member ticks the view that its clock has reached, a small random delay later, unless it is final by then; not more
/// than an epoch beyond the finalized view; and not more than one view beyond what its own engine has worked off. A
/// member that is behind with its own work does not vouch for time passing: if more than the slow minority are behind,
/// time waits for them, and nobody is cut off by a phase that ended while everybody was busy. A minority of `t` holds
/// nobody up, since `t + 1` others suffice.
#[derive(Debug)]
pub struct Ticker {
    config: Arc<ChainConfig>,
    random: StdRng,
    /// The present delay, drawn for the view after `settled`.
    delay_ms: u64,
    settled: View,
    /// The last tick that was sent, and when.
    sent: Option<(View, u64)>,
}

impl Ticker {
    /// The ticker of one member. Members need different seeds; nobody need keep them secret.
    pub fn new(config: Arc<ChainConfig>, seed: u64) -> Self {
        let mut ticker =
            Ticker { config, random: StdRng::seed_from_u64(seed), delay_ms: 0, settled: View(0), sent: None };
        ticker.draw_delay();
        ticker
    }

    /// What to do at this time (milliseconds of Unix time), when `finalized` is final, this member's last tick in the
    /// log is `ticked`, and its engine has worked off everything up to `caught_up`.
    pub fn step(&mut self, now_ms: u64, finalized: View, ticked: View, caught_up: View) -> TickerStep {
        let mut settled = finalized.max(ticked);
        if let Some((view, at_ms)) = self.sent {
            // A tick that has not shown up in the log for a whole view is given up for lost, and made again.
            if now_ms.saturating_sub(at_ms) < self.config.view_ms() {
                settled = settled.max(view);
            }
        }
        if settled > self.settled {
            self.settled = settled;
            self.draw_delay();
        }
        let next = View(settled.0.saturating_add(1));
        let reached = self.config.view_at(now_ms.saturating_sub(self.delay_ms));
        if reached < next {
            let due_ms = self.config.begins_at(next).saturating_add(self.delay_ms);
            return wait(due_ms.saturating_sub(now_ms));
        }
        let ahead = |view: View, by: u64| View(view.0.saturating_add(by));
        let allowed = reached.min(ahead(caught_up, 1)).min(ahead(finalized, self.config.schedule().views_in_epoch));
        if allowed < next {
            // The engine is busy; nothing tells when it will be done.
            return wait(self.config.view_ms() / DELAY_DIVISOR);
        }
        TickerStep::Tick(allowed)
    }

    /// Takes note that the host has taken a tick for this view.
    pub fn sent(&mut self, view: View, now_ms: u64) {
        self.sent = Some((view, now_ms));
    }

    fn draw_delay(&mut self) {
        self.delay_ms = self.random.random_range(0..=self.config.view_ms() / DELAY_DIVISOR);
    }
}

/// At least a millisecond, so that a due time that has just been missed does not make a thread spin.
fn wait(ms: u64) -> TickerStep {
    TickerStep::Wait(Duration::from_millis(ms.max(1)).min(MAX_TICK_WAIT))
}
