//! Shuttle's, under the names and with the manners of the usual ones. Only for tests.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvError, RecvTimeoutError, SendTimeoutError, TrySendError};
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
pub(crate) fn catch_panic<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    Ok(body())
}

/// A channel for at most `limit` messages, as crossbeam's: its sides, made of this scheduler's lock and conditions.
pub(crate) fn bounded<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue { messages: VecDeque::new(), senders: 1, received: true };
    let channel = Arc::new(Channel { queue: Mutex::new(queue), limit, news: Condvar::new(), room: Condvar::new() });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

pub(crate) struct Sender<T>(Arc<Channel<T>>);

pub(crate) struct Receiver<T>(Arc<Channel<T>>);

struct Channel<T> {
    queue: Mutex<Queue<T>>,
    limit: usize,
    news: Condvar,
    room: Condvar,
}

struct Queue<T> {
    messages: VecDeque<T>,
    senders: usize,
    /// The receiver is there.
    received: bool,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.queue.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.queue.lock().senders -= 1;
        self.0.news.notify_all();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.0.queue.lock();
            queue.received = false;
            std::mem::take(&mut queue.messages)
        };
        self.0.room.notify_all();
        drop(left);
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut queue = self.0.queue.lock();
        if !queue.received {
            return Err(TrySendError::Disconnected(message));
        }
        if queue.messages.len() >= self.0.limit {
            return Err(TrySendError::Full(message));
        }
        queue.messages.push_back(message);
        drop(queue);
        self.0.news.notify_one();
        Ok(())
    }

    pub(crate) fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        let deadline = now() + timeout;
        let mut queue = self.0.queue.lock();
        let mut late = false;
        while queue.received && queue.messages.len() >= self.0.limit {
            if late {
                return Err(SendTimeoutError::Timeout(message));
            }
            late = self.0.room.wait_until(&mut queue, deadline).timed_out();
        }
        if !queue.received {
            return Err(SendTimeoutError::Disconnected(message));
        }
        queue.messages.push_back(message);
        drop(queue);
        self.0.news.notify_one();
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let mut queue = self.0.queue.lock();
        loop {
            if let Some(message) = queue.messages.pop_front() {
                self.0.room.notify_one();
                return Ok(message);
            }
            if queue.senders == 0 {
                return Err(RecvError);
            }
            self.0.news.wait(&mut queue);
        }
    }

    pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        let mut queue = self.0.queue.lock();
        let mut late = false;
        loop {
            if let Some(message) = queue.messages.pop_front() {
                self.0.room.notify_one();
                return Ok(message);
            }
            if queue.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            if late {
                return Err(RecvTimeoutError::Timeout);
            }
            late = self.0.news.wait_until(&mut queue, deadline).timed_out();
        }
    }
}
