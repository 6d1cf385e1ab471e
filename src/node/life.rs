//! The node's life: put together, catch up, run, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;

use super::desk::{Access, Shared};
use super::ground::CommitteeOnDisk;
use super::host::{Seen, Trouble, endpoints, kind};
use super::identity::Identity;
use super::kind::{committee_of, identity_of};
use super::links::{OffsetClock, addresses, bind, tcp_config};
use super::status::{Stage, Status};
use super::{Admin, LogSettings, NodeConfig, NodeError, admin_socket, folder, host};
use crate::chain::log::{
    ChainConfig, ChainNode, Clock, FileLog, FollowError, Follower, LogChain, LogCopy, LogError, LogHost, LogPlace,
};
use crate::engine::{
    BrokerTunnel, ControllerFactory, MessagingEngine, MessagingEngineConfig, OsRandomness, Randomness, ReactorConfig,
    ReactorEngine, ReactorParts, Signal, WhiteboardConfig,
};
use crate::epoch::View;
use crate::network::Network;
use crate::network::tcp::TcpNetwork;
use crate::store::{DkgState, SecretAccess, Unlock};

/// How long a node waits before it asks again for a log that it could not reach at its start.
const LOG_RETRY: Duration = Duration::from_secs(1);
/// How often a running node looks whether its parts still run.
const LOOK_AROUND: Duration = Duration::from_millis(200);
/// The longest wait between two tries to reach a peer or the board, as views may be long.
const MAX_BASE_WAIT: Duration = Duration::from_secs(1);

/// A running node. Dropping it stops it.
pub struct Node {
    shared: Arc<Shared>,
    admin: Option<Admin>,
    /// Closed to stop the node.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    ended: Signal<Result<(), NodeError>>,
}

/// What a node's engine is made of, each time it starts.
struct Parts {
    identity: Identity,
    config: ReactorConfig,
    log: LogWay,
}

/// How this member comes to its log.
struct LogWay {
    settings: LogSettings,
    secrets: SecretAccess,
    key: SigningKey,
    trouble: Trouble,
}

impl LogWay {
    fn connect(&self, chain: &Arc<ChainConfig>, copy: &FileLog, clock: &dyn Clock) -> Result<Access, NodeError> {
        let copy = LogCopy::new(copy, host::connect(chain, &self.settings, self.secrets)?);
        let host: Arc<dyn LogHost> = Arc::new(Seen::new(Arc::new(copy), Arc::clone(&self.trouble)));
        let (replica, key) = (LogChain::new(Arc::clone(chain)), self.key.clone());
        let node = ChainNode::new(replica, Arc::clone(&host), key, clock.now_ms());
        Ok(Access { host, chain: node.map_err(|error| NodeError::LogSettings(error.to_string()))? })
    }
}

/// The engine for private messages, and the way from it to the run's.
struct Messages {
    tunnel: BrokerTunnel,
    engine: MessagingEngine,
}

impl Messages {
    fn start(network: &Arc<TcpNetwork>, chain: &ChainConfig) -> Result<Self, NodeError> {
        let tunnel = BrokerTunnel::new();
        let config = MessagingEngineConfig { retry_base_wait: base_wait(chain), ..MessagingEngineConfig::default() };
        let engine = MessagingEngine::new(Arc::clone(network) as Arc<dyn Network>, tunnel.clone(), config)?;
        network.attach(engine.inbound());
        Ok(Messages { tunnel, engine })
    }
}

/// The wait between two tries to reach a peer or the board.
fn base_wait(chain: &ChainConfig) -> Duration {
    Duration::from_millis(chain.view_ms()).min(MAX_BASE_WAIT)
}

