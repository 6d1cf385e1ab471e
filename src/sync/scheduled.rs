//! Shuttle's, under the names and with the manners of the usual ones. Only for tests.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shuttle::rand::{Rng, thread_rng};
pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::thread;

/// So often a thread that waits for its time may be passed over in one wait before its time has come, whatever chance says.
const PASSED_OVER: u32 = 4;

thread_local! {
    /// How far the clock has moved. All of a test's threads run on one thread of the system; that the next schedule goes on
    /// where this one ends changes nothing, since only differences count.
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The time: it moves only when a wait has ended because its deadline had come.
pub(crate) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + ELAPSED.get()
}

fn advance_to(deadline: Instant) {
    ELAPSED.set(ELAPSED.get() + deadline.saturating_duration_since(now()));
}

/// A number of the schedule's own.
pub(crate) fn random() -> u64 {
    thread_rng().r#gen()
}

/// A lock.
#[derive(Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// A lock that is held.
pub(crate) struct MutexGuard<'a, T> {
    /// `None` only while a [`Condvar`] has it.
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
    lock: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { held: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)), lock: self }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // A Condvar gives it back before it returns.
        self.held.as_ref().expect("the lock is held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // As above.
        self.held.as_mut().expect("the lock is held")
    }
}

/// A condition to wait for.
#[derive(Default)]
pub(crate) struct Condvar {
    inner: shuttle::sync::Condvar,
    /// Wake-ups so far. No scheduling point: it is looked at only where there is one already.
    wakeups: AtomicU64,
}

/// How a wait with a deadline has ended.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        self.inner.notify_one();
        self.wakeups.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
        self.wakeups.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for a wake-up, however long that takes.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(self.inner.wait(held).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Waits for a wake-up or for the deadline: the scheduler decides which comes first. The thread stays runnable, so its
    /// time may come at any moment; and after it has been passed over [`PASSED_OVER`] times it has come.
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        let before = self.wakeups.load(Ordering::Relaxed);
        guard.held = None;
        let woken = |_| {
            thread::yield_now();
            self.wakeups.load(Ordering::Relaxed) != before
        };
        let passed_over = thread_rng().gen_range(1..=PASSED_OVER);
        let woken = (0..passed_over).any(woken);
        if !woken {
            advance_to(deadline);
        }
        *guard = guard.lock.lock();
        WaitTimeoutResult(!woken)
    }
}

/// Waits for a wake-up. That the deadline never comes shows what would hang without it.
pub(crate) fn wait_patiently<T>(condition: &Condvar, guard: &mut MutexGuard<'_, T>, _deadline: Instant) -> bool {
    condition.wait(guard);
    false
}

/// Runs `body`. A panic is a test that has failed, and is not caught.
pub(crate) fn catch_panic<R>(body: impl FnOnce() -> R) -> Option<R> {
    Some(body())
}
