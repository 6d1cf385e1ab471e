//! Keys under dealers that choose their secrets badly on purpose (spec section 3), through `Participant` alone.
//!
//! The dishonest dealer knows everybody's secret here, which is more than an attacker can: it is the shortest way to a key
//! or a share of zero.

mod committee_room;

use committee_room::{Room, at};
use dkg_engine::bls::{
    CommitmentVector, Polynomial, PublicKey, RANDOM_BEACON_TAG, Scalar, SecretKey, UncheckedVector, VectorEncoding,
    combine,
};
use dkg_engine::protocol::{
    Disqualification, Failure, Keys, OurShare, Outcome, Remark, encode_answer, encode_complaint, encode_share,
    encode_vector,
};

const SIZE: usize = 5;
const CHEAT: usize = 4;

/// `r`, big endian.
const ORDER: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

/// `-x`, by the school's subtraction from `r`.
fn negated(x: &Scalar) -> Scalar {
    let order = dkg_engine::hex::decode(ORDER).unwrap();
    let mut difference = [0; 32];
    let mut borrow = 0;
    for (place, digit) in x.to_be_bytes().iter().enumerate().rev() {
        let value = i16::from(order[place]) - i16::from(*digit) - borrow;
        borrow = i16::from(value < 0);
        difference[place] = value.rem_euclid(256) as u8;
    }
    Scalar::from_be_bytes(&difference).unwrap()
}

fn sum(terms: impl IntoIterator<Item = Scalar>) -> Scalar {
    terms.into_iter().fold(Scalar::zero(), |mut sum, term| {
        sum += &term;
        sum
    })
}

/// A dealing moved by a constant: as a vector, and as the shares that belong to it.
fn moved_vector(data: &[u8], by: &Scalar) -> Vec<u8> {
    const IDENTITY: [u8; 96] = {
        let mut bytes = [0; 96];
        bytes[0] = 0xc0;
        bytes
    };
    let constant = SecretKey::from_scalar(by.clone()).unwrap().public_key().to_flow_bytes();
    let decode = |bytes: &[u8]| UncheckedVector::decode(bytes, 3).unwrap().check_subgroup().unwrap();
    let vectors = [decode(&data[1..]), decode(&[constant, IDENTITY, IDENTITY].concat())];
    encode_vector(&CommitmentVector::sum(&vectors).unwrap().encode(VectorEncoding::Compressed))
}

/// A room whose last member deals a polynomial that is off by a constant, to the letter: vector, shares and answers.
fn room_with_dealing_moved_by(by: &Scalar) -> Room<'static> {
    let mut room = Room::new(SIZE);
    for member in 0..CHEAT {
        let share = sum([room.polynomial_share(CHEAT, member), by.clone()]);
        room.alter_share(CHEAT, member, move |_| Some(encode_share(&share).expose().to_vec()));
    }
    let by = by.clone();
    room.alter_broadcast(CHEAT, move |data| match data[0] {
        1 => moved_vector(data, &by),
        3 => {
            let share = Scalar::from_be_bytes(&data[2..]).unwrap();
            encode_answer(at(usize::from(data[1])), &sum([share, by.clone()]))
        }
        _ => data.to_vec(),
    });
    room
}

/// The polynomials that [`Room`] draws.
fn polynomial(dealer: usize) -> Polynomial {
    Polynomial::from_seed(&[dealer as u8 + 1; 48], 2).unwrap()
}

fn finish_each(room: &mut Room<'_>) -> Vec<Outcome> {
    room.end_phase();
    room.end_phase();
    room.members.iter_mut().map(|member| member.finish(&[9; 32]).unwrap().0).collect()
}

#[test]
fn a_run_fails_for_everybody_when_the_group_key_is_the_identity() {
    let secrets = sum((0..SIZE).map(|dealer| polynomial(dealer).coefficients()[0].clone()));
    let mut room = room_with_dealing_moved_by(&negated(&secrets));
    room.deal();
    for outcome in room.complete() {
        assert_eq!(outcome.disqualified, []);
        assert_eq!(outcome.result.err(), Some(Failure::GroupKeyIsIdentity));
    }
}

