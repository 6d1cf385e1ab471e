//! One dealer as one member sees it: its vector, its share for us, and the complaints about it.
//!
//! Taking a message in is cheap and never touches the curve. What needs curve arithmetic waits until it has been worked out; see
//! [`Dealer::case`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Phase;
use super::fault::{Disqualification, Remark};
use super::message;
use super::work::{Case, Claim, ClaimKind, Claimed};
use crate::bls::{CommitmentVector, Index, Scalar, VectorEncoding, VectorError};

/// A dealer's commitment vector, on its way to being trusted.
#[cfg_attr(feature = "simulator", derive(Clone))]
enum Vector {
    Missing,
    /// The right number of bytes; nothing else is known.
    Unjudged(Arc<[u8]>),
    Valid(Arc<CommitmentVector>),
}

/// The dealer's share for us.
#[cfg_attr(feature = "simulator", derive(Clone))]
enum Share {
    Missing,
    /// Something came, but no share.
    Malformed,
    /// A scalar, not yet held against the vector.
    Unjudged(Scalar),
    Wrong(Scalar),
    Valid(Scalar),
}

/// What is known of one member's complaint about this dealer.
#[derive(Default)]
#[cfg_attr(feature = "simulator", derive(Clone))]
struct Complaint {
    /// The complaint stands on the board. (An answer may come first.)
    made: bool,
    answer: Answer,
}

#[derive(Default)]
#[cfg_attr(feature = "simulator", derive(Clone))]
enum Answer {
    #[default]
    None,
    /// Held against the vector once both vector and complaint are there.
    Unjudged(Scalar),
    Correct,
}

#[cfg_attr(feature = "simulator", derive(Clone))]
pub(super) struct Dealer {
    index: Index,
    me: Index,
    size: usize,
    threshold: usize,
    encoding: VectorEncoding,
    vector: Vector,
    share: Share,
    complaints: BTreeMap<Index, Complaint>,
    /// The complainers whose complaint and answer are both there, in the board's order of that: they are judged in this
    /// order, so that everybody names the same reason, whenever it is that he judges.
    answered: Vec<Index>,
    /// Our complaint has been made; it counts where it stands on the board, like everybody's.
    complained: bool,
    /// What disqualifies this dealer unless something pending does, which stands before it on the board.
    charge: Option<Disqualification>,
    verdict: Option<Disqualification>,
}

impl Dealer {
    pub(super) fn new(index: Index, parameters: &super::Parameters) -> Self {
        Dealer {
            index,
            me: parameters.me,
            size: parameters.size,
            threshold: parameters.threshold,
            encoding: parameters.encoding,
            vector: Vector::Missing,
            share: Share::Missing,
            complaints: BTreeMap::new(),
            answered: Vec::new(),
            complained: false,
            charge: None,
            verdict: None,
        }
    }

    pub(super) fn verdict(&self) -> Option<&Disqualification> {
        self.verdict.as_ref()
    }

    /// Whether this dealer is out, or will be when what is pending has been judged: nothing more is taken from it.
    pub(super) fn is_done_for(&self) -> bool {
        self.verdict.is_some() || self.charge.is_some()
    }

    pub(super) fn vector(&self) -> Option<&Arc<CommitmentVector>> {
        match &self.vector {
            Vector::Valid(vector) => Some(vector),
            _ => None,
        }
    }

    pub(super) fn has_vector(&self) -> bool {
        !matches!(self.vector, Vector::Missing)
    }

    pub(super) fn has_share(&self) -> bool {
        !matches!(self.share, Share::Missing)
    }

    /// Our valid share of this dealer's secret.
    pub(super) fn valid_share(&self) -> Option<&Scalar> {
        match &self.share {
            Share::Valid(share) => Some(share),
            _ => None,
        }
    }

    /// Reaches a verdict, once.
    pub(super) fn disqualify(&mut self, reason: Disqualification) -> Option<Disqualification> {
        if self.verdict.is_some() {
            return None;
        }
        self.verdict = Some(reason.clone());
        Some(reason)
    }

    /// Disqualifies this dealer as soon as all that came before has been judged, so that everybody gives the same reason.
    pub(super) fn charge(&mut self, reason: Disqualification) -> Option<Disqualification> {
        if !self.is_done_for() {
            self.charge = Some(reason);
        }
        self.close()
    }

    /// Reaches the verdict on a charge before which nothing is pending.
    pub(super) fn close(&mut self) -> Option<Disqualification> {
        let reason = self.charge.clone().filter(|_| self.case().is_none())?;
        self.disqualify(reason)
    }

