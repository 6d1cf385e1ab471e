//! Whole nodes on real threads, driven block by block: what a host relies on, and the defects of the reference (R1 to R12)
//! proven absent.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dkg_engine::bls::{RANDOM_BEACON_TAG, combine};
use dkg_engine::chain::{DkgContractClient, DkgResult};
use dkg_engine::engine::EngineEvent;
use dkg_engine::envelope::{BroadcastMessage, PrivateMessage};
use dkg_engine::epoch::{EpochCounter, EpochPhase, ProtocolEvent, ProtocolEvents, Snapshot, View};
use dkg_engine::network::{Delivery, Receipt};
use dkg_engine::protocol::encode_complaint;
use dkg_engine::store::{DkgState, EpochRecord, KeyStatus, MemoryStore, SafeKey};
use support::{Client, World, header, node_id, setup, staking_phase};

/// How the run for `epoch` ended on a node: the keys or the reason, from its report.
fn ended(world: &World, number: usize, epoch: u64) -> Result<(), String> {
    world.nodes[number].events.wait("the run's end", |event| match event {
        EngineEvent::RunEnded(report) if report.epoch.0 == epoch => {
            Some(report.keys.as_ref().map(|_| ()).map_err(String::clone))
        }
        _ => None,
    })
}

fn complaints_on_board(world: &World) -> usize {
    world.board.broadcasts().iter().filter(|(_, data)| data.first() == Some(&2)).count()
}

#[test]
fn an_epoch_ends_with_a_committed_key_on_every_node_and_any_t_plus_1_of_them_sign() {
    let mut world = World::new(5);
    let commit = world.run(1);
    let keys: Vec<_> = world
        .nodes
        .iter()
        .map(|node| match node.state.safe_key(EpochCounter(1)).unwrap() {
            SafeKey::Key(key) => key,
            _ => panic!("{} has no safe key", node.id),
        })
        .collect();
    for signers in [[0, 1, 2], [4, 2, 0]] {
        let shares: Vec<_> = signers
            .iter()
            .map(|&signer| (keys[signer].index(), keys[signer].secret_key().sign(b"message", &RANDOM_BEACON_TAG)))
            .collect();
        let signature = combine(5, 2, &shares).unwrap();
        assert!(commit.group_key.verify(b"message", &RANDOM_BEACON_TAG, &signature));
    }
    assert_eq!(complaints_on_board(&world), 0);
}

#[test]
fn a_failed_run_leaves_no_listener_that_can_take_the_next_runs_messages() {
    let mut world = World::new(4);
    world.board.clear();
    // Epoch 1: two of four vectors never reach the board, one more than may be missing.
    for number in [2, 3] {
        world.nodes[number].client.mute.store(true, Ordering::SeqCst);
    }
    let setup = world.begin(1, 2);
    for phase in 0..3 {
        world.end_phase(&setup, phase);
    }
    for number in 0..4 {
        assert!(ended(&world, number, 1).is_err());
        assert_eq!(world.status(number, 1), KeyStatus::Failed);
        world.nodes[number].client.mute.store(false, Ordering::SeqCst);
    }
    // Epoch 2: every share arrives at the one run there is, so nobody has anything to complain about.
    world.run(2);
    assert_eq!(complaints_on_board(&world), 0);
}

#[test]
fn a_failed_run_submits_the_empty_result() {
    let mut world = World::new(3);
    world.nodes[0].client.mute.store(true, Ordering::SeqCst);
    world.nodes[1].client.mute.store(true, Ordering::SeqCst);
    let setup = world.begin(1, 1);
    for phase in 0..3 {
        world.end_phase(&setup, phase);
    }
    let result = world.board.submissions.wait("node 2's result", |all| all.get(&node_id(2)).cloned());
    assert_eq!(result, DkgResult::Empty);
    let reason = ended(&world, 2, 1).unwrap_err();
    assert!(reason.contains("2 of 3 dealers are disqualified"), "{reason}");
}

