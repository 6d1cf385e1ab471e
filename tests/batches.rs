//! Checks of many things at once: they find what one-by-one checks find, whatever hostile dealers put together, and cost no
//! verdict.

mod cases;
mod small_order;

use cases::cases;
use dkg_engine::bls::{
    CommitmentVector, Effort, G2Point, Index, Polynomial, Scalar, Strength, UncheckedVector, VectorEncoding,
    VectorError, shares_match_all,
};
use dkg_engine::protocol::{Outcome, Output, Parameters, Participant, encode_share, encode_vector};
use dkg_engine::{SecretBytes, hex};
use proptest::prelude::*;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};
use small_order::SMALL_ORDERS;

/// Bytes of a point.
const POINT: usize = 192;
/// The field's modulus.
const MODULUS: &str =
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";

fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

fn effort(threads: usize, strength: Strength) -> Effort {
    Effort { threads: threads.try_into().unwrap(), strength }
}

fn efforts() -> impl Iterator<Item = Effort> {
    let strengths = [Strength::Bits64, Strength::Bits128];
    strengths.into_iter().flat_map(|strength| [1, 2, 5].map(|threads| effort(threads, strength)))
}

fn point(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// The encoding of the opposite point: p less both coordinates of y.
fn opposite(point: &[u8]) -> Vec<u8> {
    let modulus = hex::decode(MODULUS).unwrap();
    let mut opposite = point.to_vec();
    for half in opposite[POINT / 2..].chunks_mut(modulus.len()) {
        let mut borrow = 0;
        for (digit, from) in half.iter_mut().zip(&modulus).rev() {
            let difference = i32::from(*from) - i32::from(*digit) - borrow;
            borrow = i32::from(difference < 0);
            *digit = difference.rem_euclid(256) as u8;
        }
    }
    opposite
}

fn identity() -> Vec<u8> {
    let mut bytes = vec![0; POINT];
    bytes[0] = 0x40;
    bytes
}

fn dealing(seed: usize, degree: usize) -> Polynomial {
    Polynomial::from_seed(&[seed as u8 + 1; 32], degree).unwrap()
}

/// Honest vectors' bytes.
fn honest(vectors: usize, degree: usize) -> Vec<Vec<u8>> {
    (0..vectors).map(|seed| dealing(seed, degree).commit().encode(VectorEncoding::Uncompressed)).collect()
}

fn put(vectors: &mut [Vec<u8>], dealer: usize, position: usize, point: &[u8]) {
    vectors[dealer][position * POINT..][..POINT].copy_from_slice(point);
}

fn decode(bytes: &[u8]) -> UncheckedVector {
    UncheckedVector::decode(bytes, bytes.len() / POINT).unwrap()
}

fn fresh() -> [u8; 32] {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).unwrap();
    bytes
}

/// Checks the vectors at once, again and again, and holds the verdicts against those of one-by-one checks.
fn check_at_once(vectors: &[Vec<u8>]) -> Vec<Result<(), VectorError>> {
    let strictly: Vec<_> = vectors.iter().map(|bytes| decode(bytes).check_subgroup()).collect();
    for effort in efforts() {
        for _ in 0..2 {
            let randomness = fresh();
            let at_once =
                UncheckedVector::check_all(vectors.iter().map(|bytes| decode(bytes)).collect(), &randomness, effort);
            assert!(at_once == strictly, "{effort:?}, randomness {}", hex::encode(&randomness));
        }
    }
    strictly.into_iter().map(|verdict| verdict.map(|_| ())).collect()
}

#[test]
fn a_point_outside_the_subgroup_is_found_among_many_and_its_dealer_named() {
    // Enough points for each way of checking: one by one, and in passes of one, two and three digits.
    for (vectors, degree) in [(3, 4), (9, 9), (12, 19), (40, 29)] {
        for (order, alone, within) in SMALL_ORDERS {
            for bad in [alone, within] {
                let mut dealt = honest(vectors, degree);
                put(&mut dealt, vectors / 2, degree - 1, &point(bad));
                let mut verdicts = check_at_once(&dealt);
                let verdict = verdicts.remove(vectors / 2).unwrap_err();
                assert!(
                    matches!(verdict, VectorError::Point { position, .. } if position == degree - 1),
                    "order {order}"
                );
                assert!(verdicts.iter().all(Result::is_ok));
            }
        }
    }
}

