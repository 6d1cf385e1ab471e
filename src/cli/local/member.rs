//! One member: its engines, its store and its place on the chain; and what it tells.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use dkg_engine::chain::DkgContractClient;
use dkg_engine::chain::log::{ChainConfig, ChainNode, Clock, Follower, LogChain, Pace};
use dkg_engine::committee::{Index, NodeId};
use dkg_engine::engine::{
    BrokerTunnel, ControllerFactory, EngineEvent, EventHandle, MessagingEngine, MessagingEngineConfig, Observer,
    ReactorConfig, ReactorEngine, ReactorParts, WhiteboardConfig,
};
use dkg_engine::epoch::{EpochPhase, ProtocolEvent, ProtocolEvents};
use dkg_engine::network::{MemoryNetwork, Network};
use dkg_engine::node::identity::Identity;
use dkg_engine::store::{DkgState, Store};

use super::fault::{FaultKind, Player};
use super::home::Log;
use super::identity::Source;
use super::seams::{Actor, Flood, Targets};
use super::witness::{News, tell};

/// The log is kept by this very process: nothing that an earlier life has written can still be under way.
const START: u64 = 0;

/// What all members share.
pub(super) struct Surroundings {
    pub(super) config: Arc<ChainConfig>,
    /// A copy of the chain that has read the log so far, for all to start from: they need not each read it all.
    pub(super) replica: LogChain,
    pub(super) log: Log,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) network: MemoryNetwork,
    pub(super) source: Source,
    pub(super) honest: Vec<Index>,
    pub(super) news: Sender<News>,
}

/// A running member.
pub(super) struct Member {
    pub(super) index: Index,
    pub(super) node_id: NodeId,
    /// `None` if it is honest.
    pub(super) fault: Option<FaultKind>,
    pub(super) state: DkgState,
    node: ChainNode,
    messaging: MessagingEngine,
    reactor: ReactorEngine,
    flood: Option<Flood>,
    ears: Arc<Ears>,
    clock: Arc<dyn Clock>,
    follower: Option<Follower>,
}

impl Member {
    /// Builds a member with its engines running and its place on the network taken; the chain does not move it yet.
    pub(super) fn new(
        around: &Surroundings,
        index: Index,
        identity: Identity,
        store: Arc<dyn Store>,
        fault: Option<FaultKind>,
    ) -> Result<Member, String> {
        let Identity { node_id, staking_key, network_key } = identity;
        let config = &around.config;
        let log = (around.log)();
        let node =
            ChainNode::new(around.replica.clone(), Arc::clone(&log), network_key.clone(), START).map_err(text)?;
        node.catch_up().map_err(text)?;

        let mut network: Arc<dyn Network> = Arc::new(around.network.port(node_id));
        let mut board: Arc<dyn DkgContractClient> = node.board();
        let mut flood = None;
        let mut actor = None;
        if let Some(kind) = fault {
            if kind == FaultKind::Flood {
                let peers = config.committee().members().iter().map(|member| member.node_id);
                let targets = Targets {
                    network: Arc::clone(&network),
                    board: Arc::clone(&board),
                    log,
                    peers: peers.filter(|peer| *peer != node_id).collect(),
                };
                flood = Some(Flood::start(&node, network_key, targets).map_err(text)?);
            }
            let player = Player::new(kind, staking_key.clone(), &around.honest, config.committee().threshold());
            let gates = flood.as_ref().map(Flood::gates);
            let faulty = Arc::new(Actor::new(player, network, board, Arc::clone(config.committee()), gates));
            network = faulty.clone();
            board = faulty.clone();
            actor = Some(faulty);
        }

        let tunnel = BrokerTunnel::new();
        let view = Duration::from_millis(config.view_ms());
        let phase = Duration::from_millis(config.view_ms().saturating_mul(config.schedule().views_per_phase));
        let messaging_config = MessagingEngineConfig { retry_base_wait: view, ..MessagingEngineConfig::default() };
        let messaging = MessagingEngine::new(network, tunnel.clone(), messaging_config).map_err(text)?;
        around.network.attach(node_id, messaging.inbound());

        let state = DkgState::new(store);
        let snapshot = node.replica().lock().snapshot();
        if let (Some(actor), EpochPhase::Setup(setup)) = (&actor, &snapshot.phase) {
            actor.begin(setup);
        }
        let reactor = ReactorEngine::new(ReactorParts {
            config: ReactorConfig {
                poll_step: config.schedule().poll_step,
                whiteboard: WhiteboardConfig::for_phases_of(phase, view),
                ..ReactorConfig::default()
            },
            snapshot,
            state: state.clone(),
            factory: ControllerFactory::new(node_id, staking_key),
            clients: vec![board],
            tunnel,
            randomness: around.source.randomness(node_id),
            observer: Arc::new(Voice { index, news: around.news.clone() }),
        })
        .map_err(text)?;
        let ears = Ears {
            engine: reactor.events(),
            actor,
            witness: (around.honest.first() == Some(&index))
                .then(|| Witness { replica: Arc::clone(node.replica()), news: around.news.clone() }),
        };
        let ears = Arc::new(ears);
        let clock = Arc::clone(&around.clock);
        Ok(Member { index, node_id, fault, state, node, messaging, reactor, flood, ears, clock, follower: None })
    }