    /// The share we dealt to ourselves.
    pub(super) fn take_own_share(&mut self, share: Scalar) {
        self.share = Share::Unjudged(share);
    }

    /// The share is of another dealing than the one on the board, and worth nothing.
    pub(super) fn forget_share(&mut self) {
        self.share = Share::Missing;
    }

    pub(super) fn take_share(&mut self, private: &[u8], phase: Phase) -> Option<Remark> {
        if self.is_done_for() {
            return None;
        }
        if phase != Phase::Sharing {
            return Some(Remark::LateShare);
        }
        let share = message::decode_share(private);
        match (&self.share, &share) {
            (Share::Missing, Some(_)) => {}
            (Share::Missing, None) => {
                self.share = Share::Malformed;
                return Some(Remark::MalformedShare);
            }
            // A transport that delivers twice is no fault of the dealer's.
            (Share::Unjudged(first) | Share::Valid(first) | Share::Wrong(first), Some(again)) if first.ct_eq(again) => {
                return None;
            }
            _ => return Some(Remark::DuplicateShare),
        }
        if let Some(share) = share {
            self.share = Share::Unjudged(share);
        }
        None
    }

    pub(super) fn take_vector(&mut self, body: &[u8], phase: Phase) -> Result<Option<Remark>, Disqualification> {
        if self.is_done_for() {
            return Ok(None);
        }
        if phase != Phase::Sharing {
            return Ok(Some(Remark::LateVector));
        }
        if self.has_vector() {
            return Ok(Some(Remark::DuplicateVector));
        }
        let points = self.threshold + 1;
        let readable = body.len() == points * VectorEncoding::Compressed.point_bytes()
            || body.len() == points * self.encoding.point_bytes();
        if !readable {
            return Err(Disqualification::VectorLength { bytes: body.len(), expected: points });
        }
        self.vector = Vector::Unjudged(body.into());
        Ok(None)
    }

    pub(super) fn take_complaint(&mut self, complainer: Index) -> Option<Remark> {
        if self.is_done_for() || complainer == self.index {
            return None;
        }
        let complaint = self.complaints.entry(complainer).or_default();
        if complaint.made {
            return Some(Remark::DuplicateComplaint { accused: self.index });
        }
        complaint.made = true;
        if matches!(complaint.answer, Answer::Unjudged(_)) {
            self.answered.push(complainer);
        }
        None
    }

    pub(super) fn take_answer(&mut self, body: &[u8]) -> Result<Option<Remark>, Disqualification> {
        if self.is_done_for() {
            return Ok(None);
        }
        let Some((complainer, scalar)) = message::split_answer(body, self.size) else {
            return Err(Disqualification::AnswerMalformed { bytes: body.len() });
        };
        let complaint = self.complaints.entry(complainer).or_default();
        if !matches!(complaint.answer, Answer::None) {
            return Ok(Some(Remark::DuplicateAnswer { complainer }));
        }
        let scalar = Scalar::from_be_bytes(scalar).map_err(|_| Disqualification::AnswerNotAScalar { complainer })?;
        complaint.answer = Answer::Unjudged(scalar);
        if complaint.made {
            self.answered.push(complainer);
        }
        Ok(None)
    }

    /// What there is to find out with curve arithmetic: a vector that has not been judged, and claims that are ready, for which
    /// vector, share and, for an answer, its complaint are all there.
    pub(super) fn case(&self) -> Option<Case> {
        let vector = match (&self.verdict, &self.vector) {
            (Some(_), _) | (None, Vector::Missing) => return None,
            (None, Vector::Unjudged(bytes)) => Claimed::Bytes(Arc::clone(bytes)),
            (None, Vector::Valid(vector)) => Claimed::Valid(Arc::clone(vector)),
        };
        let own = match &self.share {
            Share::Unjudged(share) => Some(Claim { about: ClaimKind::OwnShare, share: share.clone() }),
            _ => None,
        };
        let answers = self.answered.iter().filter_map(|complainer| match &self.complaints.get(complainer)?.answer {
            Answer::Unjudged(share) => Some(Claim { about: ClaimKind::Answer(*complainer), share: share.clone() }),
            _ => None,
        });
        let claims: Vec<Claim> = own.into_iter().chain(answers).collect();
        let nothing = matches!(vector, Claimed::Valid(_)) && claims.is_empty();
        (!nothing).then_some(Case { dealer: self.index, vector, claims })
    }

    /// What came of the vector, unless that has been found out before.
    pub(super) fn settle_vector(
        &mut self,
        found: Result<Arc<CommitmentVector>, VectorError>,
    ) -> Result<(), Disqualification> {
        if self.verdict.is_none() && matches!(self.vector, Vector::Unjudged(_)) {
            self.vector = Vector::Valid(found.map_err(Disqualification::VectorInvalid)?);
        }
        Ok(())
    }

