//! Nodes that are stopped in the middle of a run and started again (spec section 8), on the engines' threads.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, RANDOM_BEACON_TAG};
use dkg_engine::engine::{EngineError, EngineEvent, ReactorConfig};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{
    EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, PastRun, RunHistory, Snapshot, View,
};
use dkg_engine::network::{Delivery, Receipt};
use dkg_engine::store::{
    Change, DkgState, HealthStatus, KeyCheck, KeyStatus, MemoryStore, RecordId, RecordKind, SafeKey, Store, StoreError,
};
use support::{Client, Node, World, committee, config, header, node_id, setup};

/// Where the chain stands for a node that starts in a run.
fn in_the_run(world: &World, setup: &EpochSetup, ends: &[Header]) -> Snapshot {
    let run = RunHistory { setup: setup.clone(), ends: ends.to_vec() };
    let phase = EpochPhase::Setup(setup.clone());
    Snapshot { run: Some(run), ..Snapshot::new(EpochCounter(setup.epoch.0 - 1), world.last, phase) }
}

/// Kills a node: its engines end where they stand, and what they held in memory is gone.
fn kill(world: &mut World, number: usize) -> DkgState {
    let Node { reactor, messaging, state, .. } = world.nodes.remove(number);
    assert_eq!((reactor.stop(), messaging.stop()), (Ok(()), Ok(())));
    state
}

fn start(world: &mut World, number: usize, state: DkgState, snapshot: Snapshot) {
    let node = world.node(number, state, snapshot);
    world.nodes.insert(number, node);
}

fn resumed(world: &World, number: usize) -> (usize, Vec<Index>) {
    world.nodes[number].events.wait("its word", |event| match event {
        EngineEvent::RunResumed { phases_over, shares_from, .. } => Some((*phases_over, shares_from.clone())),
        _ => None,
    })
}

/// Ends the phase for all nodes that are up; the block that ended it.
fn end_phase(world: &mut World, setup: &EpochSetup, phase: usize) -> Header {
    world.end_phase(setup, phase);
    world.last
}

fn key_of(world: &World, number: usize, epoch: u64) -> Option<dkg_engine::bls::PublicKey> {
    match world.nodes[number].state.safe_key(EpochCounter(epoch)).unwrap() {
        SafeKey::Key(key) => Some(key.public_key()),
        SafeKey::NotYet | SafeKey::Never => None,
    }
}

/// All nodes come out with the chain's keys, and everybody has said everything once.
fn everybody_has_a_key(world: &World, commit: &EpochCommit) {
    world.tell_commit(commit);
    for number in 0..world.nodes.len() {
        world.nodes[number]
            .events
            .wait("the key", |event| matches!(event, EngineEvent::KeyCommitted { .. }).then_some(()));
        assert_eq!(key_of(world, number, commit.epoch.0), Some(commit.key_shares[number]));
    }
    let said = world.board.broadcasts();
    assert_eq!(said.iter().filter(|(_, data)| data[0] == 1).count(), world.nodes.len(), "one vector of each");
    assert_eq!(said.len(), world.nodes.len(), "and no complaint");
}

#[test]
fn a_node_killed_in_phase_1_goes_on_with_the_same_dealing_and_the_shares_it_had() {
    let mut world = World::new(3);
    let setup = world.begin(1, 3);
    let vectors = world.board.broadcasts();
    let state = kill(&mut world, 2);
    world.finalize(setup.first_view.0 + 3);
    let snapshot = in_the_run(&world, &setup, &[]);
    start(&mut world, 2, state, snapshot);
    assert_eq!(resumed(&world, 2), (0, Index::all(2).collect()));
    (0..3).for_each(|phase| world.end_phase(&setup, phase));
    assert_eq!(world.board.broadcasts(), vectors);
    let commit = world.commit(1);
    everybody_has_a_key(&world, &commit);
}

#[test]
fn a_node_that_was_down_over_the_end_of_a_phase_goes_through_it_as_of_the_block_that_ended_it() {
    for phases_over in 1..=3 {
        let mut world = World::new(3);
        let setup = world.begin(1, 3);
        let state = kill(&mut world, 2);
        let ends: Vec<Header> = (0..phases_over).map(|phase| end_phase(&mut world, &setup, phase)).collect();
        let snapshot = in_the_run(&world, &setup, &ends);
        start(&mut world, 2, state, snapshot);
        assert_eq!(resumed(&world, 2).0, phases_over);
        for phase in phases_over..3 {
            world.end_phase(&setup, phase);
        }
        let results = world.board.submissions.wait("three results", |all| (all.len() == 3).then(|| all.clone()));
        assert_eq!(results[&node_id(2)], results[&node_id(0)]);
        let commit = world.commit(1);
        everybody_has_a_key(&world, &commit);
    }
}

