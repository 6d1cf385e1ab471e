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

/// Runs `body`; if it panics, what that said, at most [`MAX_PANIC_BYTES`](super::MAX_PANIC_BYTES) of it.
pub(crate) fn catch_panic<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = super::beginning_of(text.unwrap_or("without a word"));
        // What it carries is the host's as well, destructor included.
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(another);
        }
        text
    })
}
