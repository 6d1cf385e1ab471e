//! Epochs, runs and the whiteboard on the log chain, rule by rule (spec section 9).
#![cfg(feature = "log-chain")]

mod log_support;

use dkg_engine::chain::log::{ChainEvent, Payload, Prefix, ReadError, SkipReason};
use dkg_engine::chain::{BoardMessage, DkgResult};
use dkg_engine::epoch::{EpochCommit, EpochCounter, EpochPhase, Header, ProtocolEvent, View};
use log_support::*;

fn finalized(event: &ChainEvent) -> Option<Header> {
    match event {
        ChainEvent::Protocol(ProtocolEvent::BlockFinalized(header)) => Some(*header),
        _ => None,
    }
}

/// What happened, without the blocks.
fn epoch_events(events: &[ChainEvent]) -> Vec<&ChainEvent> {
    events.iter().filter(|event| finalized(event).is_none()).collect()
}

fn commit(events: &[ChainEvent]) -> Option<&EpochCommit> {
    events.iter().find_map(|event| match event {
        ChainEvent::Protocol(ProtocolEvent::EpochCommittedPhaseStarted { commit, .. }) => Some(commit),
        _ => None,
    })
}

// Epochs.

#[test]
fn the_setup_phase_begins_with_the_block_of_its_first_view() {
    let mut world = World::new();
    assert_eq!(epoch_events(&world.finalize(4)), [] as [&ChainEvent; 0]);
    let events = world.finalize(5);
    let [ChainEvent::Protocol(ProtocolEvent::EpochSetupPhaseStarted { current, first, setup }), block] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(Some(*first), finalized(block), "told before the block itself");
    assert_eq!((*current, setup.epoch), (EpochCounter(0), EpochCounter(1)));
    assert_eq!(setup.instance.as_str(), "dkg-test-1");
    assert_eq!((setup.first_view, setup.phase_final_views), (View(5), [View(7), View(10), View(13)]));
    assert_eq!(&setup.committee, world.replica.config().committee());
    assert_eq!(world.replica.phase(), EpochPhase::Setup(setup.clone()));
    assert!(world.replica.contract().is_running());
}

#[test]
fn the_first_block_at_or_after_each_boundary_is_remembered_for_the_epoch() {
    let mut world = World::new();
    for view in [4, 8, 9, 14] {
        world.jump(view);
    }
    let blocks: Vec<_> = world.events.iter().filter_map(finalized).collect();
    let at = |view| world.replica.first_finalized_at(View(view));
    assert_eq!((at(5), at(7)), (Some(blocks[1]), Some(blocks[1])));
    assert_eq!((at(10), at(13)), (Some(blocks[3]), Some(blocks[3])));
    assert_eq!(at(4), None, "nothing happens in view 4");
    world.finalize(20);
    assert_eq!(world.replica.first_finalized_at(View(7)), None);
}

#[test]
fn an_epoch_is_committed_when_its_third_phase_is_over_and_a_result_is_canonical() {
    let mut world = World::new();
    world.finalize(5);
    for author in 0..=T {
        assert_eq!(world.submit(author, &result(0)).events, [], "not before the third phase is over");
    }
    world.finalize(12);
    let events = world.finalize(13);
    let commit = commit(&events).unwrap();
    assert_eq!(finalized(events.last().unwrap()).unwrap().view, View(13), "told before the block itself");
    assert_eq!((commit.epoch, commit.group_key), (EpochCounter(1), public_key(N)));
    assert_eq!(commit.expected_of(&node(3)), Some((index(3), &public_key(3))));
    assert_eq!(world.replica.phase(), EpochPhase::Committed(commit.clone()));
    assert_eq!(world.replica.keys(), None, "they are for the next epoch");
    let late = world.submit(3, &result(0));
    assert_eq!((late.skipped, late.events), (None, vec![]), "taken until the epoch ends, and changes nothing");
    assert_eq!(world.replica.contract().tallies()[0].count, T + 2);
    world.finalize(20);
    assert_eq!(world.submit(4, &result(0)), skipped(4, SkipReason::Refused), "the epoch has ended");
    assert_eq!(world.replica.keys(), Some(commit));
    assert_eq!(world.replica.phase(), EpochPhase::Staking);
}

