//! The log chain as a state machine: what is final, what is skipped, and when it stops (spec section 9).
#![cfg(feature = "log-chain")]

mod cases;
mod log_support;

use std::sync::Arc;

use cases::cases;
use dkg_engine::chain::DkgResult;
use dkg_engine::chain::log::{
    ChainConfig, ChainEvent, ChainSpec, ConfigError, Entry, LogChain, MAX_ENTRY_BYTES, MAX_JUMP_EPOCHS, PREFIX_WINDOW,
    Payload, Prefix, Quota, Schedule, SkipReason,
};
use dkg_engine::committee::{CommitteeError, NodeId};
use dkg_engine::envelope::MAX_POST_BYTES;
use dkg_engine::epoch::{EpochCounter, Header, InstanceId, ProtocolEvent, View};
use dkg_engine::hex;
use log_support::*;
use proptest::prelude::*;

// The committee file.

#[test]
fn a_schedule_must_fit_its_epoch() {
    let check = |schedule| ChainConfig::new(ChainSpec { schedule, ..spec() }).map(drop);
    let too_short = |s: Schedule| {
        Err(ConfigError::PhasesDoNotFit {
            views_in_epoch: s.views_in_epoch,
            setup_first_view: s.setup_first_view,
            views_per_phase: s.views_per_phase,
        })
    };
    let fits = Schedule { views_in_epoch: 15, ..SCHEDULE };
    assert_eq!(check(fits), Ok(()));
    for schedule in [
        Schedule { views_in_epoch: 14, ..SCHEDULE },
        Schedule { views_in_epoch: 0, ..SCHEDULE },
        Schedule { views_per_phase: u64::MAX, ..SCHEDULE },
        Schedule { setup_first_view: u64::MAX, ..SCHEDULE },
    ] {
        assert_eq!(check(schedule), too_short(schedule));
    }
    let long = u64::from(u32::MAX) + 1;
    assert_eq!(check(Schedule { views_in_epoch: long, ..SCHEDULE }), Err(ConfigError::EpochTooLong(long)));
    assert!(matches!(check(Schedule { views_per_phase: 0, ..SCHEDULE }), Err(ConfigError::Zero(_))));
    assert!(matches!(check(Schedule { poll_step: 0, ..SCHEDULE }), Err(ConfigError::Zero(_))));
    assert!(matches!(ChainConfig::new(ChainSpec { view_ms: 0, ..spec() }), Err(ConfigError::Zero(_))));
}

#[test]
fn members_differ_in_id_and_in_both_keys() {
    let check = |change: fn(&mut ChainSpec)| {
        let mut spec = spec();
        change(&mut spec);
        ChainConfig::new(spec).unwrap_err()
    };
    assert_eq!(
        check(|spec| spec.members[3].network_key = spec.members[1].network_key),
        ConfigError::DuplicateNetworkKey(node(1), node(3))
    );
    assert_eq!(
        check(|spec| spec.members[3].staking_key = spec.members[1].staking_key.clone()),
        ConfigError::Committee(CommitteeError::DuplicateKey(node(1), node(3)))
    );
    assert_eq!(
        check(|spec| spec.members[3].node_id = spec.members[1].node_id),
        ConfigError::Committee(CommitteeError::DuplicateNode(node(1)))
    );
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut weak = spec();
    weak.members[2].network_key = ed25519_dalek::VerifyingKey::from_bytes(&neutral).unwrap();
    assert_eq!(ChainConfig::new(weak), Err(ConfigError::WeakNetworkKey(node(2))));
}

#[test]
fn a_chain_id_is_short_and_plain() {
    for chain_id in ["", "a b", "a\"b", "é", &"x".repeat(65)] {
        let spec = ChainSpec { chain_id: chain_id.into(), ..spec() };
        assert!(matches!(ChainConfig::new(spec), Err(ConfigError::ChainId(_))), "{chain_id}");
    }
}

