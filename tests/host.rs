//! A host's code that panics, comes back into the engine or never returns costs what it was called for, and nothing else; a
//! host that says what cannot be is told so, and its node never ends with another key than everybody's in silence.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dkg_engine::SecretBytes;
use dkg_engine::bls::ProvenPublicKey;
use dkg_engine::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use dkg_engine::committee::{Committee, Member, NodeId};
use dkg_engine::engine::{
    BrokerTunnel, ControllerFactory, EngineError, EngineEvent, MessagingEngine, Observer, ReactorEngine, ReactorParts,
    Signal,
};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{
    EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, InstanceId, ProtocolEvent, ProtocolEvents, RunHistory,
    Snapshot, View,
};
use dkg_engine::network::{Delivery, Inbound, Network, NetworkError, Receipt};
use dkg_engine::store::{Change, DkgState, KeyStatus, MemoryStore, RecordId, Store, StoreError};
use support::{
    Client, Events, PATIENCE, Watched, World, header, messaging_config, node_id, setup, staking_key, staking_phase,
};

const SAID: &str = "as the test wants it";

/// A whiteboard client that panics in the first calls of one kind.
struct Panicking {
    inner: Arc<Client>,
    callback: &'static str,
    left: AtomicUsize,
    shutdowns: AtomicUsize,
}

impl Panicking {
    fn new(inner: &Arc<Client>, callback: &'static str, times: usize) -> Arc<Self> {
        let (inner, left) = (Arc::clone(inner), AtomicUsize::new(times));
        Arc::new(Panicking { inner, callback, left, shutdowns: AtomicUsize::new(0) })
    }

    fn enters(&self, callback: &str) {
        let one_less = |left: usize| left.checked_sub(1);
        if callback == self.callback && self.left.try_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            panic!("{SAID}");
        }
    }
}

impl DkgContractClient for Panicking {
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        self.enters("broadcast");
        self.inner.broadcast(content)
    }

    fn read_broadcast(&self, from: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        self.enters("read");
        self.inner.read_broadcast(from, as_of, limit)
    }

    fn submit_result(&self, instance: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        self.enters("submit");
        self.inner.submit_result(instance, result)
    }

    fn shutdown(&self) {
        self.shutdowns.fetch_add(1, Ordering::SeqCst);
        self.enters("shutdown");
    }
}

fn fresh() -> DkgState {
    DkgState::new(Arc::new(MemoryStore::new()))
}

#[test]
fn a_whiteboard_client_that_panics_costs_its_node_a_try_and_no_run() {
    for callback in ["broadcast", "read", "submit", "shutdown"] {
        let mut world = World::new(3);
        let client = Client::new(&world.board, node_id(0));
        let panicking = Panicking::new(&client, callback, 2);
        world.nodes[0] = world.node_with(0, fresh(), staking_phase(), client, vec![panicking.clone()]);
        world.run(1);
        world.board.submissions.wait("all results", |all| (all.len() == 3).then_some(()));
        assert_eq!(world.status(0, 1), KeyStatus::KeyCommitted, "{callback}");
        assert_eq!((world.nodes[0].reactor.stop(), world.nodes[0].reactor.stop()), (Ok(()), Ok(())), "{callback}");
        let left = if callback == "shutdown" { 1 } else { 0 };
        assert_eq!(panicking.left.load(Ordering::SeqCst), left, "{callback}");
        assert_eq!(panicking.shutdowns.load(Ordering::SeqCst), 1, "{callback}");
    }
}

/// A node that is not part of a [`World`].
fn alone(state: DkgState, client: Arc<dyn DkgContractClient>, tunnel: BrokerTunnel) -> ReactorParts {
    let factory = ControllerFactory::new(node_id(0), staking_key(0));
    ReactorParts::new(staking_phase(), state, factory, client, tunnel)
}

