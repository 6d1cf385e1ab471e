//! Computations that take long, as plain data: the core asks for them, and whoever carries out its effects does them where
//! they hold nobody up.

use std::fmt;

use crate::protocol::{Failure, Findings, KeyWork, Keys, Work};

/// Names one computation, so that the result of one that nobody waits for any more is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A computation.
pub enum Task {
    /// Find out about dealers' vectors, shares and answers.
    Judge {
        /// What there is to find out.
        work: Work,
        /// Drawn when the work was handed out, and used for nothing else.
        randomness: [u8; 32],
    },
    /// Compute the keys of a run that is over.
    Keys(KeyWork),
}

/// What came of it.
pub enum TaskResult {
    /// Of [`Task::Judge`].
    Judged(Findings),
    /// Of [`Task::Keys`].
    Keys(Box<Result<Keys, Failure>>),
}

impl Task {
    /// Computes it. Takes up to half a second for the largest committees, on as many threads as the node may use.
    pub fn run(self) -> TaskResult {
        match self {
            Task::Judge { work, randomness } => TaskResult::Judged(work.run(&randomness)),
            Task::Keys(work) => TaskResult::Keys(Box::new(work.run())),
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Judge { work, .. } => work.fmt(f),
            Task::Keys(work) => work.fmt(f),
        }
    }
}
