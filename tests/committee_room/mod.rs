//! A room with a committee and a board, for tests of the protocol: everybody sees the same broadcasts in the same order, and
//! the test may alter or lose what is dishonest or unlucky.

#![allow(dead_code, missing_docs, unreachable_pub)] // Every test file uses its own part.

use std::collections::BTreeMap;

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, Polynomial, Scalar, VectorEncoding};
use dkg_engine::committee::threshold;
use dkg_engine::protocol::{Outcome, Output, Parameters, Participant, Remark, encode_share};

pub fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

/// A small scalar that nobody has dealt.
pub fn scalar(last: u8) -> Scalar {
    let mut bytes = [0; 32];
    bytes[31] = last;
    Scalar::from_be_bytes(&bytes).unwrap()
}

type Loses = Box<dyn Fn(usize, &[u8]) -> bool>;
type Alters<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;
type AltersShare<'a> = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + 'a>;

pub struct Room<'a> {
    pub members: Vec<Participant>,
    pub threshold: usize,
    /// What stands on the board, in order.
    pub board: Vec<(usize, Vec<u8>)>,
    /// What did not get there.
    pub lost: Vec<Vec<u8>>,
    dealt: Vec<(usize, Vec<Output>)>,
    loses: Loses,
    alters: BTreeMap<usize, Alters<'a>>,
    shares: BTreeMap<(usize, usize), AltersShare<'a>>,
    settled: u8,
}

fn seed(member: usize) -> SecretBytes {
    SecretBytes::new(vec![member as u8 + 1; 48])
}

impl<'a> Room<'a> {
    pub fn new(size: usize) -> Self {
        Self::with_encoding(size, VectorEncoding::Compressed)
    }

    pub fn with_encoding(size: usize, encoding: VectorEncoding) -> Self {
        let threshold = threshold(size);
        let start = |member| {
            let parameters = Parameters { size, threshold, me: at(member), encoding };
            Participant::start(parameters, &seed(member)).unwrap()
        };
        let (members, dealt): (Vec<_>, Vec<_>) = (0..size).map(start).unzip();
        Room {
            members,
            threshold,
            board: Vec::new(),
            lost: Vec::new(),
            dealt: dealt.into_iter().enumerate().collect(),
            loses: Box::new(|_, _| false),
            alters: BTreeMap::new(),
            shares: BTreeMap::new(),
            settled: 0,
        }
    }

    /// From now on, broadcasts for which this holds do not reach the board.
    pub fn lose(&mut self, loses: impl Fn(usize, &[u8]) -> bool + 'static) {
        self.loses = Box::new(loses);
    }

    pub fn lose_nothing(&mut self) {
        self.lose(|_, _| false);
    }

    pub fn alter_broadcast(&mut self, member: usize, alter: impl Fn(&[u8]) -> Vec<u8> + 'a) {
        self.alters.insert(member, Box::new(alter));
    }

    pub fn alter_share(&mut self, from: usize, to: usize, alter: impl Fn(&[u8]) -> Option<Vec<u8>> + 'a) {
        self.shares.insert((from, to), Box::new(alter));
    }

    /// What a dealer really drew for a member.
    pub fn polynomial_share(&self, dealer: usize, member: usize) -> Scalar {
        Polynomial::from_seed(seed(dealer).expose(), self.threshold).unwrap().share(at(member))
    }

    pub fn share(&self, dealer: usize, member: usize) -> SecretBytes {
        encode_share(&self.polynomial_share(dealer, member))
    }

    /// Everybody's shares and vectors are sent, and judged.
    pub fn deal(&mut self) {
        self.deal_shares();
        self.deal_vectors();
        self.settle();
    }

    pub fn deal_shares(&mut self) {
        let dealt = std::mem::take(&mut self.dealt);
        for (from, outputs) in dealt {
            let (shares, rest): (Vec<_>, Vec<_>) =
                outputs.into_iter().partition(|output| matches!(output, Output::SendShare { .. }));
            self.carry_out(from, shares);
            self.dealt.push((from, rest));
        }
    }

    pub fn deal_vectors(&mut self) {
        for (from, outputs) in std::mem::take(&mut self.dealt) {
            self.carry_out(from, outputs);
        }
    }

    /// A private message; what the receiver remarks about the sender.
    pub fn give(&mut self, from: usize, to: usize, message: &[u8]) -> Vec<Remark> {
        let outputs = self.members[to].take_private(at(from), message).unwrap();
        let remarks = remarks(&outputs).into_iter().map(|(_, remark)| remark).collect();
        self.carry_out(to, outputs);
        remarks
    }

