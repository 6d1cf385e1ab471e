//! The protocol under arbitrary input, and under arbitrary hostile boards.

mod cases;
mod committee_room;

use cases::cases;
use committee_room::at;
use dkg_engine::SecretBytes;
use dkg_engine::bls::{Polynomial, VectorEncoding};
use dkg_engine::protocol::{
    OurShare, Outcome, Output, Parameters, Participant, encode_answer, encode_complaint, encode_share, encode_vector,
};
use proptest::prelude::*;

const SIZE: usize = 5;
const THRESHOLD: usize = 2;

fn seed(member: usize) -> SecretBytes {
    SecretBytes::new(vec![member as u8 + 1; 48])
}

fn start(member: usize) -> (Participant, Vec<Output>) {
    let parameters =
        Parameters { size: SIZE, threshold: THRESHOLD, me: at(member), encoding: VectorEncoding::Compressed };
    Participant::start(parameters, &seed(member)).unwrap()
}

/// One thing that a dishonest member may post.
fn hostile_post() -> impl Strategy<Value = Vec<u8>> {
    let polynomial = |dealer: usize| Polynomial::from_seed(seed(dealer).expose(), THRESHOLD).unwrap();
    prop_oneof![
        3 => (0usize..6).prop_map(|accused| encode_complaint(at(accused))),
        // Right and wrong answers, to whomever.
        3 => (3usize..5, 0usize..5).prop_map(move |(dealer, to)| encode_answer(at(to), &polynomial(dealer).share(at(to)))),
        1 => (3usize..5).prop_map(move |dealer| {
            encode_vector(&polynomial(dealer).commit().encode(VectorEncoding::Compressed))
        }),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// What happens next: a post of a dishonest member (3 or 4), or something that was due reaches the board or its receiver.
#[derive(Clone, Debug)]
enum Happening {
    Hostile(usize, Vec<u8>),
    Due,
    Settle(usize),
    PhaseEnds,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (3usize..5, hostile_post()).prop_map(|(from, data)| Happening::Hostile(from, data)),
        8 => Just(Happening::Due),
        2 => (0usize..SIZE).prop_map(Happening::Settle),
        1 => Just(Happening::PhaseEnds),
    ]
}

/// Three honest members and two dishonest ones, whose shares `kept_back` says are lost or wrong.
struct Hostile {
    members: Vec<Participant>,
    due: Vec<(usize, Vec<u8>)>,
    phases_ended: usize,
}

impl Hostile {
    fn new(kept_back: &[(usize, usize, bool)]) -> Hostile {
        let mut hostile = Hostile { members: Vec::new(), due: Vec::new(), phases_ended: 0 };
        let mut shares = Vec::new();
        for member in 0..SIZE {
            let (participant, outputs) = start(member);
            hostile.members.push(participant);
            for output in outputs {
                match output {
                    Output::SendShare { to, message } => shares.push((member, usize::from(to), message)),
                    Output::Broadcast(data) => hostile.due.push((member, data)),
                    _ => {}
                }
            }
        }
        for (from, to, message) in shares {
            let outputs = match kept_back.iter().find(|(dealer, victim, _)| (*dealer, *victim) == (from, to)) {
                None => hostile.members[to].take_private(at(from), message.expose()),
                Some((_, _, true)) => hostile.members[to].take_private(at(from), encode_share(&wrong()).expose()),
                Some((_, _, false)) => continue,
            };
            hostile.queue(to, outputs.unwrap());
        }
        hostile
    }

    fn queue(&mut self, from: usize, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Broadcast(data) = output {
                self.due.push((from, data));
            }
        }
    }

    fn post(&mut self, from: usize, data: &[u8]) {
        for member in 0..SIZE {
            let outputs = self.members[member].take_broadcast(at(from), data).unwrap();
            self.queue(member, outputs);
        }
    }

    fn flush(&mut self) {
        while !self.due.is_empty() {
            let (from, data) = self.due.remove(0);
            self.post(from, &data);
        }
    }

    fn happens(&mut self, happening: &Happening) {
        match happening {
            Happening::Hostile(from, data) => self.post(*from, data),
            Happening::Due if self.due.is_empty() => {}
            Happening::Due => {
                let (from, data) = self.due.remove(0);
                self.post(from, &data);
            }
            Happening::Settle(member) => {
                let outputs = self.members[*member].settle(&[3; 32]);
                self.queue(*member, outputs);
            }
            Happening::PhaseEnds if self.phases_ended < 2 => self.end_phase(),
            Happening::PhaseEnds => {}
        }
    }

    /// What is due in a phase reaches the board in that phase.
    fn end_phase(&mut self) {
        self.flush();
        for member in 0..SIZE {
            let outputs = self.members[member].end_phase(&[5; 32]).unwrap();
            self.queue(member, outputs);
        }
        self.phases_ended += 1;
    }

    fn finish(mut self) -> Vec<Outcome> {
        while self.phases_ended < 2 {
            self.end_phase();
        }
        self.flush();
        self.members.iter_mut().map(|member| member.finish(&[7; 32]).unwrap().0).collect()
    }
}