#[test]
fn the_identity_depends_on_everything_but_the_order_of_the_members() {
    let identity = |change: fn(&mut ChainSpec)| {
        let mut spec = spec();
        change(&mut spec);
        *ChainConfig::new(spec).unwrap().identity()
    };
    let changes: [fn(&mut ChainSpec); 10] = [
        |_| {},
        |spec| spec.chain_id.push('2'),
        |spec| spec.genesis_ms += 1,
        |spec| spec.view_ms += 1,
        |spec| spec.schedule.views_in_epoch += 1,
        |spec| spec.schedule.setup_first_view += 1,
        |spec| spec.schedule.poll_step += 1,
        |spec| spec.vector_encoding = dkg_engine::bls::VectorEncoding::Compressed,
        |spec| spec.members[0].network_key = network_key(9).verifying_key(),
        |spec| spec.members[4].node_id = node(9),
    ];
    let identities: std::collections::BTreeSet<_> = changes.into_iter().map(identity).collect();
    assert_eq!(identities.len(), changes.len());
    assert!(identities.contains(&identity(|spec| spec.members.reverse())));
}

#[test]
fn epochs_have_equally_many_views_and_the_last_is_cut_short() {
    let config = config();
    let second = config.epoch_at(View(39));
    assert_eq!((second.epoch, second.run_for), (EpochCounter(1), EpochCounter(2)));
    assert_eq!((second.first, second.setup_first, second.last), (View(20), View(25), View(39)));
    assert_eq!(second.phase_finals, [View(27), View(30), View(33)]);
    assert_eq!(config.epoch_at(View(40)).epoch, EpochCounter(2));
    assert_eq!(config.epoch_at(View(u64::MAX)).last, View(u64::MAX));
}

// Time.

#[test]
fn a_view_is_final_when_more_than_t_members_have_ticked_it() {
    let mut world = World::new();
    assert_eq!(world.tick(3, 1).events, []);
    assert_eq!(world.tick(1, 1).events, []);
    let events = world.tick(4, 1).events;
    let Prefix { position, hash } = world.replica.prefix();
    let block = Header { view: View(1), height: position, id: hash };
    assert_eq!(position, 3);
    assert_eq!(events, [ChainEvent::Protocol(ProtocolEvent::BlockFinalized(block))]);
    assert_eq!(world.replica.header(), block);
}

#[test]
fn a_tick_counts_for_all_views_up_to_its_own() {
    let mut world = World::new();
    world.tick(0, 9);
    world.tick(1, 4);
    assert_eq!(world.tick(2, 6).events.len(), 1);
    assert_eq!(world.replica.header().view, View(4));
}

#[test]
fn one_member_ticking_often_makes_nothing_final_and_is_heard_once_a_view() {
    let mut world = World::new();
    world.tick(0, 1);
    for view in 2..20 {
        assert_eq!(world.tick(0, view), skipped(0, SkipReason::OldTick));
    }
    assert_eq!(world.replica.header().view, View(0));
    world.jump(1);
    assert_eq!(world.tick(0, 3).skipped, None, "its last one is final");
}

#[test]
fn t_members_with_wrong_clocks_neither_hurry_nor_stop_time() {
    let mut world = World::new();
    for view in 1..=30 {
        // Two are as fast as they are allowed to be; then two are silent.
        if view <= 10 {
            for author in 0..T {
                // While a run is on they are not allowed any more than the others.
                world.tick(author, view + 15);
                world.tick(author, view);
            }
            assert_eq!(world.replica.header().view, View(view - 1), "not hurried");
            world.tick(T, view);
        } else {
            for author in T..N {
                world.tick(author, view);
            }
        }
        assert_eq!(world.replica.header().view, View(view), "not stopped");
    }
}

#[test]
fn a_tick_that_says_nothing_new_is_skipped_and_no_fault() {
    let mut world = World::new();
    world.tick(0, 3);
    assert_eq!(world.tick(0, 3), skipped(0, SkipReason::OldTick));
    assert_eq!(world.tick(0, 2), skipped(0, SkipReason::OldTick));
    assert_eq!(world.tick(0, 4), skipped(0, SkipReason::OldTick), "one at a time");
    world.tick(1, 3);
    world.tick(2, 3);
    assert_eq!(world.tick(3, 3), skipped(3, SkipReason::OldTick));
    assert!((0..N).all(|i| world.replica.faults(index(i)).next().is_none()));
}