#[test]
fn points_outside_the_subgroup_that_cancel_are_found_and_both_dealers_named() {
    for (order, alone, _) in SMALL_ORDERS {
        let mut dealt = honest(40, 14);
        put(&mut dealt, 3, 7, &point(alone));
        put(&mut dealt, 30, 7, &opposite(&point(alone)));
        let verdicts = check_at_once(&dealt);
        let bad: Vec<usize> = (0..40).filter(|dealer| verdicts[*dealer].is_err()).collect();
        assert_eq!(bad, [3, 30], "order {order}");
        // Within one vector, and all over all of them.
        let mut dealt = honest(40, 14);
        put(&mut dealt, 5, 0, &point(alone));
        put(&mut dealt, 5, 14, &opposite(&point(alone)));
        assert_eq!(check_at_once(&dealt).iter().filter(|verdict| verdict.is_err()).count(), 1, "order {order}");
        let sign = |place: usize| if place.is_multiple_of(2) { point(alone) } else { opposite(&point(alone)) };
        (0..40).for_each(|dealer| {
            (0..15).for_each(|position| put(&mut dealt, dealer, position, &sign(dealer + position)))
        });
        assert!(check_at_once(&dealt).iter().all(Result::is_err), "order {order}");
    }
}

#[test]
fn identities_and_equal_and_opposite_points_are_in_the_subgroup_like_others() {
    let mut dealt = honest(30, 19);
    for (dealer, position) in [(0, 0), (3, 7), (3, 8), (29, 19)] {
        put(&mut dealt, dealer, position, &identity());
    }
    (0..20).for_each(|position| put(&mut dealt, 10, position, &identity()));
    dealt[11] = dealt[12].clone();
    let first = dealt[12][..POINT].to_vec();
    (0..20).for_each(|position| put(&mut dealt, 13, position, &first));
    dealt[14] = dealt[15].chunks(POINT).flat_map(opposite).collect();
    assert!(check_at_once(&dealt).iter().all(Result::is_ok));
}

/// A commitment of chance's making: honest, or full of what additions have to make exceptions for.
fn commitment(length: usize) -> impl Strategy<Value = CommitmentVector> {
    let kinds = (0_usize..40, prop::collection::vec(0_u8..6, length));
    kinds.prop_map(move |(seed, kinds)| {
        let mut bytes = dealing(seed, length - 1).commit().encode(VectorEncoding::Uncompressed);
        let generator = G2Point::generator();
        let unit = UncheckedVector::decode(&generator.to_flow_bytes(), 1).unwrap().check_subgroup().unwrap();
        let unit = unit.encode(VectorEncoding::Uncompressed);
        for (position, kind) in kinds.into_iter().enumerate() {
            let place = &mut bytes[position * POINT..][..POINT];
            match kind {
                0 => place.copy_from_slice(&identity()),
                1 => place.copy_from_slice(&unit),
                2 => place.copy_from_slice(&opposite(&unit)),
                _ => {}
            }
        }
        decode(&bytes).check_subgroup().unwrap()
    })
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn many_values_and_sums_at_once_are_those_of_one_by_one(
        vectors in (1_usize..12).prop_flat_map(|length| prop::collection::vec(commitment(length), 1..25)),
        place in 0_usize..254,
        n in 2_usize..40,
        threads in 1_usize..4,
    ) {
        let effort = effort(threads, Strength::Bits64);
        let all: Vec<&CommitmentVector> = vectors.iter().collect();
        let values: Vec<G2Point> = vectors.iter().map(|vector| vector.evaluate(at(place))).collect();
        prop_assert_eq!(CommitmentVector::evaluate_each(&all, at(place), effort), values.clone());
        let sum = CommitmentVector::sum_all(&all, effort).unwrap();
        let one_by_one = all[1..].iter().fold(all[0].clone(), |sum, vector| CommitmentVector::sum([&sum, *vector]).unwrap());
        prop_assert_eq!(&sum, &one_by_one);
        let key_shares: Vec<G2Point> = Index::all(n).map(|index| sum.evaluate(index)).collect();
        prop_assert_eq!(&sum.evaluate_all_with(n, effort), &key_shares);
        prop_assert_eq!(sum.evaluate_all(n), key_shares);
    }
}