#[test]
fn a_share_of_zero_fails_the_run_for_its_member_and_is_reported_by_the_others() {
    const VICTIM: usize = 2;
    let share = sum((0..SIZE).map(|dealer| polynomial(dealer).share(at(VICTIM))));
    let mut room = room_with_dealing_moved_by(&negated(&share));
    room.deal();
    let outcomes = finish_each(&mut room);
    for (member, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.disqualified, []);
        match outcome.result {
            Err(failure) => assert_eq!((member, failure), (VICTIM, Failure::ShareIsZero)),
            Ok(Keys { identity_shares, key_shares, share, .. }) => {
                assert_ne!(member, VICTIM);
                assert_eq!(identity_shares, [at(VICTIM)]);
                assert!(key_shares[VICTIM].is_identity());
                // The dealer itself runs the honest code, which has another share of its own dealing than it published.
                assert_eq!(matches!(share, OurShare::Held(_)), member != CHEAT);
            }
        }
    }
}

#[test]
fn an_honest_run_reports_no_identity_shares() {
    let mut room = Room::new(SIZE);
    room.deal();
    for outcome in room.complete() {
        let keys = outcome.result.unwrap();
        assert_eq!(keys.identity_shares, []);
        assert!(!keys.key_shares.iter().any(PublicKey::is_identity));
    }
}

#[test]
fn a_dealers_share_of_zero_is_never_accepted_and_no_answer_repairs_it() {
    const VICTIM: usize = 2;
    let mut room = room_with_dealing_moved_by(&negated(&polynomial(CHEAT).share(at(VICTIM))));
    room.deal();
    let outcomes = room.complete();
    assert_eq!(room.board_of(2), [encode_complaint(at(CHEAT))]);
    assert_eq!(room.board_of(3), [encode_answer(at(VICTIM), &Scalar::zero())]);
    for outcome in outcomes {
        let expected = Disqualification::AnswerNotAScalar { complainer: at(VICTIM) };
        assert_eq!(outcome.disqualified, [(at(CHEAT), expected)]);
    }
}

#[test]
fn the_keys_are_the_sums_of_what_the_qualified_dealers_dealt_and_of_nothing_else() {
    let mut room = Room::new(SIZE);
    room.lose(|from, data| from == 1 && data[0] == 1);
    room.deal();
    let qualified = [0, 2, 3, 4];
    let key = |terms: Vec<Scalar>| SecretKey::from_scalar(sum(terms)).unwrap().public_key();
    let group = key(qualified.iter().map(|dealer| polynomial(*dealer).coefficients()[0].clone()).collect());
    for (member, outcome) in room.complete().into_iter().enumerate() {
        assert_eq!(outcome.qualified, qualified.map(at));
        let keys = outcome.result.unwrap();
        assert_eq!(keys.group_key, group);
        for (other, share) in keys.key_shares.iter().enumerate() {
            assert_eq!(*share, key(qualified.iter().map(|dealer| polynomial(*dealer).share(at(other))).collect()));
        }
        let OurShare::Held(secret) = keys.share.handed_all() else { panic!("member {member} has no share") };
        assert_eq!(secret.public_key(), keys.key_shares[member]);
    }
}

#[test]
fn a_second_vector_however_valid_changes_no_key() {
    let key = |second: bool| {
        let mut room = Room::new(SIZE);
        room.deal();
        if second {
            let other = moved_vector(&room.board_of(1)[1], &polynomial(0).share(at(0)));
            assert_eq!(room.post(1, other), [Remark::DuplicateVector]);
        }
        room.complete()[0].result.as_ref().unwrap().group_key
    };
    assert_eq!(key(true), key(false));
}

#[test]
fn t_members_cannot_make_a_signature_however_they_combine_their_shares() {
    let mut room = Room::new(SIZE);
    room.deal();
    let keys: Vec<_> = room.complete().into_iter().map(|outcome| outcome.result.unwrap()).collect();
    let sign = |member: usize| match &keys[member].share {
        OurShare::Held(secret) => (at(member), secret.sign(b"m", &RANDOM_BEACON_TAG)),
        _ => panic!("member {member} has no share"),
    };
    let verifies = |signature| keys[0].group_key.verify(b"m", &RANDOM_BEACON_TAG, &signature);
    // As if the threshold were one lower than it is.
    assert!(!verifies(combine(SIZE, 1, &[sign(1), sign(3)]).unwrap()));
    assert!(verifies(combine(SIZE, 2, &[sign(1), sign(3), sign(4)]).unwrap()));
}
