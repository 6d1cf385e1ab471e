//! A committee in one process with a board and blocks that the test commands: nothing moves unless the test says so, and
//! whatever moves by itself (engine threads) is waited for by its effects, never by the clock.

#![allow(dead_code, missing_docs, unreachable_pub)] // Every test file uses its own part.

pub mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dkg_engine::bls::{ProvenPublicKey, SecretKey};
use dkg_engine::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use dkg_engine::committee::{Committee, Member, NodeId};
use dkg_engine::engine::{
    BrokerTunnel, ControllerFactory, EngineEvent, MessagingEngine, MessagingEngineConfig, Observer, OsRandomness,
    Randomness, RandomnessError, ReactorConfig, ReactorEngine, ReactorParts, WhiteboardConfig,
};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{
    EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, InstanceId, ProtocolEvent, ProtocolEvents, Snapshot,
    View,
};
use dkg_engine::network::{MemoryNetwork, Network, NetworkError};
use dkg_engine::store::{DkgState, KeyStatus, MemoryStore};
use parking_lot::{Condvar, Mutex};

/// A test that waits this long for something has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A value that can be waited for.
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub fn new(value: T) -> Self {
        Watched { value: Mutex::new(value), changed: Condvar::new() }
    }

    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock());
        self.changed.notify_all();
        result
    }

    pub fn wait<R>(&self, what: &str, mut ready: impl FnMut(&T) -> Option<R>) -> R {
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut value = self.value.lock();
        loop {
            if let Some(result) = ready(&value) {
                return result;
            }
            assert!(!self.changed.wait_until(&mut value, deadline).timed_out(), "waited in vain for {what}");
        }
    }
}

/// The whiteboard: ordered posts, and what was submitted.
pub struct Board {
    pub posts: Watched<Vec<BoardMessage>>,
    pub submissions: Watched<BTreeMap<NodeId, DkgResult>>,
}

impl Board {
    pub fn new() -> Arc<Self> {
        Arc::new(Board { posts: Watched::new(Vec::new()), submissions: Watched::new(BTreeMap::new()) })
    }

    pub fn post(&self, node_id: NodeId, content: &str) {
        self.posts.update(|posts| posts.push(BoardMessage { node_id, content: content.to_owned() }));
    }

    pub fn wait_for_posts(&self, count: usize) {
        self.posts.wait(&format!("{count} posts"), |posts| (posts.len() >= count).then_some(()));
    }

    pub fn clear(&self) {
        self.posts.update(Vec::clear);
        self.submissions.update(BTreeMap::clear);
    }

    /// The data of the posts that are envelopes, with their posters.
    pub fn broadcasts(&self) -> Vec<(NodeId, Vec<u8>)> {
        self.posts.wait("the posts", |posts| {
            let read = |post: &BoardMessage| {
                let message = dkg_engine::envelope::BroadcastMessage::from_json(&post.content).ok()?;
                Some((post.node_id, message.data))
            };
            Some(posts.iter().filter_map(read).collect())
        })
    }
}

/// One node's access to the board, with switches.
pub struct Client {
    board: Arc<Board>,
    me: NodeId,
    /// Nothing works while this is set.
    pub down: AtomicBool,
    /// Reading works, posting does not.
    pub posting_down: AtomicBool,
    /// Posts and submissions are taken and lost.
    pub mute: AtomicBool,
    /// Calls made so far.
    pub calls: AtomicUsize,
    pub reads: Watched<usize>,
}

impl Client {
    pub fn new(board: &Arc<Board>, me: NodeId) -> Arc<Self> {
        Arc::new(Client {
            board: board.clone(),
            me,
            down: AtomicBool::new(false),
            posting_down: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            reads: Watched::new(0),
        })
    }

    fn check_posting(&self) -> Result<(), ClientError> {
        match self.posting_down.load(Ordering::SeqCst) {
            true => Err(ClientError::Unavailable("no posting".into())),
            false => self.check(),
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.down.load(Ordering::SeqCst) {
            true => Err(ClientError::Unavailable("switched off".into())),
            false => Ok(()),
        }
    }
}

impl DkgContractClient for Client {
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        self.check_posting()?;
        if !self.mute.load(Ordering::SeqCst) {
            self.board.post(self.me, content);
        }
        Ok(())
    }

