//! How threads start, wait and stop.
//!
//! Every thread has one inbox, a channel, and waits nowhere else. A wake-up is a token in that channel, at most one at a
//! time; a stop raises a flag and sends one more. Nothing that is taken out of an inbox after it has been stopped is handled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, SendTimeoutError, TrySendError};

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, Receiver, Sender, bounded, catch_panic, now, thread, wait_patiently};

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
        let Some(deadline) = now().checked_add(limit) else { return Some(self.wait()) };
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

/// How long a sender that waits for room goes without asking whether there is still somebody who could make it.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// The sending side of a thread's inbox.
pub(crate) struct Mailbox<T> {
    /// `None` is a wake-up.
    sender: Sender<Option<T>>,
    flags: Arc<Flags>,
}

/// The receiving side, owned by the thread.
pub(crate) struct Inbox<T> {
    receiver: Receiver<Option<T>>,
    flags: Arc<Flags>,
}

#[derive(Default)]
struct Flags {
    /// The thread shall look around, and will after what it takes next. However often it is asked to, once will do.
    woken: AtomicBool,
    /// Somebody else has got through on the way that the thread tries.
    way_is_free: AtomicBool,
    stopped: AtomicBool,
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
    let (sender, receiver) = bounded(limit);
    let flags = Arc::new(Flags::default());
    (Mailbox { sender, flags: Arc::clone(&flags) }, Inbox { receiver, flags })
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox { sender: self.sender.clone(), flags: Arc::clone(&self.flags) }
    }
}

impl<T> Mailbox<T> {
    /// Hands a message over, waiting while the inbox is full.
    pub(crate) fn send(&self, message: T) -> Result<(), Refused> {
        let mut message = Some(message);
        while !self.is_stopped() {
            // The thread may never again take anything: it is stopped, but inside the host's code.
            match self.sender.send_timeout(message, STOP_CHECK) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(refused)) => message = refused,
                Err(SendTimeoutError::Disconnected(_)) => break,
            }
        }
        Err(Refused::Stopped)
    }

    /// Hands a message over, or refuses at once.
    pub(crate) fn try_send(&self, message: T) -> Result<(), Refused> {
        if self.is_stopped() {
            return Err(Refused::Stopped);
        }
        self.sender.try_send(Some(message)).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Stopped,
        })
    }

    /// Makes the thread look around. In a full inbox no wake-up is needed: the thread looks around after the next message
    /// that it takes, and until then it counts as woken.
    pub(crate) fn wake(&self) {
        if !self.flags.woken.swap(true, Ordering::SeqCst) {
            let _ = self.sender.try_send(None);
        }
    }

    /// Tells the thread that somebody else has got through on the way that it tries.
    pub(crate) fn way_is_free(&self) {
        self.flags.way_is_free.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Asks the thread to end. Nobody waits for room any more.
    pub(crate) fn stop(&self) {
        self.flags.stopped.store(true, Ordering::SeqCst);
        let _ = self.sender.try_send(None);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.flags.stopped.load(Ordering::SeqCst)
    }
}

impl<T> Inbox<T> {
    /// Waits for the next message, until `deadline` if there is one.
    pub(crate) fn receive(&self, deadline: Option<Instant>) -> Received<T> {
        if self.is_stopped() {
            return Received::Stopped;
        }
        let received = match deadline {
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.receiver.recv_deadline(deadline),
        };
        // Before the thread looks around, and after anything that it takes: who has something new from here on wakes it
        // again, and who has relied on a wake-up of before is seen now.
        if received.is_ok() {
            self.flags.woken.store(false, Ordering::SeqCst);
        }
        if self.is_stopped() {
            return Received::Stopped;
        }
        match received {
            Ok(Some(message)) => Received::Message(message),
            Ok(None) | Err(RecvTimeoutError::Timeout) => Received::Woken,
            // Nobody is left who could say anything.
            Err(RecvTimeoutError::Disconnected) => Received::Stopped,
        }
    }

    /// Whether somebody else has got through on the way that the thread tries, since this was last asked.
    pub(crate) fn is_way_free(&self) -> bool {
        self.flags.way_is_free.swap(false, Ordering::SeqCst)
    }

    /// Whether the thread has been asked to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.flags.stopped.load(Ordering::SeqCst)
    }
}

/// The sending side of a thread's desk: an inbox on which one message lies at most, the latest. So it is never full, however
/// long the thread is inside the host's code.
pub(crate) struct Desk<T> {
    latest: Arc<Mutex<Option<T>>>,
    bell: Mailbox<()>,
}

/// The receiving side, owned by the thread.
pub(crate) struct DeskInbox<T> {
    latest: Arc<Mutex<Option<T>>>,
    bell: Inbox<()>,
}

/// A desk with nothing on it.
pub(crate) fn desk<T>() -> (Desk<T>, DeskInbox<T>) {
    let latest = Arc::new(Mutex::new(None));
    let (mailbox, inbox) = inbox(1);
    (Desk { latest: Arc::clone(&latest), bell: mailbox }, DeskInbox { latest, bell: inbox })
}

impl<T> Clone for Desk<T> {
    fn clone(&self) -> Self {
        Desk { latest: Arc::clone(&self.latest), bell: self.bell.clone() }
    }
}

impl<T> Desk<T> {
    /// Puts a message there, in the place of one that has not been taken.
    pub(crate) fn put(&self, message: T) {
        let replaced = self.latest.lock().replace(message);
        self.bell.wake();
        drop(replaced);
    }

    /// As for a [`Mailbox`].
    pub(crate) fn way_is_free(&self) {
        self.bell.way_is_free();
    }

    /// Asks the thread to end.
    pub(crate) fn stop(&self) {
        self.bell.stop();
    }
}

impl<T> DeskInbox<T> {
    /// Waits for the next message, until `deadline` if there is one.
    pub(crate) fn receive(&self, deadline: Option<Instant>) -> Received<T> {
        match self.bell.receive(deadline) {
            Received::Stopped => Received::Stopped,
            Received::Message(()) | Received::Woken => {
                self.latest.lock().take().map_or(Received::Woken, Received::Message)
            }
        }
    }

    /// As for an [`Inbox`].
    pub(crate) fn is_way_free(&self) -> bool {
        self.bell.is_way_free()
    }

    /// Whether the thread has been asked to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.bell.is_stopped()
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.flags.stopped.store(true, Ordering::SeqCst);
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

/// A thread has not ended in time: the host's code that it is in does not return, or the machine is so busy that one step
/// of the engine takes longer than [`STOP_LIMIT`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "thread {0} has not ended in time: it is inside the host's network, whiteboard, store or observer, which has not \
     returned after its shutdown, or the machine is overloaded and it ends later"
)]
pub struct Stuck(pub String);

impl Worker {
    /// Starts a thread. A panic inside ends it, and what it said is told to `panicked`.
    pub(crate) fn spawn(
        name: &str,
        body: impl FnOnce() + Send + 'static,
        panicked: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, SpawnError> {
        let finished = Signal::new();
        let raise = finished.clone();
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(text) = catch_panic(body) {
                    panicked(text);
                }
                raise.raise(());
            })
            .map_err(|error| SpawnError { name: name.to_owned(), reason: error.to_string() })?;
        let (id, handle) = (handle.thread().id(), Mutex::new(Some(handle)));
        Ok(Worker { name: name.to_owned(), id, finished, handle })
    }

    pub(crate) fn thread_id(&self) -> thread::ThreadId {
        self.id
    }

    /// Whether the thread has ended; then it is joined.
    pub(crate) fn has_ended(&self) -> bool {
        self.finished.get().is_some() && self.join_by(now()).is_ok()
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
