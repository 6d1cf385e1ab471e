//! The rules about complaints, answers and verdicts (spec section 3), one test each, through `Participant` alone.

mod committee_room;

use committee_room::{Room, at, bad_points, broken_vector, scalar};
use dkg_engine::bls::Index;
use dkg_engine::protocol::{
    Disqualification, Error, Failure, OurShare, Output, Phase, Remark, encode_answer, encode_complaint,
};

#[test]
fn a_complaint_about_a_good_share_is_answered_and_does_no_harm() {
    let mut room = Room::new(5);
    room.deal();
    assert_eq!(room.post(3, encode_complaint(at(1))), []);
    room.complete_quietly();
    assert_eq!(room.board_of(3), [encode_answer(at(3), &room.polynomial_share(1, 3))]);
}

#[test]
fn what_gets_out_of_a_secret_is_counted_and_who_is_silent_counts_too() {
    let mut room = Room::new(7);
    // Members 0, 1 and 2 take their shares, and say nothing at all; of these, t = 3 may be malicious.
    for silent in 0..3 {
        (0..7).for_each(|to| room.alter_share(silent, to, |_| None));
    }
    room.lose(|from, data| from < 3 && data[0] == 1);
    room.alter_share(4, 6, |_| None);
    room.deal();
    assert_eq!(room.members[3].exposures(), [], "in phase 1 nobody is silent yet");
    room.end_phase();
    let of = |room: &Room<'_>, dealer: usize| {
        let exposures = room.members[3].exposures();
        let found = exposures.iter().find(|exposure| exposure.dealer == at(dealer)).copied();
        found.map(|exposure| (exposure.public, exposure.silent, exposure.left, exposure.is_close()))
    };
    assert_eq!(of(&room, 5), Some((0, 3, 1, false)), "nobody complains about it");
    assert_eq!(of(&room, 4), Some((1, 3, 0, true)), "member 6 had to complain: with three silent ones, that is enough");
    // Who speaks, if only to complain, is not counted twice.
    room.post(0, encode_complaint(at(5)));
    assert_eq!(of(&room, 5), Some((1, 2, 1, true)));
    for complainer in [1, 2, 3] {
        room.post(complainer, encode_complaint(at(5)));
    }
    assert_eq!(of(&room, 5), None, "it will be out, and answer nobody");
}

#[test]
fn a_complaint_counts_once_for_each_complainer_and_again_is_flagged() {
    let mut room = Room::new(5);
    room.deal();
    room.post(3, encode_complaint(at(1)));
    for _ in 0..5 {
        assert_eq!(room.post(3, encode_complaint(at(1))), [Remark::DuplicateComplaint { accused: at(1) }]);
    }
    room.complete_quietly();
}

#[test]
fn a_dealers_complaint_about_itself_is_ignored() {
    let mut room = Room::new(5);
    room.deal();
    assert_eq!(room.post(1, encode_complaint(at(1))), []);
    room.complete_quietly();
    assert_eq!(room.board_of(3), Vec::<Vec<u8>>::new());
}

#[test]
fn a_malformed_complaint_disqualifies_its_sender_as_dealer() {
    for malformed in [vec![2], vec![2, 1, 1], vec![2, 5], vec![2, 255]] {
        let mut room = Room::new(5);
        room.deal();
        let bytes = malformed.len() - 1;
        room.post(3, malformed);
        for outcome in room.complete() {
            assert_eq!(outcome.disqualified, [(at(3), Disqualification::ComplaintMalformed { bytes })]);
        }
    }
}

#[test]
fn a_complaint_after_the_end_of_phase_2_is_flagged_whatever_it_says() {
    let mut room = Room::new(5);
    room.deal();
    room.end_phase();
    room.end_phase();
    assert_eq!(room.post(3, encode_complaint(at(1))), [Remark::LateComplaint]);
    assert_eq!(room.post(3, vec![2]), [Remark::LateComplaint]);
    for outcome in room.finish() {
        assert_eq!(outcome.disqualified, []);
    }
}

