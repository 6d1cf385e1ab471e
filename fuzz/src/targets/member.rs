//! Protocol messages, and a member of a run under arbitrary sequences of events.

use std::collections::{BTreeMap, BTreeSet};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{
    CommitmentVector, G2Point, Index, Polynomial, PublicKey, Scalar, SecretKey, UncheckedVector, VectorEncoding,
    share_matches,
};
use dkg_engine::protocol::{
    Disqualification, Error, Keys, OurShare, Outcome, Output, Parameters, Participant, Phase, Remark, encode_answer,
    encode_complaint, encode_share, encode_vector,
};

use super::bytes::{Choices, assert_silent};
use super::curve::scalar_fault;

fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

/// What a real dealer deals from.
pub fn polynomial(dealer: usize, threshold: usize) -> Polynomial {
    Polynomial::from_seed(&[u8::try_from(dealer).unwrap() + 1; 48], threshold).unwrap()
}

fn vector_of(polynomial: &Polynomial, encoding: VectorEncoding) -> Vec<u8> {
    encode_vector(&polynomial.commit().encode(encoding))
}

/// Outputs in a form that can be compared. Shares on their way are secret, but not from a test.
fn told(outputs: &[Output]) -> Vec<String> {
    let tell = |output: &Output| match output {
        Output::SendShare { to, message } => format!("to {to}: {:02x?}", message.expose()),
        Output::Broadcast(data) => format!("to all: {data:02x?}"),
        Output::Disqualified { dealer, reason } => format!("{dealer} is out: {reason}"),
        Output::Flagged { member, remark } => format!("about {member}: {remark}"),
    };
    outputs.iter().map(tell).collect()
}

/// One message of member 1 to member 0, of three, in phase 1: what is said about it is what the specification says. The
/// first byte tells a private message from a broadcast, and whether the dealer's vector is there already.
pub fn protocol_message(data: &[u8]) {
    const SIZE: usize = 3;
    const DEALER: usize = 1;
    let mut choices = Choices(data);
    let kind = choices.byte();
    let (private, dealt) = (kind & 1 == 1, kind & 2 == 2);
    let message = choices.0;
    let dealing = polynomial(DEALER, 1);
    let run = || {
        let parameters = Parameters { size: SIZE, threshold: 1, me: at(0), encoding: VectorEncoding::Uncompressed };
        let (mut member, _) = Participant::start(parameters, &SecretBytes::new(vec![9; 48])).unwrap();
        if dealt {
            let vector = vector_of(&dealing, VectorEncoding::Compressed);
            assert_eq!(told(&member.take_broadcast(at(DEALER), &vector).unwrap()), [""; 0]);
        }
        let taken = if private {
            member.take_private(at(DEALER), message).unwrap()
        } else {
            member.take_broadcast(at(DEALER), message).unwrap()
        };
        let settled = member.settle(&[1; 32]);
        let ended = [member.end_phase(&[1; 32]).unwrap(), member.end_phase(&[2; 32]).unwrap()].concat_told();
        let (outcome, _) = member.finish(&[3; 32]).unwrap();
        (told(&taken), told(&settled), ended, outcome.disqualified)
    };
    let (taken, settled, ended, disqualified) = run();
    assert_eq!(run(), (taken.clone(), settled.clone(), ended.clone(), disqualified.clone()), "not deterministic");
    let expected =
        if private { judge_private(message, dealt, &dealing) } else { judge_broadcast(message, dealt, SIZE) };
    assert_eq!((taken.clone(), settled.clone()), (told(&expected.0), told(&expected.1)));
    let out = |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::Disqualified { .. }));
    if out(&expected.0) || out(&expected.1) {
        assert!(disqualified.iter().any(|(dealer, _)| *dealer == at(DEALER)));
    }
    if private {
        // What was said of a share shows nothing of it.
        for text in taken.iter().chain(&settled).chain(&ended).filter(|text| !text.starts_with("to ")) {
            assert_silent(text, message);
        }
    }
}

/// Several steps' outputs told one after the other.
trait ConcatTold {
    fn concat_told(&self) -> Vec<String>;
}

impl ConcatTold for [Vec<Output>; 2] {
    fn concat_told(&self) -> Vec<String> {
        self.iter().flat_map(|outputs| told(outputs)).collect()
    }
}

