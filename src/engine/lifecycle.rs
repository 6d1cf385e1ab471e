//! How threads start, wait and stop.
//!
//! Every thread has one inbox and waits nowhere else. Messages, wake-ups and the stop are under one lock, so that there is
//! no moment between looking and falling asleep, and nothing is taken out of an inbox that has been stopped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, catch_panic, now, thread, wait_patiently};

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
        let deadline = now() + limit;
        let (slot, condition) = &*self.0;
        let mut slot = slot.lock();
        while slot.is_none() {
            if wait_patiently(condition, &mut slot, deadline) {
                break;
            }
        }
        slot.clone()
    }
}

/// The sending side of a thread's inbox.
pub(crate) struct Mailbox<T>(Arc<Shared<T>>);

/// The receiving side, owned by the thread.
pub(crate) struct Inbox<T>(Arc<Shared<T>>);

struct Shared<T> {
    contents: Mutex<Contents<T>>,
    limit: usize,
    /// There is something for the thread.
    news: Condvar,
    /// There is room for one message more.
    room: Condvar,
}

struct Contents<T> {
    messages: VecDeque<T>,
    /// The thread shall look around. However often it is asked to, once will do, and takes no message's place.
    woken: bool,
    stopped: bool,
}

/// What came of waiting. Whatever it is, the thread has to look around: no wake-up from before is left.
pub(crate) enum Received<T> {
    Message(T),
    /// Nothing to take; or the time is up.
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
    let contents = Mutex::new(Contents { messages: VecDeque::new(), woken: false, stopped: false });
    let shared = Arc::new(Shared { contents, limit, news: Condvar::new(), room: Condvar::new() });
    (Mailbox(Arc::clone(&shared)), Inbox(shared))
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox(Arc::clone(&self.0))
    }
}

impl<T> Mailbox<T> {
    /// Hands a message over, waiting while the inbox is full.
    pub(crate) fn send(&self, message: T) -> Result<(), Refused> {
        let mut contents = self.0.contents.lock();
        while !contents.stopped && contents.messages.len() >= self.0.limit {
            self.0.room.wait(&mut contents);
        }
        self.0.put(&mut contents, message)
    }

    /// Hands a message over, or refuses at once.
    pub(crate) fn try_send(&self, message: T) -> Result<(), Refused> {
        self.0.put(&mut self.0.contents.lock(), message)
    }

    /// Makes the thread look around.
    pub(crate) fn wake(&self) {
        self.0.contents.lock().woken = true;
        self.0.news.notify_one();
    }

    /// Asks the thread to end. Nobody waits for room any more.
    pub(crate) fn stop(&self) {
        self.0.stop();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.contents.lock().stopped
    }
}

impl<T> Inbox<T> {
    /// Waits for the next message, until `deadline` if there is one.
    pub(crate) fn receive(&self, deadline: Option<Instant>) -> Received<T> {
        let mut contents = self.0.contents.lock();
        let mut late = false;
        loop {
            if contents.stopped {
                return Received::Stopped;
            }
            let woken = std::mem::take(&mut contents.woken);
            if let Some(message) = contents.messages.pop_front() {
                self.0.room.notify_one();
                return Received::Message(message);
            }
            if woken || late {
                return Received::Woken;
            }
            match deadline {
                None => self.0.news.wait(&mut contents),
                Some(deadline) => late = self.0.news.wait_until(&mut contents, deadline).timed_out(),
            }
        }
    }

    /// Whether the thread has been asked to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.contents.lock().stopped
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.0.stop();
        // What nobody will take is let go of now, and not when the last mailbox is.
        let _left = std::mem::take(&mut self.0.contents.lock().messages);
    }
}

impl<T> Shared<T> {
    fn put(&self, contents: &mut Contents<T>, message: T) -> Result<(), Refused> {
        if contents.stopped {
            return Err(Refused::Stopped);
        }
        if contents.messages.len() >= self.limit {
            return Err(Refused::Full);
        }
        contents.messages.push_back(message);
        self.news.notify_one();
        Ok(())
    }

    fn stop(&self) {
        self.contents.lock().stopped = true;
        self.news.notify_one();
        self.room.notify_all();
    }
}

/// A named thread that says when it has ended.
pub(crate) struct Worker {
    name: String,
    id: thread::ThreadId,
    finished: Signal<()>,
    /// Until somebody has joined it.
    handle: Mutex<Option<thread::JoinHandle<()>>>,
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
                if catch_panic(body).is_none() {
                    panicked();
                }
                raise.raise(());
            })
            .map_err(|error| SpawnError { name: name.to_owned(), reason: error.to_string() })?;
        let (id, handle) = (handle.thread().id(), Mutex::new(Some(handle)));
        Ok(Worker { name: name.to_owned(), id, finished, handle })
    }

    /// Waits for the thread to end, until `deadline`; a thread that is late is left to itself. Several may wait. Called on
    /// the thread itself (by the host's code there) it does not wait: the thread ends when that code returns.
    pub(crate) fn join_by(&self, deadline: Instant) -> Result<(), Stuck> {
        if self.id == thread::current().id() {
            return Ok(());
        }
        match self.finished.wait_timeout(deadline.saturating_duration_since(now())) {
            Some(()) => {
                if let Some(handle) = self.handle.lock().take() {
                    // The body's panic has been caught and told.
                    let _ = handle.join();
                }
                Ok(())
            }
            None => Err(Stuck(self.name.clone())),
        }
    }
}
