//! The curve arithmetic of a run as plain data, so that it can be done wherever there is time for it.
//!
//! A [`Work`] holds copies of what it is about (large things are shared) and knows nothing of the member it came from. What
//! it finds out goes back as [`Findings`], by [`Participant::apply`](super::Participant::apply), which takes of them what still
//! stands: in the meantime messages may have come, and dealers may be out.
//!
//! Everything is checked at once first, with random combinations ([`UncheckedVector::check_all`], [`shares_match_all`]); what
//! does not pass is checked one by one, so that the verdicts are the strict ones and name the culprit.

use std::fmt;
use std::sync::Arc;

use super::fault::Disqualification;
use super::outcome::{Failure, Keys, OurShare};
use crate::bls::{
    CommitmentVector, Effort, G2Point, Index, PublicKey, Scalar, SecretKey, UncheckedVector, VectorError,
    share_matches, shares_match_all,
};

/// The most points in one work, a vector at least. A vector counts with its points, and so does everything that is held against
/// it. One by one and compressed, these take about half a second on one core: a node that is told to stop waits for no more.
pub const WORK_POINTS: usize = 8192;

/// What a member has to find out about the others' dealings.
pub struct Work {
    pub(super) me: Index,
    pub(super) points: usize,
    pub(super) effort: Effort,
    pub(super) cases: Vec<Case>,
}

/// What there is to find out about one dealer.
pub(super) struct Case {
    pub(super) dealer: Index,
    pub(super) vector: Claimed,
    pub(super) claims: Vec<Claim>,
}

/// A dealer's vector, as far as it has been judged.
#[derive(Clone)]
pub(super) enum Claimed {
    Bytes(Arc<[u8]>),
    Valid(Arc<CommitmentVector>),
}

/// An equation to check: `g2^share` must be the value of the vector at the member's abscissa.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) about: ClaimKind,
    pub(super) share: Scalar,
}

/// What a claim decides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimKind {
    OwnShare,
    Answer(Index),
}

/// What has been found out.
#[derive(Default)]
pub struct Findings(pub(super) Vec<Finding>);

/// What has been found out about one dealer.
pub(super) struct Finding {
    pub(super) dealer: Index,
    pub(super) vector: Result<Arc<CommitmentVector>, VectorError>,
    /// Each claim, and whether it holds.
    pub(super) claims: Vec<(Claim, bool)>,
}

impl Case {
    /// How many points its vector and its claims come to.
    pub(super) fn points(&self, in_a_vector: usize) -> usize {
        let vectors = usize::from(matches!(self.vector, Claimed::Bytes(_))) + self.claims.len();
        vectors.saturating_mul(in_a_vector)
    }
}

impl Work {
    /// Finds it out.
    ///
    /// `randomness` is fresh and was drawn after this work had been handed out: nobody whose messages it is about could know
    /// it.
    pub fn run(self, randomness: &[u8; 32]) -> Findings {
        let Work { me, points, effort, cases } = self;
        let effort = effort.for_points(cases.iter().map(|case| case.points(points)).sum());
        let vectors = judge_vectors(&cases, points, randomness, effort);
        let mut open = Vec::new();
        for (vector, case) in vectors.iter().zip(&cases) {
            if let Ok(vector) = vector {
                open.extend(case.claims.iter().map(|claim| (vector, claim)));
            }
        }
        let images = images(&open, me, effort);
        let equations: Vec<_> = images.iter().zip(&open).map(|(image, (_, claim))| (*image, &claim.share)).collect();
        let holds = if shares_match_all(&equations, randomness, effort) {
            vec![true; equations.len()]
        } else {
            effort.map(&equations, |(image, share)| share_matches(image, share))
        };
        let mut holds = holds.into_iter();
        let finding = |(vector, case): (Result<_, _>, Case)| {
            let claims = if vector.is_ok() { case.claims } else { Vec::new() };
            Finding { dealer: case.dealer, vector, claims: claims.into_iter().zip(&mut holds).collect() }
        };
        Findings(vectors.into_iter().zip(cases).map(finding).collect())
    }
}

