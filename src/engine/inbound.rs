//! Private messages that wait for their run: bounded, and fair between senders. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::network::{Delivery, InboundError};

/// Private messages that wait at most, from all senders together.
pub const INBOUND_LIMIT: usize = 1000;
/// Private messages that wait at most from one sender. An honest one has one share a run for us.
pub const INBOUND_LIMIT_PER_SENDER: usize = 16;

/// A queue per sender, served in turn. When all is full, the sender that holds most gives way to one that holds less, so
/// that nobody is crowded out by another.
#[derive(Default)]
pub struct FairQueue {
    senders: BTreeMap<NodeId, VecDeque<Delivery>>,
    total: usize,
    /// The sender served last; the next in order has its turn.
    served: Option<NodeId>,
    dropped: u64,
}

impl FairQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Messages refused or pushed out so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds a message. One that says the same as one of its sender's that waits takes that one's place.
    ///
    /// What is let go of (the message that gave way, if one did, or this one) comes back: its receipt is the host's code, and
    /// who guards this queue with a lock drops it when the lock is free again.
    ///
    /// # Errors
    /// It is too large, or its sender's or the whole queue's limit is reached.
    pub fn push(&mut self, mut delivery: Delivery) -> Result<Option<Delivery>, (InboundError, Delivery)> {
        let Delivery { from, message, .. } = &delivery;
        let waiting = self.senders.get_mut(from).into_iter().flatten();
        if let Some(again) = waiting.into_iter().find(|waiting| waiting.message.ct_eq(message)) {
            // Its sender has given up waiting for the first one's receipt, and waits for this one's.
            std::mem::swap(&mut again.receipt, &mut delivery.receipt);
            return Ok(Some(delivery));
        }
        match self.admit(from, message) {
            Ok(gave_way) => {
                self.senders.entry(*from).or_default().push_back(delivery);
                self.total += 1;
                Ok(gave_way)
            }
            Err(error) => {
                self.dropped += 1;
                Err((error, delivery))
            }
        }
    }

    /// Takes all that wait.
    pub fn take_all(&mut self) -> Vec<Delivery> {
        self.total = 0;
        std::mem::take(&mut self.senders).into_values().flatten().collect()
    }

    /// Takes the next message: each sender in turn has one taken.
    pub fn pop(&mut self) -> Option<Delivery> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.served.map_or(Unbounded, Excluded);
        let next = self.senders.range((after, Unbounded)).next().or_else(|| self.senders.iter().next());
        let from = *next?.0;
        let delivery = self.take(&from, VecDeque::pop_front)?;
        self.served = Some(from);
        Some(delivery)
    }

    /// Whether there is room for a message; comes with what gave way to it.
    fn admit(&mut self, from: &NodeId, message: &PrivateMessage) -> Result<Option<Delivery>, InboundError> {
        if !message.fits() {
            return Err(InboundError::TooLarge);
        }
        let held = self.senders.get(from).map_or(0, VecDeque::len);
        if held >= INBOUND_LIMIT_PER_SENDER {
            return Err(InboundError::SenderFull);
        }
        if self.total < INBOUND_LIMIT {
            return Ok(None);
        }
        let most = self.senders.iter().max_by_key(|(_, queue)| queue.len()).map(|(id, queue)| (*id, queue.len()));
        match most {
            Some((greediest, most)) if most > held + 1 => {
                self.dropped += 1;
                Ok(self.take(&greediest, VecDeque::pop_back))
            }
            _ => Err(InboundError::Full),
        }
    }

    fn take(
        &mut self,
        from: &NodeId,
        end: impl FnOnce(&mut VecDeque<Delivery>) -> Option<Delivery>,
    ) -> Option<Delivery> {
        let queue = self.senders.get_mut(from)?;
        let message = end(queue)?;
        if queue.is_empty() {
            self.senders.remove(from);
        }
        self.total -= 1;
        Some(message)
    }
}
