//! What people are shown of a log chain is what its log says (spec section 9).
#![cfg(feature = "log-chain")]

mod log_support;

use dkg_engine::bls::SecretKey;
use dkg_engine::chain::DkgResult;
use dkg_engine::chain::log::{Overview, Overviews, PhaseName, RECENT_ENTRIES};
use dkg_engine::committee::Index;
use dkg_engine::envelope::BroadcastMessage;
use dkg_engine::epoch::{EpochCounter, InstanceId};
use log_support::*;

const NOW_MS: u64 = 1_000_650;

fn indices(positions: &[usize]) -> Vec<Index> {
    positions.iter().map(|position| index(*position)).collect()
}

fn look(overviews: &mut Overviews, world: &World) -> Overview {
    let from = world.log.len().saturating_sub(RECENT_ENTRIES);
    let recent: Vec<_> = (from as u64..).zip(world.log[from..].iter().cloned()).collect();
    overviews.of(&world.replica, &recent, NOW_MS)
}

/// Posts a protocol message of this member; nobody looks at its body here.
fn say(world: &mut World, author: usize, data: &[u8], run: u64) {
    let key = SecretKey::from_seed(&[9; 32]).unwrap();
    let message = BroadcastMessage::sign(data.to_vec(), &InstanceId::new("test", EpochCounter(run)), &key);
    assert_eq!(world.post(author, &message.to_json()).skipped, None);
}

#[test]
fn an_overview_names_who_has_dealt_who_is_missing_who_complains_and_who_has_submitted_what() {
    let mut world = World::new();
    let mut overviews = Overviews::default();
    world.finalize(5);
    assert_eq!(look(&mut overviews, &world).run.missing, indices(&[0, 1, 2, 3, 4]));
    say(&mut world, 0, &[1, 77], 1);
    say(&mut world, 3, &[1, 78], 1);
    let seen = look(&mut overviews, &world);
    assert_eq!(seen.run.missing, indices(&[1, 2, 4]), "read once");
    say(&mut world, 1, &[1, 79], 2);
    say(&mut world, 2, &[2, 0], 1);
    say(&mut world, 4, &[2, 0], 1);
    say(&mut world, 4, &[2, 200], 1);
    say(&mut world, 0, &[3, 2, 1, 1], 1);
    assert_eq!(world.post(1, "nonsense").skipped, None);
    world.finalize(13);
    world.submit(0, &result(0));
    world.submit(4, &DkgResult::Empty);

    let seen = look(&mut overviews, &world);
    assert_eq!((seen.run.epoch, seen.run.instance.as_str()), (1, "dkg-test-1"));
    assert_eq!(seen.run.missing, indices(&[1, 2, 4]), "a vector of another run does not count");
    assert_eq!(seen.run.complaints, [(index(2), index(0)), (index(4), index(0))], "nobody has index 200");
    assert_eq!(seen.run.answers, [(index(0), index(2))]);
    let zero = &seen.members[0];
    assert_eq!((zero.dealt, zero.complaints, zero.answers), (true, 2, 1));
    assert_eq!(zero.node_id, node(0).to_string());
    let submitted: Vec<_> = seen.members.iter().map(|member| member.submitted.as_deref()).collect();
    assert_eq!(submitted, [Some("keys"), None, None, None, Some("empty")]);
    assert_eq!(look(&mut Overviews::default(), &world), seen, "whenever one begins to look");
}

#[test]
fn an_overview_says_where_in_the_epoch_the_chain_stands_and_what_the_clock_says() {
    let mut world = World::new();
    let mut overviews = Overviews::default();
    let mut phases = Vec::new();
    for view in [4, 5, 6, 7, 9, 10, 12, 13] {
        world.finalize(view);
        phases.push(look(&mut overviews, &world).epoch.phase);
    }
    use PhaseName::{Answering, Complaining, Settling, Sharing, Staking};
    assert_eq!(phases, [Staking, Sharing, Sharing, Complaining, Complaining, Answering, Answering, Settling]);
    for author in 0..=T {
        world.submit(author, &result(0));
    }
    let seen = look(&mut overviews, &world);
    assert_eq!((seen.epoch.phase, seen.epoch.has_keys), (PhaseName::Committed, false));
    assert_eq!(seen.run.missing.len(), seen.n, "who has not dealt has not when the run is over, either");
    assert_eq!(look(&mut Overviews::default(), &world), seen, "whenever one begins to look");
    assert_eq!((seen.head.view, seen.clock.view, seen.clock.now_ms), (13, 6, NOW_MS), "650 ms after genesis");
    assert_eq!((seen.epoch.setup_first, seen.epoch.phase_finals), (5, [7, 10, 13]));
    assert_eq!(seen.members[0].last_tick, 13);
    world.finalize(seen.epoch.last + 1);
    let seen = look(&mut overviews, &world);
    assert_eq!((seen.epoch.counter, seen.epoch.phase, seen.epoch.has_keys), (1, Staking, true));
    assert_eq!(seen.run.missing, [], "the next run has not begun");
    assert!(seen.members.iter().all(|member| member.submitted.is_none() && !member.dealt));
}

#[test]
fn an_overview_says_how_far_the_chain_is_behind_the_clock_or_ahead_of_it() {
    let mut world = World::new();
    let mut lag = |view| {
        world.finalize(view);
        look(&mut Overviews::default(), &world).clock.lag
    };
    assert_eq!([lag(2), lag(6), lag(9)], [4, 0, -3], "the clock is in view 6");
}

#[test]
fn an_overview_shows_the_last_entries_and_counts_those_that_are_wrong() {
    let mut world = World::new();
    world.append(b"nonsense".to_vec());
    let lie = world.contradiction(2, 1);
    world.append(lie);
    world.tick(1, 1);
    let seen = look(&mut Overviews::default(), &world);
    let recent: Vec<_> = seen
        .recent
        .iter()
        .map(|entry| (entry.position, entry.author, entry.kind.as_str(), entry.detail.as_str()))
        .collect();
    assert_eq!(recent[0], (0, None, "malformed", "8 bytes that are no entry"));
    assert_eq!(recent[2], (2, Some(index(1)), "tick", "view 1"));
    assert_eq!((seen.entries, seen.unattributed), (3, 1));
    assert_eq!(seen.members.iter().map(|member| member.faults).collect::<Vec<_>>(), [0, 0, 1, 0, 0]);
}
