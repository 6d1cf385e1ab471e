//! Whole nodes under a scheduler that decides at every lock, wait and wake-up which thread goes on. What it explores, how
//! to run it and how to see a schedule again is in `src/sync/explore.rs`.
#![cfg(shuttle)]

#[path = "../src/sync/explore.rs"]
mod explore;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{ProvenPublicKey, PublicKey, SecretKey};
use dkg_engine::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use dkg_engine::committee::{Committee, Member, NodeId};
use dkg_engine::engine::{
    BrokerTunnel, ControllerFactory, EngineEvent, MessagingEngine, MessagingEngineConfig, Observer, READ_PAGE,
    Randomness, RandomnessError, ReactorConfig, ReactorEngine, ReactorParts,
};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{
    EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, InstanceId, ProtocolEvent, ProtocolEvents, Snapshot,
    View,
};
use dkg_engine::network::{Delivery, InboundError, MemoryNetwork, MemoryPort, Network, NetworkError, Receipt};
use dkg_engine::store::{Change, DkgState, MemoryStore, RecordId, Store, StoreError};
use explore::{Watched, choose, explore};
use shuttle::thread;

/// Calls of a whiteboard or a network that fail in one schedule at most.
const FAILING: usize = 6;
/// What another member posts.
const NO_ENVELOPE: &str = "{}";
const EPOCH: EpochCounter = EpochCounter(1);
const FINALS: [View; 3] = [View(31), View(61), View(91)];

fn node_id(number: u8) -> NodeId {
    NodeId::new([number; 32])
}

fn staking_key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number + 1; 32]).unwrap()
}

/// Committees of up to three, made once: their keys take longer than a schedule.
fn committee(size: usize) -> Arc<Committee> {
    static COMMITTEES: LazyLock<[Arc<Committee>; 2]> = LazyLock::new(|| {
        let member = |number| {
            let staking_key = ProvenPublicKey::vouched_for(staking_key(number).public_key());
            Member { node_id: node_id(number), staking_key }
        };
        [2, 3].map(|size| Arc::new(Committee::new((0..size).map(member).collect()).unwrap()))
    });
    COMMITTEES[size - 2].clone()
}

/// The run for `epoch`: 100 views for each.
fn setup(epoch: EpochCounter, size: usize) -> EpochSetup {
    let before = 100 * (epoch.0 - 1);
    let finals = FINALS.map(|view| View(before + view.0));
    EpochSetup::new("schedules", epoch, committee(size), View(before + 1), finals)
}

fn block(view: u64, height: usize) -> Header {
    Header { view: View(view), height: height as u64, id: [0; 32] }
}

/// The same in every schedule, and another for every node.
struct Drawn(u8, u8);

impl Randomness for Drawn {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        self.1 += 1;
        bytes.fill(self.1);
        bytes[0] = self.0;
        Ok(())
    }
}

/// What the nodes share.
#[derive(Default)]
struct World {
    board: Watched<Vec<BoardMessage>>,
    results: Watched<BTreeMap<NodeId, DkgResult>>,
    network: MemoryNetwork,
}

/// One node's host: whatever the engine can call.
struct Host {
    me: NodeId,
    world: Arc<World>,
    port: MemoryPort,
    store: MemoryStore,
    notes: Watched<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Calls that are still to fail.
    failing: usize,
    stored: bool,
    delivered: usize,
    /// The view of the block as of which the board has last been read to its end; and what no envelope was there.
    read: Option<(View, usize)>,
    /// What the engine has passed over.
    passed_over: usize,
    phases_ended: usize,
    runs_ended: usize,
    /// Which epochs' keys are committed or failed.
    keys: BTreeMap<EpochCounter, bool>,
    /// The engine has been told to stop; and remarks on members' messages since: of the one that was in hand.
    stopping: bool,
    remarks: usize,
    /// All engines have been stopped: nothing may come any more.
    over: bool,
}

impl Host {
    /// Every call comes through here.
    fn called<R>(&self, note: impl FnOnce(&mut Notes) -> R) -> R {
        self.notes.update(|notes| {
            assert!(!notes.over, "the host was called after the stop");
            note(notes)
        })
    }