/// What must be said of a private message when it comes, and when it is settled.
fn judge_private(message: &[u8], dealt: bool, dealing: &Polynomial) -> (Vec<Output>, Vec<Output>) {
    let flagged = |remark| Output::Flagged { member: at(1), remark };
    let complaint = || Output::Broadcast(vec![2, 1]);
    match message {
        [0, share @ ..] if scalar_fault(share).is_none() => {
            let right = dealing.share(at(0)).to_be_bytes()[..] == *share;
            match dealt && !right {
                true => (vec![], vec![flagged(Remark::WrongShare), complaint()]),
                false => (vec![], vec![]),
            }
        }
        _ => (vec![flagged(Remark::MalformedShare)], vec![complaint()]),
    }
}

/// The same of a broadcast.
fn judge_broadcast(message: &[u8], dealt: bool, size: usize) -> (Vec<Output>, Vec<Output>) {
    let out = |reason| vec![Output::Disqualified { dealer: at(1), reason }];
    let flagged = |remark| vec![Output::Flagged { member: at(1), remark }];
    let member = |byte: u8| Index::from_byte(byte).filter(|index| usize::from(*index) < size);
    let at_once = |outputs| (outputs, vec![]);
    match message {
        [] => at_once(out(Disqualification::EmptyBroadcast)),
        [1, ..] if dealt => at_once(flagged(Remark::DuplicateVector)),
        [1, body @ ..] if ![192, 384].contains(&body.len()) => {
            at_once(out(Disqualification::VectorLength { bytes: body.len(), expected: 2 }))
        }
        [1, body @ ..] => match UncheckedVector::decode(body, 2).and_then(UncheckedVector::check_subgroup) {
            Ok(_) => at_once(vec![]),
            Err(error) => (vec![], out(Disqualification::VectorInvalid(error))),
        },
        [2, accused] if member(*accused).is_some() => at_once(vec![]),
        [2, body @ ..] => at_once(out(Disqualification::ComplaintMalformed { bytes: body.len() })),
        [3, body @ ..] => match body.split_first().and_then(|(byte, share)| Some((member(*byte)?, share))) {
            Some((complainer, share)) if share.len() == 32 => match scalar_fault(share) {
                Some(_) => at_once(out(Disqualification::AnswerNotAScalar { complainer })),
                None => at_once(vec![]),
            },
            _ => at_once(out(Disqualification::AnswerMalformed { bytes: body.len() })),
        },
        [tag, ..] => at_once(out(Disqualification::UnknownTag(*tag))),
    }
}

/// Two members of one run, and a second instance of the first.
struct Room {
    parameters: Parameters,
    /// Settled whenever the input says so.
    eager: Participant,
    /// Fed alike, and settled by the ends of the phases alone.
    late: Participant,
    /// Another member: it hears the same broadcasts, and has got no private message.
    other: Participant,
    eager_said: BTreeSet<Vec<u8>>,
    late_said: BTreeSet<Vec<u8>>,
    /// What `eager` has said and the board does not have yet.
    due: Vec<Vec<u8>>,
    verdicts: Vec<(Index, Disqualification)>,
    /// Every broadcast that was taken, with the phase it came in.
    board: Vec<(Phase, Index, Vec<u8>)>,
}

impl Room {
    fn new(parameters: Parameters, seed: &[u8]) -> Room {
        let start = |me, seed: &[u8]| {
            Participant::start(Parameters { me, ..parameters }, &SecretBytes::new(seed.to_vec())).unwrap()
        };
        let (eager, outputs) = start(parameters.me, seed);
        let (late, again) = start(parameters.me, seed);
        assert_eq!(told(&outputs), told(&again), "one seed, one dealing");
        let beside = at((usize::from(parameters.me) + 1) % parameters.size);
        let (other, _) = start(beside, &[0xee; 48]);
        let (eager_said, late_said) = Default::default();
        let (due, verdicts, board) = Default::default();
        let mut room = Room { parameters, eager, late, other, eager_said, late_said, due, verdicts, board };
        room.heard(&outputs, &again);
        room
    }