    fn read_broadcast(&self, from_index: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        self.reads.update(|reads| *reads += 1);
        self.check()?;
        let end = as_of.height as usize;
        Ok(self.board.posts.wait("posts", |posts| {
            Some(posts.iter().take(end).skip(from_index as usize).take(limit).cloned().collect())
        }))
    }

    fn submit_result(&self, _: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        self.check_posting()?;
        if !self.mute.load(Ordering::SeqCst) {
            self.board.submissions.update(|all| all.insert(self.me, result.clone()));
        }
        Ok(())
    }
}

/// Everything secret that a test has seen pass: shares and seeds.
pub type Secrets = Arc<Mutex<Vec<Vec<u8>>>>;

/// The operating system's randomness, remembered.
struct Remembered(Secrets);

impl Randomness for Remembered {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        OsRandomness.fill(bytes)?;
        self.0.lock().push(bytes.to_vec());
        Ok(())
    }
}

/// Counts what is delivered, and loses what it is told to lose.
pub struct Port {
    inner: dkg_engine::network::MemoryPort,
    pub lost: Mutex<Vec<NodeId>>,
    /// So many sends fail from now on.
    pub failing: AtomicUsize,
    /// So many sends panic from now on.
    pub panicking: AtomicUsize,
    secrets: Secrets,
    delivered: Arc<Watched<usize>>,
    silent: Silent,
    shut_down: Watched<bool>,
}

/// Members that take private messages and never answer.
pub type Silent = Arc<Mutex<Vec<NodeId>>>;

impl Network for Port {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        self.secrets.lock().push(message.data.expose().to_vec());
        if self.silent.lock().contains(to) {
            self.shut_down.wait("the shutdown", |shut_down| shut_down.then_some(()));
            return Err(NetworkError::ShutDown);
        }
        let one_less = |left: usize| left.checked_sub(1);
        if self.panicking.try_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            panic!("as the test wants it");
        }
        if self.failing.try_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(NetworkError::Unreachable(*to, "not now".into()));
        }
        if self.lost.lock().contains(to) {
            self.delivered.update(|count| *count += 1);
            return Ok(());
        }
        self.inner.send(to, message)?;
        self.delivered.update(|count| *count += 1);
        Ok(())
    }

    fn shutdown(&self) {
        self.shut_down.update(|shut_down| *shut_down = true);
        self.inner.shutdown();
    }
}

#[derive(Clone)]
pub struct Events(Arc<Watched<Vec<EngineEvent>>>);

impl Events {
    pub fn new() -> Self {
        Events(Arc::new(Watched::new(Vec::new())))
    }

    pub fn wait<R>(&self, what: &str, mut find: impl FnMut(&EngineEvent) -> Option<R>) -> R {
        self.0.wait(what, |events| events.iter().find_map(&mut find))
    }

    /// Waits for something about all of them.
    pub fn wait_for_all<R>(&self, what: &str, mut find: impl FnMut(&[EngineEvent]) -> Option<R>) -> R {
        self.0.wait(what, |events| find(events))
    }

    pub fn all(&self) -> Vec<EngineEvent> {
        self.0.wait("the events", |events| Some(events.clone()))
    }
}

impl Observer for Events {
    fn notify(&self, event: &EngineEvent) {
        self.0.update(|events| events.push(event.clone()));
    }
}

pub struct Node {
    pub id: NodeId,
    pub client: Arc<Client>,
    pub port: Arc<Port>,
    pub state: DkgState,
    pub events: Events,
    pub messaging: MessagingEngine,
    pub reactor: ReactorEngine,
}

pub struct World {
    pub committee: Arc<Committee>,
    pub keys: BTreeMap<NodeId, SecretKey>,
    pub board: Arc<Board>,
    pub network: MemoryNetwork,
    pub nodes: Vec<Node>,
    pub delivered: Arc<Watched<usize>>,
    pub silent: Silent,
    pub secrets: Secrets,
    pub last: Header,
}

/// Fast retries: tests wait for effects, and effects should not be slow.
pub fn config() -> ReactorConfig {
    let fast = Duration::from_millis(2);
    ReactorConfig {
        whiteboard: WhiteboardConfig { base_wait: fast, max_wait: fast, ..WhiteboardConfig::default() },
        ..ReactorConfig::default()
    }
}