#[test]
fn a_phase_does_not_end_before_its_final_read_has_succeeded() {
    let mut world = World::new(4);
    let setup = world.begin(1, 4);
    // Node 0 cannot read when phase 1 ends, and 10 times over it tries in vain.
    world.nodes[0].client.down.store(true, Ordering::SeqCst);
    let before = world.nodes[0].client.reads.wait("reads", |reads| Some(*reads));
    world.finalize(setup.phase_final_views[0].0);
    world.nodes[0].client.reads.wait("many tries", |reads| (*reads >= before + 10).then_some(()));
    let ended_early = |event: &EngineEvent| matches!(event, EngineEvent::PhaseEnded { .. });
    assert!(!world.nodes[0].events.all().iter().any(ended_early));
    // Meanwhile the board grows: what stands behind the boundary block is no part of phase 1, however late it is read.
    let late = BroadcastMessage::sign(encode_complaint(support_index(1)), &setup.instance, &world.keys[&node_id(2)]);
    world.board.post(node_id(2), &late.to_json());
    world.nodes[0].client.down.store(false, Ordering::SeqCst);
    for node in &world.nodes {
        let (dealt, complaints) = node.events.wait("the end of phase 1", |event| match event {
            EngineEvent::PhaseEnded { dealt, complaints, .. } => Some((dealt.len(), complaints.len())),
            _ => None,
        });
        assert_eq!((dealt, complaints), (4, 0), "{}", node.id);
    }
    world.end_phase(&setup, 1);
    world.end_phase(&setup, 2);
    for number in 0..4 {
        // The complaint counted in phase 2 for everybody, and was answered.
        assert_eq!(ended(&world, number, 1), Ok(()));
    }
    assert_eq!(world.commit(1).epoch, EpochCounter(1));
}

fn support_index(number: usize) -> dkg_engine::bls::Index {
    dkg_engine::bls::Index::from_position(number).unwrap()
}

#[test]
fn one_garbage_post_blinds_nobody() {
    let mut world = World::new(4);
    for garbage in ["", "{", "null", "{\"Data\":\"!\"}", "[]", "\u{0}"] {
        world.board.post(node_id(3), garbage);
    }
    world.board.post(node_id(9), "{}");
    world.board.post(node_id(3), &"x".repeat(1 << 20));
    let setup = world.begin(1, 12);
    for phase in 0..3 {
        world.end_phase(&setup, phase);
    }
    for number in 0..4 {
        assert_eq!(ended(&world, number, 1), Ok(()));
        let dropped = world.nodes[number].events.all();
        let dropped = dropped.iter().filter(|event| matches!(event, EngineEvent::PostDropped { .. })).count();
        assert_eq!(dropped, 8);
    }
    assert_eq!(complaints_on_board(&world), 0);
}

#[test]
fn a_run_whose_first_view_is_below_the_poll_step_goes_well() {
    let mut world = World::new(3);
    world.run(1);
    // `World` begins at view 1, and the poll step is 10.
    let started = world.nodes[0].events.all();
    assert!(started.iter().any(|event| matches!(event, EngineEvent::PhaseEnded { view: View(31), .. })));
}

#[test]
fn a_node_that_starts_at_a_phases_last_view_says_so_and_goes_on() {
    let mut world = World::new(4);
    let run = setup(&world.committee, 1, View(1));
    let snapshot = |view| Snapshot::new(EpochCounter(0), header(view, 0), EpochPhase::Setup(run.clone()));
    for view in [31, 61, 91, 5000] {
        let state = DkgState::new(Arc::new(MemoryStore::new()));
        let node = world.node(3, state.clone(), snapshot(view));
        assert_eq!(node.reactor.ready().wait(), Ok(()));
        node.events.wait("its word", |event| matches!(event, EngineEvent::SatOut { .. }).then_some(()));
        node.reactor.block_finalized(header(view + 100, 0));
        assert_eq!(state.record(EpochCounter(1)).unwrap().status(), KeyStatus::Failed);
        assert_eq!(node.reactor.stop(), Ok(()));
    }
    // And a node that starts inside phase 1 takes part.
    let node = world.node(3, DkgState::new(Arc::new(MemoryStore::new())), snapshot(20));
    world.nodes[3] = node;
    world.last = header(20, 0);
    world.board.clear();
    world.delivered.update(|count| *count = 0);
    for node in &world.nodes[..3] {
        node.reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), run.clone());
    }
    world.board.wait_for_posts(3);
    world.delivered.wait("the shares", |count| (*count >= 9).then_some(()));
}