impl Node {
    /// Starts the member that `config` describes. Its data folder is made if it is not there and `create` says so.
    ///
    /// Returns when its links listen; it catches up with the log and runs on threads of its own.
    ///
    /// # Errors
    /// See [`NodeError`]. Nothing runs then.
    pub fn start(config: &NodeConfig, unlock: &Unlock, create: bool) -> Result<Node, NodeError> {
        let committee = committee_of(config)?;
        let chain = Arc::clone(committee.chain());
        let identity = identity_of(config, unlock)?;
        let not_a_member = || NodeError::NotAMember {
            identity: config.identity.clone(),
            node: identity.node_id,
            committee: config.committee.clone(),
        };
        let me = chain.committee().index_of(&identity.node_id).ok_or_else(not_a_member)?;
        let addresses = addresses(config, &chain)?;
        let kept_epochs = config.keep.epochs(&chain)?;
        if *chain.log() == LogPlace::Local {
            return Err(NodeError::LocalLog(config.committee.clone()));
        }
        let folder = folder::open(&config.data, &chain, identity.node_id, unlock, create)?;
        let clock: Arc<dyn Clock> = Arc::new(OffsetClock(config.clock_offset_ms));
        let network = Arc::new(bind(|| tcp_config(config, &chain, &addresses, me, &identity))?);

        let trouble = Trouble::default();
        let log = LogWay {
            settings: config.log.clone(),
            secrets: config.secrets,
            key: identity.network_key.clone(),
            trouble: Arc::clone(&trouble),
        };
        let access = log.connect(&chain, &folder.log, &*clock)?;
        let messages = Messages::start(&network, &chain)?;
        let phase = Duration::from_millis(chain.view_ms().saturating_mul(chain.schedule().views_per_phase));
        let reactor_config = ReactorConfig {
            poll_step: chain.schedule().poll_step,
            whiteboard: WhiteboardConfig::for_phases_of(phase, base_wait(&chain)),
            key_check: config.key_check,
            ..ReactorConfig::default()
        };
        let store = Arc::new(folder.store);
        let shared = Arc::new(Shared {
            me,
            node_id: identity.node_id,
            log_kind: kind(chain.log()),
            endpoints: endpoints(&chain, &config.log),
            addresses,
            access: Mutex::new(Arc::new(access)),
            copy: folder.log,
            network,
            state: DkgState::new(Arc::clone(&store) as _).keeping(kept_epochs),
            store,
            results: folder::results(&config.data)?,
            clock,
            diary: Arc::default(),
            trouble,
            overviews: Mutex::default(),
            stage: Mutex::default(),
            ended: Mutex::new(folder::sighting(&config.data)?),
            data: config.data.clone(),
            committee_file: CommitteeOnDisk::new(&config.committee, *chain.identity()),
            pulse: Mutex::default(),
            since: Instant::now(),
            config: chain,
        });
        let admin = Admin::start(&admin_socket(&config.data), Arc::clone(&shared) as _).inspect_err(|error| {
            // A member does its part without: not every file system has sockets.
            let told = format!("commands on this machine do not reach this node: {error}");
            log::warn!("{told}");
            shared.diary.note(&told);
        });
        let parts = Parts { identity, config: reactor_config, log };
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let ended = Signal::new();
        let thread = {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            let body = move || {
                let _told = TellEnd { shared: &shared, ended: &ended };
                let outcome = live(&shared, parts, messages, &stopped);
                if let Err(error) = &outcome {
                    log::error!("the node has stopped: {error}");
                    shared.diary.note(&format!("the node has stopped: {error}"));
                    *shared.ended.lock() = Some(error.to_string());
                }
                ended.raise(outcome);
            };
            let failed = |error: std::io::Error| NodeError::System("thread", error.to_string());
            std::thread::Builder::new().name("dkg-node".to_owned()).spawn(body).map_err(failed)?
        };
        Ok(Node { shared, admin: admin.ok(), stop: Some(stop), thread: Some(thread), ended })
    }

    /// Raised when the node has ended: because it was told to, or with what stopped it by itself.
    pub fn ended(&self) -> Signal<Result<(), NodeError>> {
        self.ended.clone()
    }

    /// Where the other members reach this node.
    pub fn address(&self) -> SocketAddr {
        self.shared.network.local_addr()
    }

    /// What there is to see.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// A way to the status that outlives nothing: for a page's threads.
    pub fn status_source(&self) -> Arc<dyn Fn() -> Status + Send + Sync> {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || shared.status())
    }

    /// Stops the node and waits until its threads have ended.
    ///
    /// # Errors
    /// What had stopped it before, or what does not end.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NodeError> {
        drop(self.admin.take());
        drop(self.stop.take());
        // A read of the log may be under way.
        self.shared.access().host.shutdown();
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(NodeError::Panicked),
            Some(Ok(())) => self.ended.get().unwrap_or(Ok(())),
            None => Ok(()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `stop`; the log has it too.
        let _ = self.end();
    }
}

/// Tells the end, also of a thread that panics.
struct TellEnd<'a> {
    shared: &'a Shared,
    ended: &'a Signal<Result<(), NodeError>>,
}

impl Drop for TellEnd<'_> {
    fn drop(&mut self) {
        *self.shared.stage.lock() = Stage::Stopped;
        // If nothing has been told by now, this is a panic.
        self.ended.raise(Err(NodeError::Panicked));
    }
}

