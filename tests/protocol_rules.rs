//! The rules about dealing (spec section 3), one test each, through `Participant` alone: who may speak, shares, vectors.

mod committee_room;

use committee_room::{Room, at, bad_points, broken_vector, scalar};
use dkg_engine::SecretBytes;
use dkg_engine::bls::{RANDOM_BEACON_TAG, UncheckedVector, VectorEncoding, combine};
use dkg_engine::protocol::{
    Disqualification, Error, Keys, OurShare, Output, Parameters, Participant, Remark, encode_complaint, encode_share,
    encode_vector,
};

/// `r` itself, big endian: the least number that is no scalar.
const ORDER: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

#[test]
fn an_honest_run_gives_everybody_the_same_keys_and_any_t_plus_1_sign() {
    for size in (2..=10).chain([21]) {
        let mut room = Room::new(size);
        room.deal();
        room.end_phase();
        room.end_phase();
        assert_eq!(room.board_of(2), Vec::<Vec<u8>>::new(), "nobody has a reason to complain");
        let keys: Vec<_> = room.finish().into_iter().map(|outcome| outcome.result.unwrap()).collect();
        let t = room.threshold;
        let shares: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(member, keys)| {
                let OurShare::Held(secret) = &keys.share else { panic!("member {member} has no share") };
                assert_eq!(secret.public_key(), keys.key_shares[member]);
                (at(member), secret.sign(b"m", &RANDOM_BEACON_TAG))
            })
            .collect();
        for some in [&shares[..t + 1], &shares[size - t - 1..]] {
            let signature = combine(size, t, some).unwrap();
            for keys in &keys {
                assert!(keys.group_key.verify(b"m", &RANDOM_BEACON_TAG, &signature));
            }
        }
        assert!(combine(size, t, &shares[..t]).is_err());
    }
}

#[test]
fn a_member_ignores_private_messages_from_itself() {
    let mut room = Room::new(5);
    let outputs = room.members[0].take_private(at(0), b"nonsense").unwrap();
    assert!(outputs.is_empty());
    room.deal();
    room.complete();
}

#[test]
fn a_members_own_broadcasts_count_where_they_stand_on_the_board() {
    // Member 4's vector never reaches the board: it holds itself for disqualified, like everybody else does.
    let mut room = Room::new(5);
    room.lose(|from, data| from == 4 && data[0] == 1);
    room.deal();
    for outcome in room.complete() {
        assert_eq!(outcome.disqualified, [(at(4), Disqualification::VectorMissing)]);
    }
}

/// A run of five in which each is handed what `handed` says: (to, from, data); member 1 lacks the share of member 0 if
/// `complaint`.
fn run_handing(complaint: bool, handed: impl Fn(usize, usize, &[u8]) -> bool) -> Vec<Keys> {
    let dealt = (0..5).map(|me| {
        let parameters = Parameters { size: 5, threshold: 2, me: at(me), encoding: VectorEncoding::Compressed };
        Participant::start(parameters, &SecretBytes::new(vec![me as u8 + 1; 32])).unwrap()
    });
    let (mut members, said): (Vec<Participant>, Vec<Vec<Output>>) = dealt.unzip();
    let say = |members: &mut Vec<Participant>, said: Vec<Vec<Output>>| {
        for (from, output) in
            said.into_iter().enumerate().flat_map(|(from, said)| said.into_iter().map(move |o| (from, o)))
        {
            match output {
                Output::SendShare { to, .. } if complaint && (from, to) == (0, at(1)) => {}
                Output::SendShare { to, message } => {
                    let _ = members[usize::from(to)].take_private(at(from), message.expose()).unwrap();
                }
                Output::Broadcast(data) => {
                    for to in (0..5).filter(|to| handed(*to, from, &data)) {
                        let _ = members[to].take_broadcast(at(from), &data).unwrap();
                    }
                }
                Output::Disqualified { .. } | Output::Flagged { .. } => {}
            }
        }
    };
    say(&mut members, said);
    for _ in 0..2 {
        let said = members.iter_mut().map(|member| member.end_phase(&[7; 32]).unwrap()).collect();
        say(&mut members, said);
    }
    members.iter_mut().map(|member| member.finish(&[7; 32]).unwrap().0.result.unwrap()).collect()
}

