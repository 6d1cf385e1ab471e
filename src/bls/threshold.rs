//! From t+1 signature shares to the group's signature.

use chacha20::ChaCha20Rng;

use super::culprits::verify_each_hashed;
use super::draw::{Check, factors};
use super::g1::E1Point;
use super::hash::hash_to_point;
use super::{Index, PointError, PublicKey, Scalar, Signature, Tag};

/// The most participants: as many as there are indices.
const MAX_PARTICIPANTS: usize = 254;

/// Why shares do not combine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// The number of participants or the threshold is out of range.
    #[error("{n} participants with threshold {t}: there must be 2 to 254, and the threshold at least 1 and below that")]
    Parameters {
        /// How many participants there are.
        n: usize,
        /// The degree of the polynomial.
        t: usize,
    },
    /// Fewer than t+1 shares.
    #[error("{needed} signature shares are needed, and there are {given}")]
    NotEnoughShares {
        /// t+1.
        needed: usize,
        /// How many there are.
        given: usize,
    },
    /// A share of somebody who is not among the participants.
    #[error("there is no participant {0}")]
    UnknownSigner(Index),
    /// A second share of the same participant.
    #[error("there is already a share of participant {0}")]
    DuplicateSigner(Index),
    /// A share that is not the encoding of a point.
    #[error("the share of participant {signer} is malformed: {error}")]
    Malformed {
        /// Whose share it is.
        signer: Index,
        /// What is wrong with it.
        error: PointError,
    },
    /// There were enough shares, but not without the bad ones.
    #[error("{needed} signature shares are needed, and {good} are good; bad are those of the participants {}", listed(.refused))]
    BadShares {
        /// t+1.
        needed: usize,
        /// How many good ones are left.
        good: usize,
        /// Whose shares are bad.
        refused: Vec<Index>,
    },
    /// The combination of verified shares is not a signature of the group: the public key shares and the group key do
    /// not belong together.
    #[error("the combined signature does not fit the group key: the key shares belong to another key")]
    WrongGroupKey,
}

fn listed(indices: &[Index]) -> String {
    indices.iter().map(Index::to_string).collect::<Vec<_>>().join(", ")
}

/// Combines signature shares of participants among `n` into the group's signature, by Lagrange interpolation at 0. Uses
/// the first t+1 shares of the list, as the reference does; any t+1 good ones give the same signature.
///
/// The shares are taken as they are: with a bad one among the first t+1 the result is a signature that does not verify.
/// Use [`SignatureCollector`] where shares come from people who may be malicious.
///
/// # Errors
///
/// Parameters out of range, fewer than t+1 shares, or, anywhere in the list, a signer that is not a participant or comes
/// twice.
pub fn combine(n: usize, t: usize, shares: &[(Index, Signature)]) -> Result<Signature, CombineError> {
    let (signers, shares): (Vec<Index>, Vec<Signature>) = shares.iter().copied().unzip();
    Combiner::new(n, t, &signers)?.combine(&shares)
}

/// Combines what the same participants have signed, message after message: what depends on the signers alone is computed
/// once.
pub struct Combiner {
    /// The Lagrange coefficients of the first t+1 signers.
    weights: Vec<Scalar>,
}

impl Combiner {
    /// For these signers of a group of `n` with threshold `t`. The first t+1 of them are used.
    ///
    /// # Errors
    ///
    /// Parameters out of range, fewer than t+1 signers, or, anywhere among them, one that is not a participant or comes
    /// twice.
    pub fn new(n: usize, t: usize, signers: &[Index]) -> Result<Combiner, CombineError> {
        check_parameters(n, t)?;
        let Some(used) = signers.get(..=t) else {
            return Err(CombineError::NotEnoughShares { needed: t + 1, given: signers.len() });
        };
        let mut seen = [false; MAX_PARTICIPANTS];
        for index in signers {
            match seen.get_mut(..n).and_then(|seen| seen.get_mut(usize::from(*index))) {
                None => return Err(CombineError::UnknownSigner(*index)),
                Some(true) => return Err(CombineError::DuplicateSigner(*index)),
                Some(first) => *first = true,
            }
        }
        Ok(Combiner { weights: lagrange_at_zero(used.iter().copied()) })
    }

