//! Points of the curve E1, where messages are hashed to and signatures live.
#![allow(unsafe_code)]

use blst::{
    BLST_ERROR, MultiPoint, blst_fp, blst_fp_from_be_bytes, blst_map_to_g1, blst_p1, blst_p1_add_or_double,
    blst_p1_affine, blst_p1_affine_compress, blst_p1_affine_in_g1, blst_p1_affine_is_inf, blst_p1_double,
    blst_p1_from_affine, blst_p1_mult, blst_p1_to_affine, blst_p1_uncompress,
};
use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;

use super::encoding::{PointError, is_compressed_identity};
use super::scalar::{SCALAR_BITS, Scalar};

/// Bytes of a compressed point.
const COMPRESSED: usize = 48;

/// How many random sums stand for all points when their membership in G1 is checked at once. A sum hides a point outside
/// G1 with probability at most 1/3 (a component of order 3 has only three multiples), so all of them do with at most
/// 3^-16 < 2^-25.
const SUBGROUP_SUMS: usize = 16;

/// A point on the curve E1. Whether it is in the subgroup G1 has to be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct E1Point(blst_p1_affine);

impl E1Point {
    /// Decodes 48 bytes: the ZCash compressed form, with the reference's tolerance for the identity.
    pub(super) fn decode(bytes: &[u8]) -> Result<E1Point, PointError> {
        let bytes: &[u8; COMPRESSED] =
            bytes.try_into().map_err(|_| PointError::Length { expected: COMPRESSED, actual: bytes.len() })?;
        if is_compressed_identity(bytes) {
            return Ok(E1Point(blst_p1_affine::default()));
        }
        let mut point = blst_p1_affine::default();
        // SAFETY: `point` is valid for writes, and the 48 bytes that are read are there.
        match unsafe { blst_p1_uncompress(&mut point, bytes.as_ptr()) } {
            // Said of the two points with x = 0. They are decoded, and on the curve, which is all that is asked here.
            BLST_ERROR::BLST_SUCCESS | BLST_ERROR::BLST_POINT_NOT_IN_GROUP => Ok(E1Point(point)),
            BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Err(PointError::NotOnCurve),
            _ => Err(PointError::Encoding),
        }
    }

    /// The 48 bytes of the ZCash compressed form.
    pub(super) fn encode(&self) -> [u8; COMPRESSED] {
        let mut bytes = [0; COMPRESSED];
        // SAFETY: 48 bytes are written, which `bytes` has; the point is only read.
        unsafe { blst_p1_affine_compress(bytes.as_mut_ptr(), &self.0) };
        bytes
    }

    pub(super) fn is_identity(&self) -> bool {
        // SAFETY: the point is only read.
        unsafe { blst_p1_affine_is_inf(&self.0) }
    }

    pub(super) fn is_in_subgroup(&self) -> bool {
        // SAFETY: the point is only read, and is on the curve.
        unsafe { blst_p1_affine_in_g1(&self.0) }
    }

    /// The second half of hash-to-curve (RFC 9380 sections 5.2, 6.6.2 and 7): two field elements, of 64 big-endian
    /// bytes each, are mapped to the curve, added, and moved into G1.
    pub(super) fn from_expanded(expanded: &[u8; 128]) -> E1Point {
        let (first, second) = expanded.split_at(64);
        let field_element = |bytes: &[u8]| {
            let mut out = blst_fp::default();
            // SAFETY: `out` is valid for writes, and exactly `bytes.len()` bytes are read from `bytes`.
            unsafe { blst_fp_from_be_bytes(&mut out, bytes.as_ptr(), bytes.len()) };
            out
        };
        let (u, v) = (field_element(first), field_element(second));
        let mut point = blst_p1::default();
        // SAFETY: the first argument is valid for writes, the others are only read.
        unsafe { blst_map_to_g1(&mut point, &u, &v) };
        E1Point::from_projective(&point)
    }

    /// This point, which must be in G1, times a secret scalar, in constant time.
    pub(super) fn times(&self, scalar: &Scalar) -> E1Point {
        let canonical = scalar.to_canonical();
        let mut point = blst_p1::default();
        let mut product = blst_p1::default();
        // SAFETY: the first arguments are valid for writes, the points are only read, and the 255 bits that are read
        // of the scalar are within its 32 bytes.
        unsafe {
            blst_p1_from_affine(&mut point, &self.0);
            blst_p1_mult(&mut product, &point, canonical.b.as_ptr(), SCALAR_BITS);
        }
        E1Point::from_projective(&product)
    }