/// Each dealer's vector, decoded and checked.
fn judge_vectors(
    cases: &[Case],
    points: usize,
    randomness: &[u8; 32],
    effort: Effort,
) -> Vec<Result<Arc<CommitmentVector>, VectorError>> {
    let decoded = effort.map(cases, |case| match &case.vector {
        Claimed::Bytes(bytes) => UncheckedVector::decode(bytes, points).map(Some),
        Claimed::Valid(_) => Ok(None),
    });
    let mut unchecked = Vec::new();
    let sifted = |decoded: Result<_, _>| decoded.map(|vector| unchecked.extend(vector));
    let sifted: Vec<Result<(), VectorError>> = decoded.into_iter().map(sifted).collect();
    let mut checked = UncheckedVector::check_all(unchecked, randomness, effort).into_iter();
    let judged = |(sifted, case): (Result<(), _>, &Case)| match (sifted, &case.vector) {
        (Err(error), _) => Some(Err(error)),
        (Ok(()), Claimed::Valid(vector)) => Some(Ok(Arc::clone(vector))),
        // There is one for each that was decoded.
        (Ok(()), Claimed::Bytes(_)) => checked.next().map(|result| result.map(Arc::new)),
    };
    sifted.into_iter().zip(cases).filter_map(judged).collect()
}

/// The value of each vector where its claim's member is, in their order.
fn images(claims: &[(&Arc<CommitmentVector>, &Claim)], me: Index, effort: Effort) -> Vec<G2Point> {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for (vector, claim) in claims {
        match claim.about {
            ClaimKind::OwnShare => own.push(&***vector),
            ClaimKind::Answer(complainer) => others.push((&***vector, complainer)),
        }
    }
    let mut own = CommitmentVector::evaluate_each(&own, me, effort).into_iter();
    let mut others = effort.map(&others, |(vector, complainer)| vector.evaluate(*complainer)).into_iter();
    let image = |(_, claim): &(_, &Claim)| match claim.about {
        ClaimKind::OwnShare => own.next(),
        ClaimKind::Answer(_) => others.next(),
    };
    claims.iter().filter_map(image).collect()
}

/// The end of a run before its keys have been computed.
pub struct Conclusion {
    /// The dealers whose secrets make up the key, ascending.
    pub qualified: Vec<Index>,
    /// The others, ascending, each with its reason.
    pub disqualified: Vec<(Index, Disqualification)>,
    /// What is left to do for the keys, or why there are none.
    pub keys: Result<KeyWork, Failure>,
}

/// The keys of a run that has come to its end, still to be computed.
pub struct KeyWork {
    pub(super) size: usize,
    pub(super) me: Index,
    pub(super) effort: Effort,
    /// The qualified dealers'.
    pub(super) vectors: Vec<Arc<CommitmentVector>>,
    /// The sum of their shares, or the dealers of whom we have none.
    pub(super) share: Result<Scalar, Vec<Index>>,
    /// Why there are no keys if the vectors do not add up to any.
    pub(super) without: Failure,
    /// Which broadcast of our own has not come back, if we are out for that.
    pub(super) unheard: Option<Disqualification>,
}

impl KeyWork {
    /// Sums the vectors, and computes every member's public key share from the sum.
    ///
    /// # Errors
    /// Our share is zero, or the group key is the identity.
    pub fn run(self) -> Result<Keys, Failure> {
        let KeyWork { size, me, effort, vectors, share, without, unheard } = self;
        let vectors: Vec<&CommitmentVector> = vectors.iter().map(|vector| &**vector).collect();
        let effort = effort.for_points(vectors.iter().map(|vector| vector.len()).sum());
        let sum = CommitmentVector::sum_all(&vectors, effort).ok_or(without)?;
        let group_key = PublicKey::from(sum.constant_term());
        let key_shares: Vec<PublicKey> = sum.evaluate_all_with(size, effort).into_iter().map(PublicKey::from).collect();
        let share = match share {
            Err(missing) => OurShare::Missing(missing),
            Ok(share) => match SecretKey::from_scalar(share) {
                None => return Err(Failure::ShareIsZero),
                Some(key) if Some(&key.public_key()) == key_shares.get(usize::from(me)) => OurShare::Held(key),
                Some(_) => OurShare::Inconsistent,
            },
        };
        let share = match unheard {
            Some(why) => OurShare::Unheard { why, otherwise: Box::new(share) },
            None => share,
        };
        if group_key.is_identity() {
            return Err(Failure::GroupKeyIsIdentity);
        }
        let identity_shares =
            Index::all(size).zip(&key_shares).filter(|(_, key)| key.is_identity()).map(|(index, _)| index).collect();
        Ok(Keys { group_key, key_shares, identity_shares, share })
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work(on {} dealers)", self.cases.len())
    }
}

impl fmt::Debug for KeyWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyWork(of {} dealers)", self.vectors.len())
    }
}