#[test]
fn a_complaint_may_come_before_the_vector_it_is_about() {
    let mut room = Room::new(5);
    room.post(3, encode_complaint(at(1)));
    room.deal();
    room.complete_quietly();
    assert_eq!(room.board_of(3).len(), 1);
}

#[test]
fn complaints_by_disqualified_members_count() {
    let mut room = Room::new(5);
    room.lose(|from, data| from == 3 && data[0] == 1 || from == 1 && data[0] == 3);
    room.deal();
    room.end_phase();
    room.post(3, encode_complaint(at(1)));
    room.end_phase();
    for outcome in room.finish() {
        let out: Vec<_> = outcome.disqualified.iter().map(|(dealer, _)| *dealer).collect();
        assert_eq!(out, [at(1), at(3)]);
    }
}

#[test]
fn an_answer_that_is_malformed_or_no_scalar_or_wrong_disqualifies() {
    let cases = [
        (vec![3], Disqualification::AnswerMalformed { bytes: 0 }),
        (vec![3, 4], Disqualification::AnswerMalformed { bytes: 1 }),
        ([&[3, 4][..], &[1; 31]].concat(), Disqualification::AnswerMalformed { bytes: 32 }),
        ([&[3, 4][..], &[1; 33]].concat(), Disqualification::AnswerMalformed { bytes: 34 }),
        ([&[3, 5][..], &[1; 32]].concat(), Disqualification::AnswerMalformed { bytes: 33 }),
        ([&[3, 4][..], &[0; 32]].concat(), Disqualification::AnswerNotAScalar { complainer: at(4) }),
        ([&[3, 4][..], &[255; 32]].concat(), Disqualification::AnswerNotAScalar { complainer: at(4) }),
        (encode_answer(at(3), &scalar(1)), Disqualification::AnswerWrong { complainer: at(3) }),
    ];
    for (answer, expected) in cases {
        let mut room = Room::new(5);
        room.lose(|from, data| from == 1 && data[0] == 3);
        room.deal();
        room.post(3, encode_complaint(at(1)));
        room.lose_nothing();
        room.post(1, answer);
        for outcome in room.complete() {
            assert_eq!(outcome.disqualified, [(at(1), expected.clone())]);
        }
    }
}

#[test]
fn an_answer_counts_only_from_the_dealer() {
    let mut room = Room::new(5);
    room.lose(|from, data| from == 1 && data[0] == 3);
    room.deal();
    room.post(3, encode_complaint(at(1)));
    let right = encode_answer(at(3), &room.polynomial_share(1, 3));
    room.lose_nothing();
    room.post(2, right); // Speaks of member 2's own dealing.
    room.lose(|from, data| from == 1 && data[0] == 3);
    room.end_phase();
    room.end_phase();
    for outcome in room.finish() {
        assert_eq!(outcome.disqualified, [(at(1), Disqualification::ComplaintUnanswered { complainer: at(3) })]);
    }
}

#[test]
fn an_answer_may_come_before_its_complaint_and_before_the_vector() {
    for before_vector in [true, false] {
        for right in [true, false] {
            let mut room = Room::new(5);
            room.lose(|from, data| from == 1 && data[0] == 3);
            let share = if right { room.polynomial_share(1, 3) } else { scalar(5) };
            if !before_vector {
                room.deal();
            }
            room.lose_nothing();
            room.post(1, encode_answer(at(3), &share));
            room.lose(|from, data| from == 1 && data[0] == 3);
            if before_vector {
                room.deal();
            }
            room.post(3, encode_complaint(at(1)));
            for outcome in room.complete() {
                let expected =
                    if right { vec![] } else { vec![(at(1), Disqualification::AnswerWrong { complainer: at(3) })] };
                assert_eq!(outcome.disqualified, expected);
            }
        }
    }
}

#[test]
fn a_wrong_answer_to_nobodys_complaint_is_never_judged() {
    let mut room = Room::new(5);
    room.deal();
    room.post(1, encode_answer(at(3), &scalar(5)));
    room.complete_quietly();
}