    /// A broadcast, as everybody takes it; what they all remark about the sender.
    pub fn post(&mut self, from: usize, data: Vec<u8>) -> Vec<Remark> {
        if (self.loses)(from, &data) {
            self.lost.push(data);
            return Vec::new();
        }
        self.board.push((from, data.clone()));
        let mut all = Vec::new();
        for member in 0..self.members.len() {
            let outputs = self.members[member].take_broadcast(at(from), &data).unwrap();
            all.push(remarks(&outputs).into_iter().map(|(_, remark)| remark).collect::<Vec<_>>());
            self.carry_out(member, outputs);
        }
        assert!(all.iter().all(|remarks| *remarks == all[0]), "members see one broadcast differently");
        all.swap_remove(0)
    }

    fn carry_out(&mut self, from: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::SendShare { to, message } => {
                    let to = usize::from(to);
                    let altered = match self.shares.get(&(from, to)) {
                        Some(alter) => alter(message.expose()),
                        None => Some(message.expose().to_vec()),
                    };
                    if let Some(message) = altered {
                        self.give(from, to, &message);
                    }
                }
                Output::Broadcast(data) => {
                    let data = self.alters.get(&from).map_or_else(|| data.clone(), |alter| alter(&data));
                    self.post(from, data);
                }
                Output::Disqualified { .. } | Output::Flagged { .. } => {}
            }
        }
    }

    fn randomness(&mut self) -> [u8; 32] {
        self.settled += 1;
        [self.settled; 32]
    }

    pub fn settle(&mut self) {
        for member in 0..self.members.len() {
            let randomness = self.randomness();
            let outputs = self.members[member].settle(&randomness);
            self.carry_out(member, outputs);
        }
    }

    /// Ends phase 1 or 2 for everybody, and only then carries out what follows; what each remarks, about whom.
    pub fn end_phase(&mut self) -> Vec<Vec<(Index, Remark)>> {
        let mut follow = Vec::new();
        for member in 0..self.members.len() {
            let randomness = self.randomness();
            follow.push(self.members[member].end_phase(&randomness).unwrap());
        }
        let told = follow.iter().map(|outputs| remarks(outputs)).collect();
        for (member, outputs) in follow.into_iter().enumerate() {
            self.carry_out(member, outputs);
        }
        self.settle();
        told
    }

    /// Ends phase 3 for everybody: all agree on who is out and why, and on the group key.
    pub fn finish(&mut self) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for member in 0..self.members.len() {
            let randomness = self.randomness();
            outcomes.push(self.members[member].finish(&randomness).unwrap().0);
        }
        for outcome in &outcomes {
            assert_eq!(outcome.qualified, outcomes[0].qualified);
            match (&outcome.result, &outcomes[0].result) {
                (Ok(keys), Ok(first)) => assert_eq!(keys.group_key, first.group_key),
                (Err(failure), Err(first)) => assert_eq!(failure, first),
                _ => panic!("a run failed for some and not for others"),
            }
        }
        outcomes
    }

    /// The rest of the run.
    pub fn complete(&mut self) -> Vec<Outcome> {
        self.end_phase();
        self.end_phase();
        self.finish()
    }

    /// The rest of a run in which everybody stays qualified and everybody gets a share.
    pub fn complete_quietly(&mut self) {
        for outcome in self.complete() {
            assert_eq!(outcome.disqualified, []);
            assert!(matches!(outcome.result.unwrap().share, dkg_engine::protocol::OurShare::Held(_)));
        }
    }

    /// The broadcasts on the board with this tag.
    pub fn board_of(&self, tag: u8) -> Vec<Vec<u8>> {
        self.board.iter().filter(|(_, data)| data.first() == Some(&tag)).map(|(_, data)| data.clone()).collect()
    }
}

fn remarks(outputs: &[Output]) -> Vec<(Index, Remark)> {
    let remark = |output: &Output| match output {
        Output::Flagged { member, remark } => Some((*member, *remark)),
        _ => None,
    };
    outputs.iter().filter_map(remark).collect()
}

/// A vector message with one point replaced.
pub fn broken_vector(data: &[u8], position: usize, point: &[u8]) -> Vec<u8> {
    let start = 1 + 96 * position;
    [&data[..start], point, &data[start + 96..]].concat()
}

/// Encodings of 96 bytes that the reference refuses: not on the curve, outside the group, bad flags, …
pub fn bad_points() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/encodings.json");
    let encodings: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let refused = |case: &&serde_json::Value| case["accept"] == false;
    let bytes = |case: &serde_json::Value| dkg_engine::hex::decode(case["hex"].as_str().unwrap()).unwrap();
    let points: Vec<_> = encodings["g2"].as_array().unwrap().iter().filter(refused).map(bytes).collect();
    let points: Vec<_> = points.into_iter().filter(|bytes| bytes.len() == 96).collect();
    assert!(points.len() > 5);
    points
}