    /// The combination of shares in the order of the signers. Like [`combine`], this takes them as they are.
    ///
    /// # Errors
    ///
    /// [`CombineError::NotEnoughShares`]: fewer than t+1.
    pub fn combine(&self, shares: &[Signature]) -> Result<Signature, CombineError> {
        let needed = self.weights.len();
        let Some(used) = shares.get(..needed) else {
            return Err(CombineError::NotEnoughShares { needed, given: shares.len() });
        };
        let terms = used.iter().map(Signature::point).zip(&self.weights);
        Ok(Signature::from(E1Point::linear_combination(terms)))
    }

    /// The group's signatures of several messages, each given with its shares in the order of the signers. All are
    /// verified, together if they are right (see [`PublicKey::verify_all`], also for `randomness`). `None` stands for a
    /// message whose shares make no signature of the group: a [`SignatureCollector`] finds out which are bad.
    ///
    /// # Errors
    ///
    /// [`CombineError::NotEnoughShares`]: fewer than t+1 for one of the messages.
    pub fn combine_all(
        &self,
        group_key: &PublicKey,
        tag: &Tag,
        messages: &[(&[u8], &[Signature])],
        randomness: &[u8; 32],
    ) -> Result<Vec<Option<Signature>>, CombineError> {
        let combined: Vec<(E1Point, Signature)> = messages
            .iter()
            .map(|(message, shares)| Ok((hash_to_point(message, tag), self.combine(shares)?)))
            .collect::<Result<_, CombineError>>()?;
        let all_fit = group_key.verify_all_hashed(&combined, &mut factors(Check::Signatures, 0, randomness));
        let verified = |(hash, signature)| {
            let fits = all_fit || group_key.verify_hashed(&hash, &signature);
            fits.then_some(signature)
        };
        Ok(combined.into_iter().map(verified).collect())
    }
}

/// The weights λ_i with P(0) = Σ λ_i P(x_i) for every polynomial of lower degree than there are points: the product of
/// x_j / (x_j - x_i) over all j other than i. The indices must differ. Costs one inversion.
fn lagrange_at_zero(indices: impl Iterator<Item = Index>) -> Vec<Scalar> {
    let abscissas: Vec<Scalar> = indices.map(Scalar::abscissa).collect();
    // One numerator for all: the product of every x_j, with x_i itself, which the denominator takes back out.
    let numerator = abscissas.iter().fold(Scalar::one(), |product, x| product.times(x));
    let denominators: Vec<Scalar> = abscissas
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let others = abscissas.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
            others.fold(x.clone(), |product, other| product.times(&other.minus(x)))
        })
        .collect();
    invert_all(&denominators).iter().map(|inverse| inverse.times(&numerator)).collect()
}

/// The inverses of numbers, none of which is zero, by one inversion of their product.
fn invert_all(numbers: &[Scalar]) -> Vec<Scalar> {
    let mut product = Scalar::one();
    // For each number, the product of those before it.
    let before: Vec<Scalar> = numbers
        .iter()
        .map(|number| {
            let before = product.clone();
            product = product.times(number);
            before
        })
        .collect();
    // The inverse of the product of the numbers up to the one at hand, from the last to the first.
    let mut inverse = product.inverse();
    let mut inverses: Vec<Scalar> = numbers
        .iter()
        .zip(&before)
        .rev()
        .map(|(number, before)| {
            let own = inverse.times(before);
            inverse = inverse.times(number);
            own
        })
        .collect();
    inverses.reverse();
    inverses
}

fn check_parameters(n: usize, t: usize) -> Result<(), CombineError> {
    if (2..=MAX_PARTICIPANTS).contains(&n) && (1..n).contains(&t) {
        Ok(())
    } else {
        Err(CombineError::Parameters { n, t })
    }
}

