//! Many signature shares at once: combined unverified, and when that fails, the bad ones named, exactly those that
//! verification one by one refuses.

mod cases;

use cases::cases;
use dkg_engine::bls::{
    CombineError, Combined, Combiner, G2Point, Index, Polynomial, PublicKey, RANDOM_BEACON_TAG, Scalar, SecretKey,
    Signature, SignatureCollector, combine, verify_each,
};
use dkg_engine::hex;
use proptest::prelude::*;

const MESSAGE: &[u8] = b"message";
const FRESH: [u8; 32] = [7; 32];

fn point(encoded: &str) -> Signature {
    Signature::from_bytes(&hex::decode(encoded).unwrap()).unwrap()
}

/// A point of small order, as the difference of two points.
#[derive(Clone, Copy)]
struct Offset {
    outside: Signature,
    inside: Signature,
}

/// One of order 3: the points with x = 5 times a third of the cofactor, and its part in G1. (The difference itself is no
/// good for sums: blst's are wrong for points of an order up to 8.)
fn order_3() -> Offset {
    let outside = "8ceaf78895e613e373432c864c5f0311a54f66bb52e5a9d3ed800af48a7b0d8889d05466289cb072acf07f84f260dd65";
    let inside = "b7cc179ead9f9e96d8f2227d495f16be5474b29bc393f927e7ff050779d2080382525a44d3ac4afab92b087810da765e";
    Offset { outside: point(outside), inside: point(inside) }
}

/// One of order 11: the point with x = 4 times r and the cofactor over 11 squared.
fn order_11() -> Offset {
    let outside = "b9b3e2c8c6bbf59d3c326b531fc1e639d29200c28624ac604f251a12908c9b7f735318617f625954cc71cdf03229b1ef";
    Offset { outside: point(outside), inside: identity() }
}

/// The point (0, 2), which is of order 3.
fn zero_two() -> Signature {
    let mut encoded = [0; 48];
    encoded[0] = 0x80;
    Signature::from_bytes(&encoded).unwrap()
}

fn identity() -> Signature {
    let mut encoded = [0; 48];
    encoded[0] = 0xc0;
    Signature::from_bytes(&encoded).unwrap()
}

fn negated(signature: &Signature) -> Signature {
    if *signature == identity() {
        return *signature;
    }
    let mut encoded = signature.to_bytes();
    encoded[0] ^= 0x20;
    Signature::from_bytes(&encoded).unwrap()
}