    /// Whether a call fails that may.
    fn fails(&self) -> bool {
        self.called(|notes| {
            let fails = notes.failing > 0 && choose(2) == 0;
            notes.failing -= usize::from(fails);
            fails
        })
    }

    fn board_call(&self) -> Result<(), ClientError> {
        if self.fails() { Err(ClientError::Unavailable("as chance would have it".into())) } else { Ok(()) }
    }
}

impl Network for Host {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        let stored = self.called(|notes| notes.stored);
        assert!(stored, "a share has left before the run was marked as started");
        if self.fails() {
            return Err(NetworkError::Unreachable(*to, "as chance would have it".into()));
        }
        self.port.send(to, message)?;
        self.called(|notes| notes.delivered += 1);
        Ok(())
    }
}

impl DkgContractClient for Host {
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        self.board_call()?;
        let (node_id, content) = (self.me, content.to_owned());
        self.world.board.update(|board| board.push(BoardMessage { node_id, content }));
        Ok(())
    }

    fn read_broadcast(&self, from_index: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        self.board_call()?;
        let (from, end) = (from_index as usize, as_of.height as usize);
        let board = self.world.board.update(|board| board[..end].to_vec());
        let no_envelopes = board.iter().filter(|post| post.content == NO_ENVELOPE).count();
        let page: Vec<_> = board[from..].iter().take(limit).cloned().collect();
        self.called(|notes| notes.read = (page.len() < limit).then_some((as_of.view, no_envelopes)));
        Ok(page)
    }

    fn submit_result(&self, _: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        self.board_call()?;
        self.world.results.update(|results| {
            assert_eq!(results.insert(self.me, result.clone()), None, "a second result");
        });
        Ok(())
    }

    fn shutdown(&self) {
        self.notes.update(|notes| notes.stopping = true);
    }
}

impl Store for Host {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.called(|_| {});
        self.store.read(id)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.store.list()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.store.commit(changes)?;
        self.called(|notes| notes.stored = true);
        Ok(())
    }
}

impl Observer for Host {
    fn notify(&self, event: &EngineEvent) {
        self.called(|notes| match event {
            EngineEvent::PhaseEnded { view, .. } => {
                let taken_in = Some((*view, notes.passed_over));
                assert_eq!(notes.read, taken_in, "a phase has ended, and its board has not been taken in");
                notes.phases_ended += 1;
            }
            EngineEvent::PostDropped { poster, .. } => notes.passed_over += usize::from(*poster != self.me),
            EngineEvent::Flagged { .. } if notes.stopping => {
                notes.remarks += 1;
                assert!(notes.remarks <= 1, "messages were handled after the stop");
            }
            EngineEvent::RunEnded(_) => notes.runs_ended += 1,
            // It reads the board from its beginning.
            EngineEvent::RunStarted { .. } => notes.passed_over = 0,
            EngineEvent::KeyCommitted { epoch, .. } | EngineEvent::KeyFailed { epoch, .. } => {
                notes.keys.insert(*epoch, matches!(event, EngineEvent::KeyCommitted { .. }));
            }
            _ => {}
        });
    }
}

struct Node {
    host: Arc<Host>,
    messaging: Arc<MessagingEngine>,
    reactor: Arc<ReactorEngine>,
}

impl Node {
    fn new(world: &Arc<World>, number: u8) -> Node {
        let me = node_id(number);
        let (port, store, notes) = (world.network.port(me), MemoryStore::new(), Watched::default());
        let host = Arc::new(Host { me, world: world.clone(), port, store, notes });
        host.notes.update(|notes| notes.failing = choose(FAILING + 1));
        let tunnel = BrokerTunnel::new();
        // A scheduler may let any wait for a receipt end too soon, again and again.
        let config = MessagingEngineConfig { retry_max: 1_000, ..MessagingEngineConfig::default() };
        let messaging = MessagingEngine::new(host.clone(), tunnel.clone(), config).unwrap();
        let messaging = Arc::new(messaging);
        world.network.attach(me, messaging.inbound());
        let reactor = ReactorEngine::new(ReactorParts {
            config: ReactorConfig::default(),
            snapshot: Snapshot::new(EpochCounter(0), block(0, 0), EpochPhase::Staking),
            state: DkgState::new(host.clone()),
            factory: ControllerFactory::new(me, staking_key(number)),
            clients: vec![host.clone(), host.clone()],
            tunnel,
            randomness: Box::new(Drawn(number, 0)),
            observer: host.clone(),
        });
        Node { host, messaging, reactor: Arc::new(reactor.unwrap()) }
    }