    /// What came of a claim, unless it does not stand any more.
    pub(super) fn settle_claim(&mut self, claim: Claim, holds: bool) -> Result<Option<Remark>, Disqualification> {
        if self.verdict.is_some() || !self.stands(&claim) {
            return Ok(None);
        }
        match claim.about {
            ClaimKind::OwnShare if holds => self.share = Share::Valid(claim.share),
            ClaimKind::OwnShare => {
                self.share = Share::Wrong(claim.share);
                return Ok(Some(Remark::WrongShare));
            }
            ClaimKind::Answer(complainer) if holds => {
                if let Some(complaint) = self.complaints.get_mut(&complainer) {
                    complaint.answer = Answer::Correct;
                }
                if complainer == self.me {
                    self.share = Share::Valid(claim.share);
                }
            }
            ClaimKind::Answer(complainer) => return Err(Disqualification::AnswerWrong { complainer }),
        }
        Ok(None)
    }

    /// Whether what the claim is about is still waiting to be judged.
    fn stands(&self, claim: &Claim) -> bool {
        let waiting = match claim.about {
            ClaimKind::OwnShare => match &self.share {
                Share::Unjudged(share) => Some(share),
                _ => None,
            },
            ClaimKind::Answer(complainer) => {
                match self.complaints.get(&complainer).map(|complaint| &complaint.answer) {
                    Some(Answer::Unjudged(share)) => Some(share),
                    _ => None,
                }
            }
        };
        waiting.is_some_and(|share| share.ct_eq(&claim.share))
    }

    /// Whether a complaint is called for by what came from the dealer; the caller adds one for a share that is missing.
    pub(super) fn deserves_complaint(&self) -> bool {
        !self.is_done_for() && matches!(self.share, Share::Malformed | Share::Wrong(_))
    }

    /// Our complaint, the first time it is asked for.
    pub(super) fn complain(&mut self) -> Option<Vec<u8>> {
        if self.complained || self.is_done_for() || self.index == self.me {
            return None;
        }
        self.complained = true;
        Some(message::encode_complaint(self.index))
    }

    /// The members with a complaint or an answer; more than `t` of them disqualify, whatever the answers.
    pub(super) fn complaint_entries(&self) -> usize {
        self.complaints.len()
    }

    /// Whether this member has a complaint or an answer.
    pub(super) fn has_entry_of(&self, member: Index) -> bool {
        self.complaints.contains_key(&member)
    }

    /// The members whose complaint stands without an answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = Index> + '_ {
        self.complaints
            .iter()
            .filter(|(_, complaint)| complaint.made && matches!(complaint.answer, Answer::None))
            .map(|(complainer, _)| *complainer)
    }

    /// The members whose complaint stands on the board.
    pub(super) fn complainers(&self) -> impl Iterator<Item = Index> + '_ {
        self.complaints.iter().filter(|(_, complaint)| complaint.made).map(|(complainer, _)| *complainer)
    }

    /// Writes down what tells one state of a dealer from another.
    #[cfg(feature = "simulator")]
    pub(super) fn digest(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        // All of its fields, so that a new one cannot be forgotten.
        let Dealer {
            index,
            me,
            size,
            threshold,
            encoding,
            vector,
            share,
            complaints,
            answered,
            complained,
            charge,
            verdict,
        } = self;
        (index, me, size, threshold, encoding.point_bytes()).hash(to);
        match vector {
            Vector::Missing => 0u8.hash(to),
            Vector::Unjudged(bytes) => (1u8, bytes).hash(to),
            Vector::Valid(vector) => (2u8, vector.encode(VectorEncoding::Uncompressed)).hash(to),
        }
        match share {
            Share::Missing => 0u8.hash(to),
            Share::Malformed => 1u8.hash(to),
            Share::Unjudged(share) => (2u8, *share.to_be_bytes()).hash(to),
            Share::Wrong(share) => (3u8, *share.to_be_bytes()).hash(to),
            Share::Valid(share) => (4u8, *share.to_be_bytes()).hash(to),
        }
        complaints.len().hash(to);
        for (complainer, Complaint { made, answer }) in complaints {
            (complainer, made).hash(to);
            match answer {
                Answer::None => 0u8.hash(to),
                Answer::Unjudged(share) => (1u8, *share.to_be_bytes()).hash(to),
                Answer::Correct => 2u8.hash(to),
            }
        }
        (answered, complained, format!("{charge:?} {verdict:?}")).hash(to);
    }
}