fn index(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

/// Twice the first minus the second: the Lagrange coefficients of the first two participants are 2 and -1.
fn twice_minus(first: &Signature, second: &Signature) -> Signature {
    combine(2, 1, &[(index(0), *first), (index(1), *second)]).unwrap()
}

impl Offset {
    fn twice(&self) -> Offset {
        Offset { outside: twice_minus(&self.outside, &identity()), inside: twice_minus(&self.inside, &identity()) }
    }

    fn negated(&self) -> Offset {
        Offset { outside: negated(&self.outside), inside: negated(&self.inside) }
    }

    /// The signature, twice this off.
    fn twice_off(&self, signature: &Signature) -> Signature {
        let off = twice_minus(&self.outside, &twice_minus(&self.inside, signature));
        assert!(!off.is_in_subgroup());
        off
    }
}

fn sign(scalar: &Scalar) -> Signature {
    SecretKey::from_scalar(scalar.clone()).unwrap().sign(MESSAGE, &RANDOM_BEACON_TAG)
}

struct Group {
    secrets: Vec<Scalar>,
    group_key: PublicKey,
    key_shares: Vec<PublicKey>,
    t: usize,
    signature: Signature,
}

impl Group {
    fn new(n: usize, t: usize) -> Group {
        let polynomial = Polynomial::from_seed(&[n as u8; 32], t).unwrap();
        let secrets: Vec<Scalar> = Index::all(n).map(|i| polynomial.share(i)).collect();
        let key_shares = secrets.iter().map(|secret| PublicKey::from(secret.public_value())).collect();
        let group_key = PublicKey::from(polynomial.commit().constant_term());
        Group { secrets, group_key, key_shares, t, signature: sign(&polynomial.coefficients()[0]) }
    }

    fn shares(&self) -> Vec<Signature> {
        self.secrets.iter().map(sign).collect()
    }

    /// The share of a participant, and `times` times what `error` signs.
    fn share_with(&self, position: usize, error: &Scalar, times: usize) -> Signature {
        let mut sum = self.secrets[position].clone();
        for _ in 0..times {
            sum += error;
        }
        sign(&sum)
    }

    fn collector(&self) -> SignatureCollector {
        SignatureCollector::new(self.group_key, self.key_shares.clone(), self.t, MESSAGE, &RANDOM_BEACON_TAG).unwrap()
    }

    fn collected(&self, shares: &[Signature]) -> SignatureCollector {
        let mut collector = self.collector();
        for (position, share) in shares.iter().enumerate() {
            assert_eq!(collector.add(index(position), &share.to_bytes()), Ok(position >= self.t));
        }
        collector
    }

    fn signed(&self, shares: &[Signature]) -> Vec<(PublicKey, Signature)> {
        self.key_shares.iter().copied().zip(shares.iter().copied()).collect()
    }

    /// Whose shares are refused one by one.
    fn bad(&self, shares: &[Signature]) -> Vec<Index> {
        let refused = |(position, (key, share)): (usize, (PublicKey, Signature))| {
            (!key.verify(MESSAGE, &RANDOM_BEACON_TAG, &share)).then(|| index(position))
        };
        self.signed(shares).into_iter().enumerate().filter_map(refused).collect()
    }

    /// Combines these shares, of which the first t+1 do not make the signature, and says who was named for it.
    #[track_caller]
    fn named(&self, shares: &[Signature], randomness: [u8; 32]) -> Vec<Index> {
        let mut collector = self.collected(shares);
        let (good, mut refused) = match collector.signature(&randomness) {
            Ok(Combined { signature, signers, refused }) => {
                assert_eq!(signature, self.signature);
                assert_eq!(signers.len(), self.t + 1);
                assert!(signers.iter().all(|signer| !refused.contains(signer)));
                (shares.len() - refused.len(), refused)
            }
            Err(CombineError::BadShares { needed, good, refused }) => {
                assert_eq!(needed, self.t + 1);
                assert!(good < needed);
                (good, refused)
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(good + refused.len(), shares.len());
        refused.sort();
        refused
    }
}

/// The scalar that makes zero with this one.
fn opposite(scalar: &Scalar) -> Scalar {
    // r - x, digit by digit.
    let r = hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001").unwrap();
    let mut borrow = 0;
    let mut difference: Vec<u8> = r
        .iter()
        .zip(scalar.to_be_bytes().iter())
        .rev()
        .map(|(r, x)| {
            let digit = i16::from(*r) - i16::from(*x) - borrow;
            borrow = i16::from(digit < 0);
            (digit + 256 * borrow) as u8
        })
        .collect();
    difference.reverse();
    Scalar::from_be_bytes(&difference).unwrap()
}

fn error() -> Scalar {
    SecretKey::from_seed(&[9; 32]).unwrap().scalar().clone()
}

#[test]
fn whichever_shares_of_a_small_committee_are_bad_they_are_named_and_the_others_combined() {
    let group = Group::new(7, 3);
    let good = group.shares();
    for set in 0_u32..1 << 7 {
        let is_bad = |position: usize| set >> position & 1 == 1;
        let shares: Vec<Signature> =
            (0..7).map(|at| if is_bad(at) { group.share_with(at, &error(), 1) } else { good[at] }).collect();
        let bad: Vec<Index> = (0..7).filter(|at| is_bad(*at)).map(index).collect();
        // Who is not needed is not checked.
        let expected = if bad.iter().any(|signer| usize::from(*signer) < 4) { bad } else { Vec::new() };
        assert_eq!(group.named(&shares, FRESH), expected, "bad: {set:#b}");
    }
}

#[test]
fn any_two_bad_shares_of_twelve_are_found() {
    let group = Group::new(12, 5);
    let good = group.shares();
    for (one, other) in (0..12).flat_map(|one| (0..=one).map(move |other| (one, other))) {
        let mut shares = good.clone();
        for at in [one, other] {
            shares[at] = group.share_with(at, &error(), 1);
        }
        let verdicts = verify_each(MESSAGE, &RANDOM_BEACON_TAG, &group.signed(&shares), &FRESH);
        assert!((0..12).all(|at| verdicts[at] == (at != one && at != other)), "bad: {one} and {other}");
    }
}

#[test]
fn whatever_the_randomness_faults_that_cancel_in_the_sum_are_found() {
    let group = Group::new(12, 5);
    let mut shares = group.shares();
    shares[2] = group.share_with(2, &error(), 1);
    shares[7] = group.share_with(7, &opposite(&error()), 1);
    // One random factor in fifteen is the other's, and then they cancel nonetheless.
    for seed in 0..60 {
        assert_eq!(group.named(&shares, [seed; 32]), [index(2), index(7)], "seed {seed}");
    }
}

#[test]
fn faults_that_cancel_in_the_combination_leave_the_groups_signature() {
    let group = Group::new(5, 1);
    let mut shares = group.shares();
    // Their Lagrange coefficients are 2 and -1.
    shares[0] = group.share_with(0, &error(), 1);
    shares[1] = group.share_with(1, &error(), 2);
    assert_eq!(group.bad(&shares), [index(0), index(1)]);
    let combined = group.collected(&shares).signature(&FRESH).unwrap();
    assert_eq!((combined.signature, combined.refused), (group.signature, vec![]));
}

#[test]
fn shares_outside_the_group_are_named_unless_the_combination_is_right_without_that() {
    let group = Group::new(8, 2);
    let good = group.shares();
    for (offset, order) in [(order_3(), 3), (order_11(), 11)] {
        let mut one = good.clone();
        one[2] = offset.twice_off(&good[2]);
        assert_eq!(group.named(&one, FRESH), [index(2)], "order {order}");

        // The Lagrange coefficients of the first three are 3, r - 3 and 1, and r is 1 modulo 3 and modulo 11.
        let mut cancelling = good.clone();
        let innocent = if order == 3 {
            cancelling[1] = offset.twice_off(&good[1]);
            cancelling[2] = offset.negated().twice_off(&good[2]);
            0
        } else {
            // 3 * 4 - 2 * 6 = 0, and 6 = -16 modulo 11.
            cancelling[0] = offset.twice().twice_off(&good[0]);
            cancelling[1] = offset.twice().twice().twice().negated().twice_off(&good[1]);
            2
        };
        assert_eq!(group.bad(&cancelling).len(), 2);
        let combined = group.collected(&cancelling).signature(&FRESH).unwrap();
        assert_eq!((combined.signature, combined.refused), (group.signature, vec![]), "order {order}");

        // If anything else is wrong, they are named all the same.
        cancelling[innocent] = group.share_with(innocent, &error(), 1);
        assert_eq!(group.named(&cancelling, FRESH), [0, 1, 2].map(index), "order {order}");
    }
    let mut shares = good;
    shares[0] = zero_two();
    assert_eq!(group.named(&shares, FRESH), [index(0)]);
}

#[test]
fn shares_outside_the_group_are_found_among_many_as_well() {
    let group = Group::new(40, 19);
    for offset in [order_3(), order_11()] {
        let mut shares = group.shares();
        for at in [3, 21, 30] {
            shares[at] = offset.twice_off(&shares[at]);
        }
        shares[33] = group.share_with(33, &error(), 1);
        assert_eq!(group.named(&shares, FRESH), [3, 21, 30, 33].map(index));
    }
}

#[test]
fn an_identity_is_nobodys_share() {
    let group = Group::new(6, 2);
    let mut shares = group.shares();
    shares[1] = identity();
    shares[5] = identity();
    assert_eq!(group.named(&shares, FRESH), [index(1), index(5)]);
    let nobodys = PublicKey::from(G2Point::identity());
    let signed = [group.signed(&shares), vec![(nobodys, identity()), (nobodys, shares[0])]].concat();
    let verdicts = verify_each(MESSAGE, &RANDOM_BEACON_TAG, &signed, &FRESH);
    assert_eq!(verdicts, [true, false, true, true, true, false, false, false]);
    assert!(verify_each(MESSAGE, &RANDOM_BEACON_TAG, &[], &FRESH).is_empty());
}

#[test]
fn three_bad_shares_of_a_hundred_are_found_wherever_they_are() {
    let group = Group::new(100, 49);
    let good = group.shares();
    for turn in 0..12_u8 {
        let mut shares = good.clone();
        let mut bad = [7, 31, 90].map(|at| (at + usize::from(turn) * 17) % 100);
        bad.sort_unstable();
        for at in bad {
            shares[at] = group.share_with(at, &error(), usize::from(turn) + 1);
        }
        let verdicts = verify_each(MESSAGE, &RANDOM_BEACON_TAG, &group.signed(&shares), &[turn; 32]);
        assert!((0..100).all(|at| verdicts[at] != bad.contains(&at)), "turn {turn}");
    }
}

#[test]
fn more_signatures_than_there_are_participants_are_checked_too() {
    let group = Group::new(150, 49);
    let mut signed = [group.signed(&group.shares()), group.signed(&group.shares())].concat();
    for at in [253, 254, 299] {
        signed[at].1 = signed[0].1;
    }
    let verdicts = verify_each(MESSAGE, &RANDOM_BEACON_TAG, &signed, &FRESH);
    assert!((0..300).all(|at| verdicts[at] != [253, 254, 299].contains(&at)));
}

#[test]
fn with_a_wrong_group_key_nobody_is_named() {
    let group = Group::new(6, 2);
    let group = Group { group_key: other_key(), ..group };
    let mut collector = group.collected(&group.shares());
    for _ in 0..2 {
        assert_eq!(collector.signature(&FRESH), Err(CombineError::WrongGroupKey));
    }
    let mut shares = group.shares();
    shares[4] = group.share_with(4, &error(), 1);
    assert_eq!(group.collected(&shares).signature(&FRESH), Err(CombineError::WrongGroupKey));
}

fn other_key() -> PublicKey {
    SecretKey::from_seed(&[5; 32]).unwrap().public_key()
}

#[test]
fn who_sent_a_bad_share_may_come_again_when_it_is_found() {
    let group = Group::new(5, 2);
    let good = group.shares();
    let mut collector = group.collector();
    let wrong = group.share_with(1, &error(), 1);
    for (at, share) in [(0, good[0]), (1, wrong), (2, good[2])] {
        collector.add(index(at), &share.to_bytes()).unwrap();
    }
    assert_eq!(collector.add(index(1), &good[1].to_bytes()), Err(CombineError::DuplicateSigner(index(1))));
    let bad = CombineError::BadShares { needed: 3, good: 2, refused: vec![index(1)] };
    assert!(bad.to_string().contains("participants 1"), "{bad}");
    assert_eq!(collector.signature(&FRESH), Err(bad));
    assert_eq!(collector.signature(&FRESH), Err(CombineError::NotEnoughShares { needed: 3, given: 2 }));
    // What has been found good is used before what comes later.
    assert_eq!(collector.add(index(3), &wrong.to_bytes()), Ok(true));
    assert_eq!(collector.add(index(1), &good[1].to_bytes()), Ok(true));
    let combined = collector.signature(&FRESH).unwrap();
    assert_eq!((combined.signature, combined.refused), (group.signature, vec![index(3)]));
    assert_eq!(combined.signers, [0, 2, 1].map(index), "in the order in which they came");
}

#[test]
fn a_collector_says_at_once_what_it_cannot_keep() {
    let group = Group::new(3, 1);
    let mut collector = group.collector();
    let share = group.shares()[0].to_bytes();
    assert_eq!(collector.add(index(3), &share), Err(CombineError::UnknownSigner(index(3))));
    for malformed in [&[][..], &[0xff; 48], &[0; 48], &share[1..]] {
        let refused = collector.add(index(0), malformed);
        assert!(matches!(refused, Err(CombineError::Malformed { signer, .. }) if signer == index(0)), "{refused:?}");
    }
    for at in 0..3 {
        assert_eq!(collector.add(index(at), &share), Ok(at > 0));
    }
    for at in 0..3 {
        let again = CombineError::DuplicateSigner(index(at));
        assert_eq!(collector.add(index(at), &share), Err(again.clone()));
        assert_eq!(collector.verify_and_add(index(at), &share), Err(again));
    }
}

#[test]
fn shares_that_were_verified_when_they_came_go_together_with_others() {
    let group = Group::new(5, 2);
    let good = group.shares();
    let mut collector = group.collector();
    let wrong = group.share_with(0, &error(), 1);
    assert_eq!(collector.add(index(0), &wrong.to_bytes()), Ok(false));
    for (at, enough) in [(1, false), (2, true)] {
        let added = collector.verify_and_add(index(at), &good[at].to_bytes()).unwrap();
        assert_eq!((added.valid, added.enough), (true, enough));
    }
    assert!(!collector.verify_and_add(index(3), &wrong.to_bytes()).unwrap().valid);
    let bad = CombineError::BadShares { needed: 3, good: 2, refused: vec![index(0)] };
    assert_eq!(collector.signature(&FRESH), Err(bad));
    assert!(collector.verify_and_add(index(3), &good[3].to_bytes()).unwrap().enough);
    assert_eq!(collector.signature(&FRESH).unwrap().signature, group.signature);
}

/// Messages with this key's signatures of them.
fn messages(key: &SecretKey) -> Vec<([u8; 1], Signature)> {
    (0..12).map(|number| ([number], key.sign(&[number], &RANDOM_BEACON_TAG))).collect()
}

fn all_fit(key: &PublicKey, signed: &[([u8; 1], Signature)], randomness: [u8; 32]) -> bool {
    let list: Vec<(&[u8], Signature)> = signed.iter().map(|(message, signature)| (&message[..], *signature)).collect();
    key.verify_all(&RANDOM_BEACON_TAG, &list, &randomness)
}

#[test]
fn many_messages_are_verified_at_once_and_one_bad_signature_spoils_them() {
    let secret = SecretKey::from_seed(&[3; 32]).unwrap();
    let key = secret.public_key();
    let signed = messages(&secret);
    for length in 0..=signed.len() {
        assert!(all_fit(&key, &signed[..length], FRESH));
    }
    for at in 0..signed.len() {
        for wrong in [identity(), negated(&signed[at].1), signed[(at + 1) % 12].1, zero_two()] {
            let mut spoilt = signed.clone();
            spoilt[at].1 = wrong;
            assert!(!all_fit(&key, &spoilt, FRESH), "message {at}");
        }
    }
    // Two that have changed places cancel in the plain sum.
    let mut swapped = signed.clone();
    (swapped[2].1, swapped[5].1) = (signed[5].1, signed[2].1);
    assert!(!all_fit(&key, &swapped, FRESH));
    let nobodys = PublicKey::from(G2Point::identity());
    assert!(!all_fit(&nobodys, &[([0], identity()), ([1], identity())], FRESH));
}

#[test]
fn no_randomness_hides_a_point_of_order_three_among_many_signatures() {
    let secret = SecretKey::from_seed(&[3; 32]).unwrap();
    let mut signed = messages(&secret);
    signed[4].1 = order_3().twice_off(&signed[4].1);
    for seed in 0..20 {
        assert!(!all_fit(&secret.public_key(), &signed, [seed; 32]), "seed {seed}");
    }
}

#[test]
fn the_shares_of_several_messages_are_combined_by_the_same_weights() {
    let group = Group::new(6, 2);
    let signers = [5, 0, 3, 2].map(index);
    let share = |signer: Index, message: &[u8]| {
        let secret = group.secrets[usize::from(signer)].clone();
        SecretKey::from_scalar(secret).unwrap().sign(message, &RANDOM_BEACON_TAG)
    };
    let texts: [&[u8]; 3] = [b"one", b"two", b"three"];
    let mut shares = texts.map(|message| signers.map(|signer| share(signer, message)));
    let combiner = Combiner::new(6, 2, &signers).unwrap();
    let combined = |shares: &[[Signature; 4]; 3]| {
        let messages: Vec<(&[u8], &[Signature])> =
            texts.iter().zip(shares).map(|(message, shares)| (*message, &shares[..])).collect();
        combiner.combine_all(&group.group_key, &RANDOM_BEACON_TAG, &messages, &FRESH).unwrap()
    };
    let right = combined(&shares);
    for (message, signature) in texts.iter().zip(&right) {
        assert!(group.group_key.verify(message, &RANDOM_BEACON_TAG, &signature.unwrap()));
    }
    shares[1][0] = shares[2][0];
    assert_eq!(combined(&shares), [right[0], None, right[2]]);
    let missing = combiner.combine_all(&group.group_key, &RANDOM_BEACON_TAG, &[(b"one", &shares[0][..2])], &FRESH);
    assert_eq!(missing, Err(CombineError::NotEnoughShares { needed: 3, given: 2 }));
}

/// What may be wrong with a share.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Error,
    Opposite,
    Identity,
    Negated,
    Neighbours,
    Order3,
    Order11,
    ErrorAndOrder3,
    ZeroTwo,
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        20 => Just(Fault::None),
        2 => Just(Fault::Error),
        1 => Just(Fault::Opposite),
        1 => Just(Fault::Identity),
        1 => Just(Fault::Negated),
        1 => Just(Fault::Neighbours),
        1 => Just(Fault::Order3),
        1 => Just(Fault::Order11),
        1 => Just(Fault::ErrorAndOrder3),
        1 => Just(Fault::ZeroTwo),
    ]
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn checked_together_shares_get_the_verdicts_that_they_get_one_by_one(
        faults in prop::collection::vec(faults(), 2..50),
        randomness: [u8; 32],
    ) {
        let n = faults.len();
        let group = Group::new(n, 1 + (n - 2) / 2);
        let good = group.shares();
        let shares: Vec<Signature> = faults
            .iter()
            .enumerate()
            .map(|(at, fault)| match fault {
                Fault::None => good[at],
                Fault::Error => group.share_with(at, &error(), 1),
                Fault::Opposite => group.share_with(at, &opposite(&error()), 1),
                Fault::Identity => identity(),
                Fault::Negated => negated(&good[at]),
                Fault::Neighbours => good[(at + 1) % n],
                Fault::Order3 => order_3().twice_off(&good[at]),
                Fault::Order11 => order_11().twice_off(&good[at]),
                Fault::ErrorAndOrder3 => order_3().twice_off(&group.share_with(at, &error(), 1)),
                Fault::ZeroTwo => zero_two(),
            })
            .collect();
        let bad = group.bad(&shares);
        let verdicts = verify_each(MESSAGE, &RANDOM_BEACON_TAG, &group.signed(&shares), &randomness);
        let found: Vec<Index> = (0..n).filter(|at| !verdicts[*at]).map(index).collect();
        prop_assert_eq!(&found, &bad);
        let first = combine(n, group.t, &shares.iter().enumerate().map(|(at, s)| (index(at), *s)).collect::<Vec<_>>());
        if first != Ok(group.signature) {
            prop_assert_eq!(group.named(&shares, randomness), bad);
        }
    }
}
