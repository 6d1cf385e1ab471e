//! Commitment vectors: how they travel, how they are checked, and what they say about shares.

use std::fmt;

use blst::blst_p2_affine;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;

use super::affine::Adder;
use super::draw::{Check, factors};
use super::g2::{COMPRESSED, E2Point, Projective, UNCOMPRESSED};
use super::subgroup::all_in_subgroup;
use super::{Effort, G2Point, Index, PointError, Scalar, Strength, evaluate};

/// How the points of a commitment vector travel, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorEncoding {
    /// 96 bytes a point, compressed, in the reference's order of halves: what Flow's nodes speak.
    Compressed,
    /// 192 bytes a point, the ZCash uncompressed form (c1 of x first). Twice the size and some fifty times faster to
    /// decode, because no square root has to be found.
    Uncompressed,
}

impl VectorEncoding {
    /// Bytes that one point takes.
    pub const fn point_bytes(self) -> usize {
        match self {
            VectorEncoding::Compressed => COMPRESSED,
            VectorEncoding::Uncompressed => UNCOMPRESSED,
        }
    }
}

/// Why bytes are not a commitment vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// Too many or too few bytes for that many points, in either encoding.
    #[error("{actual} bytes are not a vector of {points} points: those take 96 or 192 bytes each")]
    Length {
        /// How many points there should be.
        points: usize,
        /// How many bytes there were.
        actual: usize,
    },
    /// One of the points is bad.
    #[error("point {position} of the vector: {error}")]
    Point {
        /// Which point, counted from 0.
        position: usize,
        /// What is wrong with it.
        error: PointError,
    },
}

/// A commitment vector as it came: every point is on the curve, but may lie outside the subgroup. The only thing to do
/// with it is [`UncheckedVector::check_subgroup`], by far the dearest step of taking in a vector.
#[derive(Clone)]
pub struct UncheckedVector {
    points: Vec<E2Point>,
}

impl UncheckedVector {
    /// Decodes a vector of `points` points. The length tells the encoding.
    ///
    /// Takes about 0.5 µs a point uncompressed, and 27 µs compressed.
    ///
    /// # Errors
    ///
    /// [`VectorError`]: a length that fits neither encoding (or no points at all), or the first point that is not the
    /// encoding of a point on the curve. The identity is allowed anywhere.
    pub fn decode(bytes: &[u8], points: usize) -> Result<UncheckedVector, VectorError> {
        let bytes_a_point = match bytes.len().checked_rem(points) {
            Some(0) => bytes.len() / points,
            _ => 0,
        };
        let points = match bytes_a_point {
            COMPRESSED => decode_each(bytes, E2Point::decode_flow)?,
            UNCOMPRESSED => decode_each(bytes, E2Point::decode_uncompressed)?,
            _ => return Err(VectorError::Length { points, actual: bytes.len() }),
        };
        Ok(UncheckedVector { points })
    }

    #[cfg(test)]
    pub(super) fn points(&self) -> &[E2Point] {
        &self.points
    }

    /// The vector, if all of its points are in the subgroup of order r. Takes about 48 µs a point.
    ///
    /// # Errors
    ///
    /// [`VectorError::Point`] with the first point that is not.
    pub fn check_subgroup(self) -> Result<CommitmentVector, VectorError> {
        let points = in_order(self.points.into_iter().map(E2Point::check_subgroup))?;
        Ok(CommitmentVector { points })
    }

    /// What [`check_subgroup`](Self::check_subgroup) says of each of several vectors, about ten times faster: random sums of
    /// all points are checked first, and only if one of these fails is every point checked by itself.
    ///
    /// A good vector is never refused. A bad one is overlooked with the probability that `effort` allows, provided that
    /// `randomness` is fresh and was drawn after the vectors had been fixed.
    pub fn check_all(
        vectors: Vec<UncheckedVector>,
        randomness: &[u8; 32],
        effort: Effort,
    ) -> Vec<Result<CommitmentVector, VectorError>> {
        let points: Vec<&[E2Point]> = vectors.iter().map(|vector| vector.points.as_slice()).collect();
        if !all_in_subgroup(&points, &mut factors(Check::Subgroup, 0, randomness), effort) {
            return effort.map(&vectors, |vector| vector.clone().check_subgroup());
        }
        let checked = |vector: UncheckedVector| vector.points.into_iter().map(E2Point::in_subgroup).collect();
        vectors.into_iter().map(|vector| Ok(CommitmentVector { points: checked(vector) })).collect()
    }
}

