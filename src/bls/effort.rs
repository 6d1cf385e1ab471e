//! How much is spent on a check of many things at once.

use std::num::NonZeroUsize;

/// How likely it may be that a check of many points at once accepts one that it should refuse. Whoever makes the points
/// cannot tell before whether it will, and cannot try twice; see [`CommitmentVector`](super::CommitmentVector).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strength {
    /// At most 2^-64.
    #[default]
    Bits64,
    /// At most 2^-128, for about a third more work.
    Bits128,
}

/// What a check of many things at once may cost. No verdict depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How many threads the work is spread over, the caller's included.
    pub threads: NonZeroUsize,
    /// How sure it has to be.
    pub strength: Strength,
}

impl Effort {
    /// The most threads that are worth their while.
    pub const MAX_THREADS: usize = 8;

    /// Everything on the caller's thread, at 2^-64.
    pub const ONE_THREAD: Effort = Effort { threads: NonZeroUsize::MIN, strength: Strength::Bits64 };

    /// As many threads as this machine runs at once, but no more than [`Effort::MAX_THREADS`], at 2^-64.
    pub fn of_this_machine() -> Effort {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let most = NonZeroUsize::new(Effort::MAX_THREADS).unwrap_or(NonZeroUsize::MIN);
        Effort { threads: threads.min(most), ..Effort::ONE_THREAD }
    }
}
