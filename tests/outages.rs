//! What the engine does when network, whiteboard, store or host fail for a while or for good (spec section 7).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dkg_engine::SecretBytes;
use dkg_engine::engine::{
    DEFAULT_POLL_STEP, EngineError, EngineEvent, MessagingEngineConfig, ReactorConfig, WhiteboardConfig,
};
use dkg_engine::epoch::{EpochCounter, EpochPhase, Snapshot, View};
use dkg_engine::protocol::{Phase, encode_complaint};
use dkg_engine::store::{Change, DkgState, MemoryStore, RecordId, RecordKind, Store, StoreError};
use support::{Client, Events, PATIENCE, World, header, node_id, setup, staking_phase};

fn index(number: usize) -> dkg_engine::bls::Index {
    dkg_engine::bls::Index::from_position(number).unwrap()
}

fn phase_ended(events: &Events, wanted: Phase) -> (usize, usize) {
    events.wait("the phase's end", |event| match event {
        EngineEvent::PhaseEnded { phase, dealt, complaints, .. } if *phase == wanted => {
            Some((dealt.len(), complaints.len()))
        }
        _ => None,
    })
}

#[test]
fn a_share_reaches_a_peer_that_was_away_for_a_while() {
    let mut world = World::new(3);
    // Every message of node 0 fails five times over.
    world.nodes[0].port.failing.store(10, Ordering::SeqCst);
    world.run(1);
    assert!(world.board.broadcasts().iter().all(|(_, data)| data[0] == 1), "nobody had a reason to complain");
}

#[test]
fn a_panic_of_the_hosts_network_costs_one_try_of_one_message() {
    let mut world = World::new(5);
    world.nodes[0].port.panicking.store(6, Ordering::SeqCst);
    world.run(1);
    assert!(world.board.broadcasts().iter().all(|(_, data)| data[0] == 1), "nobody had a reason to complain");
    assert_eq!(world.nodes[0].messaging.stop(), Ok(()));
}

#[test]
fn posts_that_fail_do_not_hold_up_reading() {
    let mut world = World::new(4);
    world.nodes[0].client.posting_down.store(true, Ordering::SeqCst);
    let setup = world.begin(1, 3);
    // Node 0's vector is still being tried when its phases end, one after the other.
    for phase in 0..3 {
        world.end_phase(&setup, phase);
    }
    let report = world.nodes[0].events.wait("its report", |event| match event {
        EngineEvent::RunEnded(report) => Some(report.clone()),
        _ => None,
    });
    assert_eq!(report.qualified, [index(1), index(2), index(3)]);
    assert_eq!(report.share, Ok(()));
}

#[test]
fn posts_are_made_in_the_order_in_which_they_were_said_also_after_an_outage() {
    let mut world = World::new(5);
    for dealer in [0, 3] {
        world.nodes[dealer].port.lost.lock().push(node_id(1));
    }
    let setup = world.begin(1, 5);
    world.nodes[1].client.posting_down.store(true, Ordering::SeqCst);
    world.end_phase(&setup, 0);
    world.nodes[1].client.posting_down.store(false, Ordering::SeqCst);
    world.board.wait_for_posts(7);
    let complaints: Vec<_> = world.board.broadcasts().into_iter().skip(5).map(|(_, data)| data).collect();
    assert_eq!(complaints, [encode_complaint(index(0)), encode_complaint(index(3))]);
}

#[test]
fn a_read_within_a_phase_is_given_up_after_three_retries_and_the_next_one_makes_up_for_it() {
    let mut world = World::new(3);
    let setup = world.begin(1, 3);
    let client = world.nodes[0].client.clone();
    client.down.store(true, Ordering::SeqCst);
    let calls = client.calls.load(Ordering::SeqCst);
    world.finalize(11);
    // The engine goes on without: it has worked the view off.
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.nodes[0].reactor.events().worked_off() < View(11) {
        assert!(std::time::Instant::now() < deadline, "the read was never given up");
        std::thread::yield_now();
    }
    assert_eq!(client.calls.load(Ordering::SeqCst) - calls, 4);
    client.down.store(false, Ordering::SeqCst);
    world.end_phase(&setup, 0);
    assert_eq!(phase_ended(&world.nodes[0].events, Phase::Sharing), (3, 0));
}

/// A store that fails when a key's record is written for the `fails_at`-th time.
struct Failing {
    inner: MemoryStore,
    writes: AtomicUsize,
    fails_at: usize,
}

impl Store for Failing {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.inner.read(id)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.inner.list()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let key = |change: &Change| matches!(change, Change::Put(RecordId { kind: RecordKind::Key, .. }, _));
        if changes.iter().any(key) && self.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.fails_at {
            return Err(StoreError::Failed("the disk is full".into()));
        }
        self.inner.commit(changes)
    }
}