#[test]
fn a_tick_further_ahead_than_can_be_passed_over_is_skipped() {
    let mut world = World::new();
    let furthest = 20 * MAX_JUMP_EPOCHS;
    assert_eq!(world.tick(0, furthest + 1), skipped(0, SkipReason::TickTooFar));
    assert_eq!(world.tick(0, u64::MAX), skipped(0, SkipReason::TickTooFar));
    assert_eq!(world.tick(0, furthest).skipped, None);
}

#[test]
fn while_a_run_is_on_only_ticks_for_the_next_view_count() {
    let mut world = World::new();
    // Said before the run began: they say nothing of the time within it.
    world.tick(0, 100);
    world.tick(1, 7);
    for (author, view) in [(2, 5), (3, 5), (4, 5)] {
        world.tick(author, view);
    }
    assert!(world.replica.is_paced() && world.replica.header().view == View(5));
    assert!((0..N).all(|author| world.replica.last_tick(index(author)) <= View(5)));
    // Nor does what was under way when it began.
    assert_eq!(world.tick(3, 100), skipped(3, SkipReason::OldTick));
    for view in 6..=16 {
        for author in 0..=T {
            assert_eq!(world.tick(author, view + 1), skipped(author, SkipReason::OldTick), "not before its turn");
            assert_eq!(world.replica.header().view, View(view - 1));
            assert_eq!(world.tick(author, view).skipped, None);
        }
        assert_eq!(world.replica.header().view, View(view));
    }
    assert!(!world.replica.is_paced(), "the members have had a phase's time to agree on the result");
    world.jump(50);
}

#[test]
fn a_burst_of_ticks_makes_no_honest_post_stale() {
    let schedule = Schedule { views_in_epoch: 3600, setup_first_view: 60, views_per_phase: 120, poll_step: 10 };
    let mut world = World::of(Arc::new(ChainConfig::new(ChainSpec { schedule, ..spec() }).unwrap()));
    world.finalize(60);
    let honest = world.entry(4, Payload::Post("a vector".into()));
    let honest = world.sign(&honest);
    // Two members tick whatever they are let, in every view of the run's first phase.
    let mut taken = 0;
    for view in 61..=180 {
        for author in 0..T {
            for ahead in [0, 1, 500, 3000] {
                taken += usize::from(world.tick(author, view + ahead).skipped.is_none());
            }
        }
        world.tick(T, view);
    }
    assert_eq!((world.replica.header().view, taken), (View(180), 2 * 120), "one each behind every view");
    assert_eq!(world.append(honest).skipped, None);
}

// What is skipped.

#[test]
fn bytes_that_are_no_entry_are_skipped_and_take_their_place_in_the_log() {
    let mut world = World::new();
    let honest = world.entry(0, Payload::Tick(View(1)));
    let honest = world.sign(&honest);
    let mut trailing = honest.clone();
    trailing.insert(honest.len() - 64, 0);
    for (count, bytes) in
        [vec![], vec![1; 63], vec![0xff; 200], vec![0; MAX_ENTRY_BYTES + 1], trailing].into_iter().enumerate()
    {
        let applied = world.append(bytes);
        assert_eq!(applied.skipped.unwrap().reason, SkipReason::Malformed);
        assert_eq!(world.replica.prefix().position, count as u64 + 1);
    }
    assert_eq!(world.replica.unattributed(), 5);
}

#[test]
fn an_author_who_is_no_member_is_skipped() {
    let mut world = World::new();
    let entry = world.entry(N, Payload::Tick(View(1)));
    let bytes = world.sign(&entry);
    let skip = world.append(bytes).skipped.unwrap();
    assert_eq!((skip.author, skip.reason), (None, SkipReason::UnknownAuthor));
}

#[test]
fn a_forged_entry_is_skipped_and_takes_nothing_from_the_member_it_names() {
    let mut world = World::new();
    let entry = world.entry(0, Payload::Tick(View(5)));
    let forged = entry.sign(world.replica.config().identity(), &network_key(1)).unwrap();
    assert_eq!(world.append(forged), skipped(0, SkipReason::BadSignature));
    assert!(!SkipReason::BadSignature.is_proven());
    let entry = Entry { seen: world.replica.prefix(), ..entry };
    let signed = world.sign(&entry);
    assert_eq!(world.append(signed).skipped, None, "its sequence number and its tick are still its own");
}

