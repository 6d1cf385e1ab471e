//! The node's life: put together, catch up, run, stop.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use super::admin::Desk;
use super::diary::Diary;
use super::host::{Seen, Trouble, endpoints, kind};
use super::identity::Identity;
use super::signing::{PublicResult, SignatureShare};
use super::status::{KeysStatus, LogStatus, SeenMember, Stage, Status};
use super::{Admin, Answer, NodeConfig, NodeError, Request, admin_socket, check, folder, host};
use crate::chain::log::{
    ChainConfig, ChainNode, Clock, CommitteeFile, FileLog, FollowError, Follower, LogChain, LogCopy, LogError, LogHost,
    LogPlace, Overviews, RECENT_ENTRIES, SystemClock,
};
use crate::committee::{Index, NodeId};
use crate::engine::{
    BrokerTunnel, ControllerFactory, MessagingEngine, MessagingEngineConfig, OsRandomness, Randomness, ReactorConfig,
    ReactorEngine, ReactorParts, Signal, WhiteboardConfig,
};
use crate::epoch::{EpochCounter, EpochPhase, View};
use crate::hex;
use crate::network::Network;
use crate::network::tcp::{TcpConfig, TcpError, TcpLimits, TcpNetwork, TcpPeer};
use crate::store::{DkgState, SafeKey, Unlock};

/// How long a node waits before it asks again for a log that it could not reach at its start.
const LOG_RETRY: Duration = Duration::from_secs(1);
/// How long a node waits for an address that is taken.
const BIND_PATIENCE: Duration = Duration::from_secs(10);
/// How often it tries again meanwhile.
const BIND_AGAIN: Duration = Duration::from_secs(1);
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

/// What the node's own thread and whoever asks for its status have in common.
struct Shared {
    config: Arc<ChainConfig>,
    me: Index,
    node_id: NodeId,
    log_kind: &'static str,
    endpoints: Vec<String>,
    chain: ChainNode,
    host: Arc<dyn LogHost>,
    copy: FileLog,
    network: Arc<TcpNetwork>,
    state: DkgState,
    clock: Arc<dyn Clock>,
    diary: Arc<Diary>,
    trouble: Trouble,
    overviews: Mutex<Overviews>,
    stage: Mutex<Stage>,
}

/// What a node's engine is made of, until it starts.
struct Parts {
    identity: Identity,
    config: ReactorConfig,
    tunnel: BrokerTunnel,
    messaging: MessagingEngine,
}

/// The machine's clock, put right.
pub(super) struct OffsetClock(pub(super) i64);

impl Clock for OffsetClock {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms().saturating_add_signed(self.0)
    }
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
        if *chain.log() == LogPlace::Local {
            return Err(NodeError::LocalLog(config.committee.clone()));
        }
        let folder = folder::open(&config.data, &chain, identity.node_id, unlock, create)?;
        let clock: Arc<dyn Clock> = Arc::new(OffsetClock(config.clock_offset_ms));
        let network = Arc::new(bind(|| tcp_config(config, &chain, me, &identity))?);

        let (host, trouble) = Seen::new(host::connect(&chain, &config.log)?);
        let host: Arc<dyn LogHost> = Arc::new(LogCopy::new(&folder.log, Arc::new(host)));
        let replica = LogChain::new(Arc::clone(&chain));
        let key = identity.network_key.clone();
        let chain_node = ChainNode::new(replica, Arc::clone(&host), key, clock.now_ms()).map_err(|_| not_a_member())?;
        let tunnel = BrokerTunnel::new();
        let base_wait = Duration::from_millis(chain.view_ms()).min(MAX_BASE_WAIT);
        let messaging_config = MessagingEngineConfig { retry_base_wait: base_wait, ..MessagingEngineConfig::default() };
        let messaging =
            MessagingEngine::new(Arc::clone(&network) as Arc<dyn Network>, tunnel.clone(), messaging_config)?;
        network.attach(messaging.inbound());
        let reactor_config = ReactorConfig {
            poll_step: chain.schedule().poll_step,
            whiteboard: WhiteboardConfig { base_wait, ..WhiteboardConfig::default() },
            key_check: config.key_check,
        };
        let shared = Arc::new(Shared {
            me,
            node_id: identity.node_id,
            log_kind: kind(chain.log()),
            endpoints: endpoints(&chain, &config.log),
            chain: chain_node,
            host,
            copy: folder.log,
            network,
            state: DkgState::new(Arc::new(folder.store)),
            clock,
            diary: Arc::default(),
            trouble,
            overviews: Mutex::default(),
            stage: Mutex::default(),
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

/// Listens; waits a while for an address that is taken, by a check that is just ending, say.
fn bind(config: impl Fn() -> TcpConfig) -> Result<TcpNetwork, NodeError> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match TcpNetwork::bind(config()) {
            Err(TcpError::Listen(address, error))
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                log::warn!("cannot listen at {address} yet: {error}");
                std::thread::sleep(BIND_AGAIN);
            }
            bound => return bound.map_err(|error| NodeError::Network(Arc::new(error))),
        }
    }
}