#[test]
fn a_store_that_fails_stops_the_engine_with_the_reason_and_nothing_it_should_protect_gets_out() {
    // At the first write (the run has started) nothing may have been dealt; at the second (the share) nothing submitted.
    for fails_at in [1, 2] {
        let mut world = World::new(3);
        let store = Failing { inner: MemoryStore::new(), writes: AtomicUsize::new(0), fails_at };
        let client = Client::new(&world.board, node_id(0));
        let state = DkgState::new(Arc::new(store));
        world.nodes[0] = world.node_with(0, state, staking_phase(), client.clone(), vec![client]);
        let run = setup(&world.committee, 1, View(1));
        for node in &world.nodes {
            node.reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), run.clone());
        }
        world.board.wait_for_posts(if fails_at == 1 { 2 } else { 3 });
        for phase in 0..3 {
            world.finalize(run.phase_final_views[phase].0);
        }
        let failure = world.nodes[0].reactor.done().wait();
        assert_eq!(failure, Err(EngineError::Store(StoreError::Failed("the disk is full".into()))));
        for node in &world.nodes[1..] {
            node.events.wait("the end", |event| matches!(event, EngineEvent::RunEnded(_)).then_some(()));
        }
        world.board.submissions.wait("the others' results", |all| (all.len() == 2).then_some(()));
        let said: Vec<_> = world.board.broadcasts().iter().filter(|(from, _)| *from == node_id(0)).cloned().collect();
        assert_eq!(said.is_empty(), fails_at == 1);
        assert_eq!(world.nodes[0].reactor.stop(), failure);
    }
}

#[test]
fn a_node_outside_the_committee_says_so_and_goes_on() {
    let mut world = World::new(3);
    world.nodes.push(world.node(9, DkgState::new(Arc::new(MemoryStore::new())), staking_phase()));
    let run = setup(&world.committee, 1, View(1));
    let node = &world.nodes[3];
    node.reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), run);
    let reason = node.events.wait("its word", |event| match event {
        EngineEvent::SatOut { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("not in its committee"), "{reason}");
    assert_eq!(node.reactor.stop(), Ok(()));
}

#[test]
fn a_node_that_cannot_read_its_store_at_the_start_is_not_ready_and_says_why() {
    struct Unreadable;
    impl Store for Unreadable {
        fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
            Err(StoreError::Damaged { record: id, reason: "half a record".into() })
        }
        fn list(&self) -> Result<Vec<RecordId>, StoreError> {
            Ok(Vec::new())
        }
        fn commit(&self, _: Vec<Change>) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let world = World::new(3);
    let phase = EpochPhase::Setup(setup(&world.committee, 1, View(1)));
    let snapshot = Snapshot::new(EpochCounter(0), header(1, 0), phase);
    let node = world.node(0, DkgState::new(Arc::new(Unreadable)), snapshot);
    let failure = node.reactor.ready().wait();
    assert!(failure.as_ref().is_err_and(|error| error.to_string().contains("half a record")), "{failure:?}");
    assert_eq!(node.reactor.done().wait(), failure);
    assert_eq!(world.board.broadcasts(), []);
}

#[test]
fn no_wait_for_the_board_is_longer_than_a_sixteenth_of_a_phase() {
    for (phase_ms, view_ms, base_ms, max_ms) in
        [(120_000, 1_000, 1_000, 7_500), (3_600_000, 10_000, 1_000, 16_000), (3_000, 100, 100, 187), (200, 100, 12, 12)]
    {
        let of = |phase_ms, view_ms| {
            let (phase, view) = (Duration::from_millis(phase_ms), Duration::from_millis(view_ms));
            WhiteboardConfig::for_phases_of(phase, view)
        };
        let config = of(phase_ms, view_ms);
        assert_eq!((config.base_wait.as_millis(), config.max_wait.as_millis()), (base_ms, max_ms), "{phase_ms} ms");
    }
}

#[test]
fn the_defaults_are_those_of_the_reference() {
    let config = MessagingEngineConfig::default();
    assert_eq!(
        (config.retry_max, config.retry_base_wait, config.retry_jitter_percent),
        (9, Duration::from_secs(1), 25)
    );
    let WhiteboardConfig { post_retries, read_retries, base_wait, jitter_percent, .. } = WhiteboardConfig::default();
    assert_eq!((post_retries, read_retries, base_wait, jitter_percent), (10, 3, Duration::from_secs(1), 25));
    assert_eq!((DEFAULT_POLL_STEP, ReactorConfig::default().poll_step), (10, 10));
}
