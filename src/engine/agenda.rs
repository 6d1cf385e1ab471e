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
    /// The blocks that have ended phases so far, whether those ends have been worked off or not.
    ends: Vec<Header>,
    /// The first view of the phase that is on; no poll is due there.
    phase_first: View,
    seen: View,
    /// The next block is one to catch up with.
    catches_up: bool,
    due: VecDeque<Action>,
}

/// The end of a phase is in doubt: its block was not the first, or is one of two of its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "phase {phase} was taken to end with the block of view {taken}, and now comes another one of view {found}: the chain's \
     blocks were told out of order"
)]
pub struct Misplaced {
    /// The phase, 1 to 3.
    pub phase: usize,
    /// The view of the block that it was taken to end with.
    pub taken: View,
    /// The view of the block that came later.
    pub found: View,
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
            ends: Vec::new(),
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
    /// skipped; polls are due every `poll_step` views, counted backwards from the final view. A block that comes again, or
    /// behind a later one, changes nothing.
    ///
    /// # Errors
    /// A phase was taken to end with another block than the one that ends it by what is said now.
    pub fn finalized(&mut self, block: Header) -> Result<(), Misplaced> {
        if block.view <= self.seen {
            return self.seen_again(block);
        }
        if std::mem::take(&mut self.catches_up) {
            self.due.push_back(Action::CatchUp(block));
        }
        while let Some(&last) = self.finals.get(self.ends.len()) {
            if block.view < last {
                if self.poll_between(self.seen, block.view, last) {
                    self.poll(block);
                }
                break;
            }
            self.drop_waiting_poll();
            self.end_phase(block, last);
        }
        self.seen = block.view;
        Ok(())
    }

    /// Whether the phases' ends stand when a block comes that is not later than the last.
    fn seen_again(&self, block: Header) -> Result<(), Misplaced> {
        for (position, (taken, last)) in self.ends.iter().zip(self.finals).enumerate() {
            let is_it = block == *taken;
            if !is_it && (last..=taken.view).contains(&block.view) {
                return Err(Misplaced { phase: position + 1, taken: taken.view, found: block.view });
            }
        }
        Ok(())
    }

    fn end_phase(&mut self, block: Header, last: View) {
        self.due.push_back(Action::FinalPoll(block));
        self.due.push_back(Action::EndPhase(block));
        self.ends.push(block);
        self.phase_first = View(last.0.saturating_add(1));
    }

    /// How many phases are over at the last block, whether their ends have been worked off or not.
    pub fn phases_over(&self) -> usize {
        self.ends.len()
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