#[test]
fn an_entry_signed_for_another_chain_is_skipped() {
    let mut world = World::new();
    let other = ChainConfig::new(ChainSpec { genesis_ms: 7, ..spec() }).unwrap();
    let entry = world.entry(0, Payload::Tick(View(1)));
    let bytes = entry.sign(other.identity(), &network_key(0)).unwrap();
    assert_eq!(world.append(bytes), skipped(0, SkipReason::BadSignature));
}

#[test]
fn no_bit_of_an_entry_can_be_changed() {
    let mut world = World::new();
    let entry = world.entry(0, Payload::Tick(View(1)));
    let honest = world.sign(&entry);
    for bit in 0..honest.len() * 8 {
        let mut bytes = honest.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(LogChain::new(config()).apply(&bytes).unwrap().skipped.is_some(), "bit {bit}");
    }
    assert_eq!(world.append(honest).skipped, None);
}

#[test]
fn a_repeated_or_overtaken_entry_is_skipped_and_a_gap_is_not() {
    let mut world = World::new();
    world.finalize(5);
    let lost = world.entry(0, Payload::Post("lost on the way".into()));
    let late = world.sign(&lost);
    let entry = world.entry(0, Payload::Post("once".into()));
    let bytes = world.sign(&entry);
    assert_eq!(world.append(bytes.clone()).skipped, None, "a gap blocks nobody");
    assert_eq!(world.append(bytes), skipped(0, SkipReason::OutOfSequence));
    assert_eq!(world.append(late), skipped(0, SkipReason::OutOfSequence));
    assert_eq!(world.replica.contract().message_count(), 1);
}

#[test]
fn a_post_over_quota_is_skipped_by_all_alike() {
    let mut world = World::new();
    world.finalize(5);
    let quota = Quota::per_epoch(N);
    for _ in 0..quota.posts {
        assert_eq!(world.post(4, "{}").skipped, None);
    }
    assert_eq!(world.post(4, "{}"), skipped(4, SkipReason::OverQuota));
    assert_eq!(world.post(3, "{}").skipped, None, "the others are not concerned");
    assert_eq!(world.submit(4, &result(0)).skipped, None, "nor is the member's result");
    let mut other = LogChain::new(config());
    for bytes in &world.log {
        other.apply(bytes).unwrap();
    }
    assert_eq!(other.contract(), world.replica.contract());
    world.finalize(25);
    assert_eq!(world.post(4, "{}").skipped, None, "an epoch later there is a new quota");
}

#[test]
fn large_posts_use_a_quota_up_sooner() {
    let mut world = World::new();
    world.finalize(5);
    let large = "x".repeat(MAX_POST_BYTES);
    let accepted = (0..N * 2).take_while(|_| world.post(0, &large).skipped.is_none()).count();
    assert_eq!(accepted, 4);
}

#[test]
fn what_the_contract_refuses_is_skipped_and_proven() {
    let mut world = World::new();
    assert_eq!(world.post(0, "early"), skipped(0, SkipReason::Refused));
    world.finalize(5);
    assert_eq!(world.post(0, ""), skipped(0, SkipReason::Refused));
    world.submit(0, &DkgResult::Empty);
    assert_eq!(world.submit(0, &result(0)), skipped(0, SkipReason::Refused));
    assert_eq!(world.replica.faults(index(0)).collect::<Vec<_>>(), [(SkipReason::Refused, 3)]);
    assert!(SkipReason::Refused.is_proven());
}

// Forks.