pub fn messaging_config() -> MessagingEngineConfig {
    MessagingEngineConfig { retry_base_wait: Duration::from_millis(2), ..MessagingEngineConfig::default() }
}

pub fn node_id(number: usize) -> NodeId {
    let mut bytes = [0; 32];
    bytes[0] = number as u8;
    NodeId::new(bytes)
}

pub fn staking_key(number: usize) -> SecretKey {
    SecretKey::from_seed(&[number as u8 + 1; 32]).unwrap()
}

pub fn committee(size: usize) -> Arc<Committee> {
    let member = |number| {
        let key = staking_key(number);
        let staking_key = ProvenPublicKey::check(key.public_key(), &key.prove_possession()).unwrap();
        Member { node_id: node_id(number), staking_key }
    };
    Arc::new(Committee::new((0..size).map(member).collect()).unwrap())
}

/// The run for `epoch`: phases end 30, 60 and 90 views after `first`.
pub fn setup(committee: &Arc<Committee>, epoch: u64, first: View) -> EpochSetup {
    let finals = [View(first.0 + 30), View(first.0 + 60), View(first.0 + 90)];
    EpochSetup::new("test", EpochCounter(epoch), committee.clone(), first, finals)
}

pub fn header(view: u64, height: u64) -> Header {
    Header { view: View(view), height, id: [view as u8; 32] }
}

pub fn staking_phase() -> Snapshot {
    Snapshot::new(EpochCounter(0), header(0, 0), EpochPhase::Staking)
}

impl World {
    pub fn new(size: usize) -> World {
        let mut world = World {
            committee: committee(size),
            keys: (0..size).map(|number| (node_id(number), staking_key(number))).collect(),
            board: Board::new(),
            network: MemoryNetwork::new(),
            nodes: Vec::new(),
            delivered: Arc::new(Watched::new(0)),
            silent: Silent::default(),
            secrets: Secrets::default(),
            last: header(0, 0),
        };
        for number in 0..size {
            let node = world.node(number, DkgState::new(Arc::new(MemoryStore::new())), staking_phase());
            world.nodes.push(node);
        }
        world
    }

    pub fn node(&self, number: usize, state: DkgState, snapshot: Snapshot) -> Node {
        let client = Client::new(&self.board, node_id(number));
        self.node_with(number, state, snapshot, client.clone(), vec![client])
    }

    pub fn node_configured(&self, number: usize, state: DkgState, snapshot: Snapshot, config: ReactorConfig) -> Node {
        let client = Client::new(&self.board, node_id(number));
        self.build(number, state, snapshot, client.clone(), vec![client], config)
    }

    pub fn node_with(
        &self,
        number: usize,
        state: DkgState,
        snapshot: Snapshot,
        client: Arc<Client>,
        clients: Vec<Arc<dyn DkgContractClient>>,
    ) -> Node {
        self.build(number, state, snapshot, client, clients, config())
    }

    fn build(
        &self,
        number: usize,
        state: DkgState,
        snapshot: Snapshot,
        client: Arc<Client>,
        clients: Vec<Arc<dyn DkgContractClient>>,
        config: ReactorConfig,
    ) -> Node {
        let id = node_id(number);
        let tunnel = BrokerTunnel::new();
        let port = Arc::new(Port {
            inner: self.network.port(id),
            lost: Mutex::new(Vec::new()),
            failing: AtomicUsize::new(0),
            panicking: AtomicUsize::new(0),
            secrets: self.secrets.clone(),
            delivered: self.delivered.clone(),
            silent: self.silent.clone(),
            shut_down: Watched::new(false),
        });
        let messaging = MessagingEngine::new(port.clone(), tunnel.clone(), messaging_config()).unwrap();
        self.network.attach(id, messaging.inbound());
        let events = Events::new();
        let reactor = ReactorEngine::new(ReactorParts {
            config,
            snapshot,
            state: state.clone(),
            factory: ControllerFactory::new(id, staking_key(number)),
            clients,
            tunnel,
            randomness: Box::new(Remembered(self.secrets.clone())),
            observer: Arc::new(events.clone()),
        })
        .unwrap();
        Node { id, client, port, state, events, messaging, reactor }
    }