/// The node's own thread: one life of the engine after the other. There is more than one only where part of the log has to be
/// read anew; what the engine was told of it is not so, and it begins again as after a crash.
fn live(
    shared: &Arc<Shared>,
    mut parts: Parts,
    mut messages: Messages,
    stopped: &Receiver<()>,
) -> Result<(), NodeError> {
    loop {
        let access = shared.access();
        let seen_before = shared.ended.lock().clone();
        let outcome = match seen_before {
            Some(seen) => Err(NodeError::RunsTwice(seen)),
            None => match catch_up(shared, &access, stopped) {
                Ok(true) => run(shared, &access, &parts, &messages, stopped),
                Ok(false) => Ok(()),
                Err(error) => Err(error.into()),
            },
        };
        access.host.shutdown();
        let messaging_ended = messages.engine.stop().map_err(NodeError::from);
        let (why, read_before) = match outcome {
            Err(NodeError::Follow(error @ FollowError::GaveUp { position, entries })) => {
                (error.to_string(), position.saturating_add(entries))
            }
            outcome => {
                if let Err(NodeError::RunsTwice(seen)) = &outcome {
                    hold(shared, seen, stopped);
                }
                *shared.stage.lock() = Stage::Stopped;
                return outcome.and(messaging_ended);
            }
        };
        *shared.stage.lock() = Stage::Starting;
        messaging_ended?;
        log::warn!("{why}; this node begins anew");
        shared.diary.note(&format!("{why}; this node begins anew"));
        if stopped.recv_timeout(LOG_RETRY) == Err(RecvTimeoutError::Disconnected) {
            return Ok(());
        }
        // It runs already: whether it may without the key of the present epoch was asked when it started.
        parts.config.key_check = None;
        let access = parts.log.connect(&shared.config, &shared.copy, &*shared.clock)?;
        access.chain.read_before(read_before);
        *shared.access.lock() = Arc::new(access);
        messages = Messages::start(&shared.network, &shared.config)?;
        // Who stops the node shuts down the access that is in use: this one, or the one before.
        if stopped.try_recv() == Err(TryRecvError::Disconnected) {
            shared.access().host.shutdown();
        }
    }
}

/// Says nothing to anybody but whoever asks why, until the node is stopped.
fn hold(shared: &Shared, seen: &str, stopped: &Receiver<()>) {
    *shared.ended.lock() = Some(seen.to_owned());
    *shared.stage.lock() = Stage::Held;
    shared.network.shutdown();
    shared.diary.note(&format!("this member runs twice: {seen}"));
    // A restart by whatever looks after the node must not let it speak again.
    if let Err(error) = folder::note_sighting(&shared.data, seen) {
        log::error!("{error}; started again, this node would not know that its member runs twice");
    }
    log::error!("{}", shared.status().verdict);
    // Nobody sends on this channel.
    let _ = stopped.recv();
}

/// Reads what was missed; `false` if the node was stopped meanwhile.
fn catch_up(shared: &Shared, access: &Access, stopped: &Receiver<()>) -> Result<bool, FollowError> {
    let mut told: Option<String> = None;
    loop {
        match access.chain.catch_up_noting(|| shared.results.note(access.chain.replica())) {
            Ok(()) => return Ok(true),
            Err(FollowError::Log(LogError::ShutDown)) => return Ok(false),
            Err(FollowError::Log(error)) if error.may_pass() => {
                let text = format!("{error}; the node starts when that is over");
                if told.as_ref() != Some(&text) {
                    log::warn!("{text}");
                    shared.diary.note(&text);
                    told = Some(text);
                }
            }
            Err(error) => return Err(error),
        }
        if stopped.recv_timeout(LOG_RETRY) == Err(RecvTimeoutError::Disconnected) {
            return Ok(false);
        }
    }
}

/// From the engine's start to its end.
fn run(
    shared: &Arc<Shared>,
    access: &Access,
    parts: &Parts,
    messages: &Messages,
    stopped: &Receiver<()>,
) -> Result<(), NodeError> {
    let identity = &parts.identity;
    let messaging = messages.engine.done();
    let snapshot = access.chain.replica().lock().snapshot();
    let reactor = ReactorEngine::new(ReactorParts {
        config: parts.config,
        snapshot,
        state: shared.state.clone(),
        factory: ControllerFactory::new(identity.node_id, identity.staking_key.clone()),
        clients: vec![access.chain.board()],
        tunnel: messages.tunnel.clone(),
        randomness: Box::new(OsRandomness),
        observer: Arc::clone(&shared.diary) as _,
    })?;
    reactor.ready().wait()?;
    let engine = reactor.events();
    let pace = {
        let engine = engine.clone();
        Arc::new(move || -> View { engine.worked_off() })
    };
    let mut seed = [0; 8];
    OsRandomness.fill(&mut seed).map_err(|error| NodeError::System("randomness", error.to_string()))?;
    let clock = Arc::clone(&shared.clock);
    let follower = Follower::start(&access.chain, clock, pace, Arc::new(engine), u64::from_le_bytes(seed))
        .map_err(|error| NodeError::System("thread", error.to_string()))?;
    shared.running();
    let outcome = loop {
        if let Some(ended) = reactor.done().get().or_else(|| messaging.get()) {
            break ended.map_err(NodeError::from);
        }
        if let Some(error) = follower.failure() {
            break Err(error.into());
        }
        if let Some(twin) = access.chain.twin() {
            break Err(NodeError::RunsTwice(twin.to_string()));
        }
        shared.results.note(access.chain.replica());
        shared.look();
        if stopped.recv_timeout(LOOK_AROUND) == Err(RecvTimeoutError::Disconnected) {
            break Ok(());
        }
    };
    // The engine before its follower, which may be waiting for it to take an event.
    let engine_ended = reactor.stop().map_err(NodeError::from);
    let follower_ended = follower.stop().map_err(NodeError::from);
    outcome.and(engine_ended).and(follower_ended)
}