#[test]
fn a_second_answer_is_flagged_and_does_not_count() {
    let mut room = Room::new(5);
    room.deal();
    room.post(3, encode_complaint(at(1)));
    room.end_phase();
    room.end_phase();
    assert_eq!(room.post(1, encode_answer(at(3), &scalar(5))), [Remark::DuplicateAnswer { complainer: at(3) }]);
    for outcome in room.finish() {
        assert_eq!(outcome.disqualified, []);
    }
}

#[test]
fn an_answer_is_accepted_until_the_end_of_phase_3() {
    let mut room = Room::new(5);
    room.alter_share(1, 3, |_| None);
    room.lose(|from, data| from == 1 && data[0] == 3);
    room.deal();
    room.end_phase();
    room.end_phase();
    room.lose_nothing();
    room.post(1, encode_answer(at(3), &room.polynomial_share(1, 3)));
    for outcome in room.finish() {
        assert_eq!(outcome.disqualified, []);
        assert!(matches!(outcome.result.unwrap().share, OurShare::Held(_)));
    }
}

#[test]
fn an_empty_broadcast_or_an_unknown_tag_disqualifies_the_sender_as_dealer() {
    for (data, expected) in [
        (vec![], Disqualification::EmptyBroadcast),
        (vec![0; 33], Disqualification::UnknownTag(0)),
        (vec![4], Disqualification::UnknownTag(4)),
        (vec![255, 1, 2], Disqualification::UnknownTag(255)),
    ] {
        let mut room = Room::new(5);
        room.deal();
        room.end_phase();
        room.post(2, data);
        room.end_phase();
        for outcome in room.finish() {
            assert_eq!(outcome.disqualified, [(at(2), expected.clone())]);
        }
    }
}

#[test]
fn a_breach_of_the_rules_is_taken_in_without_arithmetic_and_what_stands_before_it_is_judged_first() {
    let verdicts = |outputs: Vec<Output>| -> Vec<(Index, Disqualification)> {
        let verdict = |output| match output {
            Output::Disqualified { dealer, reason } => Some((dealer, reason)),
            _ => None,
        };
        outputs.into_iter().filter_map(verdict).collect()
    };
    let point = &bad_points()[0];
    for bad_vector in [false, true] {
        let mut room = Room::new(5);
        if bad_vector {
            room.alter_broadcast(1, |data| broken_vector(data, 0, point));
        }
        room.deal_shares();
        room.deal_vectors();
        // Its vector has not been judged yet.
        let member = &mut room.members[0];
        assert_eq!(verdicts(member.take_broadcast(at(1), &[4]).unwrap()), []);
        assert_eq!(member.disqualified(), []);
        // Nothing after it counts any more, not even for a reason.
        assert_eq!(verdicts(member.take_broadcast(at(1), &[]).unwrap()), []);
        assert_eq!(verdicts(member.force_disqualify(at(1)).unwrap()), []);
        let judged = verdicts(member.settle(&[1; 32]));
        match (bad_vector, judged.as_slice()) {
            (false, [(dealer, Disqualification::UnknownTag(4))]) => assert_eq!(*dealer, at(1)),
            (true, [(dealer, Disqualification::VectorInvalid(_))]) => assert_eq!(*dealer, at(1)),
            _ => panic!("bad vector {bad_vector}: {judged:?}"),
        }
        assert!(member.work().is_none());
        // With nothing pending there is nothing to wait for.
        assert_eq!(verdicts(member.take_broadcast(at(2), &[]).unwrap()), [(at(2), Disqualification::EmptyBroadcast)]);
    }
}