#[test]
fn at_every_member_many_values_at_once_are_those_of_one_by_one() {
    let vectors: Vec<CommitmentVector> = (0..6).map(|seed| dealing(seed, 2).commit()).collect();
    let all: Vec<&CommitmentVector> = vectors.iter().collect();
    let long = dealing(9, 126).commit();
    let key_shares: Vec<G2Point> = Index::all(254).map(|index| long.evaluate(index)).collect();
    assert_eq!(long.evaluate_all(254), key_shares);
    let longer = dealing(10, 299).commit();
    let first: Vec<G2Point> = Index::all(3).map(|index| longer.evaluate(index)).collect();
    assert_eq!(longer.evaluate_all(3), first);
    for threads in [2, 3, 8] {
        assert_eq!(long.evaluate_all_with(254, effort(threads, Strength::Bits64)), key_shares, "{threads} threads");
    }
    for index in Index::all(254) {
        let values: Vec<G2Point> = vectors.iter().map(|vector| vector.evaluate(index)).collect();
        assert_eq!(CommitmentVector::evaluate_each(&all, index, Effort::ONE_THREAD), values, "member {index}");
    }
}

#[test]
fn shares_whose_errors_cancel_are_found() {
    let polynomials: Vec<Polynomial> = (0..30).map(|seed| dealing(seed, 3)).collect();
    let images: Vec<G2Point> = polynomials.iter().map(|polynomial| polynomial.commit().evaluate(at(4))).collect();
    let mut shares: Vec<Scalar> = polynomials.iter().map(|polynomial| polynomial.share(at(4))).collect();
    let holds = |shares: &[Scalar], effort| {
        let equations: Vec<(G2Point, &Scalar)> = images.iter().copied().zip(shares).collect();
        shares_match_all(&equations, &fresh(), effort)
    };
    assert!(efforts().all(|effort| holds(&shares, effort)));
    // A secret that moves from one share to another: their sum is right.
    let amount = dealing(200, 1).share(at(0));
    shares[3] += &amount;
    let mut less = shares[25].clone();
    let order_less_1 =
        Scalar::from_be_bytes(&point("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000000")).unwrap();
    // x - a = x + a·(r - 1), by doubling and adding.
    let mut power = amount;
    for bit in (0..256).map(|bit| order_less_1.to_be_bytes()[31 - bit / 8] >> (bit % 8) & 1) {
        if bit == 1 {
            less += &power;
        }
        let same = power.clone();
        power += &same;
    }
    shares[25] = less;
    for effort in efforts() {
        for _ in 0..20 {
            assert!(!holds(&shares, effort), "{effort:?}");
        }
    }
}

/// What one dealer of a hostile committee does.
#[derive(Clone, Copy, Debug)]
enum Dealing {
    Honest,
    SmallOrder(usize),
    Undecodable,
    Identity,
    WrongShare,
    NoShare,
}

/// When a member has its work done.
#[derive(Clone, Copy, Debug)]
enum Pace {
    AfterEachMessage,
    AtTheEnd,
    /// Handed out at one message and told at a later one, as by a thread that is slow.
    Late,
}

/// A run of which only phase 1 has messages. With `slips`, every third dealer posts something empty too.
fn take(
    member: &mut Participant,
    pace: Pace,
    slips: bool,
    messages: &[(usize, Option<SecretBytes>, Vec<u8>)],
) -> (Outcome, Vec<String>) {
    let mut posted = Vec::new();
    let mut note = |outputs: Vec<Output>| {
        posted.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Broadcast(data) => Some(hex::encode(&data)),
            _ => None,
        }));
    };
    let mut late = None;
    for (number, (from, share, vector)) in messages.iter().enumerate() {
        if let Some(share) = share {
            note(member.take_private(at(*from), share.expose()).unwrap());
        }
        note(member.take_broadcast(at(*from), vector).unwrap());
        if let (Pace::Late, 1) = (pace, number % 3) {
            late = member.work();
        }
        if slips && number % 3 == 1 {
            // The member judges what came before on the spot, and the work that is on finds it out once more.
            note(member.take_broadcast(at(*from), &[]).unwrap());
        }
        match pace {
            Pace::AfterEachMessage => note(member.settle(&fresh())),
            Pace::Late if number % 3 == 0 => {
                if let Some(work) = late.take() {
                    note(member.apply(work.run(&fresh())));
                }
            }
            Pace::AtTheEnd | Pace::Late => {}
        }
    }
    note(member.end_phase(&fresh()).unwrap());
    note(member.end_phase(&fresh()).unwrap());
    let (outcome, outputs) = member.finish(&fresh()).unwrap();
    note(outputs);
    posted.sort();
    (outcome, posted)
}

