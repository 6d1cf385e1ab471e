//! The whiteboard contract, rule by rule (spec section 5).

mod cases;

use std::collections::BTreeSet;

use cases::cases;
use dkg_engine::chain::contract::{Contract, ContractError, ResultFault, SafePercentage};
use dkg_engine::chain::{BoardMessage, DkgResult};
use dkg_engine::committee::{Index, MAX_MEMBERS, NodeId, threshold};
use dkg_engine::envelope::MAX_POST_BYTES;
use proptest::prelude::*;

fn node(number: usize) -> NodeId {
    NodeId::new([u8::try_from(number).unwrap(); 32])
}

fn nodes(n: usize) -> BTreeSet<NodeId> {
    (0..n).map(node).collect()
}

fn running(n: usize) -> Contract {
    let mut contract = Contract::new();
    contract.start(nodes(n)).unwrap();
    contract
}

/// A well-formed result of `n` whose keys all end with these two digits.
fn result(n: usize, digits: &str) -> DkgResult {
    let key = format!("{}{digits}", "0".repeat(190));
    DkgResult::Complete {
        group_key: key.clone(),
        key_shares: vec![key; n],
        index_map: (0..n).map(|i| (node(i), Index::from_position(i).unwrap())).collect(),
    }
}

/// `result`, changed by hand.
fn changed(n: usize, change: impl FnOnce(&mut String, &mut Vec<String>, &mut Vec<(NodeId, usize)>)) -> DkgResult {
    let DkgResult::Complete { mut group_key, mut key_shares, .. } = result(n, "01") else { unreachable!() };
    let mut indices: Vec<_> = (0..n).map(|i| (node(i), i)).collect();
    change(&mut group_key, &mut key_shares, &mut indices);
    let index_map = indices.into_iter().map(|(node, i)| (node, Index::from_position(i).unwrap())).collect();
    DkgResult::Complete { group_key, key_shares, index_map }
}

#[test]
fn a_run_starts_only_while_none_is_going_on() {
    let mut contract = running(3);
    assert_eq!(contract.start(nodes(3)), Err(ContractError::Running));
    contract.force_end();
    assert_eq!(contract.start(nodes(4)), Ok(()));
    assert_eq!(contract.authorized(), &nodes(4));
}

#[test]
fn a_run_has_2_to_254_participants() {
    for n in [0, 1, 255] {
        assert_eq!(Contract::new().start(nodes(n)), Err(ContractError::Size(n)));
    }
    for n in [2, MAX_MEMBERS] {
        assert_eq!(Contract::new().start(nodes(n)), Ok(()));
    }
}

#[test]
fn a_start_clears_the_board_and_the_submissions() {
    let mut contract = running(3);
    contract.post(node(0), "old".into()).unwrap();
    for i in 0..2 {
        contract.submit(node(i), &result(3, "01")).unwrap();
    }
    contract.end().unwrap();
    assert_eq!(contract.message_count(), 1, "what a run left can be read until the next one starts");
    assert!(contract.canonical().is_some());
    contract.start(nodes(3)).unwrap();
    assert_eq!(contract.message_count(), 0);
    assert_eq!(contract.canonical(), None);
    assert_eq!(contract.submissions().count(), 0);
    assert!(contract.tallies().is_empty());
}

#[test]
fn only_participants_post_and_only_while_a_run_is_going_on() {
    let mut contract = Contract::new();
    assert_eq!(contract.post(node(0), "x".into()), Err(ContractError::NotRunning));
    contract.start(nodes(3)).unwrap();
    assert_eq!(contract.post(node(3), "x".into()), Err(ContractError::NotAuthorized(node(3))));
    assert_eq!(contract.post(node(2), "x".into()), Ok(()));
    contract.force_end();
    assert_eq!(contract.post(node(2), "x".into()), Err(ContractError::NotRunning));
    assert_eq!(contract.message_count(), 1);
}

#[test]
fn a_post_is_neither_empty_nor_beyond_the_limit() {
    let mut contract = running(3);
    assert_eq!(contract.post(node(0), String::new()), Err(ContractError::EmptyPost(node(0))));
    assert_eq!(contract.post(node(0), "x".repeat(MAX_POST_BYTES)), Ok(()));
    let size = MAX_POST_BYTES + 1;
    assert_eq!(contract.post(node(0), "x".repeat(size)), Err(ContractError::PostTooLarge(node(0), size)));
}

