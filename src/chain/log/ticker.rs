//! When a member says that its clock has reached a view. Pure: told the time, it decides.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::chain::log::{ChainConfig, EpochViews, MAX_JUMP_EPOCHS};
use crate::epoch::View;

/// The longest a member waits before it looks again at its clock, its engine and whether it is to stop.
pub const MAX_TICK_WAIT: Duration = Duration::from_millis(250);

/// A tick is put off by a random part of this part of a view, so that most members find the view final when their turn
/// comes, and say nothing.
const DELAY_DIVISOR: u64 = 4;

/// While a run is on, news of a view may come late by this part of one without the next being put off: that much of the way
/// through the log, and of the delay of the ticks, is made up for within the phase.
const SLACK_DIVISOR: u64 = 2;

/// What a member knows when it asks whether to tick.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The time by its clock, in milliseconds of Unix time.
    pub now_ms: u64,
    /// The time by a clock that nobody sets, in milliseconds since any moment.
    pub steady_ms: u64,
    /// The last final view.
    pub finalized: View,
    /// Whether views take their time there: see [`LogChain::is_paced`](crate::chain::log::LogChain::is_paced).
    pub paced: bool,
    /// This member's last tick in the log.
    pub ticked: View,
    /// Up to where its engine has worked everything off.
    pub caught_up: View,
}

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
/// A member ticks the view that its clock has reached, a small random delay later, unless it is final by then; and says
/// nothing more until that view is final. A member that is behind with its own work does not vouch for time passing: if more
/// than the slow minority are behind, time waits for them, and nobody is cut off by a phase that ended while everybody was
/// busy. A minority of `t` holds nobody up, since `t + 1` others suffice.
///
/// **While a run is on** a member ticks one view after the other, and each no sooner than a view's time after the one before
/// has become final, as a clock measures it that nobody sets; whatever the time is. That a phase lasts is what secrecy rests
/// on: after an outage of the log the chain is behind, and were it to catch up within a phase, no share and no complaint could
/// arrive in time. Within a phase, what is lost on the way through the log is made up for in part, but no phase takes less
/// than its views' time, by the clock of the quickest honest member: every honest member counts from when it saw the phase
/// begin, and every view needs one of them.
///
/// **Otherwise** views that nobody has ticked in time are passed over, whole epochs too. A run that has not begun begins
/// late, as long as its own time is not over or it is over before the next run is due; else it is passed over as well. No
/// member ever ticks a view within a run that can still begin.
#[derive(Debug)]
pub struct Ticker {
    config: Arc<ChainConfig>,
    random: StdRng,
    /// The present delay, drawn for the view after `settled`.
    delay_ms: u64,
    settled: View,
    /// The last final view that was seen, and since when it counts as final, by the steady clock.
    reached: Option<(View, u64)>,
    /// The last tick that was sent, and when, by the steady clock.
    sent: Option<(View, u64)>,
}

impl Ticker {
    /// The ticker of one member. Members need different seeds; nobody need keep them secret.
    pub fn new(config: Arc<ChainConfig>, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let mut ticker = Ticker { config, random, delay_ms: 0, settled: View(0), reached: None, sent: None };
        ticker.draw_delay();
        ticker
    }

    /// What to do now.
    pub fn step(&mut self, now: Situation) -> TickerStep {
        let view_ms = self.config.view_ms();
        let reached_ms = self.reach(now);
        if now.finalized > self.settled {
            self.settled = now.finalized;
            self.draw_delay();
        }
        if now.caught_up < now.finalized {
            // The engine is busy; nothing tells when it will be done.
            return wait(view_ms / DELAY_DIVISOR);
        }
        if now.ticked > now.finalized {
            return TickerStep::Wait(MAX_TICK_WAIT);
        }
        if let Some((view, at_ms)) = self.sent
            && view > now.finalized
        {
            // A tick that has not shown up in the log for a whole view is given up for lost, and made again.
            let lost_ms = at_ms.saturating_add(view_ms);
            if now.steady_ms < lost_ms {
                return wait(lost_ms - now.steady_ms);
            }
        }
        let next = View(now.finalized.0.saturating_add(1));
        let due_ms = self.config.begins_at(next).saturating_add(self.delay_ms);
        let paced_ms = if now.paced { reached_ms.saturating_add(view_ms).saturating_add(self.delay_ms) } else { 0 };
        let early_ms = due_ms.saturating_sub(now.now_ms).max(paced_ms.saturating_sub(now.steady_ms));
        if next == now.finalized {
            // There are no more.
            return TickerStep::Wait(MAX_TICK_WAIT);
        }
        if early_ms > 0 {
            return wait(early_ms);
        }
        let clock = self.config.view_at(now.now_ms.saturating_sub(self.delay_ms));
        TickerStep::Tick(if now.paced { next } else { self.aim(clock.max(next), now.finalized) })
    }

    /// Takes note that the host has taken a tick for this view.
    pub fn sent(&mut self, view: View, steady_ms: u64) {
        self.sent = Some((view, steady_ms));
    }

    /// Since when the last final view counts as final. In a phase that is on, a view later for each view; never in the future,
    /// and not further back than the slack. From now where a run or a phase begins, and where nothing is known.
    fn reach(&mut self, now: Situation) -> u64 {
        let (view_ms, steady_ms) = (self.config.view_ms(), now.steady_ms);
        let reached_ms = match self.reached {
            Some((view, at_ms)) if view == now.finalized => at_ms,
            Some((view, at_ms)) if now.paced && !self.begins_phase(view, now.finalized) => {
                let views = now.finalized.0.saturating_sub(view.0);
                let by_rights = at_ms.saturating_add(views.saturating_mul(view_ms));
                by_rights.clamp(steady_ms.saturating_sub(view_ms / SLACK_DIVISOR), steady_ms)
            }
            _ => steady_ms,
        };
        self.reached = Some((now.finalized, reached_ms));
        reached_ms
    }

    /// Whether the run or one of its phases begins after `from`, and not after `to`.
    fn begins_phase(&self, from: View, to: View) -> bool {
        let EpochViews { setup_first, phase_finals, .. } = self.config.epoch_at(to);
        phase_finals.iter().chain([&setup_first]).any(|view| from < *view && *view <= to)
    }

    /// What to tick while no run is on, when the clock has reached `clock`.
    fn aim(&self, clock: View, finalized: View) -> View {
        let views_in_epoch = self.config.schedule().views_in_epoch;
        let furthest = View(finalized.0.saturating_add(views_in_epoch.saturating_mul(MAX_JUMP_EPOCHS)));
        if clock > furthest {
            // There is more to pass over than one tick may. Not into a run.
            return furthest.min(View(self.config.epoch_at(furthest).setup_first.0.saturating_sub(1)));
        }
        let views = self.config.epoch_at(clock);
        let (first, last) = (views.setup_first, views.run_last());
        if clock < first || finalized >= first {
            return clock;
        }
        // How much later than planned the run can begin and be over before the next one is due.
        let room = views_in_epoch.saturating_sub(last.0 - first.0).saturating_sub(1);
        if clock <= last.max(View(first.0.saturating_add(room))) { first } else { clock }
    }

    fn draw_delay(&mut self) {
        self.delay_ms = self.random.random_range(0..=self.config.view_ms() / DELAY_DIVISOR);
    }
}

/// At least a millisecond, so that a due time that has just been missed does not make a thread spin.
fn wait(ms: u64) -> TickerStep {
    TickerStep::Wait(Duration::from_millis(ms.max(1)).min(MAX_TICK_WAIT))
}
