//! The receiver's word for a private message. A share that has been acknowledged is never asked for again, so it is
//! acknowledged when it is durable and not before (spec section 8).

use std::fmt;
use std::time::Duration;

use crate::fence;
use crate::sync::{Receiver, Sender, bounded, now};

/// Goes with a message from the network to the engine. Settled once: [`confirmed`](Self::confirm) when the message has been
/// taken for good, or dropped when it has not, so that its sender tries again later. A network answers its peer only then.
pub struct Receipt(Option<Box<dyn FnOnce(bool) + Send>>);

impl Receipt {
    /// A receipt that tells `settled` whether the message has been taken. It is called on a thread of the engine, with none of
    /// the engine's locks held: it must return at once. If it panics, nothing but this word is lost.
    pub fn new(settled: impl FnOnce(bool) + Send + 'static) -> Self {
        Receipt(Some(Box::new(settled)))
    }

    /// A receipt that nobody waits for.
    pub fn none() -> Self {
        Receipt(None)
    }

    /// A receipt, and the way to wait for it.
    pub fn awaited() -> (Self, Answer) {
        let (sender, receiver) = bounded(1);
        let told = sender.clone();
        let receipt = Receipt::new(move |taken| {
            // Somebody else may have spoken first; then this is of no interest.
            let _ = told.try_send(if taken { Word::Taken } else { Word::NotTaken });
        });
        (receipt, Answer { sender, receiver })
    }

    /// The message has been taken for good: it need not be sent again.
    pub fn confirm(mut self) {
        self.settle(true);
    }

    fn settle(&mut self, taken: bool) {
        if let Some(settled) = self.0.take() {
            fence::call_promptly("receipt", || settled(taken));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.settle(false);
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Taken,
    NotTaken,
    Hush,
}

/// Waits for a [`Receipt`].
pub struct Answer {
    sender: Sender<Word>,
    receiver: Receiver<Word>,
}

impl Answer {
    /// Whether the message has been taken; waits for the answer, but not longer than `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let word = match now().checked_add(limit) {
            Some(deadline) => self.receiver.recv_deadline(deadline).ok(),
            None => self.receiver.recv().ok(),
        };
        word == Some(Word::Taken)
    }

    /// What ends a wait from elsewhere, as if the message had not been taken.
    pub(super) fn hush(&self) -> Hush {
        Hush(self.sender.clone())
    }
}

/// Ends a wait.
pub(super) struct Hush(Sender<Word>);

impl Hush {
    pub(super) fn hush(&self) {
        // If there is a word already, the wait ends as well.
        let _ = self.0.try_send(Word::Hush);
    }
}