#[test]
fn what_is_posted_after_a_phases_last_block_does_not_count_in_it_for_a_node_that_was_down() {
    let mut world = World::new(4);
    // Member 3 deals too late: its vector stands on the board behind the block that ends phase 1.
    let late = world.nodes[3].client.clone();
    late.posting_down.store(true, Ordering::SeqCst);
    let setup = world.begin(1, 3);
    let state = kill(&mut world, 2);
    let end = end_phase(&mut world, &setup, 0);
    late.posting_down.store(false, Ordering::SeqCst);
    world.board.wait_for_posts(4);
    world.finalize(end.view.0 + 3);
    let snapshot = in_the_run(&world, &setup, &[end]);
    start(&mut world, 2, state, snapshot);
    (1..3).for_each(|phase| world.end_phase(&setup, phase));
    for node in &world.nodes {
        let out: Vec<Index> = node.events.wait("the report", |event| match event {
            EngineEvent::RunEnded(report) => Some(report.disqualified.iter().map(|(dealer, _)| *dealer).collect()),
            _ => None,
        });
        assert_eq!(out, [Index::from_position(3).unwrap()]);
    }
}

#[test]
fn a_node_that_was_down_until_the_keys_were_agreed_on_still_comes_out_with_its_share() {
    let mut world = World::new(3);
    let setup = world.begin(1, 3);
    let state = kill(&mut world, 2);
    let ends: Vec<Header> = (0..3).map(|phase| end_phase(&mut world, &setup, phase)).collect();
    let commit = world.commit(1);
    world.tell_commit(&commit);
    let snapshot = Snapshot {
        run: Some(RunHistory { setup: setup.clone(), ends }),
        ..Snapshot::new(EpochCounter(0), world.last, EpochPhase::Committed(commit.clone()))
    };
    start(&mut world, 2, state, snapshot);
    everybody_has_a_key(&world, &commit);
}

#[test]
fn a_key_that_was_agreed_on_while_the_node_was_down_is_committed_when_it_starts_in_the_next_epoch() {
    let mut world = World::new(3);
    let setup = world.begin(1, 3);
    (0..3).for_each(|phase| world.end_phase(&setup, phase));
    let commit = world.commit(1);
    assert_eq!(world.status(2, 1), KeyStatus::Completed);
    let state = kill(&mut world, 2);
    let snapshot =
        Snapshot { keys: Some(commit.clone()), ..Snapshot::new(EpochCounter(1), header(120, 3), EpochPhase::Staking) };
    start(&mut world, 2, state, snapshot);
    assert_eq!(world.nodes[2].reactor.ready().wait(), Ok(()));
    assert_eq!(key_of(&world, 2, 1), Some(commit.key_shares[2]));
    let (current, _) = world.nodes[2].reactor.key_health().unwrap();
    assert_eq!((current.epoch, current.status), (EpochCounter(1), HealthStatus::Safe));
}

/// The run with what was said in it, as a chain can tell that remembers it.
fn past(world: &World, setup: &EpochSetup, ends: &[Header]) -> Arc<PastRun> {
    let posts = world.board.posts.wait("the posts", |posts| Some(posts.clone()));
    let heights: Vec<usize> = [0].into_iter().chain(ends.iter().map(|end| end.height as usize)).collect();
    let phases = [0, 1, 2].map(|phase| posts[heights[phase]..heights[phase + 1]].to_vec());
    Arc::new(PastRun { setup: setup.clone(), phases })
}

/// A chain that is so many epochs past the run that made its keys, all but the first in fallback.
fn epochs_after(commit: &EpochCommit, later: u64, head: Header, made_keys: Option<Arc<PastRun>>) -> Snapshot {
    let epoch = EpochCounter(commit.epoch.0 + later);
    let keys = Some(EpochCommit { epoch, ..commit.clone() });
    Snapshot { keys, made_keys, ..Snapshot::new(epoch, head, EpochPhase::Staking) }
}

/// A run that node 2 has missed from phase 2 on; its state, and what the chain says of it.
fn missed_run(world: &mut World, complains: bool) -> (DkgState, EpochCommit, Arc<PastRun>) {
    let setup = world.begin(1, 3);
    world.nodes[2].client.mute.store(!complains, Ordering::SeqCst);
    let mut ends = vec![end_phase(world, &setup, 0)];
    let state = kill(world, 2);
    ends.extend((1..3).map(|phase| end_phase(world, &setup, phase)));
    let commit = world.commit(1);
    world.tell_commit(&commit);
    let past = past(world, &setup, &ends);
    (state, commit, past)
}