    /// Lets the chain move the member.
    pub(super) fn follow(&mut self, pace: Arc<dyn Pace>) -> Result<(), String> {
        let seed = u64::from(self.index.byte());
        let follower = Follower::start(&self.node, Arc::clone(&self.clock), pace, self.ears.clone(), seed);
        self.follower = Some(follower.map_err(text)?);
        Ok(())
    }

    /// Waits until the engine has dealt with where the chain stands.
    pub(super) fn ready(&self) -> Result<(), String> {
        self.reactor.ready().wait().map_err(text)
    }

    /// The way to the member's engine.
    pub(super) fn events(&self) -> EventHandle {
        self.reactor.events()
    }

    /// What has ended the member before its time, if anything has. Nothing another member does may lead here.
    pub(super) fn failure(&self) -> Option<String> {
        let engine = self.reactor.done().get().map(|ended| match ended {
            Ok(()) => format!("member {} has stopped by itself", self.index),
            Err(error) => format!("member {} has stopped: {error}", self.index),
        });
        let chain = || Some(format!("member {}: {}", self.index, self.follower.as_ref()?.failure()?));
        engine.or_else(chain)
    }

    /// Takes the member off the chain: its threads begin to end. Does not wait.
    pub(super) fn leave(&self) {
        self.node.board().shutdown();
    }

    /// Ends all threads of the member and waits for them.
    pub(super) fn stop(mut self) {
        // The engine before its follower, which may be waiting for it to take an event.
        if let Err(error) = self.reactor.stop() {
            log::error!("member {}: {error}", self.index);
        }
        if let Some(Err(error)) = self.follower.take().map(Follower::stop) {
            log::error!("member {}: {error}", self.index);
        }
        if let Err(error) = self.messaging.stop() {
            log::error!("member {}: {error}", self.index);
        }
        drop(self.flood.take());
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Tells what a member's engine says, as far as the report needs it.
struct Voice {
    index: Index,
    news: Sender<News>,
}

impl Observer for Voice {
    fn notify(&self, event: &EngineEvent) {
        // A flood of bad posts makes a flood of these.
        if !matches!(event, EngineEvent::PostDropped { .. } | EngineEvent::Flagged { .. }) {
            // Nobody listens any more when all is over.
            let _ = self.news.send(News::Member(self.index, event.clone()));
        }
    }
}

/// What a member hears of the chain: the player learns of runs before its engine does, the witness tells what it hears.
struct Ears {
    engine: EventHandle,
    actor: Option<Arc<Actor>>,
    witness: Option<Witness>,
}

struct Witness {
    replica: Arc<Mutex<LogChain>>,
    news: Sender<News>,
}

impl ProtocolEvents for Ears {
    fn on_event(&self, event: ProtocolEvent) {
        if let (Some(actor), ProtocolEvent::EpochSetupPhaseStarted { setup, .. }) = (&self.actor, &event) {
            actor.begin(setup);
        }
        if let Some(Witness { replica, news }) = &self.witness {
            // Nobody listens any more when all is over.
            tell(&replica.lock(), &event, |told| drop(news.send(told)));
        }
        self.engine.on_event(event);
    }
}