#[test]
fn an_observer_that_panics_costs_nobody_a_run() {
    struct Panics(Watched<usize>);
    impl Observer for Panics {
        fn notify(&self, _: &EngineEvent) {
            self.0.update(|told| *told += 1);
            panic!("{SAID}");
        }
    }
    let world = World::new(2);
    let observer = Arc::new(Panics(Watched::new(0)));
    let parts = alone(fresh(), Client::new(&world.board, node_id(0)), BrokerTunnel::new());
    let reactor = ReactorEngine::new(ReactorParts { observer: observer.clone(), ..parts }).unwrap();
    reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), setup(&world.committee, 1, View(1)));
    observer.0.wait("an event", |told| (*told > 0).then_some(()));
    world.board.wait_for_posts(1);
    assert_eq!((reactor.done().get(), reactor.stop()), (None, Ok(())));
}

#[test]
fn a_store_that_panics_is_an_error_of_the_store_that_says_in_which_call() {
    struct Panics(MemoryStore);
    impl Store for Panics {
        fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
            self.0.read(id)
        }
        fn list(&self) -> Result<Vec<RecordId>, StoreError> {
            self.0.list()
        }
        fn commit(&self, _: Vec<Change>) -> Result<(), StoreError> {
            panic!("{SAID}");
        }
    }
    let world = World::new(2);
    let state = DkgState::new(Arc::new(Panics(MemoryStore::new())));
    let client = Client::new(&world.board, node_id(0));
    let reactor = ReactorEngine::new(alone(state, client, BrokerTunnel::new())).unwrap();
    reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), setup(&world.committee, 1, View(1)));
    let said = format!("the host's Store::commit has panicked: {SAID}");
    assert_eq!(reactor.done().wait(), Err(EngineError::Store(StoreError::Failed(said))));
    assert_eq!(world.board.broadcasts(), []);
}

#[test]
fn a_start_that_fails_is_told_also_where_the_hosts_shutdown_panics() {
    struct Broken;
    impl Store for Broken {
        fn read(&self, _: RecordId) -> Result<Option<SecretBytes>, StoreError> {
            Err(StoreError::Failed("the disk is gone".into()))
        }
        fn list(&self) -> Result<Vec<RecordId>, StoreError> {
            Err(StoreError::Failed("the disk is gone".into()))
        }
        fn commit(&self, _: Vec<Change>) -> Result<(), StoreError> {
            Err(StoreError::Failed("the disk is gone".into()))
        }
    }
    let world = World::new(2);
    let client = Panicking::new(&Client::new(&world.board, node_id(0)), "shutdown", usize::MAX);
    let state = DkgState::new(Arc::new(Broken));
    let reactor = ReactorEngine::new(alone(state, client.clone(), BrokerTunnel::new())).unwrap();
    let failed = Err(EngineError::Store(StoreError::Failed("the disk is gone".into())));
    assert_eq!(reactor.ready().wait_timeout(PATIENCE), Some(failed.clone()));
    assert_eq!((reactor.done().wait(), reactor.stop()), (failed.clone(), failed));
    assert_eq!(client.shutdowns.load(Ordering::SeqCst), 1);
}

fn message(byte: u8) -> PrivateMessage {
    PrivateMessage::protocol(SecretBytes::new(vec![byte; 33]), "dkg-test-1")
}

/// What `body` returns, unless it hangs.
fn within_patience<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (told, hears) = mpsc::channel();
    thread::spawn(move || told.send(body()));
    hears.recv_timeout(PATIENCE).expect("it hangs")
}

#[test]
fn receipts_that_panic_end_neither_the_engine_nor_the_process() {
    let mut world = World::new(3);
    let panics = || Receipt::new(|_| panic!("{SAID}"));
    let deliver = |world: &World, from: usize, byte: u8, receipt: Receipt| {
        world.nodes[0].messaging.process(Delivery { from: node_id(from), message: message(byte), receipt }).unwrap();
    };
    // No run has begun, so that they wait; the last takes the place of the first.
    for byte in [0, 1, 0] {
        deliver(&world, 1, byte, panics());
    }
    // In the run they are settled one by one.
    world.begin(1, 3);
    let (receipt, answer) = Receipt::awaited();
    deliver(&world, 2, 9, receipt);
    answer.wait(PATIENCE);
    assert_eq!(world.nodes[0].reactor.done().get(), None);
    // And these are let go of at the stop.
    assert_eq!(world.nodes[0].reactor.stop(), Ok(()));
    for byte in [2, 3] {
        deliver(&world, 1, byte, panics());
    }
    assert_eq!(world.nodes[0].messaging.stop(), Ok(()));
}