#[test]
fn keys_made_without_ones_own_broadcasts_do_not_look_like_everybodys() {
    let all = run_handing(true, |_, _, _| true);
    assert!(all.iter().all(|keys| keys.group_key == all[0].group_key && matches!(keys.share, OurShare::Held(_))));
    // Nothing of its own comes back to member 0; or all but its answers.
    for (tag, complaint) in [(1..=3, false), (3..=3, true)] {
        let keys = run_handing(complaint, |to, from, data| (to, from) != (0, 0) || !tag.contains(&data[0]));
        assert!(keys[1..].iter().all(|keys| matches!(keys.share, OurShare::Held(_))));
        assert!(keys[0].group_key != keys[1].group_key, "{tag:?}");
        assert!(matches!(&keys[0].share, OurShare::Unheard { .. }), "and it can be seen");
    }
}

#[test]
fn a_message_from_outside_the_committee_is_an_input_error() {
    let mut room = Room::new(5);
    for from in [5, 100, 253] {
        let expected = Error::NotAMember { from: at(from), size: 5 };
        assert_eq!(room.members[0].take_private(at(from), b"").err(), Some(expected.clone()));
        assert_eq!(room.members[0].take_broadcast(at(from), b"").err(), Some(expected.clone()));
        assert_eq!(room.members[0].force_disqualify(at(from)).err(), Some(expected));
    }
    room.deal();
    room.complete();
}

#[test]
fn impossible_parameters_and_short_seeds_are_refused() {
    let start = |size, threshold, me, seed| {
        let parameters = Parameters { size, threshold, me: at(me), encoding: VectorEncoding::Compressed };
        Participant::start(parameters, &SecretBytes::new(vec![1; seed])).err()
    };
    for (size, threshold, me) in [(1, 1, 0), (255, 127, 0), (5, 0, 0), (5, 5, 0), (5, 2, 5)] {
        assert!(matches!(start(size, threshold, me, 32), Some(Error::Parameters(_))), "{size} {threshold} {me}");
    }
    assert!(matches!(start(5, 2, 0, 31), Some(Error::Seed(_))));
    assert_eq!(start(5, 2, 0, 32), None);
}

