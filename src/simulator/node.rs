//! One honest node: the same core and the same pure parts around it that the engines' threads run, on a disk of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::chain::Access;
use super::chance::{Draw, SimulatedRandomness, dice};
use super::defect::Defect;
use super::disk::Disk;
use super::fault::Fault;
use super::identity::Identity;
use super::mail::Mail;
use super::plan::Part;
use super::verified::Verified;
use crate::chain::log::{ChainNode, Follow};
use crate::committee::NodeId;
use crate::engine::{
    ControllerFactory, Core, FairQueue, Input, MessagingEngineConfig, Poller, Publisher, WhiteboardConfig,
};
use crate::epoch::{ProtocolEvent, ProtocolEvents, Snapshot};
use crate::store::DkgState;

/// What waits in a node's reactor.
pub(super) enum Waiting {
    Start(Box<Snapshot>),
    Event(Box<ProtocolEvent>),
    Board(Input),
}

/// A mishap, and when.
pub(super) struct Mishap {
    pub(super) part: Part,
    pub(super) from: u64,
    pub(super) to: u64,
    /// How bad; each kind has its own meaning for it.
    pub(super) much: u64,
    /// A crash or a failure that has happened.
    pub(super) done: bool,
}

/// The parts of a node that a crash takes away.
pub(super) struct Process {
    /// When it was started.
    pub(super) since: u64,
    pub(super) core: Core,
    pub(super) inbox: VecDeque<Waiting>,
    pub(super) private: FairQueue,
    pub(super) outbox: Mail,
    pub(super) poller: Poller,
    pub(super) publisher: Publisher,
    /// A turn is in the queue of things to happen.
    pub(super) turn_due: bool,
    /// Private messages that have arrived, for the defect that loses every second one.
    pub(super) arrivals: u64,
    pub(super) listens_on: bool,
    /// It hangs, and will do nothing more.
    pub(super) hangs: bool,
    /// Failed tries of the read that is on.
    pub(super) read_failures: u32,
}

/// A member's side of the log chain; the replica is its own copy on disk.
pub(super) struct LogSide {
    pub(super) chain: ChainNode,
    pub(super) follow: Follow,
    pub(super) access: Arc<Access>,
    pub(super) told: Arc<Told>,
}

/// What a follower has told the engine.
#[derive(Default)]
pub(super) struct Told(pub(super) Mutex<Vec<ProtocolEvent>>);

impl ProtocolEvents for Told {
    fn on_event(&self, event: ProtocolEvent) {
        self.0.lock().push(event);
    }
}

pub(super) struct Node {
    pub(super) member: usize,
    pub(super) identity: &'static Identity,
    pub(super) defect: Option<Defect>,
    pub(super) disk: Arc<Disk>,
    pub(super) state: DkgState,
    /// How often it has been started.
    pub(super) life: u64,
    pub(super) process: Option<Process>,
    pub(super) mishaps: Vec<Mishap>,
    /// Nothing is told before what was told earlier.
    pub(super) told_until: u64,
    /// When tries of it have failed for no reason lately.
    pub(super) unlucky: VecDeque<u64>,
    pub(super) worked_off: Arc<AtomicU64>,
    pub(super) log: Option<LogSide>,
    /// When its follower looks at the log next.
    pub(super) follow_at: u64,
    /// Its engine has stopped for good.
    pub(super) stopped: bool,
}

/// Waits between tries are short, so that a phase has room for a few.
const BASE_WAIT: Duration = Duration::from_millis(10);
/// Tries for no reason in vain within [`LUCK_MS`], at most: bad luck, but not a mishap.
const MAX_UNLUCKY: usize = 3;
const LUCK_MS: u64 = 1000;

/// How simulated nodes treat their whiteboard.
pub(super) fn whiteboard_config() -> WhiteboardConfig {
    WhiteboardConfig { base_wait: BASE_WAIT, max_wait: 8 * BASE_WAIT, ..WhiteboardConfig::default() }
}

impl Process {
    pub(super) fn new(
        node: &Node,
        since: u64,
        seed: u64,
        poll_step: u64,
        clients: usize,
        verified: Arc<Verified>,
    ) -> Self {
        let factory = ControllerFactory::new(node.identity.node_id, node.identity.staking_key.clone());
        let factory = factory.verifying_with(verified);
        let randomness = SimulatedRandomness(dice(seed, Draw::Node, node.member as u64, node.life));
        let messaging = MessagingEngineConfig { retry_base_wait: BASE_WAIT, ..MessagingEngineConfig::default() };
        Process {
            since,
            core: Core::new(factory, poll_step, Box::new(randomness)),
            inbox: VecDeque::new(),
            private: FairQueue::new(),
            outbox: Mail::new(messaging, node.defect),
            poller: Poller::new(clients, whiteboard_config()),
            publisher: Publisher::new(clients, whiteboard_config()),
            turn_due: false,
            arrivals: 0,
            listens_on: false,
            hangs: false,
            read_failures: 0,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.inbox.is_empty() || self.core.wants_private() && !self.private.is_empty()
    }
}

impl Node {
    pub(super) fn new(member: usize, identity: &'static Identity, defect: Option<Defect>) -> Self {
        let disk = Arc::new(Disk::new(defect == Some(Defect::UnsyncedStore)));
        Node {
            member,
            identity,
            defect,
            state: DkgState::new(disk.clone()),
            disk,
            life: 0,
            process: None,
            mishaps: Vec::new(),
            told_until: 0,
            unlucky: VecDeque::new(),
            worked_off: Arc::default(),
            log: None,
            follow_at: 0,
            stopped: false,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.identity.node_id
    }

    /// The mishap of this kind that it suffers now.
    pub(super) fn suffers(&self, fault: Fault, now: u64) -> Option<&Mishap> {
        self.mishaps.iter().find(|mishap| mishap.part.fault == fault && (mishap.from..mishap.to).contains(&now))
    }

    /// Whether something keeps it from doing its part now.
    pub(super) fn is_unwell(&self, now: u64) -> bool {
        let lasting = |mishap: &Mishap| !matches!(mishap.part.fault, Fault::Crash | Fault::StoreFailure);
        let suffers = |mishap: &Mishap| lasting(mishap) && (mishap.from..mishap.to).contains(&now);
        self.stopped || self.mishaps.iter().any(suffers)
    }

    /// Whether it cannot reach anybody.
    pub(super) fn is_cut_off(&self, now: u64) -> bool {
        self.suffers(Fault::CutOff, now).is_some()
    }

    /// Whether bad luck may strike a try; if so, it has.
    pub(super) fn has_bad_luck(&mut self, now: u64) -> bool {
        while self.unlucky.front().is_some_and(|at| at + LUCK_MS < now) {
            self.unlucky.pop_front();
        }
        let may = self.unlucky.len() < MAX_UNLUCKY;
        if may {
            self.unlucky.push_back(now);
        }
        may
    }
}

/// Simulated time as the pure parts see it.
pub(super) fn instant(base: Instant, now: u64) -> Instant {
    base + Duration::from_millis(now)
}