#[test]
fn the_third_client_is_tried_when_two_are_down() {
    let mut world = World::new(3);
    let clients: Vec<Arc<Client>> = (0..3).map(|_| Client::new(&world.board, node_id(0))).collect();
    clients[0].down.store(true, Ordering::SeqCst);
    clients[1].down.store(true, Ordering::SeqCst);
    let given = clients.iter().map(|client| client.clone() as Arc<dyn DkgContractClient>).collect();
    let state = DkgState::new(Arc::new(MemoryStore::new()));
    world.nodes[0] = world.node_with(0, state, staking_phase(), clients[2].clone(), given);
    world.run(1);
    let calls = |number: usize| clients[number].calls.load(Ordering::SeqCst);
    // Reader and publisher each try the dead ones twice, once; then the one that works is preferred.
    assert!(calls(0) <= 4 && calls(1) <= 4, "{} and {} calls to dead clients", calls(0), calls(1));
    // One vector, three final reads; its result may still be on its way.
    assert!(calls(2) >= 4);
}

#[test]
fn a_run_whose_dealing_is_not_in_the_store_is_not_dealt_again() {
    let mut world = World::new(3);
    let run = world.begin(1, 3);
    let vectors = world.board.broadcasts();
    // Node 2 has nothing left but its word that the run was begun.
    assert_eq!(world.nodes[2].reactor.stop(), Ok(()));
    let state = DkgState::new(Arc::new(MemoryStore::new()));
    state.commit(&[EpochRecord::new(EpochCounter(1)).start().unwrap()]).unwrap();
    let snapshot = Snapshot::new(EpochCounter(0), header(5, 3), EpochPhase::Setup(run.clone()));
    world.nodes[2] = world.node(2, state, snapshot);
    let reason = world.nodes[2].events.wait("its word", |event| match event {
        EngineEvent::SatOut { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("does not deal a second time"), "{reason}");
    assert_eq!(world.status(2, 1), KeyStatus::Failed);
    assert_eq!(world.board.broadcasts(), vectors);
}

#[test]
fn a_member_without_a_share_of_a_qualified_dealer_submits_the_public_result_and_keeps_no_key() {
    let mut world = World::new(5);
    // Node 1's share for node 0 is lost, and so is node 0's complaint about it.
    world.nodes[1].port.lost.lock().push(node_id(0));
    let setup = world.begin(1, 5);
    world.nodes[0].client.mute.store(true, Ordering::SeqCst);
    world.end_phase(&setup, 0);
    world.end_phase(&setup, 1);
    world.nodes[0].client.mute.store(false, Ordering::SeqCst);
    world.end_phase(&setup, 2);
    let reason = world.nodes[0].events.wait("its report", |event| match event {
        EngineEvent::RunEnded(report) => Some(report.share.clone()),
        _ => None,
    });
    assert!(reason.unwrap_err().contains("dealer 1"));
    assert_eq!(world.status(0, 1), KeyStatus::Failed);
    let all = world.board.submissions.wait("all five", |all| (all.len() == 5).then(|| all.clone()));
    assert!(all.values().all(|result| *result != DkgResult::Empty && *result == all[&node_id(3)]));
}

#[test]
fn a_share_that_is_lost_is_repaired_by_a_complaint_and_its_answer() {
    let mut world = World::new(4);
    world.nodes[1].port.lost.lock().push(node_id(0));
    let setup = world.begin(1, 4);
    world.end_phase(&setup, 0);
    world.board.wait_for_posts(5);
    world.end_phase(&setup, 1);
    world.board.wait_for_posts(6);
    world.end_phase(&setup, 2);
    let commit = world.commit(1);
    world.tell_commit(&commit);
    for number in 0..4 {
        assert_eq!(ended(&world, number, 1), Ok(()));
        world.nodes[number]
            .events
            .wait("the key", |event| matches!(event, EngineEvent::KeyCommitted { .. }).then_some(()));
    }
}

#[test]
fn t_members_that_take_messages_and_never_answer_draw_no_share_into_public() {
    // The first three of seven: every dealer sends to them first. They deal like everybody else.
    let mut world = World::new(7);
    let silent: Vec<_> = (0..3).map(node_id).collect();
    world.silent.lock().extend(&silent);
    // Nothing fails, and no time goes by: every share for one of the others is delivered all the same.
    let setup = world.begin(1, 7);
    world.end_phase(&setup, 0);
    // They complain about everybody, and everybody answers in time: seven vectors, 18 complaints, 18 answers.
    world.board.wait_for_posts(7 + 18);
    world.end_phase(&setup, 1);
    world.board.wait_for_posts(7 + 18 + 18);
    world.end_phase(&setup, 2);
    let of_honest = |node: &dkg_engine::committee::NodeId| !silent.contains(node);
    for (poster, data) in world.board.broadcasts() {
        match data.as_slice() {
            [2, accused] if of_honest(&poster) => assert!(*accused < 3, "{poster} complains about member {accused}"),
            [3, complainer, ..] => assert!(*complainer < 3, "{poster} publishes the share of member {complainer}"),
            _ => {}
        }
    }
    for number in 3..7 {
        assert_eq!(ended(&world, number, 1), Ok(()));
    }
}

#[test]
fn a_secret_that_is_about_to_become_public_is_told_before_it_is() {
    let mut world = World::new(7);
    // Members 0, 1 and 2 are never heard of. The share of dealer 3 for member 4 is lost.
    world.nodes.drain(..3);
    world.nodes[0].port.lost.lock().push(node_id(4));
    let setup = world.begin(1, 4);
    world.end_phase(&setup, 0);
    // Its complaint stands on the board, and is read with the end of phase 2.
    world.board.wait_for_posts(5);
    world.end_phase(&setup, 1);
    let expected = (support_index(3), 1, 3, 0);
    for node in &world.nodes {
        let (told, words) = node.events.wait("the warning", |event| match event {
            EngineEvent::Exposed { exposure, .. } => Some((*exposure, event.to_string())),
            _ => None,
        });
        assert_eq!((told.dealer, told.public, told.silent, told.left), expected);
        assert!(words.contains("member 3's secret is public once its complaints are answered"), "{words}");
    }
    world.board.wait_for_posts(6);
    world.end_phase(&setup, 2);
    for node in &world.nodes {
        let exposures = node.events.wait("its report", |event| match event {
            EngineEvent::RunEnded(report) => Some(report.exposures.clone()),
            _ => None,
        });
        let public: Vec<usize> = exposures.iter().map(|exposure| exposure.public).collect();
        assert_eq!(public, [1, 0, 0, 0]);
        let warnings = node.events.all().iter().filter(|event| matches!(event, EngineEvent::Exposed { .. })).count();
        assert_eq!(warnings, 1, "once is enough");
    }
}

#[test]
fn a_key_that_the_chain_does_not_confirm_is_kept_and_never_signs() {
    let mut world = World::new(3);
    let setup = world.begin(1, 3);
    for phase in 0..3 {
        world.end_phase(&setup, phase);
    }
    let mut commit = world.commit(1);
    commit.key_shares[0] = commit.key_shares[1];
    world.tell_commit(&commit);
    world.nodes[0].events.wait("its failure", |event| matches!(event, EngineEvent::KeyFailed { .. }).then_some(()));
    let record = world.nodes[0].state.record(EpochCounter(1)).unwrap();
    assert_eq!(record.status(), KeyStatus::Failed);
    assert!(matches!(record.safe_key(), SafeKey::Never));
    world.nodes[2].events.wait("a key", |event| matches!(event, EngineEvent::KeyCommitted { .. }).then_some(()));
}

#[test]
fn when_the_chain_leaves_fallback_the_earlier_key_is_committed_for_the_next_epoch_too() {
    let mut world = World::new(3);
    let mut commit = world.run(1);
    // Epoch 2's run fails: nobody posts.
    world.board.clear();
    for node in &world.nodes {
        node.client.mute.store(true, Ordering::SeqCst);
    }
    let setup = world.begin(2, 0);
    for phase in 0..3 {
        world.end_phase(&setup, phase);
    }
    commit.epoch = EpochCounter(2);
    world.tell(ProtocolEvent::EpochFallbackExited { current: EpochCounter(1), first: world.last, commit });
    for number in 0..3 {
        let recovered = world.nodes[number].events.wait("the recovered key", |event| match event {
            EngineEvent::KeyCommitted { epoch: EpochCounter(2), recovered, .. } => Some(*recovered),
            _ => None,
        });
        assert!(recovered);
        assert_eq!(world.status(number, 2), KeyStatus::KeyCommitted);
    }
}

#[test]
fn events_for_an_engine_that_has_stopped_change_nothing() {
    let world = World::new(2);
    let events = world.nodes[0].reactor.events();
    assert_eq!(world.nodes[0].reactor.stop(), Ok(()));
    assert_eq!(world.nodes[0].reactor.stop(), Ok(()));
    events.on_event(ProtocolEvent::BlockFinalized(header(1, 0)));
    assert_eq!(world.nodes[0].reactor.done().wait(), Ok(()));
    assert_eq!(world.nodes[0].events.all(), []);
}

#[test]
fn a_signal_can_be_waited_for_as_long_as_durations_go() {
    let world = World::new(2);
    assert_eq!(world.nodes[0].reactor.ready().wait_timeout(Duration::MAX), Some(Ok(())));
}

#[test]
fn private_messages_that_come_before_the_run_begins_are_there_when_it_does() {
    let mut world = World::new(3);
    let run = setup(&world.committee, 1, View(1));
    // Nodes 1 and 2 begin at once; their shares reach node 0 before its own chain has told it of the run.
    for node in &world.nodes[1..] {
        node.reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), run.clone());
    }
    world.delivered.wait("the shares", |count| (*count >= 2).then_some(()));
    world.nodes[0].reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), run.clone());
    world.board.wait_for_posts(3);
    world.delivered.wait("the shares", |count| (*count >= 6).then_some(()));
    for phase in 0..3 {
        world.end_phase(&run, phase);
    }
    assert_eq!(complaints_on_board(&world), 0);
    assert_eq!(ended(&world, 0, 1), Ok(()));
}