#[test]
fn a_receipt_may_hand_the_engine_another_message_when_it_is_let_go_of() {
    let mut world = World::new(3);
    let node = world.nodes.remove(0);
    within_patience(move || {
        for (byte, again) in [(1, 2), (3, 4)] {
            let inbound = node.messaging.inbound();
            let answers = Receipt::new(move |_| {
                let delivery = Delivery { from: node_id(2), message: message(again), receipt: Receipt::none() };
                let _stopped_or_not = inbound.deliver(delivery);
            });
            let first = Delivery { from: node_id(1), message: message(byte), receipt: answers };
            node.messaging.process(first).unwrap();
        }
        // One is replaced by the same message, the other waits when the engine is stopped.
        let same = Delivery { from: node_id(1), message: message(1), receipt: Receipt::none() };
        node.messaging.process(same).unwrap();
        assert_eq!((node.messaging.stop(), node.reactor.stop()), (Ok(()), Ok(())));
    });
}

#[test]
fn an_answer_can_be_waited_for_as_long_as_it_takes() {
    let (receipt, answer) = Receipt::awaited();
    let waiting = thread::spawn(move || answer.wait(Duration::MAX));
    receipt.confirm();
    assert!(waiting.join().unwrap());
}

#[test]
fn a_host_may_stop_the_engine_from_within_each_of_its_callbacks() {
    /// Stops the engine in its first call, and tells what came of it.
    struct Stops {
        engine: Watched<Option<Arc<ReactorEngine>>>,
        told: Watched<Option<Result<(), EngineError>>>,
        in_read: bool,
    }
    impl Stops {
        fn stop(&self) {
            let engine = self.engine.wait("the engine", Clone::clone);
            let stopped = engine.stop();
            self.told.update(|told| *told = Some(stopped));
        }
    }
    impl DkgContractClient for Stops {
        fn broadcast(&self, _: &str) -> Result<(), ClientError> {
            if !self.in_read {
                self.stop();
            }
            Ok(())
        }
        fn read_broadcast(&self, _: u64, _: &Header, _: usize) -> Result<Vec<BoardMessage>, ClientError> {
            if self.in_read {
                self.stop();
            }
            Ok(Vec::new())
        }
        fn submit_result(&self, _: &InstanceId, _: &DkgResult) -> Result<(), ClientError> {
            Ok(())
        }
        fn shutdown(&self) {}
    }
    for in_read in [true, false] {
        let world = World::new(2);
        let stops = Arc::new(Stops { engine: Watched::new(None), told: Watched::new(None), in_read });
        let parts = alone(fresh(), stops.clone(), BrokerTunnel::new());
        let reactor = Arc::new(ReactorEngine::new(parts).unwrap());
        reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), setup(&world.committee, 1, View(1)));
        reactor.events().on_event(ProtocolEvent::BlockFinalized(header(11, 0)));
        stops.engine.update(|engine| *engine = Some(Arc::clone(&reactor)));
        assert_eq!(stops.told.wait("what came of it", Clone::clone), Ok(()), "in a read: {in_read}");
        assert_eq!(reactor.done().wait_timeout(PATIENCE), Some(Ok(())), "in a read: {in_read}");
        stops.engine.update(|engine| *engine = None);
    }
}

