//! The ReactorEngine: owns the run. One thread around the [`Core`], and the poller and publisher it commands.

use std::sync::Arc;

use super::computer;
use super::controller::ControllerFactory;
use super::core::{Core, CoreError, DEFAULT_POLL_STEP, Standing};
use super::event::{NoObserver, Observer};
use super::host::{HostClient, HostObserver};
use super::inbound::INBOUND_LIMIT;
use super::lifecycle::{
    Desk, Inbox, Mailbox, Received, Refused, STOP_LIMIT, Signal, SpawnError, Stuck, Worker, desk, inbox,
};
use super::mail::{PollerInput, PublisherInput, ReactorInput};
use super::randomness::{OsRandomness, Randomness};
use super::retry::WhiteboardConfig;
use super::step::{Effect, Input, Recalled, Step};
use super::task::{Task, TaskId};
use super::tunnel::BrokerTunnel;
use super::whiteboard;
use crate::bls::Effort;
use crate::chain::DkgContractClient;
use crate::epoch::{EpochCommit, EpochCounter, EpochSetup, Header, ProtocolEvent, ProtocolEvents, Snapshot, View};
use crate::fence;
use crate::store::{DkgState, KeyCheck, KeyCheckError, KeyHealth, KeyVerdict, SafeKey, SelfTestError, StoreError};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, catch_panic, now, thread};

/// Events and pages the reactor's inbox holds; a host that is further ahead waits.
pub const REACTOR_INBOX: usize = 1024;
/// Private messages that are made durable together, where so many wait: shares come all at once, and each write waits for the
/// disk.
pub const PRIVATE_BATCH: usize = 50;
/// Requests the publisher's inbox holds: those of several runs.
const PUBLISHER_INBOX: usize = 2048;

/// What makes the engine stop for good. Nothing that other members do leads here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The store failed or refused; going on would be a guess.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The core was led into a step it does not have.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A thread could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A thread did not end in time.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The node does not hold the key that the current epoch expects of it, and was told not to start without.
    #[error(transparent)]
    KeyCheck(#[from] Box<KeyCheckError>),
    /// A committed key, read back from the store, does not sign.
    #[error(transparent)]
    SelfTest(#[from] Box<SelfTestError>),
    /// No whiteboard client was given.
    #[error("a node needs at least one whiteboard client")]
    NoClient,
    /// A thread of the engine panicked, by a fault of the engine or in the host's logger. A panic in any other of the host's
    /// callbacks costs that call and ends nothing, but for the store's: those are errors of the store.
    #[error("the {thread} has panicked: {text}; please report it")]
    Panicked {
        /// Which one.
        thread: &'static str,
        /// What the panic said.
        text: String,
    },
}

/// Settings of a [`ReactorEngine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorConfig {
    /// Views between two reads of the board within a phase.
    pub poll_step: u64,
    /// How to deal with a whiteboard that does not answer.
    pub whiteboard: WhiteboardConfig,
    /// Whether to look for the current epoch's key at the start, and what to do without it; `None` starts in any case.
    pub key_check: Option<KeyCheck>,
    /// What the curve work of a run may cost: how many threads for moments of it, and how sure its checks are.
    pub effort: Effort,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        ReactorConfig {
            poll_step: DEFAULT_POLL_STEP,
            whiteboard: WhiteboardConfig::default(),
            key_check: None,
            effort: Effort::of_this_machine(),
        }
    }
}

