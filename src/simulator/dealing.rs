//! What malicious dealers deal, and how they spoil it.

use chacha20::ChaCha20Rng;
use rand::RngExt;
use rand::rand_core::Rng;

use super::fault::Fault;
use crate::SecretBytes;
use crate::bls::{G2Point, Index, Polynomial, Scalar, UncheckedVector, VectorEncoding};
use crate::committee::threshold;
use crate::protocol::{encode_answer, encode_share};

const POINT: usize = VectorEncoding::Compressed.point_bytes();

/// How a dealing is made, where not at random.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    LowDegree,
    ZeroSecret,
    Opposite,
}

/// The pattern of a fault, if it has one.
pub(super) fn pattern(fault: Fault) -> Option<Pattern> {
    match fault {
        Fault::LowDegree => Some(Pattern::LowDegree),
        Fault::ZeroSecret => Some(Pattern::ZeroSecret),
        Fault::CancellingPair => Some(Pattern::Opposite),
        _ => None,
    }
}

/// Shares of all members, and the vector's points in compressed form.
pub(super) struct Dealing {
    pub(super) shares: Vec<Scalar>,
    pub(super) points: Vec<u8>,
}

impl Dealing {
    pub(super) fn new(pattern: Option<Pattern>, size: usize, dice: &mut ChaCha20Rng, first: Option<&Dealing>) -> Self {
        let t = threshold(size);
        let mut seed = [0; 48];
        dice.fill_bytes(&mut seed);
        match (pattern, first) {
            (Some(Pattern::Opposite), Some(first)) => {
                let shares = first.shares.iter().map(|share| Scalar::zero().minus(share)).collect();
                return Dealing { shares, points: negated(&first.points) };
            }
            (Some(Pattern::LowDegree), _) => {
                if let Some(mut lower) = Self::drawn(&seed, size, t - 1) {
                    lower.points.extend(G2Point::identity().to_flow_bytes());
                    return lower;
                }
            }
            (Some(Pattern::ZeroSecret), _) => {
                // P(x) = x * Q(x).
                if let Some(Dealing { shares, points }) = Self::drawn(&seed, size, t - 1) {
                    let times_abscissa = |(share, member): (Scalar, usize)| {
                        let mut product = Scalar::zero();
                        (0..=member).for_each(|_| product += &share);
                        product
                    };
                    let shares = shares.into_iter().zip(0..).map(times_abscissa).collect();
                    return Dealing { shares, points: [&G2Point::identity().to_flow_bytes()[..], &points].concat() };
                }
            }
            _ => {}
        }
        Self::drawn(&seed, size, t).unwrap_or(Dealing { shares: Vec::new(), points: Vec::new() })
    }

    fn drawn(seed: &[u8], size: usize, degree: usize) -> Option<Self> {
        let polynomial = Polynomial::from_seed(seed, degree).ok()?;
        let shares = Index::all(size).map(|index| polynomial.share(index)).collect();
        Some(Dealing { shares, points: polynomial.commit().encode(VectorEncoding::Compressed) })
    }
}

/// A vector with each point negated.
fn negated(points: &[u8]) -> Vec<u8> {
    let negate = |point: &[u8]| {
        let mut bytes = G2Point::from_flow_bytes(point).unwrap_or_else(|_| G2Point::identity()).to_standard_bytes();
        let infinity = bytes[0] & 0x40 != 0;
        if !infinity {
            bytes[0] ^= 0x20;
        }
        G2Point::from_standard_bytes(&bytes).unwrap_or_else(|_| G2Point::identity()).to_flow_bytes()
    };
    points.chunks(POINT).flat_map(negate).collect()
}

/// What becomes of a vector's points under a fault that changes them. `honest` is some honest dealer's, if one is known.
pub(super) fn spoil(fault: Fault, points: &[u8], honest: Option<&Vec<u8>>, dice: &mut ChaCha20Rng) -> Option<Vec<u8>> {
    let mut spoiled = points.to_vec();
    match fault {
        Fault::UndecodableVector => {
            let from = spoiled.len().saturating_sub(POINT / 2);
            spoiled[from..].fill(0xff);
        }
        Fault::OffSubgroupVector => {
            let place = dice.random_range(0..(points.len() / POINT).max(1)) * POINT;
            let stray = off_subgroup(dice);
            spoiled.get_mut(place..place + POINT)?.copy_from_slice(&stray);
        }
        Fault::ShortVector => spoiled.truncate(points.len().saturating_sub(POINT)),
        Fault::LongVector => spoiled.extend(G2Point::generator().to_flow_bytes()),
        Fault::CopiedVector => return honest.cloned(),
        Fault::NegatedVector => {
            let honest = honest?;
            // Of uncompressed points the coordinate's sign is not a bit to flip; the copy does.
            return Some(if honest.len() == points.len() { negated(honest) } else { honest.clone() });
        }
        _ => return None,
    }
    Some(spoiled)
}

/// A point of the curve outside the group: almost every one is.
fn off_subgroup(dice: &mut ChaCha20Rng) -> [u8; POINT] {
    loop {
        let mut bytes = [0; POINT];
        dice.fill_bytes(&mut bytes);
        // Both coordinates below p, and marked as compressed.
        bytes[0] = bytes[0] & 0x2f | 0x80;
        bytes[POINT / 2] &= 0x0f;
        if UncheckedVector::decode(&bytes, 1).is_ok_and(|point| point.check_subgroup().is_err()) {
            return bytes;
        }
    }
}

/// Another scalar than this one.
pub(super) fn other_than(share: &Scalar) -> Scalar {
    let mut other = share.clone();
    other += share;
    other
}

/// A private message that is no share.
pub(super) fn malformed_share(dice: &mut ChaCha20Rng, share: &Scalar) -> SecretBytes {
    let right = encode_share(share);
    let right = right.expose();
    SecretBytes::new(match dice.random_range(0..5) {
        0 => Vec::new(),
        1 => right[..right.len() - 1].to_vec(),
        2 => [right, &[0]].concat(),
        3 => vec![0xff; right.len()],
        _ => [&[0][..], &[0xff; 32]].concat(),
    })
}

/// A broadcast that says it is an answer.
pub(super) fn malformed_answer(dice: &mut ChaCha20Rng, to: Index, share: &Scalar, size: usize) -> Vec<u8> {
    let mut right = encode_answer(to, share);
    match dice.random_range(0..5) {
        0 => right.truncate(1),
        1 => right.truncate(right.len() - 1),
        2 => right.push(0),
        3 => right[1] = size as u8,
        _ => right[2..].fill(0xff),
    }
    right
}