/// What became of a share that was offered to [`SignatureCollector::verify_and_add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Whether the share is its signer's. A bad share leaves no trace: its signer may come again with a good one.
    pub valid: bool,
    /// Whether there are enough shares for the signature.
    pub enough: bool,
}

/// The group's signature, and what became of the shares on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combined {
    /// The signature. It verifies under the group key.
    pub signature: Signature,
    /// Whose shares it is made of, t+1 of them.
    pub signers: Vec<Index>,
    /// Whose shares were found to be bad. Empty if the first combination was right: then no share was checked.
    pub refused: Vec<Index>,
}

/// A share that a collector keeps.
#[derive(Clone, Copy)]
struct Kept {
    signer: Index,
    share: Signature,
    /// Whether it has been found good.
    verified: bool,
}

/// Gathers the signature shares of one message until they make the group's signature.
///
/// [`SignatureCollector::add`] keeps shares as they come, unverified. [`SignatureCollector::signature`] combines t+1 of
/// them and verifies the result: one verification, however many shares there are. Only if that fails are shares checked,
/// many at once, and the bad ones dropped. The hash of the message is computed once.
///
/// A share outside G1 is bad, and named like others when the combination fails. But if several make components of small
/// order (3 or 11, say) that cancel in the combination, the result is the group's signature and is taken.
pub struct SignatureCollector {
    group_key: PublicKey,
    key_shares: Vec<PublicKey>,
    t: usize,
    /// The message's point of G1.
    hash: E1Point,
    /// At most one of each participant, as they came.
    shares: Vec<Kept>,
}

impl SignatureCollector {
    /// A collector for the signature of `message` under `tag`, by the group with these keys and threshold `t`. The key
    /// shares are in order of index.
    ///
    /// # Errors
    ///
    /// [`CombineError::Parameters`]: not 2 to 254 key shares, or a threshold that is 0 or not below their number.
    pub fn new(
        group_key: PublicKey,
        key_shares: Vec<PublicKey>,
        t: usize,
        message: &[u8],
        tag: &Tag,
    ) -> Result<SignatureCollector, CombineError> {
        check_parameters(key_shares.len(), t)?;
        let shares = Vec::with_capacity(t + 1);
        Ok(SignatureCollector { group_key, key_shares, t, hash: hash_to_point(message, tag), shares })
    }

    /// Keeps the share of one participant, as the bytes that came, without verifying it. Says whether there are enough
    /// for a signature.
    ///
    /// # Errors
    ///
    /// [`CombineError::UnknownSigner`], [`CombineError::Malformed`], or [`CombineError::DuplicateSigner`] if a share of
    /// this participant is kept already. Whoever may send in somebody else's name can so keep that one's share out
    /// until the bad one is found: let only shares in whose senders are known.
    pub fn add(&mut self, signer: Index, share: &[u8]) -> Result<bool, CombineError> {
        self.key_of_newcomer(signer)?;
        let share = Signature::from_bytes(share).map_err(|error| CombineError::Malformed { signer, error })?;
        self.shares.push(Kept { signer, share, verified: false });
        Ok(self.enough())
    }

    /// Verifies the share of one participant, as the bytes that came, and keeps it if it is valid and still needed. For
    /// those who want a verdict on every share at once, at the price of a verification each.
    ///
    /// # Errors
    ///
    /// [`CombineError::UnknownSigner`], or [`CombineError::DuplicateSigner`] if a share of this participant has been
    /// kept. A share that is malformed or wrong is no error, but not valid.
    pub fn verify_and_add(&mut self, signer: Index, share: &[u8]) -> Result<Added, CombineError> {
        let key = self.key_of_newcomer(signer)?;
        let share = Signature::from_bytes(share).ok().filter(|share| key.verify_hashed(&self.hash, share));
        if let Some(share) = share
            && !self.enough()
        {
            self.shares.push(Kept { signer, share, verified: true });
        }
        Ok(Added { valid: share.is_some(), enough: self.enough() })
    }