#[test]
fn a_node_that_was_down_over_the_turn_of_the_epoch_still_gets_its_key() {
    // In the next epoch, in its run, and two epochs later in fallback.
    for (later, in_a_run) in [(0, false), (0, true), (2, false)] {
        let mut world = World::new(3);
        let (state, commit, past) = missed_run(&mut world, true);
        let said = world.board.broadcasts();
        let head = header(500, 3);
        let mut snapshot = epochs_after(&commit, later, head, Some(past));
        if in_a_run {
            snapshot.phase = EpochPhase::Setup(support::setup(&world.committee, 2, View(490)));
        }
        start(&mut world, 2, state, snapshot);
        assert_eq!(world.nodes[2].reactor.ready().wait(), Ok(()));
        for epoch in [1, 1 + later] {
            let SafeKey::Key(key) = world.nodes[2].state.safe_key(EpochCounter(epoch)).unwrap() else {
                panic!("no key for epoch {epoch}: {:?}", world.nodes[2].events.all());
            };
            let signature = key.secret_key().sign(b"a beacon", &RANDOM_BEACON_TAG);
            assert!(commit.key_shares[2].verify(b"a beacon", &RANDOM_BEACON_TAG, &signature));
        }
        assert!(world.nodes[2].state.journal(EpochCounter(1)).unwrap().is_none(), "it has made its key");
        assert_eq!(world.board.broadcasts(), said, "nothing is said in a run that is over");
        world.board.submissions.wait("two results", |all| (all.len() == 2).then_some(()));
        let status = world.nodes[2].state.record(EpochCounter(2)).unwrap().status();
        assert_eq!(status == KeyStatus::Started, in_a_run, "and it takes part in the run that is on: {status}");
    }
}

#[test]
fn what_a_node_has_kept_of_a_run_stays_until_its_key_has_come_out_of_it() {
    let mut world = World::new(3);
    let (mut state, commit, past) = missed_run(&mut world, true);
    let head = header(500, 3);
    // A chain that cannot tell of the run, in its own epoch, in the next, and long after.
    for later in [0, 1, 40] {
        start(
            &mut world,
            2,
            state,
            epochs_after(&commit, later, head, if later == 40 { Some(past.clone()) } else { None }),
        );
        assert_eq!(world.nodes[2].reactor.ready().wait(), Ok(()));
        if later < 40 {
            let failed = |event: &EngineEvent| match event {
                EngineEvent::KeyFailed { reason, .. } => Some(reason.clone()),
                _ => None,
            };
            world.nodes[2].events.wait("its word", failed);
            let journal = world.nodes[2].state.journal(EpochCounter(1)).unwrap().unwrap();
            assert!(journal.dealing.seed().is_some() && journal.shares.len() == 2);
        }
        state = kill(&mut world, 2);
    }
    let SafeKey::Key(key) = state.safe_key(EpochCounter(41)).unwrap() else { panic!("no key") };
    assert_eq!(key.public_key(), commit.key_shares[2]);
}