    /// Whether all of the points are in G1. Says `true` for points that are not with probability at most 2^-25, if nobody
    /// who made them could know the stream; of a few points, never.
    pub(super) fn all_in_subgroup(points: &[E1Point], stream: &mut ChaCha20Rng) -> bool {
        if points.len() <= SUBGROUP_SUMS {
            return points.iter().all(E1Point::is_in_subgroup);
        }
        // Sums, and not multiples of more bits: whatever the factor, a third of all multiples of a point of order 3 is
        // the identity.
        (0..SUBGROUP_SUMS).all(|_| {
            let (mut once, mut twice) = (Vec::with_capacity(points.len()), Vec::with_capacity(points.len()));
            for point in points {
                match ternary_digit(stream) {
                    0 => {}
                    1 => once.push(point.0),
                    _ => twice.push(point.0),
                }
            }
            let twice = Projective::sum(&twice);
            Projective::sum(&once).plus(&twice).plus(&twice).to_affine().is_in_subgroup()
        })
    }

    /// The sum of public points, each times its public scalar. Not constant-time.
    pub(super) fn linear_combination<'a>(terms: impl IntoIterator<Item = (&'a E1Point, &'a Scalar)>) -> E1Point {
        let (points, scalars): (Vec<_>, Vec<_>) =
            terms.into_iter().map(|(point, scalar)| (point.0, scalar.to_canonical().b)).unzip();
        E1Point::sum_of_products(&points, scalars.as_flattened(), SCALAR_BITS)
    }

    /// The sum of public points, each times a number of `N` bytes (little endian). Not constant-time.
    pub(super) fn random_combination<const N: usize>(terms: &[(E1Point, [u8; N])]) -> E1Point {
        let (points, factors): (Vec<_>, Vec<_>) = terms.iter().map(|(point, factor)| (point.0, *factor)).unzip();
        E1Point::sum_of_products(&points, factors.as_flattened(), 8 * N)
    }

    fn sum_of_products(points: &[blst_p1_affine], factors: &[u8], bits: usize) -> E1Point {
        // blst panics on an empty list.
        if points.is_empty() {
            return E1Point(blst_p1_affine::default());
        }
        E1Point::from_projective(&points.mult(factors, bits))
    }

    pub(super) fn as_affine(&self) -> &blst_p1_affine {
        &self.0
    }

    fn from_projective(point: &blst_p1) -> E1Point {
        let mut affine = blst_p1_affine::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_p1_to_affine(&mut affine, point) };
        E1Point(affine)
    }
}

/// A point of E1 in the coordinates in which blst adds: no inversion until the result is wanted.
#[derive(Clone, Copy)]
pub(super) struct Projective(blst_p1);

impl Projective {
    pub(super) fn from_affine(point: &E1Point) -> Projective {
        let mut out = blst_p1::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_p1_from_affine(&mut out, &point.0) };
        Projective(out)
    }

    pub(super) fn identity() -> Projective {
        Projective(blst_p1::default())
    }

    fn sum(points: &[blst_p1_affine]) -> Projective {
        // blst panics on an empty list.
        if points.is_empty() { Projective::identity() } else { Projective(points.add()) }
    }

    pub(super) fn to_affine(self) -> E1Point {
        E1Point::from_projective(&self.0)
    }

    /// `self + other`, whatever the two are.
    pub(super) fn plus(&self, other: &Projective) -> Projective {
        let mut out = blst_p1::default();
        // SAFETY: the first argument is valid for writes, the others are only read.
        unsafe { blst_p1_add_or_double(&mut out, &self.0, &other.0) };
        Projective(out)
    }

    /// `self` times a small public number, by doubling and adding. Not constant-time.
    pub(super) fn times_small(&self, factor: u8) -> Projective {
        let Some(top_bit) = factor.checked_ilog2() else { return Projective::identity() };
        (0..top_bit).rev().fold(*self, |product, bit| {
            let mut double = blst_p1::default();
            // SAFETY: the first argument is valid for writes, the second is only read.
            unsafe { blst_p1_double(&mut double, &product.0) };
            let double = Projective(double);
            if factor >> bit & 1 == 1 { double.plus(self) } else { double }
        })
    }
}

/// 0, 1 or 2, equally likely.
fn ternary_digit(stream: &mut ChaCha20Rng) -> u32 {
    // 2^32 - 1 is divisible by three, so the one number that is left over is passed over.
    loop {
        let number = stream.next_u32();
        if number != u32::MAX {
            return number % 3;
        }
    }
}