#[test]
fn results_can_come_until_the_epoch_ends_and_the_last_one_needed_commits_it() {
    let mut world = World::new();
    world.finalize(5);
    world.finalize(19);
    world.submit(0, &result(0));
    world.submit(1, &result(1));
    world.submit(2, &result(0));
    let events = world.submit(3, &result(0)).events;
    let [ChainEvent::Protocol(ProtocolEvent::EpochCommittedPhaseStarted { current, first, .. })] = events[..] else {
        panic!("{events:?}");
    };
    let Prefix { position, hash } = world.replica.prefix();
    assert_eq!((current, first), (EpochCounter(0), Header { view: View(19), height: position, id: hash }));
}

#[test]
fn without_a_result_the_earlier_keys_stay_in_force() {
    let mut world = World::new();
    world.finalize(5);
    assert_eq!(epoch_events(&world.finalize(20)), [&ChainEvent::EpochFailed { epoch: EpochCounter(0) }]);
    assert_eq!(world.replica.keys(), None, "there are none yet");
    world.finalize(25);
    for author in 0..=T {
        world.submit(author, &result(0));
    }
    let commit = commit(&world.finalize(33)).unwrap().clone();
    world.finalize(45);
    world.submit(0, &result(0));
    for author in 1..N {
        world.submit(author, &DkgResult::Empty);
    }
    let events = world.finalize(60);
    let [failed, ChainEvent::Protocol(ProtocolEvent::EpochFallbackExited { current, first, commit: kept }), block] =
        &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(failed, &ChainEvent::EpochFailed { epoch: EpochCounter(2) });
    assert_eq!((*current, Some(*first)), (EpochCounter(2), finalized(block)));
    assert_eq!(kept, &EpochCommit { epoch: EpochCounter(3), ..commit });
    assert_eq!(world.replica.keys(), Some(kept));
    let setup_follows = world.finalize(65);
    assert_eq!(epoch_events(&setup_follows).len(), 1, "the next epoch runs a new DKG");
}

#[test]
fn the_run_that_made_the_keys_in_force_can_be_told_with_all_that_was_said_in_it() {
    let mut world = World::new();
    let told = |world: &World| {
        let run = world.replica.snapshot().made_keys?;
        let said = |phase: &Vec<BoardMessage>| phase.iter().map(|post| post.content.clone()).collect::<Vec<_>>();
        Some((run.setup.epoch.0, run.phases.each_ref().map(said).concat(), run.phases.each_ref().map(Vec::len)))
    };
    let run = |world: &mut World, first: u64, agreed: bool| {
        world.finalize(first + 5);
        for (last, says) in [(7, "one"), (10, "two"), (13, "three")] {
            world.post(0, &format!("{first} {says}"));
            world.finalize(first + last);
        }
        world.post(1, "too late");
        for author in 0..=T {
            world.submit(author, &if agreed { result(0) } else { DkgResult::Empty });
        }
        world.finalize(first + 20);
    };
    let told_of = |epoch: u64, first: u64| {
        let said = ["one", "two", "three"].map(|says| format!("{first} {says}")).to_vec();
        Some((epoch, said, [1, 1, 1]))
    };
    run(&mut world, 0, false);
    assert_eq!(told(&world), None, "no keys yet");
    run(&mut world, 20, true);
    assert_eq!(told(&world), told_of(2, 20));
    // In fallback it stays the one that made them.
    run(&mut world, 40, false);
    run(&mut world, 60, false);
    assert_eq!(told(&world), told_of(2, 20));
    assert_eq!(world.replica.keys().unwrap().epoch, EpochCounter(4));
    run(&mut world, 80, true);
    assert_eq!(told(&world), told_of(5, 80));
}

#[test]
fn a_jump_over_a_whole_run_ends_one_epoch_and_sets_up_the_next_in_one_block() {
    let mut world = World::new();
    world.jump(4);
    let events = world.jump(25);
    assert!(matches!(
        events[..],
        [
            ChainEvent::EpochFailed { epoch: EpochCounter(0) },
            ChainEvent::Protocol(ProtocolEvent::EpochSetupPhaseStarted { current: EpochCounter(1), .. }),
            ChainEvent::Protocol(ProtocolEvent::BlockFinalized(Header { view: View(25), .. })),
        ]
    ));
}

#[test]
fn a_run_whose_first_view_was_passed_over_is_left_out() {
    let mut world = World::new();
    world.jump(4);
    assert_eq!(epoch_events(&world.jump(6)), [] as [&ChainEvent; 0], "its first phase would be short");
    assert!(!world.replica.is_paced() && !world.replica.contract().is_running());
    assert_eq!(world.post(0, "too late"), skipped(0, SkipReason::Refused));
    assert_eq!(epoch_events(&world.jump(24)), [&ChainEvent::EpochFailed { epoch: EpochCounter(0) }]);
    assert_eq!(epoch_events(&world.jump(25)).len(), 1, "the next one begins");
}

