//! The node's life: put together, catch up, run, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use super::desk::Shared;
use super::host::{Seen, endpoints, kind};
use super::identity::Identity;
use super::links::{OffsetClock, addresses, bind, tcp_config};
use super::status::{Stage, Status};
use super::{Admin, NodeConfig, NodeError, admin_socket, folder, host};
use crate::chain::log::{
    ChainNode, Clock, CommitteeFile, FollowError, Follower, LogChain, LogCopy, LogError, LogHost, LogPlace,
};
use crate::engine::{
    BrokerTunnel, ControllerFactory, EngineError, MessagingEngine, MessagingEngineConfig, OsRandomness, Randomness,
    ReactorConfig, ReactorEngine, ReactorParts, Signal, WhiteboardConfig,
};
use crate::epoch::View;
use crate::network::Network;
use crate::store::{DkgState, Unlock};

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

/// What a node's engine is made of, until it starts.
struct Parts {
    identity: Identity,
    config: ReactorConfig,
    tunnel: BrokerTunnel,
    messaging: MessagingEngine,
}

impl Node {
    /// Starts the member that `config` describes. Its data folder is made if it is not there and `create` says so.
    ///
    /// Returns when its links listen; it catches up with the log and runs on threads of its own.
    ///
    /// # Errors
    /// See [`NodeError`]. Nothing runs then.
    pub fn start(config: &NodeConfig, unlock: &Unlock, create: bool) -> Result<Node, NodeError> {
        let committee = CommitteeFile::read(&config.committee)?;
        let chain = Arc::clone(committee.chain());
        let identity = Identity::open(&config.identity, unlock)?;
        let not_a_member = || NodeError::NotAMember {
            identity: config.identity.clone(),
            node: identity.node_id,
            committee: config.committee.clone(),
        };
        let me = chain.committee().index_of(&identity.node_id).ok_or_else(not_a_member)?;
        let addresses = addresses(config, &chain)?;
        if *chain.log() == LogPlace::Local {
            return Err(NodeError::LocalLog(config.committee.clone()));
        }
        let folder = folder::open(&config.data, &chain, identity.node_id, unlock, create)?;
        let clock: Arc<dyn Clock> = Arc::new(OffsetClock(config.clock_offset_ms));
        let network = Arc::new(bind(|| tcp_config(config, &chain, &addresses, me, &identity))?);

        let copy = LogCopy::new(&folder.log, host::connect(&chain, &config.log)?);
        let (host, trouble) = Seen::new(Arc::new(copy));
        let host: Arc<dyn LogHost> = Arc::new(host);
        let replica = LogChain::new(Arc::clone(&chain));
        let key = identity.network_key.clone();
        let chain_node = ChainNode::new(replica, Arc::clone(&host), key, clock.now_ms()).map_err(|_| not_a_member())?;
        let tunnel = BrokerTunnel::new();
        let base_wait = Duration::from_millis(chain.view_ms()).min(MAX_BASE_WAIT);
        let phase = Duration::from_millis(chain.view_ms().saturating_mul(chain.schedule().views_per_phase));
        let whiteboard = WhiteboardConfig::for_phases_of(phase, base_wait);
        let messaging_config = MessagingEngineConfig { retry_base_wait: base_wait, ..MessagingEngineConfig::default() };
        let messaging =
            MessagingEngine::new(Arc::clone(&network) as Arc<dyn Network>, tunnel.clone(), messaging_config)?;
        network.attach(messaging.inbound());
        let reactor_config = ReactorConfig {
            poll_step: chain.schedule().poll_step,
            whiteboard,
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
            chain: chain_node,
            host,
            copy: folder.log,
            network,
            state: DkgState::new(Arc::clone(&store) as _).keeping(config.keep.epochs(&chain)),
            store,
            results: folder::results(&config.data)?,
            clock,
            diary: Arc::default(),
            trouble,
            overviews: Mutex::default(),
            stage: Mutex::default(),
            ended: Mutex::new(folder::sighting(&config.data)?),
            data: config.data.clone(),
            pulse: Mutex::default(),
            since: Instant::now(),
            config: chain,
        });
        let admin = Admin::start(&admin_socket(&config.data), Arc::clone(&shared) as _)?;
        let parts = Parts { identity, config: reactor_config, tunnel, messaging };
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let ended = Signal::new();
        let thread = {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            let body = move || {
                let _told = TellEnd { shared: &shared, ended: &ended };
                let outcome = live(&shared, parts, &stopped);
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
        Ok(Node { shared, admin: Some(admin), stop: Some(stop), thread: Some(thread), ended })
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
        self.shared.host.shutdown();
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

/// The node's own thread.
fn live(shared: &Arc<Shared>, parts: Parts, stopped: &Receiver<()>) -> Result<(), NodeError> {
    let Parts { identity, config, tunnel, messaging } = parts;
    let seen_before = shared.ended.lock().clone();
    let outcome = match seen_before {
        Some(seen) => Err(NodeError::RunsTwice(seen)),
        None => match catch_up(shared, stopped) {
            Ok(true) => run(shared, identity, config, tunnel, &messaging.done(), stopped),
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        },
    };
    shared.host.shutdown();
    let messaging_ended = messaging.stop().map_err(NodeError::from);
    if let Err(NodeError::RunsTwice(seen)) = &outcome {
        hold(shared, seen, stopped);
    }
    *shared.stage.lock() = Stage::Stopped;
    outcome.and(messaging_ended)
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
fn catch_up(shared: &Shared, stopped: &Receiver<()>) -> Result<bool, FollowError> {
    let mut told: Option<LogError> = None;
    loop {
        match shared.chain.catch_up_noting(|| shared.results.note(shared.chain.replica())) {
            Ok(()) => return Ok(true),
            Err(FollowError::Log(LogError::ShutDown)) => return Ok(false),
            Err(FollowError::Log(error)) if error.may_pass() => {
                if told.as_ref() != Some(&error) {
                    log::warn!("{error}; the node starts when that is over");
                    shared.diary.note(&format!("{error}; the node starts when that is over"));
                    told = Some(error);
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
    identity: Identity,
    config: ReactorConfig,
    tunnel: BrokerTunnel,
    messaging: &Signal<Result<(), EngineError>>,
    stopped: &Receiver<()>,
) -> Result<(), NodeError> {
    let snapshot = shared.chain.replica().lock().snapshot();
    let reactor = ReactorEngine::new(ReactorParts {
        config,
        snapshot,
        state: shared.state.clone(),
        factory: ControllerFactory::new(identity.node_id, identity.staking_key),
        clients: vec![shared.chain.board()],
        tunnel,
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
    let follower = Follower::start(&shared.chain, clock, pace, Arc::new(engine), u64::from_le_bytes(seed))
        .map_err(|error| NodeError::System("thread", error.to_string()))?;
    shared.running();
    let outcome = loop {
        if let Some(ended) = reactor.done().get().or_else(|| messaging.get()) {
            break ended.map_err(NodeError::from);
        }
        if let Some(error) = follower.failure() {
            break Err(error.into());
        }
        if let Some(twin) = shared.chain.twin() {
            break Err(NodeError::RunsTwice(twin.to_string()));
        }
        shared.results.note(shared.chain.replica());
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
