//! The one way into the host's code: a panic there costs the one call in which it happened.
//!
//! A host's network, whiteboard clients, store, observer and receipts are other people's code, and so are their destructors.
//! They are called from here, with no lock of the engine held; what a panic says is kept, with the name of the callback. A call
//! that does not return is not ended here: each room has its own way to go on without one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{catch_panic, now};

/// How long a callback that must return at once may take before the log says so.
pub(crate) const PROMPT: Duration = Duration::from_millis(100);

/// A callback of the host has panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host's {callback} has panicked: {text}")]
pub(crate) struct HostPanic {
    /// Which one.
    pub(crate) callback: &'static str,
    /// What the panic said, at most [`MAX_PANIC_BYTES`](crate::sync::MAX_PANIC_BYTES) bytes of it.
    pub(crate) text: String,
}

/// Calls the host's code.
pub(crate) fn call<R>(callback: &'static str, body: impl FnOnce() -> R) -> Result<R, HostPanic> {
    catch_panic(body).map_err(|text| HostPanic { callback, text })
}

/// Calls what must return at once, on a thread that has more to do. What becomes of it is told and has no consequence.
pub(crate) fn call_promptly(callback: &'static str, body: impl FnOnce()) {
    let before = now();
    let outcome = call(callback, body);
    let took = now().saturating_duration_since(before);
    if let Err(panic) = outcome {
        say(log::Level::Error, &panic);
    } else if took > PROMPT {
        say(
            log::Level::Warn,
            &format_args!("the host's {callback} took {} ms; it must return at once", took.as_millis()),
        );
    }
}

/// Writes to the log where a logger that panics must not end anything.
pub(crate) fn say(level: log::Level, what: &dyn fmt::Display) {
    // There is nowhere left to tell of a logger that panics.
    let _ = catch_panic(|| log::log!(level, "{what}"));
}

/// Something of the host's, let go of as carefully as it is called.
pub(crate) struct Fenced<T: ?Sized> {
    /// Until this is dropped.
    host: Option<Arc<T>>,
    destructor: &'static str,
    shut_down: AtomicBool,
}

impl<T: ?Sized> Fenced<T> {
    /// `destructor` is what a panic of its destructor is told under.
    pub(crate) fn new(host: Arc<T>, destructor: &'static str) -> Self {
        Fenced { host: Some(host), destructor, shut_down: AtomicBool::new(false) }
    }

    /// Calls it.
    pub(crate) fn call<R>(&self, callback: &'static str, body: impl FnOnce(&T) -> R) -> Result<R, HostPanic> {
        match &self.host {
            Some(host) => call(callback, || body(host)),
            None => Err(HostPanic { callback, text: "it has been dropped".to_owned() }),
        }
    }

    /// Calls what must return at once; what becomes of it is told and has no consequence.
    pub(crate) fn call_promptly(&self, callback: &'static str, body: impl FnOnce(&T)) {
        if let Some(host) = &self.host {
            call_promptly(callback, || body(host));
        }
    }

    /// Calls its shutdown, the first time.
    pub(crate) fn shut_down(&self, callback: &'static str, body: impl FnOnce(&T)) {
        if !self.shut_down.swap(true, Ordering::SeqCst)
            && let Err(panic) = self.call(callback, body)
        {
            say(log::Level::Error, &panic);
        }
    }
}

impl<T: ?Sized> Drop for Fenced<T> {
    fn drop(&mut self) {
        let host = self.host.take();
        if let Err(panic) = call(self.destructor, || drop(host)) {
            say(log::Level::Error, &panic);
        }
    }
}