#[test]
fn what_is_not_a_share_or_does_not_match_the_vector_calls_for_a_complaint() {
    let zero = [0; 33].to_vec();
    let too_large = [&[0], &dkg_engine::hex::decode(ORDER).unwrap()[..]].concat();
    let good = |message: &[u8]| message.to_vec();
    let short = |message: &[u8]| message[..32].to_vec();
    let long = |message: &[u8]| [message, &[0]].concat();
    let other_tag = |message: &[u8]| [&[1], &message[1..]].concat();
    let wrong = |_: &[u8]| encode_share(&scalar(9)).expose().to_vec();
    type Change<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let cases: [(Change<'_>, bool); 8] = [
        (&good, false),
        (&|_| Vec::new(), true),
        (&short, true),
        (&long, true),
        (&other_tag, true),
        (&|_| zero.clone(), true),
        (&|_| too_large.clone(), true),
        (&wrong, true),
    ];
    for (number, (change, complains)) in cases.into_iter().enumerate() {
        let mut room = Room::new(5);
        room.alter_share(1, 3, |message| Some(change(message)));
        room.deal();
        let outcomes = room.complete();
        let complaints = room.board_of(2);
        let expected = if complains { vec![encode_complaint(at(1))] } else { Vec::new() };
        assert_eq!(complaints, expected, "case {number}");
        // The answer repairs it: the dealer stays, and the complainer has its share.
        for outcome in outcomes {
            assert_eq!(outcome.disqualified, []);
            assert!(matches!(outcome.result.unwrap().share, OurShare::Held(_)));
        }
    }
}

#[test]
fn a_share_that_is_missing_at_the_end_of_phase_1_calls_for_a_complaint() {
    let mut room = Room::new(5);
    room.alter_share(1, 3, |_| None);
    room.deal();
    assert_eq!(room.board_of(2), Vec::<Vec<u8>>::new());
    let told = room.end_phase();
    assert!(told[3].contains(&(at(1), Remark::MissingShare)));
    assert_eq!(room.board_of(2), [encode_complaint(at(1))]);
}

#[test]
fn only_the_first_share_counts_and_the_same_share_again_is_no_fault() {
    let mut room = Room::new(5);
    room.deal();
    let share = room.share(1, 3);
    assert_eq!(room.give(1, 3, share.expose()), []);
    assert_eq!(room.give(1, 3, encode_share(&scalar(9)).expose()), [Remark::DuplicateShare]);
    room.complete();
    assert_eq!(room.board_of(2), Vec::<Vec<u8>>::new());
}

#[test]
fn a_share_after_the_end_of_phase_1_is_flagged_and_does_not_count() {
    let mut room = Room::new(5);
    room.alter_share(1, 3, |_| None);
    room.deal();
    room.end_phase();
    let share = room.share(1, 3);
    assert_eq!(room.give(1, 3, share.expose()), [Remark::LateShare]);
    room.lose(|from, data| from == 1 && data[0] == 3);
    room.end_phase();
    for outcome in room.finish() {
        assert_eq!(outcome.disqualified, [(at(1), Disqualification::ComplaintUnanswered { complainer: at(3) })]);
    }
}

#[test]
fn only_the_first_vector_counts_and_a_late_one_is_flagged() {
    let mut room = Room::new(5);
    room.deal();
    let vector = room.board_of(1)[0].clone();
    assert_eq!(room.post(1, vector.clone()), [Remark::DuplicateVector]);
    assert_eq!(room.post(1, encode_vector(b"short")), [Remark::DuplicateVector]);
    room.end_phase();
    assert_eq!(room.post(1, vector), [Remark::LateVector]);
    room.end_phase();
    for outcome in room.finish() {
        assert_eq!(outcome.disqualified, []);
    }
}

#[test]
fn a_dealer_without_a_vector_at_the_end_of_phase_1_is_disqualified() {
    let mut room = Room::new(5);
    room.lose(|from, data| from == 1 && data[0] == 1);
    room.deal();
    let vector = room.lost[0].clone();
    room.end_phase();
    // A late one changes nothing: the verdict has been reached.
    room.lose_nothing();
    assert_eq!(room.post(1, vector), []);
    room.end_phase();
    for outcome in room.finish() {
        assert_eq!(outcome.disqualified, [(at(1), Disqualification::VectorMissing)]);
    }
}

#[test]
fn a_vector_of_the_wrong_length_disqualifies_so_nobody_can_raise_the_degree() {
    let cut = |data: &[u8]| data[..data.len() - 1].to_vec();
    let empty = |data: &[u8]| data[..1].to_vec();
    let lower = |data: &[u8]| data[..data.len() - 96].to_vec();
    let raised = |data: &[u8]| [data, &data[1..97]].concat();
    type Change<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let changes: [Change<'_>; 4] = [&cut, &empty, &lower, &raised];
    for change in changes {
        let mut room = Room::new(5);
        room.alter_broadcast(1, |data| if data[0] == 1 { change(data) } else { data.to_vec() });
        room.deal();
        for outcome in room.complete() {
            let [(dealer, Disqualification::VectorLength { expected: 3, .. })] = outcome.disqualified[..] else {
                panic!("{:?}", outcome.disqualified)
            };
            assert_eq!(dealer, at(1));
        }
    }
}

#[test]
fn a_vector_with_a_point_that_does_not_decode_or_is_outside_the_group_disqualifies() {
    for bad in bad_points() {
        for position in 0..3 {
            let mut room = Room::new(5);
            room.alter_broadcast(
                1,
                |data| if data[0] == 1 { broken_vector(data, position, &bad) } else { data.to_vec() },
            );
            room.deal();
            for outcome in room.complete() {
                assert!(
                    matches!(outcome.disqualified[..], [(dealer, Disqualification::VectorInvalid(_))] if dealer == at(1))
                );
            }
        }
    }
}

#[test]
fn uncompressed_vectors_count_only_where_the_run_says_so_and_compressed_ones_always() {
    for (run, dealer, out) in [
        (VectorEncoding::Compressed, VectorEncoding::Uncompressed, true),
        (VectorEncoding::Uncompressed, VectorEncoding::Compressed, false),
        (VectorEncoding::Uncompressed, VectorEncoding::Uncompressed, false),
    ] {
        let mut room = Room::with_encoding(5, run);
        room.alter_broadcast(1, |data| match data[0] {
            1 => {
                let vector = UncheckedVector::decode(&data[1..], 3).unwrap().check_subgroup().unwrap();
                encode_vector(&vector.encode(dealer))
            }
            _ => data.to_vec(),
        });
        room.deal();
        for outcome in room.complete() {
            let dealers: Vec<_> = outcome.disqualified.iter().map(|(dealer, _)| *dealer).collect();
            assert_eq!(dealers, if out { vec![at(1)] } else { vec![] });
        }
    }
}