#[test]
fn a_forged_prefix_counts_against_its_author_and_more_than_t_stop_the_replica() {
    let mut world = World::new();
    world.finalize(1);
    for author in [4, 1] {
        for view in [2, 3] {
            let bytes = world.contradiction(author, view);
            assert_eq!(world.append(bytes), skipped(author, SkipReason::WrongPrefix), "t liars change nothing");
        }
    }
    assert_eq!(world.replica.faults(index(4)).collect::<Vec<_>>(), [(SkipReason::WrongPrefix, 2)]);
    let last = world.contradiction(0, 2);
    let forked = world.replica.apply(&last).unwrap_err();
    assert_eq!((forked.position, &forked.members[..]), (3, &[index(0), index(1), index(4)][..]));
    let honest = world.entry(3, Payload::Tick(View(2)));
    let honest = world.sign(&honest);
    assert_eq!(world.replica.apply(&honest), Err(forked.clone()), "for good");
    assert_eq!(world.replica.forked(), Some(&forked));
}

#[test]
fn members_cannot_be_framed_with_prefixes_they_never_vouched_for() {
    let mut world = World::new();
    for author in 0..N {
        let mut entry = world.entry(author, Payload::Tick(View(1)));
        entry.seen.hash = [7; 32];
        let forged = entry.sign(world.replica.config().identity(), &network_key(9)).unwrap();
        assert_eq!(world.append(forged), skipped(author, SkipReason::BadSignature));
    }
}

#[test]
fn having_seen_more_than_there_was_contradicts_the_log() {
    let mut world = World::new();
    let mut entry = world.entry(0, Payload::Tick(View(1)));
    entry.seen.position += 1;
    let bytes = world.sign(&entry);
    assert_eq!(world.append(bytes), skipped(0, SkipReason::WrongPrefix));
}

#[test]
fn a_tick_that_says_nothing_new_still_tells_that_its_author_saw_another_log() {
    // Who was shown a log without one of its ticks, while a run is on, can make nothing of any later one.
    let mut world = World::new();
    world.finalize(1);
    let old = world.contradiction(4, 1);
    assert_eq!(world.append(old), skipped(4, SkipReason::WrongPrefix));
    world.tick(3, 2);
    let standing = world.contradiction(3, 2);
    assert_eq!(world.append(standing), skipped(3, SkipReason::WrongPrefix), "with a tick of its own that stands");
    let too_far = world.contradiction(0, u64::MAX);
    assert_eq!(world.replica.apply(&too_far).unwrap_err().members, [index(0), index(3), index(4)]);
}

#[test]
fn of_two_logs_at_most_one_goes_on() {
    // A host shows members 0 to 2 one log and members 3 and 4, with some entries of the others, another.
    let mut ours = World::new();
    ours.finalize(1);
    let mut theirs = World::new();
    theirs.tick(3, 1);
    theirs.tick(4, 1);
    for author in 0..T {
        let bytes = ours.entry(author, Payload::Tick(View(2)));
        let bytes = ours.sign(&bytes);
        assert_eq!(theirs.append(bytes), skipped(author, SkipReason::WrongPrefix));
    }
    assert_eq!(theirs.replica.header().view, View(0), "no view can become final here");
    let bytes = ours.entry(T, Payload::Tick(View(2)));
    let bytes = ours.sign(&bytes);
    assert!(theirs.replica.apply(&bytes).is_err(), "and in the end it is noticed");
}

#[test]
fn an_author_too_far_behind_is_skipped_but_one_within_the_window_is_not() {
    let mut world = World::new();
    let stale = world.entry(0, Payload::Tick(View(1)));
    world.append(vec![]);
    let known = world.entry(0, Payload::Tick(View(1)));
    for _ in 0..PREFIX_WINDOW - 1 {
        world.append(vec![]);
    }
    let (stale, known) = (world.sign(&stale), world.sign(&known));
    let mut at_the_edge = world.replica.clone();
    assert_eq!(at_the_edge.apply(&known).unwrap().skipped, None);
    world.append(vec![]);
    assert_eq!(world.append(stale), skipped(0, SkipReason::StalePrefix));
}

// Formats.