#[test]
fn the_longest_honest_post_is_within_the_limit() {
    let vector = 1 + (threshold(MAX_MEMBERS) + 1) * 192;
    let base64 = vector.div_ceil(3) * 4;
    let envelope = r#"{"Data":"","DKGInstanceID":"","Signature":""}"#.len() + 64 + "dkg--".len() + 20 + 64;
    assert!(base64 + envelope <= MAX_POST_BYTES);
}

#[test]
fn messages_are_read_from_an_index_as_of_a_count_in_the_order_of_posting() {
    let mut contract = running(3);
    for (i, content) in ["a", "b", "c"].into_iter().enumerate() {
        contract.post(node(i), content.into()).unwrap();
    }
    let message = |i: usize, content: &str| BoardMessage { node_id: node(i), content: content.into() };
    assert_eq!(contract.messages(0, 3), [message(0, "a"), message(1, "b"), message(2, "c")]);
    assert_eq!(contract.messages(1, 2), [message(1, "b")]);
    assert_eq!(contract.messages(2, usize::MAX), [message(2, "c")]);
    for (from, count) in [(3, 3), (2, 1), (usize::MAX, usize::MAX)] {
        assert!(contract.messages(from, count).is_empty());
    }
}

#[test]
fn a_participant_submits_once_and_an_outsider_never() {
    let mut contract = running(3);
    assert_eq!(contract.submit(node(3), &DkgResult::Empty), Err(ContractError::NotAuthorized(node(3))));
    contract.submit(node(0), &DkgResult::Empty).unwrap();
    assert_eq!(contract.submit(node(0), &result(3, "01")), Err(ContractError::AlreadySubmitted(node(0))));
    assert_eq!(contract.submission_of(&node(0)), Some(&DkgResult::Empty));
    assert_eq!(contract.submission_of(&node(1)), None);
}

#[test]
fn a_result_names_what_does_not_fit_and_counts_for_nothing() {
    let faults = [
        (changed(3, |_, shares, _| shares.truncate(2)), ResultFault::KeyShareCount { expected: 3, found: 2 }),
        (changed(3, |key, _, _| key.truncate(191)), ResultFault::GroupKey),
        (changed(3, |key, _, _| key.replace_range(0..1, "g")), ResultFault::GroupKey),
        (changed(3, |_, shares, _| shares[1].push('0')), ResultFault::KeyShare(1)),
        (changed(3, |_, shares, _| shares[2].replace_range(190..192, "é")), ResultFault::KeyShare(2)),
        (changed(3, |_, _, map| map.truncate(2)), ResultFault::MissingIndex(node(2))),
        (changed(3, |_, _, map| map.push((node(9), 3))), ResultFault::ForeignIndex(node(9))),
        (changed(3, |_, _, map| map[2].1 = 1), ResultFault::NotAPermutation(node(2), Index::from_position(1).unwrap())),
        (changed(3, |_, _, map| map[1].1 = 3), ResultFault::NotAPermutation(node(1), Index::from_position(3).unwrap())),
    ];
    let mut contract = running(3);
    for (result, fault) in faults {
        assert_eq!(contract.submit(node(0), &result), Err(ContractError::BadResult(node(0), fault)));
    }
    assert!(contract.tallies().is_empty());
    assert_eq!(
        contract.submit(
            node(0),
            &changed(3, |_, _, map| {
                map[0].1 = 1;
                map[1].1 = 0
            })
        ),
        Ok(())
    );
}

#[test]
fn equal_keys_are_equal_results_whatever_the_case_of_their_digits() {
    let mut contract = running(3);
    contract.submit(node(0), &result(3, "AB")).unwrap();
    contract.submit(node(1), &result(3, "ab")).unwrap();
    assert_eq!(contract.canonical(), Some(&result(3, "ab")));
    assert_eq!(contract.tallies().len(), 1);
}

#[test]
fn results_count_together_only_with_the_same_keys_in_the_same_order_and_the_same_map() {
    let mut contract = running(4);
    let variants = [
        result(4, "01"),
        changed(4, |key, _, _| key.replace_range(0..1, "1")),
        changed(4, |_, shares, _| shares[0].replace_range(0..1, "1")),
        changed(4, |_, _, map| {
            map[0].1 = 1;
            map[1].1 = 0
        }),
    ];
    for (i, variant) in variants.iter().enumerate() {
        contract.submit(node(i), variant).unwrap();
    }
    assert!(contract.tallies().iter().map(|tally| (&tally.result, tally.count)).eq(variants.iter().map(|v| (v, 1))));
}