    /// Notes what both instances say.
    fn heard(&mut self, eager: &[Output], late: &[Output]) {
        let broadcasts = |outputs: &[Output]| -> Vec<Vec<u8>> {
            let broadcast = |output: &Output| match output {
                Output::Broadcast(data) => Some(data.clone()),
                _ => None,
            };
            outputs.iter().filter_map(broadcast).collect()
        };
        for data in broadcasts(eager) {
            assert!(self.eager_said.insert(data.clone()), "said twice: {data:02x?}");
            self.due.push(data);
        }
        for data in broadcasts(late) {
            assert!(self.late_said.insert(data.clone()), "said twice: {data:02x?}");
        }
        let now = self.eager.disqualified();
        assert!(self.verdicts.iter().all(|verdict| now.contains(verdict)), "a verdict is final");
        self.verdicts = now;
    }

    fn private(&mut self, from: Index, message: &[u8]) {
        let taken = [&mut self.eager, &mut self.late].map(|member| member.take_private(from, message));
        let expected = self.expected_error(from, "taking a private message");
        assert_eq!(taken.each_ref().map(|taken| taken.as_ref().err()), [expected.as_ref(); 2]);
        if let [Ok(eager), Ok(late)] = taken {
            assert!(from != self.parameters.me || eager.is_empty());
            for text in told(&eager).iter().chain(&told(&late)) {
                assert_silent(text, message);
            }
            self.heard(&eager, &late);
        }
    }

    fn broadcast(&mut self, from: Index, data: &[u8]) {
        let taken = [&mut self.eager, &mut self.late, &mut self.other].map(|member| member.take_broadcast(from, data));
        let expected = self.expected_error(from, "taking a broadcast");
        assert_eq!(taken.each_ref().map(|taken| taken.as_ref().err()), [expected.as_ref(); 3]);
        if let [Ok(eager), Ok(late), Ok(_)] = taken {
            self.board.push((self.eager.phase(), from, data.to_vec()));
            self.heard(&eager, &late);
        }
    }

    fn expected_error(&self, from: Index, what: &'static str) -> Option<Error> {
        let size = self.parameters.size;
        match self.eager.phase() {
            Phase::Ended => Some(Error::WrongPhase { what, phase: Phase::Ended }),
            _ if usize::from(from) >= size => Some(Error::NotAMember { from, size }),
            _ => None,
        }
    }

    fn settle(&mut self) {
        let outputs = self.eager.settle(&[5; 32]);
        self.heard(&outputs, &[]);
        assert!(told(&self.eager.settle(&[6; 32])).is_empty(), "there is nothing left to settle");
    }

    /// Ends phase 1 or 2. Everybody has come to the same verdicts by then.
    fn end_phase(&mut self) {
        let phase = self.eager.phase();
        let ended = [&mut self.eager, &mut self.late, &mut self.other].map(|member| member.end_phase(&[7; 32]));
        if phase >= Phase::Answering {
            assert!(ended.iter().all(|ended| matches!(ended, Err(Error::WrongPhase { .. }))));
            return;
        }
        let [Ok(eager), Ok(late), Ok(_)] = ended else { panic!("phase {phase:?} does not end") };
        self.heard(&eager, &late);
        assert_eq!(self.eager.disqualified(), self.late.disqualified());
        assert_eq!(self.eager.disqualified(), self.other.disqualified());
        // About dealers that are out, complaints are noted only until the member knows that they are.
        let standing = |member: &Participant| {
            let out: Vec<Index> = member.disqualified().into_iter().map(|(dealer, _)| dealer).collect();
            let complaints = member.complaints().into_iter();
            complaints.filter(|(_, accused)| !out.contains(accused)).collect::<Vec<_>>()
        };
        assert_eq!(standing(&self.eager), standing(&self.other));
        assert_eq!(self.eager.dealt(), self.late.dealt());
        // Who settles late may spare itself a complaint about a dealer that is out meanwhile, and makes no other.
        assert!(self.late_said.is_subset(&self.eager_said));
    }

    fn exclude(&mut self, dealer: Index) {
        let excluded = [&mut self.eager, &mut self.late, &mut self.other].map(|member| member.force_disqualify(dealer));
        let expected = self.expected_error(dealer, "excluding a dealer");
        assert!(excluded.iter().all(|excluded| excluded.as_ref().err() == expected.as_ref()));
        self.heard(&[], &[]);
    }