    /// The group's signature, verified. If the first combination is wrong, the bad shares are found by
    /// [`verify_each`](super::verify_each) and dropped, so that their signers may come again, and the good ones are
    /// combined.
    ///
    /// `randomness` has to be fresh, and drawn after the shares have come. A signature that is returned is right in any
    /// case; who is named for it is bad up to the probabilities of [`verify_each`](super::verify_each).
    ///
    /// # Errors
    ///
    /// [`CombineError::NotEnoughShares`] if there are fewer than t+1 shares; [`CombineError::BadShares`] if so many of
    /// them are bad that fewer are left; [`CombineError::WrongGroupKey`] if they are all good and combine to something
    /// that the group key does not verify.
    pub fn signature(&mut self, randomness: &[u8; 32]) -> Result<Combined, CombineError> {
        let (needed, given) = (self.t + 1, self.shares.len());
        if given < needed {
            return Err(CombineError::NotEnoughShares { needed, given });
        }
        let mut stream = factors(Check::Combination, 0, randomness);
        let mut refused = Vec::new();
        while self.enough() {
            // The first that came. After a search they are good, and what comes later does not spoil a combination.
            let used: Vec<(Index, Signature)> =
                self.shares.iter().take(needed).map(|kept| (kept.signer, kept.share)).collect();
            let signature = combine(self.key_shares.len(), self.t, &used)?;
            if self.group_key.verify_hashed(&self.hash, &signature) {
                let signers = used.into_iter().map(|(signer, _)| signer).collect();
                return Ok(Combined { signature, signers, refused });
            }
            let bad = self.drop_bad(&mut stream);
            if bad.is_empty() {
                return Err(CombineError::WrongGroupKey);
            }
            refused.extend(bad);
        }
        Err(CombineError::BadShares { needed, good: self.shares.len(), refused })
    }

    /// Drops the bad shares, and says whose they were.
    fn drop_bad(&mut self, stream: &mut ChaCha20Rng) -> Vec<Index> {
        let unverified: Vec<_> =
            self.shares.iter().filter(|kept| !kept.verified).map(|kept| self.signed(kept)).collect();
        let mut verdicts = verify_each_hashed(&self.hash, &unverified, stream).into_iter();
        let mut verdicts: Vec<bool> =
            self.shares.iter().map(|kept| kept.verified || verdicts.next().unwrap_or(false)).collect();
        if verdicts.iter().all(|good| *good) {
            // Before the key is blamed, nothing is left to chance.
            let strictly = |(key, share): (PublicKey, Signature)| key.verify_hashed(&self.hash, &share);
            verdicts = self.shares.iter().map(|kept| strictly(self.signed(kept))).collect();
        }
        let judged = std::mem::take(&mut self.shares).into_iter().zip(verdicts);
        let (good, bad): (Vec<_>, Vec<_>) = judged.partition(|(_, good)| *good);
        self.shares = good.into_iter().map(|(kept, _)| Kept { verified: true, ..kept }).collect();
        bad.into_iter().map(|(kept, _)| kept.signer).collect()
    }

    /// A kept share with its key.
    fn signed(&self, kept: &Kept) -> (PublicKey, Signature) {
        (self.key_shares[usize::from(kept.signer)], kept.share)
    }

    /// The key share of a participant of whom nothing is kept yet.
    fn key_of_newcomer(&self, signer: Index) -> Result<&PublicKey, CombineError> {
        let key = self.key_shares.get(usize::from(signer)).ok_or(CombineError::UnknownSigner(signer))?;
        if self.shares.iter().any(|kept| kept.signer == signer) {
            return Err(CombineError::DuplicateSigner(signer));
        }
        Ok(key)
    }

    fn enough(&self) -> bool {
        self.shares.len() > self.t
    }
}