pub(super) fn tcp_config(config: &NodeConfig, chain: &ChainConfig, me: Index, identity: &Identity) -> TcpConfig {
    let peer = |index: Index| {
        let node_id = chain.committee().member(index)?.node_id;
        let address = config.peers.get(&node_id).map(String::as_str).or(chain.address(index))?.to_owned();
        Some(TcpPeer { node_id, key: *chain.network_key(index)?, address })
    };
    let peers = Index::all(chain.committee().size()).filter(|index| *index != me).filter_map(peer).collect();
    let port = chain.address(me).and_then(|address| address.rsplit_once(':')?.1.parse().ok()).unwrap_or_default();
    let listen = config.listen.unwrap_or(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    TcpConfig {
        listen,
        me: identity.node_id,
        key: identity.network_key.clone(),
        chain: *chain.identity(),
        peers,
        clock_offset_ms: config.clock_offset_ms,
        limits: TcpLimits::default(),
    }
}

/// The node's own thread.
fn live(shared: &Arc<Shared>, parts: Parts, stopped: &Receiver<()>) -> Result<(), NodeError> {
    let Parts { identity, config, tunnel, messaging } = parts;
    let outcome = match catch_up(shared, stopped) {
        Ok(true) => run(shared, identity, config, tunnel, stopped),
        Ok(false) => Ok(()),
        Err(error) => Err(error.into()),
    };
    *shared.stage.lock() = Stage::Stopped;
    shared.host.shutdown();
    outcome.and(messaging.stop().map_err(NodeError::from))
}

/// Reads what was missed; `false` if the node was stopped meanwhile.
fn catch_up(shared: &Shared, stopped: &Receiver<()>) -> Result<bool, FollowError> {
    let mut told = false;
    loop {
        match shared.chain.catch_up() {
            Ok(()) => return Ok(true),
            Err(FollowError::Log(LogError::ShutDown)) => return Ok(false),
            Err(FollowError::Log(error @ (LogError::Unavailable(_) | LogError::Full(_)))) => {
                if !told {
                    log::warn!("{error}; the node starts when it can be reached");
                    shared.diary.note(&format!("{error}; the node starts when it can be reached"));
                    told = true;
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
    *shared.stage.lock() = Stage::Running;
    let outcome = loop {
        if let Some(ended) = reactor.done().get() {
            break ended.map_err(NodeError::from);
        }
        if let Some(error) = follower.failure() {
            break Err(error.into());
        }
        if stopped.recv_timeout(LOOK_AROUND) == Err(RecvTimeoutError::Disconnected) {
            break Ok(());
        }
    };
    // The engine before its follower, which may be waiting for it to take an event.
    let engine_ended = reactor.stop().map_err(NodeError::from);
    let follower_ended = follower.stop().map_err(NodeError::from);
    outcome.and(engine_ended).and(follower_ended)
}

impl Shared {
    fn status(&self) -> Status {
        // A copy, so that the chain is not held up while the rest is put together.
        let chain = self.chain.replica().lock().clone();
        let now_ms = self.clock.now_ms();
        let from = chain.prefix().position.saturating_sub(RECENT_ENTRIES as u64);
        // For show: a copy that cannot be read stops the node elsewhere.
        let recent = self.copy.reader().read(from, RECENT_ENTRIES).unwrap_or_default();
        let recent: Vec<_> = (from..).zip(recent).collect();
        let overview = self.overviews.lock().of(&chain, &recent, now_ms);
        let epoch = chain.epoch().run_for;
        let notes = self.diary.run(epoch);
        let in_progress = notes.qualified.is_none() && chain.contract().is_running();
        let shares_from = in_progress.then(|| self.state.shares_kept(epoch).unwrap_or_default());
        let peers = self.network.peers();
        let seen = self.config.committee().iter().map(|(index, member)| {
            let link = peers.iter().find(|peer| peer.node_id == member.node_id).cloned();
            SeenMember::of(index, self.me, &notes, shares_from.as_deref(), link)
        });
        let next = match chain.phase() {
            EpochPhase::Committed(commit) => Some(commit),
            EpochPhase::Staking | EpochPhase::Setup(_) => None,
        };
        let results = chain.past_keys().chain(chain.keys()).chain(&next);
        let stage = *self.stage.lock();
        let health = || {
            let running = in_progress.then_some(epoch);
            let current = chain.epoch().epoch;
            let health = self.state.health(current, chain.keys(), next.as_ref(), &self.node_id, running);
            health.ok().map(|(current, next)| KeysStatus { current, next })
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stage,
            trouble: self.trouble.lock().clone(),
            index: self.me,
            node_id: self.node_id.to_string(),
            seen: seen.collect(),
            run_here: notes,
            // Before that, the chain at hand is an old one.
            keys: if stage == Stage::Running { health() } else { None },
            results: results.map(|commit| PublicResult::of(self.config.chain_id(), commit)).collect(),
            log: LogStatus { kind: self.log_kind.to_owned(), endpoints: self.endpoints.clone() },
            strangers_refused: self.network.strangers_refused(),
            events: self.diary.events(),
            chain: overview,
        }
    }

    /// A share of a signature with the committed key of this epoch.
    fn sign(&self, epoch: u64, message: &str, tag: &str) -> Result<SignatureShare, String> {
        let message = hex::decode(message).ok_or("the message has to be hex digits, two a byte")?;
        let key = match self.state.safe_key(EpochCounter(epoch)).map_err(|error| error.to_string())? {
            SafeKey::Key(key) => key,
            SafeKey::NotYet => return Err(format!("the key of epoch {epoch} is not committed yet; try again later")),
            SafeKey::Never => return Err(format!("this node has no key of epoch {epoch}, and will not have one")),
        };
        SignatureShare::sign(self.config.chain_id(), &key, &message, tag).map_err(|error| error.to_string())
    }
}

impl Desk for Shared {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Probe => Answer::Probed(check::probe(&self.network, &self.config, self.me, &*self.clock)),
            Request::Sign { epoch, message, tag } => match self.sign(epoch, &message, &tag) {
                Ok(share) => Answer::Signed(Box::new(share)),
                Err(reason) => Answer::Refused(reason),
            },
        }
    }
}
