//! The MessagingEngine: private messages to and from peers, for the node's whole life.
//!
//! ```text
//! reactor -> BrokerTunnel -> [ dispatcher: a lane a peer ] -> [ a thread a call ] -> Network
//!                                    ^---- what came of it; failed: try again later ----'
//! Network -> process() -> fair queue in the BrokerTunnel -> reactor
//! ```
//!
//! The decisions (what is due, what is tried again when, what is given up) are in [`Outbox`]; the threads only wait and
//! call the network. A call blocks its own thread and its own peer's lane for as long as the peer likes, and nobody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::host::HostNetwork;
use super::lifecycle::{Inbox, Mailbox, Received, STOP_LIMIT, Signal, SpawnError, Stuck, Worker, inbox};
use super::mail::{DispatcherInput, Job};
use super::outbox::Outbox;
use super::reactor::EngineError;
use super::retry::{MAX_WAIT, RetryPolicy};
use super::tunnel::BrokerTunnel;
use crate::fence;
use crate::network::{Delivery, Inbound, InboundError, Network, NetworkError};
use crate::sync::{Mutex, now, random};

/// Inputs the dispatcher's inbox holds at most.
const DISPATCHER_INBOX: usize = 4096;

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
    dispatcher: Mailbox<DispatcherInput>,
    dispatching: Worker,
    calls: Arc<Calls>,
    done: Signal<Result<(), EngineError>>,
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
        let calls = Arc::new(Calls {
            network: HostNetwork::new(network),
            dispatcher: dispatcher.clone(),
            threads: Mutex::default(),
        });
        let carried_out = Arc::clone(&calls);
        let done = Signal::new();
        let (is_done, has_panicked) = (done.clone(), done.clone());
        let dispatching = Worker::spawn(
            "dkg-dispatch",
            move || {
                dispatch(&dispatcher_inbox, Outbox::new(config.policy()), &carried_out);
                is_done.raise(Ok(()));
            },
            move |text| {
                let ended = EngineError::Panicked { thread: "messaging engine's dispatcher", text };
                fence::say(log::Level::Error, &ended);
                has_panicked.raise(Err(ended));
            },
        )?;
        let inbound = InboundHandle { tunnel: tunnel.clone(), dispatcher: dispatcher.clone() };
        let engine = MessagingEngine { inbound, dispatcher: dispatcher.clone(), dispatching, calls, done };
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

    /// Raised when the engine sends nothing any more: because it was stopped, or with what has ended it. A host that goes on
    /// without it is disqualified in every run.
    pub fn done(&self) -> Signal<Result<(), EngineError>> {
        self.done.clone()
    }

    /// Stops the threads, whatever they are waiting for, and waits until they have ended.
    ///
    /// # Errors
    /// What had ended the engine before; or the host's network did not return after its shutdown, and its thread is left to
    /// itself.
    pub fn stop(&self) -> Result<(), EngineError> {
        self.dispatcher.stop();
        self.inbound.tunnel.open(false);
        self.calls.network.shutdown();
        let deadline = now() + STOP_LIMIT;
        // Once it has ended, no call begins any more.
        let dispatching = self.dispatching.join_by(deadline);
        dispatching.and(self.calls.join_by(deadline))?;
        self.done.get().unwrap_or(Ok(()))
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
        if let Err(error) = self.stop() {
            fence::say(log::Level::Error, &error);
        }
    }
}

fn dispatch(inbox: &Inbox<DispatcherInput>, mut outbox: Outbox, calls: &Arc<Calls>) {
    let mut under_way: usize = 0;
    let most = calls.network.calls_at_once();
    loop {
        while under_way < most
            && !inbox.is_stopped()
            && let Some(job) = outbox.take_due(now())
        {
            match calls.begin(job) {
                Ok(()) => under_way += 1,
                Err(failed) => outbox.returned(failed.0, Err(failed.1), now(), random()),
            }
        }
        // With as many calls under way as there may be nothing can be sent, whatever is due; the next that returns wakes us.
        let until = if under_way < most { outbox.next_due() } else { None };
        match inbox.receive(until) {
            Received::Message(DispatcherInput::Send(outbound)) => outbox.add(outbound, now()),
            Received::Message(DispatcherInput::EndRun(instance)) => outbox.end_run(instance),
            Received::Message(DispatcherInput::Sent { job, result }) => {
                under_way = under_way.saturating_sub(1);
                calls.reap();
                outbox.returned(job, result, now(), random());
            }
            Received::Woken => {}
            Received::Stopped => return,
        }
    }
}

/// The calls of the network that are under way, each on a thread of its own.
struct Calls {
    network: HostNetwork,
    dispatcher: Mailbox<DispatcherInput>,
    /// Those that have not ended, as of the last time that somebody has looked.
    threads: Mutex<Vec<Arc<Worker>>>,
}

impl Calls {
    /// Begins to send a message; the dispatcher is told what comes of it. Without a thread to be had, that is a try which has
    /// failed.
    fn begin(self: &Arc<Self>, job: Job) -> Result<(), Box<(Job, NetworkError)>> {
        let to = job.outbound.to;
        // The thread takes it out; if there is none, it is still there.
        let handed = Arc::new(Mutex::new(Some(job)));
        let (calls, taken) = (Arc::clone(self), Arc::clone(&handed));
        let body = move || {
            let Some(job) = taken.lock().take() else { return };
            let result = calls.network.send(&job.outbound.to, &job.outbound.message);
            // Who has stopped the engine waits for nothing any more.
            let _ = calls.dispatcher.send(DispatcherInput::Sent { job, result });
        };
        let panicked = |text| fence::say(log::Level::Error, &format_args!("a sending thread has panicked: {text}"));
        match Worker::spawn("dkg-send", body, panicked) {
            Ok(thread) => {
                self.threads.lock().push(Arc::new(thread));
                Ok(())
            }
            Err(error) => match handed.lock().take() {
                Some(job) => Err(Box::new((job, NetworkError::Unreachable(to, error.to_string())))),
                None => Ok(()),
            },
        }
    }

    /// Lets go of the threads that have ended.
    fn reap(&self) {
        self.threads.lock().retain(|thread| !thread.has_ended());
    }

    /// Waits for those that are under way, until `deadline`.
    fn join_by(&self, deadline: Instant) -> Result<(), Stuck> {
        let threads = self.threads.lock().clone();
        threads.iter().map(|thread| thread.join_by(deadline)).fold(Ok(()), Result::and)
    }
}
