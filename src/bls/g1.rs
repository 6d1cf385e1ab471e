//! Points of the curve E1, where messages are hashed to and signatures live, and the pairing.
#![allow(unsafe_code)]

use blst::{
    BLST_ERROR, MultiPoint, blst_fp, blst_fp_from_be_bytes, blst_fp12, blst_map_to_g1, blst_p1, blst_p1_affine,
    blst_p1_affine_compress, blst_p1_affine_in_g1, blst_p1_affine_is_inf, blst_p1_from_affine, blst_p1_mult,
    blst_p1_to_affine, blst_p1_uncompress, blst_p2_affine, blst_p2_affine_generator,
};

use super::encoding::{PointError, is_compressed_identity};
use super::g2::G2Point;
use super::scalar::{SCALAR_BITS, Scalar};

/// Bytes of a compressed point.
const COMPRESSED: usize = 48;

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

    /// The sum of public points, each times its public scalar. Not constant-time.
    pub(super) fn linear_combination<'a>(terms: impl IntoIterator<Item = (&'a E1Point, &'a Scalar)>) -> E1Point {
        let (points, scalars): (Vec<_>, Vec<_>) =
            terms.into_iter().map(|(point, scalar)| (point.0, scalar.to_canonical().b)).unzip();
        // blst panics on an empty list.
        if points.is_empty() {
            return E1Point(blst_p1_affine::default());
        }
        E1Point::from_projective(&points.mult(scalars.as_flattened(), SCALAR_BITS))
    }

    fn from_projective(point: &blst_p1) -> E1Point {
        let mut affine = blst_p1_affine::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_p1_to_affine(&mut affine, point) };
        E1Point(affine)
    }
}

/// Whether e(signature, g2) = e(hash, key). The caller has seen to it that nothing is the identity and all is in its
/// subgroup.
pub(super) fn pairings_agree(signature: &E1Point, hash: &E1Point, key: &G2Point) -> bool {
    // SAFETY: blst returns the address of a constant that lives as long as the program.
    let generator: &blst_p2_affine = unsafe { &*blst_p2_affine_generator() };
    blst_fp12::finalverify(
        &blst_fp12::miller_loop(generator, &signature.0),
        &blst_fp12::miller_loop(key.as_affine(), &hash.0),
    )
}