fn wrong() -> dkg_engine::bls::Scalar {
    dkg_engine::bls::Scalar::from_be_bytes(&[1; 32]).unwrap()
}

proptest! {
    #![proptest_config(cases(96))]

    /// Two of five members post whatever they like in whatever order, and keep back or forge shares; everybody settles at
    /// other moments. All honest members agree on who is out and on the keys, and no share is wrong.
    #[test]
    fn whatever_t_members_post_all_honest_members_agree_and_no_share_is_wrong(
        happenings in prop::collection::vec(happening(), 0..60),
        kept_back in prop::collection::vec((3usize..5, 0usize..3, any::<bool>()), 0..4),
    ) {
        let mut hostile = Hostile::new(&kept_back);
        for happening in &happenings {
            hostile.happens(happening);
        }
        let outcomes = hostile.finish();
        for outcome in &outcomes[..3] {
            prop_assert_eq!(&outcome.disqualified, &outcomes[0].disqualified);
            // No honest dealer is out: its vector was in time, and whoever complained was answered.
            prop_assert!((0..3).all(|honest| outcome.qualified.contains(&at(honest))));
        }
        let keys: Vec<_> = outcomes.into_iter().take(3).map(|outcome| outcome.result.unwrap()).collect();
        for (member, key) in keys.iter().enumerate() {
            prop_assert_eq!(key.group_key, keys[0].group_key);
            prop_assert_eq!(&key.key_shares, &keys[0].key_shares);
            let OurShare::Held(secret) = &key.share else { panic!("an honest member has no share") };
            prop_assert_eq!(secret.public_key(), key.key_shares[member]);
        }
    }

    /// Nothing that anybody sends in any order makes a member panic, or change its mind about who is out.
    #[test]
    fn arbitrary_calls_never_panic_and_a_verdict_is_final(
        calls in prop::collection::vec((0u8..8, 0usize..8, prop::collection::vec(any::<u8>(), 0..40)), 0..80)
    ) {
        let (mut member, _) = start(0);
        let mut out = Vec::new();
        for (call, from, data) in calls {
            let tagged = [&[call % 5][..], &data].concat();
            match call {
                0 | 1 => drop(member.take_private(at(from), &tagged)),
                2..=4 => drop(member.take_broadcast(at(from), &tagged)),
                5 => drop(member.settle(&[1; 32])),
                6 => drop(member.end_phase(&[1; 32])),
                _ if from == 0 => drop(member.finish(&[1; 32])),
                _ => drop(member.force_disqualify(at(from))),
            }
            let now = member.disqualified();
            prop_assert!(out.iter().all(|verdict| now.contains(verdict)));
            out = now;
        }
    }
}
