//! From t+1 signature shares to the group's signature.

use super::g1::E1Point;
use super::hash::hash_to_point;
use super::{Index, PublicKey, Scalar, Signature, Tag};

/// The most participants: as many as there are indices.
const MAX_PARTICIPANTS: usize = 254;

/// Why shares do not combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The combination of verified shares is not a signature of the group: the public key shares and the group key do
    /// not belong together.
    #[error("the combined signature does not fit the group key: the key shares belong to another key")]
    WrongGroupKey,
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
    check_parameters(n, t)?;
    let Some(used) = shares.get(..=t) else {
        return Err(CombineError::NotEnoughShares { needed: t + 1, given: shares.len() });
    };
    let mut seen = [false; MAX_PARTICIPANTS];
    for (index, _) in shares {
        match seen.get_mut(..n).and_then(|seen| seen.get_mut(usize::from(*index))) {
            None => return Err(CombineError::UnknownSigner(*index)),
            Some(true) => return Err(CombineError::DuplicateSigner(*index)),
            Some(first) => *first = true,
        }
    }
    let coefficients = lagrange_at_zero(used.iter().map(|(index, _)| *index));
    let terms = used.iter().map(|(_, share)| share.point()).zip(&coefficients);
    Ok(Signature::from(E1Point::linear_combination(terms)))
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

/// What became of a share that was offered to a [`SignatureCollector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Whether the share is its signer's. A bad share leaves no trace: its signer may come again with a good one.
    pub valid: bool,
    /// Whether there are enough valid shares for the signature.
    pub enough: bool,
}

/// Gathers the signature shares of one message until they make the group's signature. Checks each share when it comes,
/// and the signature in the end.
pub struct SignatureCollector {
    group_key: PublicKey,
    key_shares: Vec<PublicKey>,
    t: usize,
    /// The message's point of G1.
    hash: E1Point,
    /// The first valid shares, at most t+1.
    shares: Vec<(Index, Signature)>,
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

    /// Takes the share of one participant, as the bytes that came, and keeps it if it is valid and still needed.
    ///
    /// # Errors
    ///
    /// [`CombineError::UnknownSigner`], or [`CombineError::DuplicateSigner`] if a share of this participant has been
    /// kept. A share that is malformed or wrong is no error, but not valid.
    pub fn verify_and_add(&mut self, signer: Index, share: &[u8]) -> Result<Added, CombineError> {
        let key = self.key_shares.get(usize::from(signer)).ok_or(CombineError::UnknownSigner(signer))?;
        if self.shares.iter().any(|(kept, _)| *kept == signer) {
            return Err(CombineError::DuplicateSigner(signer));
        }
        let share = Signature::from_bytes(share).ok().filter(|share| key.verify_hashed(&self.hash, share));
        if let Some(share) = share
            && !self.enough()
        {
            self.shares.push((signer, share));
        }
        Ok(Added { valid: share.is_some(), enough: self.enough() })
    }

    /// The group's signature, verified.
    ///
    /// # Errors
    ///
    /// [`CombineError::NotEnoughShares`] until t+1 valid shares have been added; [`CombineError::WrongGroupKey`] if they
    /// combine to something that the group key does not verify.
    pub fn signature(&self) -> Result<Signature, CombineError> {
        let signature = combine(self.key_shares.len(), self.t, &self.shares)?;
        if self.group_key.verify_hashed(&self.hash, &signature) {
            Ok(signature)
        } else {
            Err(CombineError::WrongGroupKey)
        }
    }

    fn enough(&self) -> bool {
        self.shares.len() > self.t
    }
}
