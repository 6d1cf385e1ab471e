//! The operating system's.

use std::panic::{AssertUnwindSafe, catch_unwind};
pub(crate) use std::sync::atomic;
pub(crate) use std::thread;

pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
use std::time::Instant;

use parking_lot::MutexGuard;
pub(crate) use parking_lot::{Condvar, Mutex};

/// The time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A number to spread load by. The middle will do if the system has no randomness to give.
pub(crate) fn random() -> u64 {
    use rand::TryRng;
    rand::rngs::SysRng.try_next_u64().unwrap_or(u64::MAX / 2)
}

/// Waits for what comes unless the host's code hangs; whether the deadline has passed first.
pub(crate) fn wait_patiently<T>(condition: &Condvar, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> bool {
    condition.wait_until(guard, deadline).timed_out()
}

/// Runs `body`; `None` if it has panicked.
pub(crate) fn catch_panic<R>(body: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(body)).ok()
}