    fn begin(&self, size: usize) {
        self.reactor.epoch_setup_phase_started(EpochCounter(0), block(1, 0), setup(EPOCH, size));
    }

    /// A block that covers all that is on the board just now.
    fn finalize(&self, view: u64) {
        let height = self.host.world.board.update(|board| board.len());
        self.reactor.block_finalized(block(view, height));
    }

    /// Stops both engines and drops them: whatever still runs is found out.
    fn stop(self) {
        assert_eq!(self.reactor.stop(), Ok(()));
        assert_eq!(self.messaging.stop(), Ok(()));
        self.host.notes.update(|notes| notes.over = true);
        drop((self.reactor, self.messaging));
        assert_eq!(Arc::strong_count(&self.host), 1, "something of the engines is left");
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(body)
}

/// The host's chain: runs, and blocks that do not wait for what the engine makes of them; some end a phase late. Before each
/// block so many posts of other members, which are no envelopes.
fn chain(node: &Node, runs: &'static [(EpochCounter, &[(u64, usize)])]) -> impl FnOnce() + Send + 'static {
    let (events, world) = (node.reactor.events(), node.host.world.clone());
    move || {
        for (epoch, blocks) in runs {
            let (current, setup) = (EpochCounter(epoch.0 - 1), setup(*epoch, 3));
            let first = block(setup.first_view.0, 0);
            events.on_event(ProtocolEvent::EpochSetupPhaseStarted { current, first, setup });
            for (view, posts) in *blocks {
                let height = world.board.update(|board| {
                    let post =
                        |number| BoardMessage { node_id: node_id(1 + number as u8 % 2), content: NO_ENVELOPE.into() };
                    board.extend((0..*posts).map(post));
                    board.len()
                });
                events.on_event(ProtocolEvent::BlockFinalized(block(*view, height)));
            }
        }
    }
}

/// What one run has to read at the end of its first phase takes two pages.
const ONE_RUN: &[(EpochCounter, &[(u64, usize)])] =
    &[(EPOCH, &[(11, 1), (21, 1), (33, READ_PAGE + 8), (61, 1), (75, 1), (95, 1)])];
/// The next run begins before the first has ended.
const OVERTAKEN: &[(EpochCounter, &[(u64, usize)])] =
    &[(EPOCH, &[(11, 1), (33, READ_PAGE + 8), (45, 1)]), (EpochCounter(2), &[(111, 1), (131, 1), (161, 1), (195, 1)])];

/// Other members' private messages, none of them a share.
fn flood(node: &Node) -> impl FnOnce() + Send + 'static {
    let messaging = node.messaging.clone();
    move || {
        for number in 0..6 {
            let dkg_instance_id = setup(EPOCH, 3).instance.as_str().to_owned();
            let message = PrivateMessage::protocol(SecretBytes::new(vec![number]), dkg_instance_id);
            let taken =
                messaging.process(Delivery { from: node_id(1 + number % 2), message, receipt: Receipt::none() });
            assert!(matches!(taken, Ok(()) | Err(InboundError::Stopped)));
        }
    }
}

#[test]
fn a_run_goes_through_and_the_board_is_read_as_of_each_phases_last_block_before_the_phase_ends() {
    explore(1_000, || {
        let node = Node::new(&Arc::default(), 0);
        let threads = [spawn(chain(&node, ONE_RUN)), spawn(flood(&node))];
        // It fails, for two of three dealers are missing.
        node.host.notes.wait(|notes| notes.keys.contains_key(&EPOCH).then_some(()));
        node.host.world.results.wait(|results| results.contains_key(&node_id(0)).then_some(()));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        node.host.notes.update(|notes| {
            assert_eq!((notes.phases_ended, notes.runs_ended), (3, 1));
            assert_eq!(notes.keys, BTreeMap::from([(EPOCH, false)]));
        });
        node.stop();
    });
}

#[test]
fn what_was_read_for_a_run_is_not_taken_for_the_run_that_overtakes_it() {
    explore(1_000, || {
        let node = Node::new(&Arc::default(), 0);
        let chain = spawn(chain(&node, OVERTAKEN));
        node.host.notes.wait(|notes| notes.keys.contains_key(&EpochCounter(2)).then_some(()));
        chain.join().unwrap();
        node.host.notes.update(|notes| {
            assert_eq!(notes.runs_ended, 1);
            assert_eq!(notes.keys, BTreeMap::from([(EPOCH, false), (EpochCounter(2), false)]));
        });
        node.stop();
    });
}

#[test]
fn a_stop_at_any_moment_ends_all_threads_and_the_host_is_not_called_after_it() {
    explore(2_000, || {
        let node = Node::new(&Arc::default(), 0);
        let mut threads = vec![spawn(chain(&node, ONE_RUN)), spawn(flood(&node))];
        if choose(2) == 0 {
            node.host.notes.wait(|notes| (notes.stored || notes.phases_ended > 0).then_some(()));
        }
        // Of several who stop it, each may rely on it.
        for _ in 0..2 {
            let (reactor, messaging, host) = (node.reactor.clone(), node.messaging.clone(), node.host.clone());
            threads.push(spawn(move || {
                assert_eq!(reactor.stop(), Ok(()));
                assert_eq!(reactor.done().get(), Some(Ok(())));
                assert_eq!(messaging.stop(), Ok(()));
                host.notes.update(|notes| notes.over = true);
            }));
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        node.begin(3);
        node.finalize(200);
        node.stop();
    });
}

#[test]
fn two_members_come_out_with_one_key_each_knows_and_commit_it() {
    explore(300, || {
        let world = Arc::<World>::default();
        let nodes = [0, 1].map(|number| Node::new(&world, number));
        nodes.iter().for_each(|node| node.begin(2));
        world.board.wait(|board| (board.len() >= 2).then_some(()));
        let each = |ready: fn(&Notes) -> bool| {
            nodes.iter().for_each(|node| node.host.notes.wait(|notes| ready(notes).then_some(())));
        };
        each(|notes| notes.delivered == 1);
        for view in FINALS {
            nodes.iter().for_each(|node| node.finalize(view.0));
        }
        each(|notes| notes.runs_ended == 1);
        let results = world.results.wait(|results| (results.len() == 2).then(|| results.clone()));
        assert_eq!(results[&node_id(0)], results[&node_id(1)]);
        let DkgResult::Complete { group_key, key_shares, index_map } = &results[&node_id(0)] else {
            panic!("the run has failed");
        };
        let key = |text: &String| PublicKey::from_flow_bytes(&dkg_engine::hex::decode(text).unwrap()).unwrap();
        let (group_key, key_shares) = (key(group_key), key_shares.iter().map(key).collect());
        let commit = EpochCommit { epoch: EPOCH, group_key, key_shares, index_map: index_map.clone() };
        for node in &nodes {
            node.reactor.epoch_committed_phase_started(EpochCounter(0), block(100, 2), commit.clone());
        }
        each(|notes| notes.keys == BTreeMap::from([(EPOCH, true)]));
        nodes.into_iter().for_each(Node::stop);
    });
}

/// The fault: a sender that was the last to let go of the receiving engine stopped it, and waited for its threads.
#[test]
fn nodes_of_one_process_are_dropped_in_the_middle_of_their_messages() {
    explore(2_000, || {
        let world = Arc::<World>::default();
        let nodes = [0, 1].map(|number| Node::new(&world, number));
        nodes.iter().for_each(|node| node.begin(2));
        if choose(3) > 0 {
            nodes.iter().for_each(|node| node.host.notes.wait(|notes| notes.stored.then_some(())));
        }
        for dropped in nodes.map(|node| spawn(move || drop(node))) {
            dropped.join().unwrap();
        }
    });
}