#[test]
fn an_entry_its_signature_and_the_identity_of_its_chain_have_these_bytes() {
    let config = config();
    let seen = Prefix { position: 5, hash: [6; 32] };
    let entry = Entry { author: index(2), sequence: 3, payload: Payload::Tick(View(4)), seen };
    let encoded = ["02", "0300000000000000", "00000000", "0400000000000000", "0500000000000000", &"06".repeat(32)];
    let bytes = hex::encode(&entry.sign(config.identity(), &network_key(2)).unwrap());
    assert_eq!(
        bytes.strip_prefix(&encoded.concat()),
        Some(
            "7209d543c2d8b7ec4ab958ae7f1bba63696babc0bc8bed4652a847cba97b68ff40559387e8496ee490a3a4c560ccfffef7f6ef954a50309ef8599f7eb90dd101"
        )
    );
    assert_eq!(hex::encode(config.identity()), "d4c89d08accf2e83bf470bfbb94083adade0d13a5981d72788c7df4601ddc822");
    assert_eq!(
        hex::encode(&seen.extended(b"entry").hash),
        "245352f2e1856f1821bc8ae1931745f78277b6b11360f1df7e7d23218adb3037"
    );
}

#[test]
fn the_longest_result_fits_into_an_entry() {
    let key = "0".repeat(192);
    let index_map = (0..254u8).map(|i| (NodeId::new([i; 32]), log_support::index(i.into()))).collect();
    let result = DkgResult::Complete { group_key: key.clone(), key_shares: vec![key; 254], index_map };
    let mut world = World::new();
    let instance = world.replica.run();
    let entry = world.entry(0, Payload::Submit { instance, result });
    assert!(world.sign(&entry).len() <= MAX_ENTRY_BYTES);
}

// Determinism.

#[derive(Clone, Debug)]
enum Act {
    Bytes(Vec<u8>),
    Say {
        author: usize,
        payload: Payload,
        sequence: Option<u64>,
        seen: Option<u64>,
        forged: bool,
    },
    /// The next view is ticked by more than `t` members.
    Next,
}

fn submission(epoch: u64, result: DkgResult) -> Payload {
    Payload::Submit { instance: InstanceId::new(config().chain_id(), EpochCounter(epoch)), result }
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        6 => (0u64..70).prop_map(|view| Payload::Tick(View(view))),
        1 => any::<u64>().prop_map(|view| Payload::Tick(View(view))),
        2 => "[a-z]{0,3}".prop_map(Payload::Post),
        1 => Just(submission(1, DkgResult::Empty)),
        2 => (0usize..2, 1u64..4).prop_map(|(seed, epoch)| submission(epoch, result(seed))),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let say = (
        0..=N,
        payload(),
        prop::option::weighted(0.1, any::<u64>()),
        prop::option::weighted(0.1, 0u64..99),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(author, payload, sequence, seen, forged)| Act::Say { author, payload, sequence, seen, forged });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Act::Bytes), 5 => Just(Act::Next), 15 => say]
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn two_replicas_of_one_log_agree_on_everything(acts in prop::collection::vec(act(), 0..80)) {
        let config = config();
        let mut one = World::of(Arc::clone(&config));
        let mut two = LogChain::new(Arc::clone(&config));
        for act in acts {
            let bytes = match act {
                Act::Bytes(bytes) => bytes,
                Act::Next => {
                    let next = one.replica.header().view.0.saturating_add(1);
                    for author in 0..=T {
                        let entry = one.entry(author, Payload::Tick(View(next)));
                        let bytes = one.sign(&entry);
                        prop_assert_eq!(one.replica.apply(&bytes), two.apply(&bytes));
                    }
                    continue;
                }
                Act::Say { author, payload, sequence, seen, forged } => {
                    let mut entry = one.entry(author, payload);
                    entry.sequence = sequence.unwrap_or(entry.sequence);
                    entry.seen.position = seen.unwrap_or(entry.seen.position);
                    let key = network_key(if forged { 50 } else { author });
                    entry.sign(config.identity(), &key).unwrap()
                }
            };
            let before = one.replica.header().view;
            let applied = one.replica.apply(&bytes);
            prop_assert_eq!(&applied, &two.apply(&bytes));
            prop_assert!(one.replica.header().view >= before, "time goes one way");
            if applied.is_err() {
                break;
            }
        }
        prop_assert_eq!(format!("{:?}", one.replica), format!("{two:?}"));
    }
}