#[test]
fn more_than_t_complaints_disqualify_and_t_do_not() {
    for complaints in 1..=4 {
        let mut room = Room::new(5);
        room.deal();
        let accusers = [0, 2, 3, 4];
        for accuser in &accusers[..complaints] {
            room.post(*accuser, encode_complaint(at(1)));
        }
        let outcomes = room.complete();
        // Answers are held back: with more than t complaints none is made, or the secret would be public.
        let answers = room.board_of(3).len();
        assert_eq!(answers, if complaints > 2 { 0 } else { complaints });
        for outcome in outcomes {
            let expected = match complaints {
                1 | 2 => vec![],
                _ => vec![(at(1), Disqualification::TooManyComplaints { complaints, threshold: 2 })],
            };
            assert_eq!(outcome.disqualified, expected);
        }
    }
}

#[test]
fn a_dealer_makes_no_answer_before_phase_2_has_ended() {
    let mut room = Room::new(5);
    room.deal();
    room.post(3, encode_complaint(at(1)));
    room.end_phase();
    assert_eq!(room.board_of(3), Vec::<Vec<u8>>::new());
    room.end_phase();
    assert_eq!(room.board_of(3).len(), 1);
}

#[test]
fn unsolicited_answers_count_as_entries_against_the_dealer() {
    let mut room = Room::new(5);
    room.deal();
    for member in [0, 2, 3] {
        room.post(1, encode_answer(at(member), &room.polynomial_share(1, member)));
    }
    for outcome in room.complete() {
        let expected = Disqualification::TooManyComplaints { complaints: 3, threshold: 2 };
        assert_eq!(outcome.disqualified, [(at(1), expected)]);
    }
}

#[test]
fn a_complaint_left_unanswered_at_the_end_of_phase_3_disqualifies() {
    let mut room = Room::new(5);
    room.lose(|from, data| from == 1 && data[0] == 3);
    room.deal();
    room.post(3, encode_complaint(at(1)));
    for outcome in room.complete() {
        assert_eq!(outcome.disqualified, [(at(1), Disqualification::ComplaintUnanswered { complainer: at(3) })]);
    }
}

#[test]
fn one_complaint_is_made_about_a_dealer_and_never_two() {
    let mut room = Room::new(5);
    // A malformed share before the vector, which the reference complains about twice.
    room.alter_share(1, 3, |_| Some(vec![0; 7]));
    room.deal_shares();
    room.settle();
    assert_eq!(room.board_of(2).len(), 1);
    room.deal_vectors();
    room.settle();
    room.complete_quietly();
    assert_eq!(room.board_of(2).len(), 1);
}

#[test]
fn a_run_fails_with_more_than_t_dealers_disqualified() {
    for out in 0..=4 {
        let mut room = Room::new(5);
        room.lose(move |from, data| from < out && data[0] == 1);
        room.deal();
        for outcome in room.complete() {
            match outcome.result {
                Ok(_) => assert!(out <= 2),
                Err(failure) => {
                    assert_eq!(failure, Failure::TooManyDisqualified { disqualified: out, threshold: 2, size: 5 });
                }
            }
        }
    }
}

#[test]
fn a_run_fails_when_fewer_than_t_plus_1_dealers_remain() {
    let mut room = Room::new(2);
    room.lose(|from, data| from == 1 && data[0] == 1);
    room.deal();
    for outcome in room.complete() {
        assert_eq!(outcome.result.err(), Some(Failure::TooFewQualified { qualified: 1, threshold: 1 }));
    }
}

#[test]
fn a_member_without_a_share_of_a_qualified_dealer_has_the_public_keys_and_no_private_one() {
    let mut room = Room::new(5);
    room.alter_share(1, 3, |_| None);
    room.lose(|from, data| from == 3 && data[0] == 2);
    room.deal();
    let outcomes = room.complete();
    let keys: Vec<_> = outcomes.into_iter().map(|outcome| outcome.result.unwrap()).collect();
    for (member, keys) in keys.iter().enumerate() {
        match &keys.share {
            OurShare::Missing(dealers) => assert_eq!((member, &dealers[..]), (3, &[at(1)][..])),
            OurShare::Held(_) => assert_ne!(member, 3),
            OurShare::Inconsistent | OurShare::Unheard { .. } => panic!("inconsistent"),
        }
    }
    assert_eq!(keys[3].group_key, keys[0].group_key);
    assert_eq!(keys[3].key_shares, keys[0].key_shares);
}

