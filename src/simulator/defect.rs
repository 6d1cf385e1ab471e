//! Defects of the reference, and of earlier versions of this engine, put back one at a time to see that the simulator catches
//! them.
//!
//! Each sits between a core and its world: what the core asks for is done wrongly, in the way it was done there.

use std::fmt;
use std::str::FromStr;

/// A defect of the reference, of a store, or of how messages were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// A failed run goes on listening, and takes half of the next run's private messages.
    FailedRunListensOn,
    /// A poll and the transition of its view race: the transition may come first.
    TransitionBeforePoll,
    /// The read at a phase's end is given up after some tries, and the phase ends all the same.
    FailedReadIsSkipped,
    /// A post that is no envelope makes the whole batch unreadable, again and again.
    GarbageBlinds,
    /// The views of the polls are counted down below zero when the first view is below the poll step.
    PollViewsUnderflow,
    /// A failed run submits nothing.
    FailureIsSilent,
    /// A member counts its own complaint at once, over an answer that is on the board already.
    OwnComplaintFirst,
    /// A share that comes when the run does not want it any more is written to the log.
    SharesInTheLog,
    /// A store that reports as durable what is not.
    UnsyncedStore,
    /// All peers share a few senders: those that do not answer hold up what is for the others.
    SharedSenders,
}

impl Defect {
    /// All of them.
    pub const ALL: &'static [Defect] = &[
        Defect::FailedRunListensOn,
        Defect::TransitionBeforePoll,
        Defect::FailedReadIsSkipped,
        Defect::GarbageBlinds,
        Defect::PollViewsUnderflow,
        Defect::FailureIsSilent,
        Defect::OwnComplaintFirst,
        Defect::SharesInTheLog,
        Defect::UnsyncedStore,
        Defect::SharedSenders,
    ];

    /// The name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Defect::FailedRunListensOn => "failed-run-listens-on",
            Defect::TransitionBeforePoll => "transition-before-poll",
            Defect::FailedReadIsSkipped => "failed-read-is-skipped",
            Defect::GarbageBlinds => "garbage-blinds",
            Defect::PollViewsUnderflow => "poll-views-underflow",
            Defect::FailureIsSilent => "failure-is-silent",
            Defect::OwnComplaintFirst => "own-complaint-first",
            Defect::SharesInTheLog => "shares-in-the-log",
            Defect::UnsyncedStore => "unsynced-store",
            Defect::SharedSenders => "shared-senders",
        }
    }

    /// What it is.
    pub fn description(self) -> &'static str {
        match self {
            Defect::FailedRunListensOn => "a failed run takes the next run's private messages",
            Defect::TransitionBeforePoll => "a phase ends before its last poll",
            Defect::FailedReadIsSkipped => "a phase ends although its last read has failed",
            Defect::GarbageBlinds => "one bad post makes the batch unreadable",
            Defect::PollViewsUnderflow => "poll views are counted down below zero",
            Defect::FailureIsSilent => "a failed run submits nothing",
            Defect::OwnComplaintFirst => "a member counts its own complaint before the board does",
            Defect::SharesInTheLog => "shares that come too late are written to the log",
            Defect::UnsyncedStore => "the store forgets in a crash what it has reported durable",
            Defect::SharedSenders => "peers that do not answer hold up the messages to all others",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such defect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no defect '{0}'")]
pub struct UnknownDefect(pub String);

impl FromStr for Defect {
    type Err = UnknownDefect;

    fn from_str(name: &str) -> Result<Self, UnknownDefect> {
        let found = Defect::ALL.iter().find(|defect| defect.name() == name);
        found.copied().ok_or_else(|| UnknownDefect(name.chars().take(80).collect()))
    }
}

/// Poll views that a node can keep track of at most.
const MAX_POLL_VIEWS: usize = 10_000;

/// The views at which the reference polls in a phase, as it counts them; `None` if there is no end to them.
pub(super) fn reference_poll_views(first: u64, last: u64, step: u64) -> Option<usize> {
    let mut view = last;
    let mut count = 0;
    while view > first {
        count += 1;
        if count > MAX_POLL_VIEWS {
            return None;
        }
        view = view.wrapping_sub(step);
    }
    Some(count)
}