fn decode_each<const N: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; N]) -> Result<E2Point, PointError>,
) -> Result<Vec<E2Point>, VectorError> {
    in_order(bytes.as_chunks().0.iter().map(decode))
}

/// All of the points, or the first error with its position.
fn in_order<T>(points: impl Iterator<Item = Result<T, PointError>>) -> Result<Vec<T>, VectorError> {
    points.enumerate().map(|(position, point)| point.map_err(|error| VectorError::Point { position, error })).collect()
}

/// A Feldman commitment to a polynomial of degree t: the points A_0 … A_t of G2, with A_k = g2^(a_k). There is at least
/// one.
///
/// Commitments add like the polynomials they commit to ([`CommitmentVector::sum`]).
#[derive(Clone, PartialEq, Eq)]
pub struct CommitmentVector {
    points: Vec<G2Point>,
}

#[expect(clippy::len_without_is_empty, reason = "a commitment is never empty")]
impl CommitmentVector {
    /// The commitment to these coefficients, at least one, in constant time.
    pub(super) fn of(coefficients: &[Scalar], effort: Effort) -> CommitmentVector {
        CommitmentVector { points: Scalar::public_values(coefficients, effort) }
    }

    /// How many points there are: t+1.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// A_0, the public value of the polynomial's secret.
    pub fn constant_term(&self) -> G2Point {
        self.points.first().copied().unwrap_or_else(G2Point::identity)
    }

    /// The public value of one participant's share: Σ A_k (index + 1)^k, by Horner's rule. Takes 1 to 15 µs
    /// a point, more for greater indices.
    pub fn evaluate(&self, at: Index) -> G2Point {
        let step =
            |higher: Projective, point: &G2Point| higher.times_small(at.abscissa()).plus_affine(point.as_affine());
        self.points.iter().rev().fold(Projective::identity(), step).to_affine()
    }

    /// The values of several vectors of one length at one participant: what [`evaluate`](Self::evaluate) gives for each.
    ///
    /// Takes 1 to 6 µs a point where there are many vectors.
    pub fn evaluate_each(vectors: &[&CommitmentVector], at: Index, effort: Effort) -> Vec<G2Point> {
        let values = effort.map(&effort.parts(vectors), |part| {
            let length = part.first().map_or(0, |vector| vector.len());
            if part.len() < evaluate::MIN_LANES || part.iter().any(|vector| vector.len() != length) {
                return part.iter().map(|vector| vector.evaluate(at)).collect();
            }
            let polynomials: Vec<&[G2Point]> = part.iter().map(|vector| vector.points.as_slice()).collect();
            evaluate::at_one_place(&polynomials, at.abscissa())
        });
        values.concat()
    }

    /// The public values of the shares of participants 0 to n-1.
    pub fn evaluate_all(&self, n: usize) -> Vec<G2Point> {
        self.evaluate_all_with(n, Effort::ONE_THREAD)
    }

    /// [`evaluate_all`](Self::evaluate_all), spread over threads.
    pub fn evaluate_all_with(&self, n: usize, effort: Effort) -> Vec<G2Point> {
        evaluate::at_first_places(&self.points, Index::all(n).count(), effort)
    }

    /// The commitment to the sum of the polynomials; `None` if there is none, or if they differ in length.
    pub fn sum<'a>(vectors: impl IntoIterator<Item = &'a CommitmentVector>) -> Option<CommitmentVector> {
        CommitmentVector::sum_all(&vectors.into_iter().collect::<Vec<_>>(), Effort::ONE_THREAD)
    }

    /// [`sum`](Self::sum), spread over threads.
    pub fn sum_all(vectors: &[&CommitmentVector], effort: Effort) -> Option<CommitmentVector> {
        let length = vectors.first()?.len();
        if vectors.iter().any(|vector| vector.len() != length) {
            return None;
        }
        let affine =
            |vector: &CommitmentVector| vector.points.iter().map(|point| *point.as_affine()).collect::<Vec<_>>();
        let sum = |vectors: Vec<Vec<blst_p2_affine>>| {
            let mut adder = Adder::default();
            let sum = |mut sum: Vec<_>, vector: Vec<_>| {
                adder.add(&mut sum, &vector);
                sum
            };
            vectors.into_iter().reduce(sum)
        };
        let parts = effort.map(&effort.parts(vectors), |part| sum(part.iter().map(|vector| affine(vector)).collect()));
        let points = sum(parts.into_iter().flatten().collect())?;
        Some(CommitmentVector { points: points.into_iter().map(G2Point::from_affine).collect() })
    }

    /// The points one after the other, as [`UncheckedVector::decode`] reads them.
    pub fn encode(&self, encoding: VectorEncoding) -> Vec<u8> {
        match encoding {
            VectorEncoding::Compressed => self.points.iter().flat_map(G2Point::to_flow_bytes).collect(),
            VectorEncoding::Uncompressed => {
                self.points.iter().copied().flat_map(G2Point::to_uncompressed_bytes).collect()
            }
        }
    }
}

