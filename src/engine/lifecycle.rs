//! How threads start, wait and stop.
//!
//! Every thread has one inbox and waits nowhere else. A stop raises a flag and wakes the inbox, so a thread notices it
//! whatever it is waiting for, and takes nothing out of its inbox after that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use parking_lot::{Condvar, Mutex};

/// How long a stop waits for a thread that is inside the host's code before it goes on without it.
pub const STOP_LIMIT: Duration = Duration::from_millis(900);

/// Something that happens once and can be waited for; carries a value.
pub struct Signal<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Self {
        Signal(Arc::clone(&self.0))
    }
}

impl<T: Clone> Signal<T> {
    pub(crate) fn new() -> Self {
        Signal(Arc::new((Mutex::new(None), Condvar::new())))
    }

    /// Raises the signal; a second time changes nothing.
    pub(crate) fn raise(&self, value: T) {
        let (slot, condition) = &*self.0;
        slot.lock().get_or_insert(value);
        condition.notify_all();
    }

    /// The value, if the signal has been raised.
    pub fn get(&self) -> Option<T> {
        self.0.0.lock().clone()
    }

    /// Waits for the signal.
    pub fn wait(&self) -> T {
        let (slot, condition) = &*self.0;
        let mut slot = slot.lock();
        loop {
            if let Some(value) = &*slot {
                return value.clone();
            }
            condition.wait(&mut slot);
        }
    }

    /// Waits for the signal, but not longer than `limit`.
    pub fn wait_timeout(&self, limit: Duration) -> Option<T> {
        let deadline = Instant::now() + limit;
        let (slot, condition) = &*self.0;
        let mut slot = slot.lock();
        while slot.is_none() {
            if condition.wait_until(&mut slot, deadline).timed_out() {
                break;
            }
        }
        slot.clone()
    }
}

/// The sending side of a thread's inbox.
pub(crate) struct Mailbox<T> {
    sender: Sender<Option<T>>,
    stop: Arc<AtomicBool>,
    woken: Arc<AtomicBool>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox { sender: self.sender.clone(), stop: Arc::clone(&self.stop), woken: Arc::clone(&self.woken) }
    }
}

/// The receiving side, owned by the thread.
pub(crate) struct Inbox<T> {
    receiver: Receiver<Option<T>>,
    stop: Arc<AtomicBool>,
    /// A wake-up is in the inbox; one is enough, and more would crowd out messages.
    woken: Arc<AtomicBool>,
}

/// What came of waiting.
pub(crate) enum Received<T> {
    Message(T),
    /// Nothing to take, but look around; or the time is up.
    Woken,
    Stopped,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Stopped,
}

/// An inbox for at most `limit` messages.
pub(crate) fn inbox<T>(limit: usize) -> (Mailbox<T>, Inbox<T>) {
    let (sender, receiver) = bounded(limit);
    let stop = Arc::new(AtomicBool::new(false));
    let woken = Arc::new(AtomicBool::new(false));
    (Mailbox { sender, stop: Arc::clone(&stop), woken: Arc::clone(&woken) }, Inbox { receiver, stop, woken })
}

impl<T> Mailbox<T> {
    /// Hands a message over, waiting while the inbox is full.
    pub(crate) fn send(&self, message: T) -> Result<(), Refused> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Refused::Stopped);
        }
        self.sender.send(Some(message)).map_err(|_| Refused::Stopped)
    }

    /// Hands a message over, or refuses at once.
    pub(crate) fn try_send(&self, message: T) -> Result<(), Refused> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Refused::Stopped);
        }
        self.sender.try_send(Some(message)).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Stopped,
        })
    }

    /// Makes the thread look around. A full inbox needs no waking: its thread is not asleep.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) && self.sender.try_send(None).is_err() {
            self.woken.store(false, Ordering::Release);
        }
    }

    /// Asks the thread to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.sender.try_send(None);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl<T> Inbox<T> {
    /// Waits for the next message, until `deadline` if there is one.
    pub(crate) fn receive(&self, deadline: Option<Instant>) -> Received<T> {
        if self.stop.load(Ordering::Acquire) {
            return Received::Stopped;
        }
        let received = match deadline {
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.receiver.recv_deadline(deadline),
        };
        // Before anything is looked at: who has something new from here on wakes us again.
        if matches!(received, Ok(None)) {
            self.woken.store(false, Ordering::Release);
        }
        if self.stop.load(Ordering::Acquire) {
            return Received::Stopped;
        }
        match received {
            Ok(Some(message)) => Received::Message(message),
            Ok(None) | Err(RecvTimeoutError::Timeout) => Received::Woken,
            // Nobody is left who could say anything.
            Err(RecvTimeoutError::Disconnected) => Received::Stopped,
        }
    }

    /// Whether the thread has been asked to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// A named thread that says when it has ended.
pub(crate) struct Worker {
    name: String,
    handle: thread::JoinHandle<()>,
    finished: Signal<()>,
}

/// A thread could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("thread {name} could not be started: {reason}")]
pub struct SpawnError {
    /// Its name.
    pub name: String,
    /// What the operating system said.
    pub reason: String,
}

/// A thread has not ended in time: the host's code that it is in does not return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "thread {0} is inside the host's network, whiteboard, store or observer, which has not returned after its shutdown"
)]
pub struct Stuck(pub String);

impl Worker {
    /// Starts a thread. A panic inside (the host's code runs there too) ends it, and is told to `panicked`.
    pub(crate) fn spawn(
        name: &str,
        body: impl FnOnce() + Send + 'static,
        panicked: impl FnOnce() + Send + 'static,
    ) -> Result<Self, SpawnError> {
        let finished = Signal::new();
        let raise = finished.clone();
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(body)).is_err() {
                    panicked();
                }
                raise.raise(());
            })
            .map_err(|error| SpawnError { name: name.to_owned(), reason: error.to_string() })?;
        Ok(Worker { name: name.to_owned(), handle, finished })
    }

    /// Waits for the thread to end, until `deadline`; a thread that is late is left to itself.
    pub(crate) fn join_by(self, deadline: Instant) -> Result<(), Stuck> {
        match self.finished.wait_timeout(deadline.saturating_duration_since(Instant::now())) {
            Some(()) => {
                // The body's panic has been caught and told.
                let _ = self.handle.join();
                Ok(())
            }
            None => Err(Stuck(self.name)),
        }
    }

    /// Whether this is the thread we are on.
    pub(crate) fn is_current(&self) -> bool {
        self.handle.thread().id() == thread::current().id()
    }
}