#[test]
fn epochs_that_are_passed_over_cost_one_step_and_leave_the_keys_in_force() {
    let mut world = World::new();
    world.finalize(5);
    for author in 0..=T {
        world.submit(author, &result(0));
    }
    let made = commit(&world.finalize(13)).unwrap().clone();
    world.finalize(16);
    let events = world.jump(20 * 10_000 + 3);
    let [passed, ChainEvent::Protocol(ProtocolEvent::EpochFallbackExited { current, commit: kept, .. }), block] =
        &events[..]
    else {
        panic!("{events:?}");
    };
    let (first, last) = (EpochCounter(1), EpochCounter(9_999));
    assert_eq!(*passed, ChainEvent::EpochsPassedOver { first, last });
    assert_eq!((*current, kept), (last, &EpochCommit { epoch: EpochCounter(10_000), ..made }));
    assert_eq!((finalized(block).unwrap().view, world.replica.keys()), (View(200_003), Some(kept)));
    assert_eq!(world.replica.snapshot().made_keys.map(|run| run.setup.epoch), Some(EpochCounter(1)));
}

#[test]
fn a_result_whose_keys_are_no_points_commits_nothing() {
    let DkgResult::Complete { key_shares, index_map, .. } = result(0) else { unreachable!() };
    let nonsense = DkgResult::Complete { group_key: "f".repeat(192), key_shares, index_map };
    let mut world = World::new();
    world.finalize(5);
    for author in 0..N {
        world.submit(author, &nonsense);
    }
    assert_eq!(commit(&world.finalize(13)), None);
    assert_eq!(epoch_events(&world.finalize(20)), [&ChainEvent::EpochFailed { epoch: EpochCounter(0) }]);
}

/// Found by the simulator: an honest member whose connection came back late helped `t` liars to have the last epoch's keys
/// agreed on for the next one.
#[test]
fn a_result_of_an_earlier_run_does_not_count_in_the_next() {
    let mut world = World::new();
    world.finalize(5);
    let earlier = world.replica.run();
    world.finalize(25);
    assert_ne!(world.replica.run(), earlier);
    for author in 0..N {
        let late = Payload::Submit { instance: earlier.clone(), result: result(0) };
        let skipped = world.say(author, late).skipped.map(|skip| skip.reason);
        assert_eq!(skipped, Some(SkipReason::Refused));
    }
    assert_eq!(commit(&world.finalize(33)), None);
    // The place of each member's result in this run is still free.
    for author in 0..=T {
        assert_eq!(world.submit(author, &result(1)).skipped, None);
    }
    assert!(commit(&world.events).is_some_and(|commit| commit.epoch == EpochCounter(2)));
}

// The board.

#[test]
fn the_board_is_read_as_of_a_block_whatever_came_later() {
    let mut world = World::new();
    world.finalize(5);
    let started = world.replica.header();
    world.post(0, "a");
    world.post(1, "b");
    world.finalize(7);
    let cut = world.replica.header();
    world.post(2, "c");
    let message = |i: usize, content: &str| BoardMessage { node_id: node(i), content: content.into() };
    let read = |from, block, limit| world.replica.messages(from, &block, limit).unwrap().to_vec();
    assert_eq!(read(0, started, 9), []);
    assert_eq!(read(0, cut, 9), [message(0, "a"), message(1, "b")]);
    assert_eq!(read(0, cut, 1), [message(0, "a")]);
    assert_eq!(read(1, cut, 9), [message(1, "b")]);
    assert_eq!(read(2, cut, 9), []);
    assert_eq!(read(u64::MAX, cut, usize::MAX), []);
}

#[test]
fn a_board_that_is_not_there_is_an_error_and_not_an_empty_board() {
    let mut world = World::new();
    world.finalize(5);
    let block = world.replica.header();
    let read = |world: &World, block: &Header| world.replica.messages(0, block, 9).map(<[_]>::len);
    let ahead = Header { height: 4, ..block };
    assert_eq!(read(&world, &ahead), Err(ReadError::NotYet { position: 3, asked: 4 }));
    let foreign = Header { id: [7; 32], ..block };
    assert_eq!(read(&world, &foreign), Err(ReadError::OtherLog(3)));
    world.finalize(25);
    let started = world.replica.header().height;
    assert_eq!(read(&world, &block), Err(ReadError::Cleared { started, asked: 3 }));
}