    /// Ends the run, and compares what everybody has come to.
    fn finish(mut self) {
        while self.eager.phase() < Phase::Answering {
            self.end_phase();
        }
        let vectors = self.qualified_vectors();
        let finished = [self.eager, self.late, self.other].map(|mut member| {
            let (outcome, _) = member.finish(&[8; 32]).unwrap();
            assert!(matches!(member.finish(&[8; 32]), Err(Error::WrongPhase { .. })));
            assert!(member.settle(&[8; 32]).is_empty() && member.end_phase(&[8; 32]).is_err());
            outcome
        });
        let [eager, late, other] = &finished;
        let size = self.parameters.size;
        let everybody: BTreeSet<Index> =
            eager.qualified.iter().chain(eager.disqualified.iter().map(|(dealer, _)| dealer)).copied().collect();
        assert!(everybody.into_iter().eq(Index::all(size)) && eager.qualified.is_sorted());
        assert!(self.verdicts.iter().all(|verdict| eager.disqualified.contains(verdict)));
        // What is qualified is made of vectors without reproach, and the group key of nothing else.
        assert!(
            eager.qualified.iter().all(|dealer| vectors.contains_key(dealer)),
            "a dealer qualifies against the rules"
        );
        if let Ok(keys) = &eager.result {
            let sum = CommitmentVector::sum(eager.qualified.iter().map(|dealer| &vectors[dealer])).unwrap();
            assert_eq!(*keys.group_key.point(), sum.constant_term());
            assert!(sum.evaluate_all(size).iter().eq(keys.key_shares.iter().map(PublicKey::point)));
        }
        for same in [late, other] {
            assert_eq!(same.qualified, eager.qualified);
            assert_eq!(same.disqualified, eager.disqualified);
        }
        assert_eq!(share_of(eager, self.parameters), share_of(late, self.parameters));
        let _ = share_of(other, Parameters { me: at((usize::from(self.parameters.me) + 1) % size), ..self.parameters });
        let public = |outcome: &Outcome| match &outcome.result {
            Ok(Keys { group_key, key_shares, identity_shares, .. }) => {
                Ok((*group_key, key_shares.clone(), identity_shares.clone()))
            }
            Err(failure) => Err(*failure),
        };
        assert_eq!(public(eager), public(late));
        // A share of zero is one member's trouble, not everybody's.
        if let (Ok(eager), Ok(other)) = (public(eager), public(other)) {
            assert_eq!(eager, other);
        }
    }
}

impl Room {
    /// The vectors of the dealers that may qualify, from the board alone: the first that came in time, with at most `t`
    /// members complaining or answered by the end of phase 2, and every complaint answered first with the right share.
    fn qualified_vectors(&self) -> BTreeMap<Index, CommitmentVector> {
        let Parameters { size, threshold, .. } = self.parameters;
        let sayings = |dealer: Index| self.board.iter().filter(move |(_, from, _)| *from == dealer);
        let vector = |dealer: Index| {
            let (_, _, data) =
                sayings(dealer).find(|(phase, _, data)| *phase == Phase::Sharing && data.starts_with(&[1]))?;
            UncheckedVector::decode(&data[1..], threshold + 1).ok()?.check_subgroup().ok()
        };
        let without_reproach = |dealer: Index, vector: &CommitmentVector| {
            let first_answer = |to: Index| sayings(dealer).find(|(_, _, data)| data.starts_with(&[3, to.byte()]));
            let complaint = [2, dealer.byte()];
            let in_time = |phase: Phase| phase < Phase::Answering;
            let complainers: BTreeSet<Index> = self
                .board
                .iter()
                .filter(|(phase, from, data)| in_time(*phase) && *from != dealer && **data == complaint)
                .map(|(_, from, _)| *from)
                .collect();
            let answered = Index::all(size).filter(|to| first_answer(*to).is_some_and(|(phase, ..)| in_time(*phase)));
            let entries: BTreeSet<Index> = complainers.iter().copied().chain(answered).collect();
            entries.len() <= threshold
                && complainers.iter().all(|to| {
                    let share = first_answer(*to).and_then(|(_, _, data)| Scalar::from_be_bytes(&data[2..]).ok());
                    share.is_some_and(|share| share_matches(&vector.evaluate(*to), &share))
                })
        };
        Index::all(size)
            .filter_map(|dealer| Some((dealer, vector(dealer)?)))
            .filter(|(dealer, vector)| without_reproach(*dealer, vector))
            .collect()
    }
}

