//! The verdicts that follow from a finished run's board, worked out from the specification once more and independently of
//! the protocol's own code (spec section 3). What honest members concluded is held against this.

use std::collections::{BTreeMap, BTreeSet};

use crate::bls::{CommitmentVector, Index, Scalar, UncheckedVector, VectorEncoding, share_matches};
use crate::engine::Verify;
use crate::envelope::BroadcastMessage;
use crate::epoch::EpochSetup;

/// One post as it stands on the board.
pub(super) struct Posted {
    /// The poster's place in the committee.
    pub(super) member: usize,
    pub(super) content: String,
    /// How many calls came before it.
    pub(super) position: u64,
    /// It comes from an honest engine: what it has signed need not be verified again.
    pub(super) honest: bool,
}

/// What is on record about one dealer.
#[derive(Default)]
struct File {
    vector: Option<CommitmentVector>,
    complainers: BTreeSet<Index>,
    /// The first answer to each member, where it is a scalar.
    answers: BTreeMap<Index, Scalar>,
    out: bool,
}

/// What the board says of a run.
pub(super) struct Findings {
    /// The dealers that are out.
    pub(super) disqualified: BTreeSet<usize>,
    /// The members whose share of each dealer's secret is on the board.
    pub(super) published: Vec<BTreeSet<usize>>,
}

/// Judges a run. `cuts` are the heights of the blocks that ended its phases.
pub(super) fn audit(setup: &EpochSetup, board: &[Posted], cuts: &[u64; 3], verifier: &dyn Verify) -> Findings {
    let (n, t) = (setup.committee.size(), setup.committee.threshold());
    let mut files: Vec<File> = (0..n).map(|_| File::default()).collect();
    for (phase, cut) in (1..).zip(cuts) {
        let first = if phase == 1 { 0 } else { cuts[phase - 2] };
        for post in board.iter().filter(|post| (first..*cut).contains(&post.position)) {
            if let Some(data) = open(setup, post, verifier) {
                take(&mut files, setup, post.member, &data, phase);
            }
        }
        for file in &mut files {
            // A share is held against the vector when complaint, answer and vector are all there.
            file.out |= file.vector.as_ref().is_some_and(|vector| {
                let wrong = |(to, share): (&Index, &Scalar)| {
                    file.complainers.contains(to) && !share_matches(&vector.evaluate(*to), share)
                };
                file.answers.iter().any(wrong)
            });
            let entries = file.complainers.iter().chain(file.answers.keys()).collect::<BTreeSet<_>>().len();
            file.out |= match phase {
                1 => file.vector.is_none(),
                2 => entries > t,
                _ => file.complainers.iter().any(|complainer| !file.answers.contains_key(complainer)),
            };
        }
    }
    let disqualified = files.iter().enumerate().filter(|(_, file)| file.out).map(|(dealer, _)| dealer).collect();
    let members = |file: &File| file.answers.keys().map(|to| usize::from(*to)).collect();
    Findings { disqualified, published: files.iter().map(members).collect() }
}

/// The protocol message in a post, if it is one of this run's.
fn open(setup: &EpochSetup, post: &Posted, verifier: &dyn Verify) -> Option<Vec<u8>> {
    let message = BroadcastMessage::from_json(&post.content).ok()?;
    let member = setup.committee.members().get(post.member)?;
    let ours = message.dkg_instance_id == setup.instance.as_str();
    (ours && (post.honest || verifier.verify(&message, member.staking_key.key()))).then_some(message.data)
}

fn take(files: &mut [File], setup: &EpochSetup, sender: usize, data: &[u8], phase: usize) {
    let (n, points) = (files.len(), setup.committee.threshold() + 1);
    let member = |byte: u8| Index::from_byte(byte).filter(|index| usize::from(*index) < n);
    let Some(file) = files.get_mut(sender) else { return };
    match data {
        [1, body @ ..] if phase == 1 && file.vector.is_none() && !file.out => {
            let compressed = points * VectorEncoding::Compressed.point_bytes();
            let readable = body.len() == compressed || body.len() == points * setup.vector_encoding.point_bytes();
            let vector = UncheckedVector::decode(body, points).and_then(UncheckedVector::check_subgroup);
            match vector {
                Ok(vector) if readable => file.vector = Some(vector),
                _ => file.out = true,
            }
        }
        [1, ..] => {}
        [2, ..] if phase == 3 => {}
        [2, accused] if member(*accused).is_some() => {
            let complainer = Index::from_position(sender);
            if usize::from(*accused) != sender
                && let (Some(accused), Some(complainer)) = (files.get_mut(usize::from(*accused)), complainer)
            {
                accused.complainers.insert(complainer);
            }
        }
        [3, to, share @ ..] if share.len() == 32 && member(*to).is_some() => {
            if let Some(to) = member(*to)
                && !file.answers.contains_key(&to)
                && !file.out
            {
                match Scalar::from_be_bytes(share) {
                    Ok(share) => {
                        file.answers.insert(to, share);
                    }
                    Err(_) => file.out = true,
                }
            }
        }
        // Malformed complaints and answers, nothing at all, unknown tags.
        _ => file.out = true,
    }
}