#[test]
fn when_and_with_what_effort_the_work_is_done_changes_no_verdict_and_no_key() {
    let seed = u64::from_le_bytes(fresh()[..8].try_into().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..25 {
        let size = random.random_range(4..24_usize);
        let parameters =
            |me| Parameters { size, threshold: 2.min(size / 2), me, encoding: VectorEncoding::Uncompressed };
        let me = random.random_range(0..size);
        let seed_of = |member: usize| SecretBytes::new(vec![member as u8 + 1; 48]);
        let kinds: Vec<Dealing> = (0..size)
            .map(|dealer| match random.random_range(0..9_u32) {
                kind if dealer == me || kind > 4 => Dealing::Honest,
                0 => Dealing::SmallOrder(random.random_range(0..3)),
                1 => Dealing::Undecodable,
                2 => Dealing::Identity,
                3 => Dealing::WrongShare,
                _ => Dealing::NoShare,
            })
            .collect();
        let mut messages: Vec<(usize, Option<SecretBytes>, Vec<u8>)> = Vec::new();
        for (dealer, kind) in kinds.iter().enumerate() {
            let (_, outputs) = Participant::start(parameters(at(dealer)), &seed_of(dealer)).unwrap();
            let (mut share, mut vector) = (None, Vec::new());
            for output in outputs {
                match output {
                    Output::SendShare { to, message } if to == at(me) => share = Some(message),
                    Output::Broadcast(data) => vector = data,
                    _ => {}
                }
            }
            let place = 1 + POINT * random.random_range(0..(vector.len() - 1) / POINT);
            match kind {
                Dealing::Honest => {}
                Dealing::SmallOrder(which) => {
                    vector[place..place + POINT].copy_from_slice(&point(SMALL_ORDERS[*which].2))
                }
                Dealing::Undecodable => vector[place + 5] ^= 1,
                Dealing::Identity => {
                    vector =
                        encode_vector(&(0..(vector.len() - 1) / POINT).flat_map(|_| identity()).collect::<Vec<_>>());
                }
                Dealing::WrongShare => {
                    share = Some(encode_share(&dealing(random.random_range(100..200), 1).share(at(0))))
                }
                Dealing::NoShare => share = None,
            }
            messages.push((dealer, share, vector));
        }
        let start = || Participant::start(parameters(at(me)), &seed_of(me)).unwrap().0;
        for slips in [false, true] {
            let mut told = Vec::new();
            for pace in [Pace::AfterEachMessage, Pace::AtTheEnd, Pace::Late] {
                for threads in [1, 3] {
                    let mut member = start().spending(effort(threads, Strength::Bits64));
                    let (outcome, posted) = take(&mut member, pace, slips, &messages);
                    let keys = outcome.result.map(|keys| (keys.group_key, keys.key_shares, keys.identity_shares));
                    // Who is out before his share has been looked at is not complained about.
                    let posted = if slips { Vec::new() } else { posted };
                    told.push(format!("{:?} {:?} {posted:?} {keys:?}", outcome.qualified, outcome.disqualified));
                }
            }
            assert!(told.iter().all(|other| *other == told[0]), "seed {seed}, slips {slips}, {kinds:?}: {told:#?}");
        }
    }
}

#[test]
fn findings_about_a_dealing_that_has_been_let_go_of_are_passed_over() {
    let parameters = |me| Parameters { size: 4, threshold: 1, me, encoding: VectorEncoding::Uncompressed };
    let seed = |member: u8| SecretBytes::new(vec![member + 1; 48]);
    let vector_of = |member: u8| {
        let (_, outputs) = Participant::start(parameters(at(usize::from(member))), &seed(member)).unwrap();
        outputs.into_iter().find_map(|output| match output {
            Output::Broadcast(data) => Some(data),
            _ => None,
        })
    };
    let (mut member, _) = Participant::start(parameters(at(0)), &seed(0)).unwrap();
    member.take_broadcast(at(0), &vector_of(0).unwrap()).unwrap();
    let work = member.work().expect("its own vector, and its own share");
    member.forget_dealing();
    let _ = member.apply(work.run(&fresh()));
    for other in 1..4 {
        member.take_broadcast(at(usize::from(other)), &vector_of(other).unwrap()).unwrap();
    }
    member.end_phase(&fresh()).unwrap();
    member.end_phase(&fresh()).unwrap();
    let (outcome, _) = member.finish(&fresh()).unwrap();
    let missing = match outcome.result.unwrap().share {
        dkg_engine::protocol::OurShare::Missing(dealers) => dealers,
        _ => panic!("a share of a dealing that was let go of has come back"),
    };
    assert!(missing.contains(&at(0)));
}
