//! What a run has to do at which view, in which order (spec section 2). Pure view arithmetic, no list of views is ever
//! made: a phase may be as long as views go.

use std::collections::VecDeque;

use crate::epoch::{EpochSetup, Header, View};

/// One thing to do, as of the block that made it due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read the board as of the block; may be given up, since a later read gets the same messages.
    Poll(Header),
    /// Read the board as of the block, to learn what of ours is there already; nothing goes on until that has succeeded.
    CatchUp(Header),
    /// Read the board as of the block that ends a phase; nothing goes on until that has succeeded.
    FinalPoll(Header),
    /// End the phase that is on. Always right behind its [`Action::FinalPoll`].
    EndPhase(Header),
}

/// The actions of one run. Fed with finalized blocks, drained of actions.
#[derive(Clone, Debug, Hash)]
pub struct Agenda {
    finals: [View; 3],
    poll_step: u64,
    /// Phases whose end is due or done: 0 to 3.
    ended: usize,
    /// The first view of the phase that is on; no poll is due there.
    phase_first: View,
    seen: View,
    /// The next block is one to catch up with.
    catches_up: bool,
    due: VecDeque<Action>,
}

/// How a node that starts in the middle of a run catches up with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// As of the block where it starts.
    Now,
    /// As of the next block: what it may have said before it lost its memory is on the board by then.
    NextBlock,
}

impl Agenda {
    /// The agenda of a run that begins at block `first`, with a poll every `poll_step` views (0 counts as 1).
    pub fn new(setup: &EpochSetup, first: &Header, poll_step: u64) -> Self {
        Agenda {
            finals: setup.phase_final_views,
            poll_step: poll_step.max(1),
            ended: 0,
            phase_first: setup.first_view,
            seen: first.view,
            catches_up: false,
            due: VecDeque::new(),
        }
    }

    /// The agenda of a run whose phases have ended at the blocks `ends` so far, for a node that starts when `head` is the
    /// last finalized block: those phases once more, each as of its block, and then what there is of the present one.
    pub fn resumed(setup: &EpochSetup, ends: &[Header], head: &Header, poll_step: u64, catch_up: CatchUp) -> Self {
        let mut agenda = Agenda::new(setup, head, poll_step);
        for (end, last) in ends.iter().zip(&setup.phase_final_views) {
            agenda.end_phase(*end, *last);
        }
        match catch_up {
            CatchUp::Now => agenda.due.push_back(Action::CatchUp(*head)),
            CatchUp::NextBlock => agenda.catches_up = true,
        }
        agenda
    }

    /// Takes a finalized block in. Phases end on the first block with their final view or a later one, whatever views were
    /// skipped; polls are due every `poll_step` views, counted backwards from the final view.
    pub fn finalized(&mut self, block: Header) {
        if std::mem::take(&mut self.catches_up) {
            self.due.push_back(Action::CatchUp(block));
        }
        while let Some(&last) = self.finals.get(self.ended) {
            if block.view < last {
                if self.poll_between(self.seen, block.view, last) {
                    self.poll(block);
                }
                break;
            }
            self.drop_waiting_poll();
            self.end_phase(block, last);
        }
        self.seen = self.seen.max(block.view);
    }

    fn end_phase(&mut self, block: Header, last: View) {
        self.due.push_back(Action::FinalPoll(block));
        self.due.push_back(Action::EndPhase(block));
        self.ended += 1;
        self.phase_first = View(last.0.saturating_add(1));
    }

    /// How many phases are over at the last block, whether their ends have been worked off or not.
    pub fn phases_over(&self) -> usize {
        self.ended
    }

    /// The next thing to do.
    pub fn take_next(&mut self) -> Option<Action> {
        self.due.pop_front()
    }

    /// Whether a poll is due after `seen`, up to and including `now`, in the phase that ends with `last`.
    fn poll_between(&self, seen: View, now: View, last: View) -> bool {
        // The distance from the latest poll view not after `now` to the final view, rounded up to whole steps.
        let Some(latest) = (last.0 - now.0)
            .div_ceil(self.poll_step)
            .checked_mul(self.poll_step)
            .and_then(|distance| last.0.checked_sub(distance))
        else {
            return false;
        };
        latest > seen.0 && latest > self.phase_first.0
    }

    fn poll(&mut self, block: Header) {
        self.drop_waiting_poll();
        self.due.push_back(Action::Poll(block));
    }

    /// A poll that has not begun is overtaken by a later one, which reads the same and more.
    fn drop_waiting_poll(&mut self) {
        if matches!(self.due.back(), Some(Action::Poll(_))) {
            self.due.pop_back();
        }
    }
}
