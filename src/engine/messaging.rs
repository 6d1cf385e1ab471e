//! The MessagingEngine: private messages to and from peers, for the node's whole life.
//!
//! ```text
//! reactor -> BrokerTunnel -> [ dispatcher: delay queue ] -> [ senders ] -> Network
//!                                    ^---- failed: try again later ----'
//! Network -> process() -> fair queue in the BrokerTunnel -> reactor
//! ```
//!
//! The decisions (what is due, what is tried again when, what is given up) are in [`Outbox`]; the threads only wait and
//! call the network.

use std::sync::Arc;
use std::time::Duration;

use super::lifecycle::{Inbox, Mailbox, Received, STOP_LIMIT, SpawnError, Stuck, Worker, inbox};
use super::mail::{DispatcherInput, Job};
use super::outbox::Outbox;
use super::retry::{MAX_WAIT, RetryPolicy};
use super::tunnel::BrokerTunnel;
use crate::network::{Delivery, Inbound, InboundError, Network};
use crate::sync::{now, random};

/// Inputs the dispatcher's inbox holds at most.
const DISPATCHER_INBOX: usize = 4096;
/// Threads that call the network: a few slow peers must not hold up the others.
pub const SENDER_THREADS: usize = 3;

/// How outbound messages are tried again. The defaults give up after about 8 minutes; complaints settle the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagingEngineConfig {
    /// Tries after the first before a message is given up.
    pub retry_max: u32,
    /// The wait between the first two tries; it doubles each time.
    pub retry_base_wait: Duration,
    /// How far each wait may stray from that, in percent.
    pub retry_jitter_percent: u32,
}

impl Default for MessagingEngineConfig {
    fn default() -> Self {
        MessagingEngineConfig { retry_max: 9, retry_base_wait: Duration::from_secs(1), retry_jitter_percent: 25 }
    }
}

impl MessagingEngineConfig {
    pub(crate) fn policy(self) -> RetryPolicy {
        RetryPolicy {
            retries: Some(self.retry_max),
            base_wait: self.retry_base_wait,
            jitter_percent: self.retry_jitter_percent,
            max_wait: MAX_WAIT,
        }
    }
}

/// Sends and receives private messages; one for the node's life, whatever runs come and go.
pub struct MessagingEngine {
    inbound: InboundHandle,
    network: Arc<dyn Network>,
    dispatcher: Mailbox<DispatcherInput>,
    senders: Vec<Mailbox<Job>>,
    workers: Vec<Worker>,
}

impl MessagingEngine {
    /// Starts the engine's threads at one end of `tunnel`.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(
        network: Arc<dyn Network>,
        tunnel: BrokerTunnel,
        config: MessagingEngineConfig,
    ) -> Result<Self, SpawnError> {
        let (dispatcher, dispatcher_inbox) = inbox(DISPATCHER_INBOX);
        let (senders, sender_inboxes): (Vec<_>, Vec<_>) = (0..SENDER_THREADS).map(|_| inbox::<Job>(1)).unzip();
        let mut engine = MessagingEngine {
            inbound: InboundHandle { tunnel: tunnel.clone(), dispatcher: dispatcher.clone() },
            network: Arc::clone(&network),
            dispatcher: dispatcher.clone(),
            senders: senders.clone(),
            workers: Vec::new(),
        };
        let panicked = |what: &'static str| move || log::error!("the messaging engine's {what} has panicked");
        engine.workers.push(Worker::spawn(
            "dkg-dispatch",
            move || dispatch(&dispatcher_inbox, Outbox::new(config.policy()), &senders),
            panicked("dispatcher"),
        )?);
        for (number, inbox) in sender_inboxes.into_iter().enumerate() {
            let (network, dispatcher) = (Arc::clone(&network), dispatcher.clone());
            engine.workers.push(Worker::spawn(
                &format!("dkg-send-{number}"),
                move || send(number, &inbox, &*network, &dispatcher),
                panicked("sender"),
            )?);
        }
        tunnel.open(true);
        tunnel.connect_dispatcher(dispatcher);
        Ok(engine)
    }

    /// The way for what the network receives. A network keeps this and not the engine: an engine that a network's thread is
    /// the last to let go of would be stopped there, and wait for others that wait for that thread.
    pub fn inbound(&self) -> InboundHandle {
        self.inbound.clone()
    }

    /// Takes a private message that the network has received, and whose sender it has authenticated. Whether it has been taken
    /// for good is told by its receipt.
    ///
    /// # Errors
    /// It is too large, or too many wait; the network should tell the sender, which tries again later.
    pub fn process(&self, delivery: Delivery) -> Result<(), InboundError> {
        self.inbound.deliver(delivery)
    }

    /// Stops the threads, whatever they are waiting for, and waits until they have ended.
    ///
    /// # Errors
    /// The host's network did not return after its shutdown; its thread is left to itself.
    pub fn stop(&self) -> Result<(), Stuck> {
        self.dispatcher.stop();
        self.senders.iter().for_each(Mailbox::stop);
        self.inbound.tunnel.open(false);
        self.network.shutdown();
        let deadline = now() + STOP_LIMIT;
        self.workers.iter().map(|worker| worker.join_by(deadline)).fold(Ok(()), Result::and)
    }
}

/// Hands what a network has received to an engine. Clones go to the same engine; once it has stopped they refuse.
#[derive(Clone)]
pub struct InboundHandle {
    tunnel: BrokerTunnel,
    dispatcher: Mailbox<DispatcherInput>,
}

impl Inbound for InboundHandle {
    fn deliver(&self, delivery: Delivery) -> Result<(), InboundError> {
        if self.dispatcher.is_stopped() {
            return Err(InboundError::Stopped);
        }
        self.tunnel.arrived(delivery)
    }
}

impl Drop for MessagingEngine {
    fn drop(&mut self) {
        if let Err(stuck) = self.stop() {
            log::error!("{stuck}");
        }
    }
}

fn dispatch(inbox: &Inbox<DispatcherInput>, mut outbox: Outbox, senders: &[Mailbox<Job>]) {
    let mut idle: Vec<usize> = (0..senders.len()).collect();
    loop {
        while let Some(&sender) = idle.last() {
            let Some(job) = outbox.take_due(now()) else { break };
            idle.pop();
            if senders.get(sender).is_none_or(|mailbox| mailbox.send(job).is_err()) {
                return;
            }
        }
        // With no sender idle nothing can be sent, whatever is due; the sender's word will wake us.
        let until = if idle.is_empty() { None } else { outbox.next_due() };
        match inbox.receive(until) {
            Received::Message(DispatcherInput::Send(outbound)) => outbox.add(outbound, now()),
            Received::Message(DispatcherInput::EndRun(instance)) => outbox.end_run(instance),
            Received::Message(DispatcherInput::Sent { sender, job, result }) => {
                idle.push(sender);
                if let Err(error) = result {
                    outbox.failed(job, &error, now(), random());
                }
            }
            Received::Woken => {}
            Received::Stopped => return,
        }
    }
}

fn send(number: usize, inbox: &Inbox<Job>, network: &dyn Network, dispatcher: &Mailbox<DispatcherInput>) {
    loop {
        match inbox.receive(None) {
            Received::Message(job) => {
                let result = network.send(&job.outbound.to, &job.outbound.message);
                if dispatcher.send(DispatcherInput::Sent { sender: number, job, result }).is_err() {
                    return;
                }
            }
            Received::Woken => {}
            Received::Stopped => return,
        }
    }
}