#[test]
fn a_stranger_or_an_oversized_message_is_turned_away() {
    let world = World::new(2);
    // What says the same as a message that waits takes its place.
    let mut number = 0;
    let mut message = |from: usize, bytes: usize| {
        number += 1;
        let mut data = vec![0; bytes];
        data[0] = number;
        let message = PrivateMessage::protocol(dkg_engine::SecretBytes::new(data), "dkg-test-1");
        Delivery { from: node_id(from), message, receipt: Receipt::none() }
    };
    let messaging = &world.nodes[0].messaging;
    assert!(messaging.process(message(1, 1 << 20)).is_err());
    for _ in 0..dkg_engine::engine::INBOUND_LIMIT_PER_SENDER {
        assert_eq!(messaging.process(message(7, 33)), Ok(()));
    }
    assert!(messaging.process(message(7, 33)).is_err());
    assert_eq!(messaging.process(message(1, 33)), Ok(()));
}

/// Something that happens in a run, and what undoes it.
struct Trouble {
    name: &'static str,
    /// Before the run begins.
    begins: fn(&World),
    /// Returns when it has been felt.
    is_felt: fn(&World),
    /// Before the first phase ends.
    ends: fn(&World),
}

fn at_every_client(world: &World, change: fn(&Client)) {
    world.nodes.iter().for_each(|node| change(&node.client));
}

