//! Committees, thresholds and the names of runs (spec section 2).

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use cases::cases;
use dkg_engine::bls::{ProvenPublicKey, PublicKey, SecretKey};
use dkg_engine::chain::contract::Contract;
use dkg_engine::committee::{Committee, CommitteeError, Index, MAX_MEMBERS, Member, NodeId, threshold};
use dkg_engine::epoch::{EpochCommit, EpochCounter, EpochSetup, InstanceId, View};
use proptest::prelude::*;

static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    let key = |number: u16| SecretKey::from_seed(&number.to_be_bytes().repeat(16)).unwrap().public_key();
    (0..=MAX_MEMBERS as u16).map(key).collect()
});

fn node(number: usize) -> NodeId {
    let mut bytes = [0; 32];
    bytes[30..].copy_from_slice(&(number as u16).to_be_bytes());
    NodeId::new(bytes)
}

fn member(node_id: NodeId, key: usize) -> Member {
    Member { node_id, staking_key: ProvenPublicKey::vouched_for(KEYS[key]) }
}

fn members(size: usize) -> Vec<Member> {
    (0..size).map(|number| member(node(number), number)).collect()
}

fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

#[test]
fn a_committee_has_2_to_254_members() {
    for size in [0, 1, 255] {
        assert_eq!(Committee::new(members(size)), Err(CommitteeError::Size(size)));
    }
    for size in [2, 3, 253, 254] {
        assert_eq!(Committee::new(members(size)).unwrap().size(), size);
    }
}

#[test]
fn no_node_and_no_key_is_there_twice() {
    let twice = vec![member(node(7), 0), member(node(3), 1), member(node(7), 2)];
    assert_eq!(Committee::new(twice), Err(CommitteeError::DuplicateNode(node(7))));
    let same_key = vec![member(node(7), 0), member(node(3), 1), member(node(5), 0)];
    assert_eq!(Committee::new(same_key), Err(CommitteeError::DuplicateKey(node(5), node(7))));
}

#[test]
fn a_key_that_anyone_could_sign_for_is_refused() {
    let mut identity = [0; 96];
    identity[0] = 0xc0;
    let mut some = members(3);
    some[1].staking_key = ProvenPublicKey::vouched_for(PublicKey::from_flow_bytes(&identity).unwrap());
    assert_eq!(Committee::new(some), Err(CommitteeError::IdentityKey(node(1))));
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn members_stand_in_ascending_order_of_node_id_and_the_position_is_the_index(
        ids in prop::collection::btree_set(any::<[u8; 32]>(), 2..40).prop_map(Vec::from_iter).prop_shuffle(),
    ) {
        let given: Vec<Member> = ids.iter().enumerate().map(|(key, id)| member(NodeId::new(*id), key)).collect();
        let committee = Committee::new(given.clone()).unwrap();
        let in_order: BTreeMap<NodeId, Member> = given.into_iter().map(|member| (member.node_id, member)).collect();
        prop_assert!(committee.members().iter().eq(in_order.values()));
        for (position, (id, member)) in in_order.iter().enumerate() {
            prop_assert_eq!(committee.index_of(id), Some(at(position)));
            prop_assert_eq!(committee.member(at(position)), Some(member));
        }
        prop_assert!(committee.iter().eq((0..).map(at).zip(in_order.values())));
        prop_assert_eq!(committee.member(at(in_order.len())), None);
    }

    #[test]
    fn a_node_id_is_read_back_from_its_64_hex_digits(bytes: [u8; 32], text in ".{0,70}") {
        let id = NodeId::new(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        prop_assert_eq!(text.parse::<NodeId>().is_ok(), hex);
    }
}

#[test]
fn a_stranger_has_no_index() {
    let committee = Committee::new(members(5)).unwrap();
    assert_eq!(committee.index_of(&node(5)), None);
    assert_eq!(committee.index_of(&NodeId::new([255; 32])), None);
}

#[test]
fn the_threshold_is_the_most_that_leaves_an_honest_majority_and_1_of_2() {
    assert_eq!(threshold(2), 1);
    for n in 3..=MAX_MEMBERS {
        let t = threshold(n);
        assert!(n - t > t, "{t} of {n} are no minority");
        assert!(n - (t + 1) <= t + 1, "{n} could bear more than {t}");
        assert_eq!(t, (n as f64 / 2.0 - 0.5).floor() as usize, "floor((n - 1) / 2) for {n}");
    }
    for n in [2, 3, 10, 254] {
        assert_eq!(Committee::new(members(n)).unwrap().threshold(), threshold(n));
    }
}

#[test]
fn the_contract_asks_for_more_than_the_committees_threshold() {
    for n in 2..=MAX_MEMBERS {
        let mut contract = Contract::new();
        contract.start((0..n).map(node).collect::<BTreeSet<_>>()).unwrap();
        assert_eq!(contract.threshold(), threshold(n), "{n} members");
    }
}

#[test]
fn a_run_is_named_after_its_chain_and_the_epoch_its_keys_are_for() {
    let name = |chain, epoch| InstanceId::new(chain, EpochCounter(epoch)).to_string();
    assert_eq!(name("flow-mainnet", 137), "dkg-flow-mainnet-137");
    assert_eq!(name("x", u64::MAX), "dkg-x-18446744073709551615");
    let committee = Arc::new(Committee::new(members(2)).unwrap());
    let setup = EpochSetup::new("flow-testnet", EpochCounter(8), committee, View(1), [View(2), View(3), View(4)]);
    assert_eq!(setup.instance.as_str(), "dkg-flow-testnet-8");
}

#[test]
fn a_commit_expects_of_a_node_the_key_at_its_index_in_the_map() {
    let commit = EpochCommit {
        epoch: EpochCounter(1),
        group_key: KEYS[9],
        key_shares: KEYS[..3].to_vec(),
        // The map need not follow the order of node ids, and may be wrong.
        index_map: BTreeMap::from([(node(1), at(2)), (node(2), at(0)), (node(3), at(3))]),
    };
    assert_eq!(commit.expected_of(&node(1)), Some((at(2), &KEYS[2])));
    assert_eq!(commit.expected_of(&node(2)), Some((at(0), &KEYS[0])));
    assert_eq!(commit.expected_of(&node(3)), None, "an index without a key");
    assert_eq!(commit.expected_of(&node(4)), None, "a node without an index");
}

#[test]
fn the_last_epoch_has_no_next() {
    assert_eq!(EpochCounter(7).next(), Some(EpochCounter(8)));
    assert_eq!(EpochCounter(u64::MAX).next(), None);
}