/// What a [`ReactorEngine`] is made of; all of it is the host's choice.
pub struct ReactorParts {
    /// Settings.
    pub config: ReactorConfig,
    /// Where the chain stands; all later events go to [`ReactorEngine::events`].
    pub snapshot: Snapshot,
    /// Where keys are kept.
    pub state: DkgState,
    /// Makes the Controller of each run.
    pub factory: ControllerFactory,
    /// Whiteboard clients, in order of preference.
    pub clients: Vec<Arc<dyn DkgContractClient>>,
    /// The way to the MessagingEngine.
    pub tunnel: BrokerTunnel,
    /// Where seeds come from.
    pub randomness: Box<dyn Randomness>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl ReactorParts {
    /// A node with one whiteboard client and the defaults: default settings, the operating system's randomness, nobody who
    /// is told. Change what should be different.
    pub fn new(
        snapshot: Snapshot,
        state: DkgState,
        factory: ControllerFactory,
        client: Arc<dyn DkgContractClient>,
        tunnel: BrokerTunnel,
    ) -> Self {
        ReactorParts {
            config: ReactorConfig::default(),
            snapshot,
            state,
            factory,
            clients: vec![client],
            tunnel,
            randomness: Box::new(OsRandomness),
            observer: Arc::new(NoObserver),
        }
    }
}

/// Runs the node's DKGs: starts one when an epoch's setup phase begins, carries it through its phases as blocks are
/// finalized, and checks the key when the epoch is committed.
pub struct ReactorEngine {
    reactor: Mailbox<ReactorInput>,
    clients: Arc<[HostClient]>,
    /// The threads that call the host on the reactor's behalf.
    crew: Vec<thread::ThreadId>,
    worked_off: Arc<AtomicU64>,
    health: Health,
    ready: Signal<Result<(), EngineError>>,
    done: Signal<Result<(), EngineError>>,
    worker: Worker,
}

/// Hands the chain's events to an engine. Clones go to the same engine.
#[derive(Clone)]
pub struct EventHandle {
    reactor: Mailbox<ReactorInput>,
    worked_off: Arc<AtomicU64>,
}

impl EventHandle {
    /// The latest finalized view for which the engine has done all there was to do.
    pub fn worked_off(&self) -> View {
        View(self.worked_off.load(Ordering::Acquire))
    }
}

impl ProtocolEvents for EventHandle {
    /// Waits while [`REACTOR_INBOX`] events wait; an engine that has stopped takes none. Do not call it from an
    /// [`Observer`].
    fn on_event(&self, event: ProtocolEvent) {
        if self.reactor.send(ReactorInput::Event(Box::new(event))) == Err(Refused::Stopped) {
            log::trace!("an event came after the engine had stopped");
        }
    }
}

impl ReactorEngine {
    /// Starts the engine's threads.
    ///
    /// # Errors
    /// No whiteboard client, or the system gives no more threads.
    pub fn new(parts: ReactorParts) -> Result<Self, EngineError> {
        if parts.clients.is_empty() {
            return Err(EngineError::NoClient);
        }
        let (reactor, reactor_inbox) = inbox(REACTOR_INBOX);
        // The core waits for one read and one computation at most, the latest it has asked for.
        let (poller, poller_inbox) = desk();
        let (computer, computer_inbox) = desk();
        let (publisher, publisher_inbox) = inbox(PUBLISHER_INBOX);
        let failure: Signal<EngineError> = Signal::new();
        let fail = |thread: &'static str| {
            let (failure, reactor) = (failure.clone(), reactor.clone());
            move |text| {
                failure.raise(EngineError::Panicked { thread, text });
                reactor.stop();
            }
        };
        let ReactorParts { config, snapshot, state, factory, clients, tunnel, randomness, observer } = parts;
        let (clients, observer) = (HostClient::all(clients), HostObserver::new(observer));
        let mut crew = Crew { poller, publisher, computer, clients: Arc::clone(&clients), workers: Vec::new() };
        let reading = {
            let (clients, reactor, publisher) = (Arc::clone(&clients), reactor.clone(), crew.publisher.clone());
            move || whiteboard::poll(&poller_inbox, &clients, config.whiteboard, &reactor, &publisher)
        };
        crew.workers.push(Worker::spawn("dkg-poller", reading, fail("whiteboard poller"))?);
        let posting = {
            let (clients, poller) = (Arc::clone(&clients), crew.poller.clone());
            move || whiteboard::publish(&publisher_inbox, &clients, config.whiteboard, &poller)
        };
        crew.workers.push(Worker::spawn("dkg-publisher", posting, fail("whiteboard publisher"))?);
        let computing = {
            let reactor = reactor.clone();
            move || computer::compute(&computer_inbox, &reactor)
        };
        crew.workers.push(Worker::spawn("dkg-compute", computing, fail("computing thread"))?);
        let crew_ids = crew.workers.iter().map(Worker::thread_id).collect();
        tunnel.connect_reactor(reactor.clone());
        let (worked_off, health) = (Arc::<AtomicU64>::default(), Health::default());
        let (ready, done) = (Signal::new(), Signal::new());
        let mut runner = Runner {
            core: Core::new(factory, config.poll_step, randomness).spending(config.effort),
            state,
            tunnel,
            observer,
            crew,
            worked_off: Arc::clone(&worked_off),
            key_check: config.key_check,
            health: Arc::clone(&health),
        };
        let (is_ready, is_done) = (ready.clone(), done.clone());
        let body = move || {
            // Whatever becomes of it, the other threads are ended in order.
            let ran = catch_panic(|| runner.run(&reactor_inbox, snapshot, &is_ready))
                .unwrap_or_else(|text| Err(EngineError::Panicked { thread: "reactor", text }));
            drop(reactor_inbox);
            let stopped = runner.crew.stop();
            drop(runner);
            let result = ran.and(failure.get().map_or(Ok(()), Err)).and(stopped.map_err(EngineError::from));
            if let Err(error) = &result {
                fence::say(log::Level::Error, &format_args!("the DKG engine has stopped for good: {error}"));
            }
            is_ready.raise(result.clone());
            is_done.raise(result);
        };
        let (is_ready, is_done) = (ready.clone(), done.clone());
        let panicked = move |text| {
            let error = EngineError::Panicked { thread: "reactor", text };
            is_ready.raise(Err(error.clone()));
            is_done.raise(Err(error));
        };
        let crew = crew_ids;
        let worker = Worker::spawn("dkg-reactor", body, panicked)?;
        Ok(ReactorEngine { reactor, clients, crew, worked_off, health, ready, done, worker })
    }