impl fmt::Debug for CommitmentVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitmentVector({} points, constant term {:?})", self.len(), self.constant_term())
    }
}

/// Whether a share is the one that its image, the value of the dealer's commitment at the receiver, stands for:
/// g2^share = image.
pub fn share_matches(image: &G2Point, share: &Scalar) -> bool {
    share.public_value() == *image
}

/// Whether every share matches its image (see [`share_matches`]), several times faster than one by one.
///
/// The equations are added up, each times a random number of 64 or 128 bits drawn from ChaCha20 under `randomness`. If all of
/// them hold, the answer is always `true`; if one does not, it is `true` with the probability that `effort` allows, provided
/// that `randomness` is fresh and that nobody who made the shares or the images could know it. (All points are of order r, so
/// that the differences are.) After a `false`, check one by one to learn who is to blame.
pub fn shares_match_all(equations: &[(G2Point, &Scalar)], randomness: &[u8; 32], effort: Effort) -> bool {
    let parts: Vec<_> = (0..).zip(effort.parts(equations)).collect();
    let part_holds = |(part, equations): &(u32, &[(G2Point, &Scalar)])| {
        let mut stream = factors(Check::Shares, *part, randomness);
        match (equations, effort.strength) {
            ([(image, share)], _) => share_matches(image, share),
            (_, Strength::Bits64) => combination_holds::<8>(equations, &mut stream),
            (_, Strength::Bits128) => combination_holds::<16>(equations, &mut stream),
        }
    };
    effort.map(&parts, part_holds).into_iter().all(|holds| holds)
}

/// Whether the sum of the equations holds, each times a random number of `N` bytes.
fn combination_holds<const N: usize>(equations: &[(G2Point, &Scalar)], stream: &mut ChaCha20Rng) -> bool {
    let mut right = Scalar::zero();
    let mut left = Vec::with_capacity(equations.len());
    for (image, share) in equations {
        let mut factor = [0; N];
        stream.fill_bytes(&mut factor);
        left.push((*image, factor));
        factor.reverse();
        right += &Scalar::reduce(&factor).times(share);
    }
    G2Point::linear_combination(&left) == right.public_value()
}

#[cfg(test)]
mod tests {
    use chacha20::rand_core::SeedableRng;

    use super::*;
    use crate::bls::Polynomial;

    #[test]
    fn a_combination_with_short_factors_takes_errors_that_cancel_as_often_as_theory_says() {
        const TRIES: u32 = 4000;
        let polynomials: Vec<Polynomial> = (1..9).map(|seed| Polynomial::from_seed(&[seed; 32], 1).unwrap()).collect();
        let at = Index::from_position(3).unwrap();
        let images: Vec<G2Point> = polynomials.iter().map(|polynomial| polynomial.commit().evaluate(at)).collect();
        let mut shares: Vec<Scalar> = polynomials.iter().map(|polynomial| polynomial.share(at)).collect();
        // One share has too much of what another lacks.
        let error = shares[7].clone();
        shares[1] += &error;
        shares[5] = shares[5].minus(&error);
        let equations: Vec<(G2Point, &Scalar)> = images.iter().copied().zip(&shares).collect();
        let mut seed = [0; 32];
        rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed).unwrap();
        let mut stream = ChaCha20Rng::from_seed(seed);
        let accepted: u32 = (0..TRIES).map(|_| u32::from(combination_holds::<1>(&equations, &mut stream))).sum();
        // The two factors are equal in one of 256 tries: 16 of them, give or take 24.
        assert!((1..=40).contains(&accepted), "{accepted} of {TRIES}, seed {}", crate::hex::encode(&seed));
    }
}