/// Why a node says that it takes no part.
fn sat_out(events: &Events) -> String {
    events.wait("its reason", |event| match event {
        EngineEvent::SatOut { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

/// All members but the first are told of the run, and deal; the last one's vector comes behind the block `end`.
fn begin_without_the_first(world: &World, run: &EpochSetup) {
    let event = started(run);
    world.nodes[1..].iter().for_each(|node| node.reactor.events().on_event(event.clone()));
    world.board.wait_for_posts(world.nodes.len() - 1);
}

fn started(run: &EpochSetup) -> ProtocolEvent {
    ProtocolEvent::EpochSetupPhaseStarted { current: EpochCounter(0), first: header(1, 0), setup: run.clone() }
}

#[test]
fn a_run_whose_first_phase_is_over_when_its_setup_is_told_is_sat_out() {
    let world = World::new(3);
    let run = setup(&world.committee, 1, View(1));
    begin_without_the_first(&world, &run);
    world.tell(ProtocolEvent::BlockFinalized(header(31, 2)));
    world.nodes[0].reactor.events().on_event(started(&run));
    assert!(sat_out(&world.nodes[0].events).contains("phase 1 ended with view 31"));
    assert_eq!(world.board.broadcasts().iter().filter(|(from, _)| *from == node_id(0)).count(), 0);
}

#[test]
fn a_node_whose_blocks_change_places_leaves_the_run_when_a_phase_may_end_elsewhere() {
    let mut world = World::new(3);
    let run = world.begin(1, 3);
    let end = |node: usize, view: u64| world.nodes[node].reactor.block_finalized(header(view, 3));
    // Where no phase ends, it does not matter.
    [20, 19, 32, 32].into_iter().for_each(|view| end(0, view));
    assert_eq!(world.nodes[0].reactor.done().get(), None);
    end(0, 31);
    let reason = sat_out(&world.nodes[0].events);
    assert!(
        reason.contains("view 32") && reason.contains("view 31") && reason.contains("start the node anew"),
        "{reason}"
    );
    assert!(world.nodes[0].state.journal(run.epoch).unwrap().is_some());
    assert_eq!(world.nodes[0].reactor.stop(), Ok(()));
}

#[test]
fn a_node_that_was_told_the_wrong_blocks_is_whole_again_when_it_is_told_the_right_ones() {
    let mut world = World::new(3);
    let run = world.begin(1, 3);
    for (view, height) in [(32, 3), (31, 3)] {
        world.nodes[0].reactor.block_finalized(header(view, height));
    }
    sat_out(&world.nodes[0].events);
    let state = world.nodes[0].state.clone();
    let mut snapshot = Snapshot::new(EpochCounter(0), header(40, 3), EpochPhase::Setup(run.clone()));
    let told = |ends: &[Header]| Some(RunHistory { setup: run.clone(), ends: ends.to_vec() });
    // A history that cannot be is not taken for one, and costs nothing.
    for (ends, said) in [
        (&[header(25, 3)][..], "phase 1 cannot have ended with the block of view 25"),
        (&[header(41, 3)], "when view 40 is the latest"),
        (&[header(31, 3), header(35, 3)], "phase 2 cannot have ended with the block of view 35"),
    ] {
        snapshot.run = told(ends);
        drop(world.nodes.remove(0));
        let node = world.node(0, state.clone(), snapshot.clone());
        assert!(sat_out(&node.events).contains(said), "{said}");
        world.nodes.insert(0, node);
    }
    snapshot.run = told(&[header(31, 3)]);
    drop(world.nodes.remove(0));
    let node = world.node(0, state, snapshot);
    world.nodes.insert(0, node);
    world.nodes[1..].iter().for_each(|node| node.reactor.block_finalized(header(31, 3)));
    for view in [61, 91] {
        world.finalize(view);
    }
    let commit = world.commit(1);
    world.tell_commit(&commit);
    for number in 0..3 {
        let committed = |event: &EngineEvent| matches!(event, EngineEvent::KeyCommitted { .. }).then_some(());
        world.nodes[number].events.wait("the key", committed);
    }
}

#[test]
fn a_setup_that_cannot_be_is_sat_out_with_what_is_wrong_about_it() {
    let world = World::new(3);
    let run = setup(&world.committee, 1, View(1));
    let phases = |finals: [u64; 3]| EpochSetup { phase_final_views: finals.map(View), ..run.clone() };
    let long = "x".repeat(600);
    let finals = run.phase_final_views;
    let members = world.committee.iter().map(|(_, member)| {
        let key = if member.node_id == node_id(0) { staking_key(77) } else { world.keys[&member.node_id].clone() };
        Member { staking_key: ProvenPublicKey::vouched_for(key.public_key()), ..member.clone() }
    });
    let rotated = Arc::new(Committee::new(members.collect()).unwrap());
    for (wrong, said) in [
        (phases([31, 31, 31]), "each has to end after the one before"),
        (phases([91, 61, 31]), "each has to end after the one before"),
        (EpochSetup { epoch: EpochCounter(7), ..run.clone() }, "its setup came in epoch 0"),
        (EpochSetup::new(&long, run.epoch, world.committee.clone(), View(1), finals), "the chain id is too long"),
        (EpochSetup { committee: rotated, ..run.clone() }, "another staking key"),
    ] {
        let node = world.node(0, fresh(), staking_phase());
        node.reactor.events().on_event(started(&wrong));
        let reason = sat_out(&node.events);
        assert!(reason.contains(said), "{reason}");
        // It is there for the next one that can be.
        node.reactor.events().on_event(started(&run));
        node.events.wait("its part", |event| matches!(event, EngineEvent::RunStarted { .. }).then_some(()));
        assert_eq!(node.reactor.stop(), Ok(()));
    }
}

#[test]
fn a_chain_that_contradicts_itself_is_told_so_and_what_it_said_first_stands() {
    let mut world = World::new(3);
    let contradicted = |events: &Events, times: usize| {
        let what = |event: &EngineEvent| match event {
            EngineEvent::Contradicted { what, .. } => Some(what.clone()),
            _ => None,
        };
        events.wait_for_all("a contradiction", |all| all.iter().filter_map(what).nth(times - 1))
    };
    let run = world.begin(1, 3);
    let later = EpochSetup { phase_final_views: [View(131), View(161), View(191)], ..run.clone() };
    world.tell(started(&later));
    assert!(contradicted(&world.nodes[0].events, 1).contains("set up with other views"));
    for phase in 0..3 {
        world.end_phase(&run, phase);
    }
    let commit = world.commit(1);
    world.tell_commit(&commit);
    let other = EpochCommit { group_key: commit.key_shares[0], ..commit.clone() };
    world.tell_commit(&other);
    assert!(contradicted(&world.nodes[0].events, 2).contains("other keys were committed"));
    let next = setup(&world.committee, 2, View(100));
    let event = |current| ProtocolEvent::EpochSetupPhaseStarted {
        current: EpochCounter(current),
        first: header(100, 0),
        setup: next.clone(),
    };
    world.tell(event(1));
    world.tell(started(&run));
    assert!(contradicted(&world.nodes[0].events, 3).contains("an event of epoch 0 comes after one of epoch 1"));
    assert_eq!(world.status(0, 1), KeyStatus::KeyCommitted);
}

/// A logger whose file is gone, where the words of this test are written.
struct Logger;

const LOGGED: &str = "a peer that the logger does not like";

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains(LOGGED) {
            panic!("{SAID}");
        }
    }
    fn flush(&self) {}
}

#[test]
fn a_messaging_engine_that_a_panic_has_ended_is_done_and_says_so() {
    struct Away;
    impl Network for Away {
        fn send(&self, to: &NodeId, _: &PrivateMessage) -> Result<(), NetworkError> {
            Err(NetworkError::Unreachable(*to, LOGGED.into()))
        }
    }
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let world = World::new(3);
    let tunnel = BrokerTunnel::new();
    let messaging = MessagingEngine::new(Arc::new(Away), tunnel.clone(), messaging_config()).unwrap();
    let client = Client::new(&world.board, node_id(0));
    let reactor = ReactorEngine::new(alone(fresh(), client, tunnel)).unwrap();
    reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), setup(&world.committee, 1, View(1)));
    let done: Signal<_> = messaging.done();
    let ended = Err(EngineError::Panicked { thread: "messaging engine's dispatcher", text: SAID.into() });
    assert_eq!(done.wait_timeout(PATIENCE), Some(ended.clone()));
    assert_eq!((messaging.stop(), reactor.stop()), (ended, Ok(())));
}