#[test]
fn more_than_the_threshold_complete_a_run_for_every_size() {
    for n in 2..=MAX_MEMBERS {
        let needed = if n == 2 { 2 } else { (n - 1) / 2 + 1 };
        let mut contract = running(n);
        assert_eq!(contract.threshold(), needed - 1);
        if n > 20 && n < 253 {
            continue;
        }
        let result = result(n, "01");
        for i in 0..needed {
            assert_eq!(contract.canonical(), None, "{i} of {n}");
            contract.submit(node(i), &result).unwrap();
        }
        assert_eq!(contract.canonical(), Some(&result), "{needed} of {n}");
    }
}

#[test]
fn a_safe_percentage_raises_the_threshold_but_never_lowers_it() {
    let percentage = |parts| Some(SafePercentage::from_hundred_millionths(parts).unwrap());
    let threshold_of_10 = |percentage| {
        let mut contract = Contract::new();
        contract.set_safe_percentage(percentage).unwrap();
        contract.start(nodes(10)).unwrap();
        contract.threshold()
    };
    assert_eq!(threshold_of_10(None), 4);
    assert_eq!(threshold_of_10(percentage(0)), 4);
    assert_eq!(threshold_of_10(percentage(10_000_000)), 4);
    assert_eq!(threshold_of_10(percentage(69_999_999)), 6);
    assert_eq!(threshold_of_10(percentage(70_000_000)), 7);
    assert_eq!(threshold_of_10(percentage(99_999_999)), 9);
    assert_eq!(SafePercentage::from_hundred_millionths(100_000_000), Err(ContractError::Percentage(100_000_000)));
    assert_eq!(running(3).set_safe_percentage(None), Err(ContractError::Running));
}

#[test]
fn empty_results_are_counted_and_never_canonical() {
    let mut contract = running(5);
    for i in 0..5 {
        contract.submit(node(i), &DkgResult::Empty).unwrap();
    }
    assert_eq!(contract.tallies()[0].count, 5);
    assert_eq!(contract.canonical(), None);
    assert_eq!(contract.end(), Err(ContractError::NotCompleted(2)));
}

#[test]
fn the_first_result_beyond_the_threshold_stays_canonical() {
    let mut contract = running(4);
    for (i, digits) in ["01", "02", "02", "01"].into_iter().enumerate() {
        contract.submit(node(i), &result(4, digits)).unwrap();
    }
    assert_eq!(contract.canonical(), Some(&result(4, "02")));
    assert_eq!(contract.end(), Ok(result(4, "02")));
}

#[test]
fn a_run_ends_when_completed_or_by_force_at_any_time() {
    let mut contract = Contract::new();
    assert_eq!(contract.end(), Err(ContractError::NotRunning));
    assert_eq!(contract.force_end(), None);
    contract.start(nodes(2)).unwrap();
    contract.submit(node(0), &result(2, "01")).unwrap();
    assert_eq!(contract.end(), Err(ContractError::NotCompleted(1)));
    contract.submit(node(1), &result(2, "01")).unwrap();
    assert!(contract.is_running());
    assert_eq!(contract.force_end(), Some(result(2, "01")));
    assert!(!contract.is_running());
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn no_result_makes_the_contract_panic_or_miscount(
        submissions in prop::collection::vec((0usize..6, prop::collection::vec(".{0,4}|[0-9A-F]{192}", 0..6), 0usize..6), 0..12),
    ) {
        let mut contract = running(4);
        for (who, keys, indices) in submissions {
            let group_key = keys.first().cloned().unwrap_or_default();
            let index_map = (0..indices).map(|i| (node(i), Index::from_position(i).unwrap())).collect();
            let accepted = contract.submit(node(who), &DkgResult::Complete { group_key, key_shares: keys, index_map });
            prop_assert_eq!(accepted.is_ok(), contract.submission_of(&node(who)).is_some() && accepted != Err(ContractError::AlreadySubmitted(node(who))));
        }
        let counted: usize = contract.tallies().iter().map(|tally| tally.count).sum();
        prop_assert_eq!(counted, contract.submissions().count());
        prop_assert_eq!(contract.canonical().is_some(), contract.tallies().iter().any(|tally| tally.count > 1));
    }
}