#[test]
fn a_node_that_lacks_a_share_of_a_past_run_says_whose_and_keeps_the_others() {
    let mut world = World::new(3);
    world.nodes[0].port.lost.lock().push(node_id(2));
    let (state, commit, past) = missed_run(&mut world, false);
    let head = header(500, 3);
    start(&mut world, 2, state, epochs_after(&commit, 0, head, Some(past)));
    let reason = world.nodes[2].events.wait("its word", |event| match event {
        EngineEvent::KeyFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("share of dealer 0") && reason.contains("stays in its store"), "{reason}");
    let journal = world.nodes[2].state.journal(EpochCounter(1)).unwrap().unwrap();
    assert_eq!(journal.shares.iter().map(|share| share.dealer).collect::<Vec<_>>(), [Index::from_position(1).unwrap()]);
}

#[test]
fn a_node_whose_store_is_lost_while_its_vector_is_on_the_board_does_not_deal_again_and_says_so() {
    let mut world = World::new(4);
    let setup = world.begin(1, 4);
    let vectors = world.board.broadcasts();
    kill(&mut world, 3);
    world.finalize(setup.first_view.0 + 3);
    let snapshot = in_the_run(&world, &setup, &[]);
    start(&mut world, 3, DkgState::new(Arc::new(MemoryStore::new())), snapshot);
    // The others' shares come again, since it asks for them; a block covers what it may have posted.
    world.finalize(setup.first_view.0 + 4);
    world.nodes[3].events.wait("its word", |event| matches!(event, EngineEvent::DealtElsewhere { .. }).then_some(()));
    let kept = || world.nodes[3].state.journal(EpochCounter(1)).unwrap().map_or(0, |journal| journal.shares.len());
    world.delivered.wait("the shares that it asked for", |_| (kept() == 3).then_some(()));
    (0..3).for_each(|phase| world.end_phase(&setup, phase));
    assert_eq!(world.board.broadcasts()[..4], vectors, "the same four vectors");
    assert!(
        world
            .board
            .broadcasts()
            .iter()
            .all(|(from, data)| *from != node_id(3) || data[0] != 1 || vectors.contains(&(*from, data.clone())))
    );
    // It takes part as a receiver: it knows the result, and has no share of its own secret.
    let report = world.nodes[3].events.wait("its report", |event| match event {
        EngineEvent::RunEnded(report) => Some(report.clone()),
        _ => None,
    });
    let missing = report.share.as_ref().unwrap_err();
    assert!(report.keys.is_ok() && missing.contains("share of dealer 3 reached us"), "{report:?}");
    let results = world.board.submissions.wait("four results", |all| (all.len() == 4).then(|| all.clone()));
    assert_eq!(results[&node_id(3)], results[&node_id(0)]);
}

#[test]
fn a_share_that_is_missing_is_asked_for_before_anybody_complains() {
    let mut world = World::new(3);
    world.nodes[1].port.lost.lock().push(node_id(0));
    let setup = world.begin(1, 3);
    world.nodes[1].port.lost.lock().clear();
    // The second half of phase 1 has begun.
    world.finalize(setup.first_view.0 + 20);
    let shares = || world.nodes[0].state.journal(EpochCounter(1)).unwrap().map_or(0, |journal| journal.shares.len());
    // Five shares arrived at first, one was lost; then the request and its answer.
    world.delivered.wait("the request and the share", |count| (*count >= 6 + 2).then_some(()));
    assert_eq!(shares(), 2);
    (0..3).for_each(|phase| world.end_phase(&setup, phase));
    let commit = world.commit(1);
    everybody_has_a_key(&world, &commit);
}

/// A store that takes no shares while its disk is full.
struct Full {
    inner: MemoryStore,
    full: AtomicBool,
}

impl Store for Full {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.inner.read(id)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.inner.list()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let share = |change: &Change| matches!(change, Change::Put(RecordId { kind: RecordKind::Share(_), .. }, _));
        if self.full.load(Ordering::SeqCst) && changes.iter().any(share) {
            return Err(StoreError::Failed("the disk is full".into()));
        }
        self.inner.commit(changes)
    }
}

#[test]
fn a_share_that_could_not_be_stored_is_not_acknowledged_and_one_that_was_is() {
    for full in [false, true] {
        let mut world = World::new(2);
        let store = Full { inner: MemoryStore::new(), full: AtomicBool::new(full) };
        let client = Client::new(&world.board, node_id(0));
        let state = DkgState::new(Arc::new(store));
        world.nodes[0] = world.node_with(0, state, support::staking_phase(), client.clone(), vec![client]);
        let run = setup(&committee(2), 1, View(1));
        world.nodes[0].reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), run);
        let (receipt, answer) = Receipt::awaited();
        let message = PrivateMessage::protocol(SecretBytes::new(vec![0; 33]), "dkg-test-1");
        world.nodes[0].messaging.process(Delivery { from: node_id(1), message, receipt }).unwrap();
        assert_eq!(answer.wait(support::PATIENCE), !full);
        let kept = world.nodes[0].state.journal(EpochCounter(1)).unwrap().unwrap().shares.len();
        assert_eq!(kept, usize::from(!full));
    }
}

#[test]
fn a_node_told_to_look_for_its_key_does_not_start_without_it_unless_that_is_granted_for_the_epoch() {
    let mut world = World::new(2);
    let commit = world.run(1);
    let start = |state: DkgState, key_check| {
        let keys = Some(commit.clone());
        let snapshot = Snapshot { keys, ..Snapshot::new(EpochCounter(1), header(120, 2), EpochPhase::Staking) };
        let node = world.node_configured(0, state, snapshot, ReactorConfig { key_check: Some(key_check), ..config() });
        node.reactor.ready().wait()
    };
    let empty = || DkgState::new(Arc::new(MemoryStore::new()));
    assert_eq!(start(world.nodes[0].state.clone(), KeyCheck::Strict), Ok(()));
    assert!(matches!(start(empty(), KeyCheck::Strict), Err(EngineError::KeyCheck(_))));
    assert_eq!(start(empty(), KeyCheck::Lenient { epoch: EpochCounter(1) }), Ok(()));
    let Err(EngineError::KeyCheck(error)) = start(empty(), KeyCheck::Lenient { epoch: EpochCounter(0) }) else {
        panic!("a leniency of another epoch is none");
    };
    assert!(error.to_string().contains("dkg keys import"), "{error}");
}