    /// Raised when the engine has dealt with where the chain stood at its start; or with what kept it from that.
    pub fn ready(&self) -> Signal<Result<(), EngineError>> {
        self.ready.clone()
    }

    /// Raised when the engine has stopped: because it was told to, or with what stopped it for good.
    pub fn done(&self) -> Signal<Result<(), EngineError>> {
        self.done.clone()
    }

    /// Where the keys of the current epoch and of the next stand; `None` before the engine is ready.
    pub fn key_health(&self) -> Option<(KeyHealth, Option<KeyHealth>)> {
        self.health.lock().clone()
    }

    /// The way for the chain's events.
    pub fn events(&self) -> EventHandle {
        EventHandle { reactor: self.reactor.clone(), worked_off: Arc::clone(&self.worked_off) }
    }

    /// The setup phase of epoch `current` has begun with block `first`: take part in the run for the next epoch.
    pub fn epoch_setup_phase_started(&self, current: EpochCounter, first: Header, setup: EpochSetup) {
        self.events().on_event(ProtocolEvent::EpochSetupPhaseStarted { current, first, setup });
    }

    /// The committed phase of epoch `current` has begun with block `first`: compare our share with what was committed.
    pub fn epoch_committed_phase_started(&self, current: EpochCounter, first: Header, commit: EpochCommit) {
        self.events().on_event(ProtocolEvent::EpochCommittedPhaseStarted { current, first, commit });
    }

    /// A block was finalized.
    pub fn block_finalized(&self, header: Header) {
        self.events().on_event(ProtocolEvent::BlockFinalized(header));
    }

    /// Stops the engine, whatever its threads are waiting for, and waits until they have ended. A second call returns the
    /// same. Called by the host's code on one of these threads it does not wait: they end when that code has returned, and
    /// then [`done`](Self::done) is raised.
    ///
    /// # Errors
    /// What had stopped the engine for good before; or a whiteboard client that does not return after its shutdown.
    pub fn stop(&self) -> Result<(), EngineError> {
        self.reactor.stop();
        self.clients.iter().for_each(HostClient::shutdown);
        // On one of these the host's code is being called, which has to return before they end.
        if self.crew.contains(&thread::current().id()) {
            return Ok(());
        }
        // The reactor itself waits up to one limit for the threads it commands.
        self.worker.join_by(now() + STOP_LIMIT + STOP_LIMIT / 10)?;
        self.done.get().unwrap_or(Ok(()))
    }
}

impl Drop for ReactorEngine {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            fence::say(log::Level::Error, &error);
        }
    }
}

/// The threads that the reactor commands: two at the whiteboard, and one that computes.
struct Crew {
    poller: Desk<PollerInput>,
    publisher: Mailbox<PublisherInput>,
    computer: Desk<(TaskId, Box<Task>)>,
    clients: Arc<[HostClient]>,
    workers: Vec<Worker>,
}

impl Crew {
    fn stop(&mut self) -> Result<(), Stuck> {
        self.poller.stop();
        self.publisher.stop();
        self.computer.stop();
        self.clients.iter().for_each(HostClient::shutdown);
        let deadline = now() + STOP_LIMIT;
        self.workers.drain(..).map(|worker| worker.join_by(deadline)).fold(Ok(()), Result::and)
    }
}

impl Drop for Crew {
    /// An engine that could not be started whole leaves no thread waiting.
    fn drop(&mut self) {
        self.poller.stop();
        self.publisher.stop();
        self.computer.stop();
    }
}

/// What the reactor's thread works with.
struct Runner {
    core: Core,
    state: DkgState,
    tunnel: BrokerTunnel,
    observer: HostObserver,
    crew: Crew,
    worked_off: Arc<AtomicU64>,
    key_check: Option<KeyCheck>,
    health: Health,
}

/// The keys of the current epoch and of the next, as of the last step that touched them.
type Health = Arc<Mutex<Option<(KeyHealth, Option<KeyHealth>)>>>;