    pub fn tell(&self, event: ProtocolEvent) {
        for node in &self.nodes {
            node.reactor.events().on_event(event.clone());
        }
    }

    /// Finalizes a block that covers everything posted so far.
    pub fn finalize(&mut self, view: u64) {
        self.last = header(view, self.board.posts.wait("posts", |posts| Some(posts.len())) as u64);
        self.tell(ProtocolEvent::BlockFinalized(self.last));
    }

    /// Begins a run, and waits until everybody has dealt: `vectors` posts, and all shares delivered (or lost), but for those to
    /// the silent.
    pub fn begin(&mut self, epoch: u64, vectors: usize) -> EpochSetup {
        let setup = setup(&self.committee, epoch, View(self.last.view.0 + 1));
        self.delivered.update(|count| *count = 0);
        let first = header(setup.first_view.0, 0);
        let current = EpochCounter(epoch - 1);
        self.tell(ProtocolEvent::EpochSetupPhaseStarted { current, first, setup: setup.clone() });
        self.board.wait_for_posts(vectors);
        let shares = (self.nodes.len() - self.silent.lock().len()) * (self.nodes.len() - 1);
        self.delivered.wait("all shares", |count| (*count >= shares).then_some(()));
        setup
    }

    /// Ends phase `phase` (0, 1, 2) and waits until every node has; after the last one, until it has computed and stored its key.
    pub fn end_phase(&mut self, setup: &EpochSetup, phase: usize) {
        self.finalize(setup.phase_final_views[phase].0);
        let phases = [
            dkg_engine::protocol::Phase::Sharing,
            dkg_engine::protocol::Phase::Complaining,
            dkg_engine::protocol::Phase::Answering,
        ];
        for node in &self.nodes {
            node.events.wait("the phase's end", |event| match event {
                EngineEvent::PhaseEnded { epoch, phase: ended, .. } => {
                    (*epoch == setup.epoch && *ended == phases[phase]).then_some(())
                }
                _ => None,
            });
            if phases[phase] == dkg_engine::protocol::Phase::Answering {
                node.events.wait("the run's end", |event| match event {
                    EngineEvent::RunEnded(report) => (report.epoch == setup.epoch).then_some(()),
                    _ => None,
                });
            }
        }
    }

    /// The result that more than `t` nodes have submitted, as the chain would commit it.
    pub fn commit(&self, epoch: u64) -> EpochCommit {
        let needed = self.committee.threshold() + 1;
        let result = self.board.submissions.wait("enough equal submissions", |all| {
            all.values()
                .find(|result| {
                    **result != DkgResult::Empty && all.values().filter(|other| other == result).count() >= needed
                })
                .cloned()
        });
        let DkgResult::Complete { group_key, key_shares, index_map } = result else { unreachable!() };
        let key = |text: &String| {
            dkg_engine::bls::PublicKey::from_flow_bytes(&dkg_engine::hex::decode(text).unwrap()).unwrap()
        };
        EpochCommit {
            epoch: EpochCounter(epoch),
            group_key: key(&group_key),
            key_shares: key_shares.iter().map(key).collect(),
            index_map,
        }
    }

    pub fn tell_commit(&self, commit: &EpochCommit) {
        let current = EpochCounter(commit.epoch.0 - 1);
        self.tell(ProtocolEvent::EpochCommittedPhaseStarted { current, first: self.last, commit: commit.clone() });
    }

    /// A whole run in which everybody behaves; returns what the chain committed.
    pub fn run(&mut self, epoch: u64) -> EpochCommit {
        self.board.clear();
        let setup = self.begin(epoch, self.nodes.len());
        for phase in 0..3 {
            self.end_phase(&setup, phase);
        }
        let commit = self.commit(epoch);
        self.tell_commit(&commit);
        for node in &self.nodes {
            node.events.wait("the key", |event| match event {
                EngineEvent::KeyCommitted { epoch: e, .. } => (e.0 == epoch).then_some(()),
                _ => None,
            });
        }
        commit
    }

    pub fn status(&self, number: usize, epoch: u64) -> KeyStatus {
        self.nodes[number].state.record(EpochCounter(epoch)).unwrap().status()
    }
}
