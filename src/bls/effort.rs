//! How much is spent on a check of many things at once.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The points that a thread has to get: for fewer it does not pay to start one.
const MIN_POINTS: usize = 200;

/// Whether the checks of many things at once are made of few things too, of which each is otherwise checked by itself. For tests:
/// compiled with `DKG_EVERYTHING_AT_ONCE` set, a committee of three goes through what a committee of a hundred does.
pub(super) const EVERYTHING_AT_ONCE: bool = option_env!("DKG_EVERYTHING_AT_ONCE").is_some();

/// How likely it may be that a check of many points at once accepts one that it should refuse. Whoever makes the points
/// cannot tell before whether it will, and cannot try twice; see [`CommitmentVector`](super::CommitmentVector).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strength {
    /// At most 2^-64.
    #[default]
    Bits64,
    /// At most 2^-128. A run takes an eighth to a half longer.
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

    /// The same, on no more threads than so many points are worth.
    pub(crate) fn for_points(self, points: usize) -> Effort {
        let worth = NonZeroUsize::new(points / MIN_POINTS).unwrap_or(NonZeroUsize::MIN);
        Effort { threads: self.threads.min(worth), ..self }
    }

    /// What `work` makes of each item, in their order. The threads end before this returns; where the system gives none, the
    /// caller's does the work of all.
    pub(crate) fn map<T: Sync, R: Send>(self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let helpers = self.threads.get().min(items.len()).saturating_sub(1);
        if helpers == 0 {
            return items.iter().map(work).collect();
        }
        let next = AtomicUsize::new(0);
        let work_on = || {
            let mut done = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(place) else { return done };
                done.push((place, work(item)));
            }
        };
        let mut done = thread::scope(|scope| {
            let spawn = |_| thread::Builder::new().name("dkg-effort".into()).spawn_scoped(scope, work_on).ok();
            let helpers: Vec<_> = (0..helpers).filter_map(spawn).collect();
            let mut done = work_on();
            for helper in helpers {
                done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            done
        });
        done.sort_unstable_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// Cuts items into as many parts as there are threads, or fewer.
    pub(super) fn parts<T>(self, items: &[T]) -> Vec<&[T]> {
        items.chunks(items.len().div_ceil(self.threads.get()).max(1)).collect()
    }
}