fn nothing(_: &World) {}

fn garbage(size: usize) -> PrivateMessage {
    PrivateMessage::protocol(dkg_engine::SecretBytes::new(vec![9; size]), "dkg-test-1")
}

/// What a node has to expect of peers, boards and members (spec section 7).
const TROUBLES: [Trouble; 8] = [
    Trouble {
        name: "nobody can be reached for a while",
        begins: |world| world.nodes.iter().for_each(|node| node.port.failing.store(9, Ordering::SeqCst)),
        is_felt: |world| {
            world.delivered.wait("all shares in the end", |count| (*count >= 12).then_some(()));
        },
        ends: nothing,
    },
    Trouble {
        name: "a peer's messages are lost",
        begins: |world| world.nodes[1].port.lost.lock().push(node_id(0)),
        is_felt: |world| world.delivered.wait("all other shares", |count| (*count >= 12).then_some(())),
        ends: |world| world.nodes[1].port.lost.lock().clear(),
    },
    Trouble {
        name: "the board cannot be reached",
        begins: |world| at_every_client(world, |client| client.down.store(true, Ordering::SeqCst)),
        is_felt: |world| {
            world.tell(ProtocolEvent::BlockFinalized(header(world.last.view.0 + 11, 0)));
            world.nodes[0].client.reads.wait("a read", |reads| (*reads > 0).then_some(()));
        },
        ends: |world| at_every_client(world, |client| client.down.store(false, Ordering::SeqCst)),
    },
    Trouble {
        name: "nothing can be posted for a while",
        begins: |world| at_every_client(world, |client| client.posting_down.store(true, Ordering::SeqCst)),
        is_felt: |world| world.delivered.wait("the shares", |count| (*count >= 12).then_some(())),
        ends: |world| at_every_client(world, |client| client.posting_down.store(false, Ordering::SeqCst)),
    },
    Trouble {
        name: "the board takes posts and forgets them",
        begins: |world| at_every_client(world, |client| client.mute.store(true, Ordering::SeqCst)),
        is_felt: |world| world.delivered.wait("the shares", |count| (*count >= 12).then_some(())),
        ends: nothing,
    },
    Trouble {
        name: "a member posts what nobody can read",
        begins: |world| {
            for content in ["", "{", "[1, 2]", "\u{0}\u{7f}", "{\"Data\":\"\",\"DKGInstanceID\":\"dkg-test-1\"}"] {
                world.board.post(node_id(1), content);
                world.board.post(node_id(77), content);
            }
        },
        is_felt: |world| world.board.wait_for_posts(10 + 4),
        ends: nothing,
    },
    Trouble {
        name: "members and strangers send what is no message",
        begins: nothing,
        is_felt: |world| {
            for (from, size) in [(1, 1), (2, 33), (2, 400), (77, 33)] {
                let (receipt, answer) = Receipt::awaited();
                let delivery = Delivery { from: node_id(from), message: garbage(size), receipt };
                world.nodes[0].messaging.process(delivery).unwrap();
                answer.wait(support::PATIENCE);
            }
        },
        ends: nothing,
    },
    Trouble {
        name: "more dealers are silent than a run bears",
        begins: |world| world.nodes[1..].iter().for_each(|node| node.client.mute.store(true, Ordering::SeqCst)),
        is_felt: |world| world.board.wait_for_posts(1),
        ends: nothing,
    },
];

#[test]
fn no_trouble_that_is_to_be_expected_stops_an_engine() {
    for Trouble { name, begins, is_felt, ends } in TROUBLES {
        let mut world = World::new(4);
        let run = setup(&world.committee, 1, View(1));
        begins(&world);
        world.tell(ProtocolEvent::EpochSetupPhaseStarted {
            current: EpochCounter(0),
            first: header(1, 0),
            setup: run.clone(),
        });
        is_felt(&world);
        ends(&world);
        for phase in 0..3 {
            world.end_phase(&run, phase);
        }
        at_every_client(&world, |client| client.mute.store(false, Ordering::SeqCst));
        for node in &world.nodes {
            assert_eq!(node.reactor.done().get(), None, "{name}");
        }
        world.run(2);
        for node in &world.nodes {
            assert_eq!((node.reactor.stop(), node.messaging.stop()), (Ok(()), Ok(())), "{name}");
        }
    }
}