#[test]
fn phases_end_in_order_and_a_run_that_has_ended_takes_nothing_more() {
    let mut room = Room::new(3);
    room.deal();
    let member = &mut room.members[0];
    assert!(matches!(member.finish(&[1; 32]), Err(Error::WrongPhase { phase: Phase::Sharing, .. })));
    member.end_phase(&[1; 32]).unwrap();
    assert!(matches!(member.finish(&[1; 32]), Err(Error::WrongPhase { phase: Phase::Complaining, .. })));
    member.end_phase(&[1; 32]).unwrap();
    assert!(matches!(member.end_phase(&[1; 32]), Err(Error::WrongPhase { phase: Phase::Answering, .. })));
    member.finish(&[1; 32]).unwrap();
    let ended = |error: Option<Error>| matches!(error, Some(Error::WrongPhase { phase: Phase::Ended, .. }));
    assert!(ended(member.finish(&[1; 32]).err()));
    assert!(ended(member.end_phase(&[1; 32]).err()));
    assert!(ended(member.take_private(at(1), &[]).err()));
    assert!(ended(member.take_broadcast(at(1), &[]).err()));
    assert!(ended(member.force_disqualify(at(1)).err()));
    assert!(member.settle(&[1; 32]).is_empty());
}

#[test]
fn the_split_view_attack_leaves_everybody_with_the_same_keys() {
    // Dealer 1 keeps member 3's share back and answers before the complaint: right and nothing more, right and then
    // wrong, wrong and then right.
    for (first, second) in [(true, None), (true, Some(false)), (false, Some(true))] {
        let mut room = Room::new(5);
        room.alter_share(1, 3, |_| None);
        room.lose(|from, data| from == 1 && data[0] == 3);
        room.deal();
        let answer = |room: &Room, right: bool| {
            let share = if right { room.polynomial_share(1, 3) } else { scalar(5) };
            encode_answer(at(3), &share)
        };
        room.lose_nothing();
        room.post(1, answer(&room, first));
        room.lose(|from, data| from == 1 && data[0] == 3);
        room.end_phase();
        assert_eq!(room.board_of(2), [encode_complaint(at(1))]);
        if let Some(right) = second {
            room.lose_nothing();
            room.post(1, answer(&room, right));
            room.lose(|from, data| from == 1 && data[0] == 3);
        }
        room.end_phase();
        let keys: Vec<_> =
            room.finish().into_iter().map(|outcome| (outcome.qualified, outcome.result.unwrap())).collect();
        assert_eq!(keys[0].0.contains(&at(1)), first);
        for (qualified, key) in &keys {
            assert_eq!(qualified, &keys[0].0);
            assert_eq!(key.group_key, keys[0].1.group_key);
            assert!(matches!(key.share, OurShare::Held(_)));
        }
    }
}

#[test]
fn a_forced_disqualification_excludes_the_dealer_and_answers_nobody() {
    let mut room = Room::new(5);
    room.deal();
    room.post(3, encode_complaint(at(1)));
    for member in &mut room.members {
        member.force_disqualify(at(1)).unwrap();
    }
    for outcome in room.complete() {
        assert_eq!(outcome.disqualified, [(at(1), Disqualification::Forced)]);
    }
    assert_eq!(room.board_of(3), Vec::<Vec<u8>>::new());
}

#[test]
fn a_complaint_about_a_share_that_came_with_a_good_one_later_is_not_taken_back() {
    let mut room = Room::new(5);
    room.alter_share(1, 3, |_| Some(vec![0; 7]));
    room.deal();
    let share = room.share(1, 3);
    assert_eq!(room.give(1, 3, share.expose()), [Remark::DuplicateShare]);
    room.settle();
    assert_eq!(room.board_of(2), [encode_complaint(at(1))]);
    let is_share = |output: &Output| matches!(output, Output::SendShare { .. });
    assert!(!room.members[1].settle(&[0; 32]).iter().any(is_share));
    room.complete_quietly();
}
