//! The BrokerTunnel: what joins the node's one MessagingEngine to whatever run is going on.
//!
//! Nothing in it belongs to a run. A run that ends leaves no listener behind; the messages that wait are there for the next
//! one (in the reference a failed run's Broker goes on taking them).

use std::sync::Arc;

use super::inbound::FairQueue;
use super::lifecycle::Mailbox;
use super::mail::{DispatcherInput, Outbound, ReactorInput};
use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::epoch::InstanceId;
use crate::network::{Delivery, InboundError};
use crate::sync::Mutex;

/// Joins one [`MessagingEngine`](super::MessagingEngine) to one [`ReactorEngine`](super::ReactorEngine). Clones are the same
/// tunnel.
#[derive(Clone, Default)]
pub struct BrokerTunnel(Arc<Ends>);

#[derive(Default)]
struct Ends {
    inbound: Mutex<Waiting>,
    reactor: Mutex<Option<Mailbox<ReactorInput>>>,
    dispatcher: Mutex<Option<Mailbox<DispatcherInput>>>,
}

/// What has arrived.
#[derive(Default)]
struct Waiting {
    queue: FairQueue,
    closed: bool,
}

impl BrokerTunnel {
    /// A tunnel with nothing at either end yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn connect_reactor(&self, reactor: Mailbox<ReactorInput>) {
        *self.0.reactor.lock() = Some(reactor);
    }

    pub(super) fn connect_dispatcher(&self, dispatcher: Mailbox<DispatcherInput>) {
        *self.0.dispatcher.lock() = Some(dispatcher);
    }

    /// Puts a message that has arrived where the reactor finds it.
    pub(super) fn arrived(&self, delivery: Delivery) -> Result<(), InboundError> {
        let pushed = {
            let mut waiting = self.0.inbound.lock();
            if waiting.closed { Err((InboundError::Stopped, delivery)) } else { waiting.queue.push(delivery) }
        };
        // What has been let go of is dropped here, where the lock is free: its receipt is the host's code.
        match pushed {
            Ok(_gave_way) => self.wake_reactor(),
            Err((error, _refused)) => return Err(error),
        }
        Ok(())
    }

    /// Takes messages, or refuses them and lets go of those that wait: nobody is left waiting for a receipt.
    pub(super) fn open(&self, open: bool) {
        let _let_go = {
            let mut waiting = self.0.inbound.lock();
            waiting.closed = !open;
            if open { Vec::new() } else { waiting.queue.take_all() }
        };
    }

    /// Makes the reactor look for messages that have arrived.
    pub(super) fn wake_reactor(&self) {
        if let Some(reactor) = &*self.0.reactor.lock() {
            reactor.wake();
        }
    }

    /// The next message that has arrived.
    pub(super) fn take(&self) -> Option<Delivery> {
        self.0.inbound.lock().queue.pop()
    }

    /// Messages refused or pushed out so far, because they or their sender's queue were too large.
    pub fn dropped(&self) -> u64 {
        self.0.inbound.lock().queue.dropped()
    }

    /// Hands a message to the sender threads; never waits.
    pub(super) fn send(&self, to: NodeId, message: PrivateMessage) {
        self.tell_dispatcher(DispatcherInput::Send(Outbound { to, message }));
    }

    /// Lets go of what still waits to be sent for a run.
    pub(super) fn end_run(&self, instance: InstanceId) {
        self.tell_dispatcher(DispatcherInput::EndRun(instance));
    }

    fn tell_dispatcher(&self, input: DispatcherInput) {
        let refused = match &*self.0.dispatcher.lock() {
            Some(dispatcher) => dispatcher.try_send(input).err(),
            None => Some(super::lifecycle::Refused::Stopped),
        };
        if let Some(refused) = refused {
            log::warn!("an outbound private message was dropped ({refused:?}); complaints will settle it");
        }
    }
}