/// The private share, held against the public key share; in words, where there is none.
fn share_of(outcome: &Outcome, parameters: Parameters) -> Result<Vec<u8>, String> {
    let Parameters { size, threshold, me, .. } = parameters;
    let keys = outcome.result.as_ref().map_err(ToString::to_string)?;
    assert!(outcome.disqualified.len() <= threshold && outcome.qualified.len() > threshold);
    assert!(keys.key_shares.len() == size && !keys.group_key.is_identity());
    // It was handed all that the board holds.
    let share = match &keys.share {
        OurShare::Unheard { otherwise, .. } => otherwise,
        share => share,
    };
    match share {
        OurShare::Held(secret) => {
            assert_eq!(secret.public_key(), keys.key_shares[usize::from(me)]);
            Ok(secret.scalar().to_be_bytes().to_vec())
        }
        OurShare::Missing(dealers) => {
            assert!(!dealers.is_empty() && dealers.iter().all(|dealer| outcome.qualified.contains(dealer)));
            Err(format!("no share of {dealers:?}"))
        }
        OurShare::Inconsistent | OurShare::Unheard { .. } => panic!("valid shares do not add up"),
    }
}

/// A vector of points that are good, bad and odd.
fn odd_vector(choices: &mut Choices<'_>, threshold: usize) -> Vec<u8> {
    let mut bytes = vec![1];
    let count = match choices.below(8) {
        0 => threshold,
        1 => threshold + 2,
        _ => threshold + 1,
    };
    for _ in 0..count {
        let kind = choices.byte();
        let mut point = match kind % 4 {
            0 => G2Point::identity().to_flow_bytes(),
            1 => G2Point::generator().to_flow_bytes(),
            2 => scalar_of(kind).public_value().to_flow_bytes(),
            _ => choices.array(),
        };
        if kind >= 0xf0 {
            point[choices.below(96)] ^= choices.byte();
        }
        bytes.extend(point);
    }
    bytes
}

fn scalar_of(byte: u8) -> Scalar {
    SecretKey::from_seed(&[byte; 32]).unwrap().scalar().clone()
}

/// The most operations that are carried out of one input.
const OPERATIONS: usize = 96;

/// A member of a run of two to ten. The input is the run's shape and the member's seed, then operations: real messages of real
/// dealers, wrong ones, and any bytes, in any order. Two instances that are fed alike and settled at different moments, and
/// another member that hears the same broadcasts, come to the same verdicts and keys.
pub fn participant(data: &[u8]) {
    let mut choices = Choices(data);
    let size = 2 + choices.below(9);
    let threshold = 1 + choices.below(size - 1);
    let me = at(choices.below(size));
    let encoding = if choices.flag() { VectorEncoding::Uncompressed } else { VectorEncoding::Compressed };
    let seed: [u8; 48] = choices.array();
    let mut room = Room::new(Parameters { size, threshold, me, encoding }, &seed);
    for _ in 0..OPERATIONS {
        if choices.is_empty() {
            break;
        }
        let operation = choices.byte() % 16;
        let from = choices.below(size + 1);
        match operation {
            0 => room.private(at(from), choices.announced()),
            1 => room.broadcast(at(from), choices.announced()),
            2 | 3 => room.private(at(from), encode_share(&polynomial(from, threshold).share(me)).expose()),
            4 => room.broadcast(at(from), &vector_of(&polynomial(from, threshold), encoding)),
            5 => room.broadcast(at(from), &vector_of(&polynomial(from, threshold), VectorEncoding::Compressed)),
            6 => room.broadcast(at(from), &encode_complaint(at(choices.below(size + 1)))),
            7 => {
                let to = at(choices.below(size));
                room.broadcast(at(from), &encode_answer(to, &polynomial(from, threshold).share(to)));
            }
            8 => room.broadcast(at(from), &encode_answer(at(choices.below(size)), &scalar_of(choices.byte()))),
            9 => room.private(at(from), encode_share(&scalar_of(choices.byte())).expose()),
            10 => room.broadcast(at(from), &odd_vector(&mut choices, threshold)),
            11 | 12 => room.settle(),
            13 => {
                // The board hands a member its own broadcasts back, where it takes them.
                for data in std::mem::take(&mut room.due) {
                    room.broadcast(me, &data);
                }
            }
            14 if from % 4 == 0 => room.end_phase(),
            14 => {}
            _ if from == size => room.exclude(at(choices.below(size + 1))),
            _ => {}
        }
    }
    room.finish();
}