impl Runner {
    /// The reactor's loop: receive, step, persist, carry out.
    fn run(
        &mut self,
        inbox: &Inbox<ReactorInput>,
        snapshot: Snapshot,
        ready: &Signal<Result<(), EngineError>>,
    ) -> Result<(), EngineError> {
        let recalled = Recalled::for_start(&self.state, self.core.node_id(), &snapshot)?;
        let (current, keys) = (snapshot.current, snapshot.keys.clone());
        self.step(Input::Start(Box::new(snapshot), recalled))?;
        if let Some(check) = self.key_check {
            let verdict = check.check(keys.as_ref(), self.core.node_id(), &self.state.record(current)?)?;
            if let KeyVerdict::Granted(missing) = verdict {
                log::warn!("started without the key of this epoch, as was granted: {missing}");
            }
        }
        self.look_at_keys()?;
        ready.raise(Ok(()));
        loop {
            self.take_private(inbox)?;
            match inbox.receive(None) {
                Received::Message(ReactorInput::Event(event)) => self.event(event)?,
                Received::Message(ReactorInput::Answer(input)) => self.step(input)?,
                Received::Woken => {}
                Received::Stopped => return Ok(()),
            }
        }
    }

    /// Takes the private messages that wait, but no more than can wait at once: who sends faster than we work must not keep
    /// the chain's events from us.
    fn take_private(&mut self, inbox: &Inbox<ReactorInput>) -> Result<(), EngineError> {
        for _ in 0..INBOUND_LIMIT / PRIVATE_BATCH {
            let mut all = Step::default();
            let mut left = PRIVATE_BATCH;
            while left > 0 && self.core.wants_private() && !inbox.is_stopped() {
                let Some(delivery) = self.tunnel.take() else { break };
                all.join(self.core.step(Input::Private(delivery))?);
                left -= 1;
            }
            for effect in all.persist(&self.state)? {
                // What has not been confirmed by now is sent again, to the node's next life.
                if inbox.is_stopped() {
                    return Ok(());
                }
                self.carry_out(effect)?;
            }
            if left > 0 {
                return Ok(());
            }
        }
        self.tunnel.wake_reactor();
        Ok(())
    }

    fn event(&mut self, event: Box<ProtocolEvent>) -> Result<(), EngineError> {
        // Who hears of the chain is likely to reach it.
        self.crew.publisher.way_is_free();
        let recalled = Recalled::for_event(&self.state, self.core.node_id(), &event)?;
        self.step(Input::Event(event, recalled))
    }

    fn step(&mut self, input: Input) -> Result<(), EngineError> {
        let step = self.core.step(input)?;
        for effect in step.persist(&self.state)? {
            let touches_keys = matches!(&effect, Effect::SelfTest { .. } | Effect::Report(_));
            self.carry_out(effect)?;
            if touches_keys {
                self.look_at_keys()?;
            }
        }
        self.worked_off.store(self.core.worked_off().0, Ordering::Release);
        Ok(())
    }

    /// Brings what is told of the keys' health up to date.
    fn look_at_keys(&self) -> Result<(), EngineError> {
        let Some(Standing { current, in_force, next }) = self.core.standing() else { return Ok(()) };
        let me = self.core.node_id();
        let health = self.state.health(*current, in_force.as_ref(), next.as_ref(), me, self.core.running())?;
        #[cfg(feature = "metrics")]
        crate::store::record_metrics(&health.0, health.1.as_ref());
        *self.health.lock() = Some(health);
        Ok(())
    }

    fn carry_out(&self, effect: Effect) -> Result<(), EngineError> {
        let told = match effect {
            Effect::SendPrivate { to, message } => {
                self.tunnel.send(to, message);
                Ok(())
            }
            Effect::Confirm(receipt) => {
                receipt.confirm();
                Ok(())
            }
            Effect::Read(request) => {
                self.crew.poller.put(PollerInput::Read(request));
                Ok(())
            }
            Effect::Post { instance, content } => {
                self.crew.publisher.try_send(PublisherInput::Post { instance, content })
            }
            Effect::Submit { instance, result } => {
                self.crew.publisher.try_send(PublisherInput::Submit { instance, result })
            }
            Effect::Compute { id, task } => {
                self.crew.computer.put((id, task));
                Ok(())
            }
            Effect::EndRun(instance) => {
                self.tunnel.end_run(instance.clone());
                self.crew.poller.put(PollerInput::Abandon);
                self.crew.publisher.try_send(PublisherInput::EndRun(instance))
            }
            Effect::SelfTest { epoch, public_key } => {
                if let SafeKey::Key(key) = self.state.safe_key(epoch)? {
                    key.self_test(&public_key)?;
                }
                Ok(())
            }
            Effect::Report(event) => {
                log::log!(event.level(), "{event}");
                self.observer.notify(&event);
                Ok(())
            }
        };
        if told == Err(Refused::Full) {
            // A client that has not returned for the length of several runs. What is dropped is nothing that anybody waits for.
            log::error!("a whiteboard client does not return; a post was dropped");
        }
        Ok(())
    }
}
