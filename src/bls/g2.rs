//! Points of the curve E2 and of its subgroup G2, where public keys and commitments live.
#![allow(unsafe_code)]

use std::fmt;

use blst::{
    BLST_ERROR, MultiPoint, blst_p2, blst_p2_add_or_double, blst_p2_add_or_double_affine, blst_p2_affine,
    blst_p2_affine_compress, blst_p2_affine_generator, blst_p2_affine_in_g2, blst_p2_affine_is_inf,
    blst_p2_affine_serialize, blst_p2_deserialize, blst_p2_double, blst_p2_in_g2, blst_p2_to_affine,
    blst_p2_uncompress, p2_affines,
};

use super::encoding::{PointError, is_compressed_identity};

/// Bytes of a compressed point of G2.
pub(super) const COMPRESSED: usize = 96;
/// Bytes of an uncompressed point of G2.
pub(super) const UNCOMPRESSED: usize = 192;

/// The flag bits in the first byte of an encoded point: compressed, infinity, sign.
const FLAGS: u8 = 0xe0;
const COMPRESSED_FLAG: u8 = 0x80;
/// Half of a compressed point: one coefficient of x.
const HALF: usize = COMPRESSED / 2;

/// A point on the curve E2. Whether it is in the subgroup G2 is not known yet.
#[derive(Clone, Copy)]
pub(super) struct E2Point(blst_p2_affine);

impl E2Point {
    /// Decodes 96 bytes in the reference's order, c0 of x first.
    pub(super) fn decode_flow(bytes: &[u8; COMPRESSED]) -> Result<E2Point, PointError> {
        if is_compressed_identity(bytes) {
            return Ok(E2Point(blst_p2_affine::default()));
        }
        // What is c1 here leads in the standard order, where these bits are flags; in c1 they must be clear.
        if bytes[HALF] & FLAGS != 0 {
            return Err(PointError::Encoding);
        }
        E2Point::decode_standard(&swap_halves(*bytes))
    }

    /// Decodes the 96 bytes of the ZCash compressed form, c1 of x first.
    pub(super) fn decode_standard(bytes: &[u8; COMPRESSED]) -> Result<E2Point, PointError> {
        let mut point = blst_p2_affine::default();
        // SAFETY: `point` is valid for writes, and the 96 bytes that are read are there.
        let verdict = unsafe { blst_p2_uncompress(&mut point, bytes.as_ptr()) };
        E2Point::judged(point, verdict)
    }

    /// Decodes the 192 bytes of the ZCash uncompressed form.
    pub(super) fn decode_uncompressed(bytes: &[u8; UNCOMPRESSED]) -> Result<E2Point, PointError> {
        // blst would read a compressed point from the first half and ignore the rest.
        if bytes[0] & COMPRESSED_FLAG != 0 {
            return Err(PointError::Encoding);
        }
        let mut point = blst_p2_affine::default();
        // SAFETY: `point` is valid for writes, and the 192 bytes that are read are there.
        let verdict = unsafe { blst_p2_deserialize(&mut point, bytes.as_ptr()) };
        E2Point::judged(point, verdict)
    }

    fn judged(point: blst_p2_affine, verdict: BLST_ERROR) -> Result<E2Point, PointError> {
        match verdict {
            BLST_ERROR::BLST_SUCCESS => Ok(E2Point(point)),
            BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Err(PointError::NotOnCurve),
            _ => Err(PointError::Encoding),
        }
    }

    /// The same point, known to be in G2.
    pub(super) fn check_subgroup(self) -> Result<G2Point, PointError> {
        if self.is_in_subgroup() { Ok(G2Point(self.0)) } else { Err(PointError::NotInSubgroup) }
    }

    pub(super) fn is_in_subgroup(&self) -> bool {
        // SAFETY: the point is only read, and is on the curve.
        unsafe { blst_p2_affine_in_g2(&self.0) }
    }

    /// The same point, which must be known to be in G2 in another way.
    pub(super) fn in_subgroup(self) -> G2Point {
        G2Point(self.0)
    }

    pub(super) fn as_affine(&self) -> &blst_p2_affine {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn from_affine(point: blst_p2_affine) -> E2Point {
        E2Point(point)
    }
}

/// A point of G2: on the curve and in the subgroup of order r. The identity is one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct G2Point(blst_p2_affine);

impl G2Point {
    /// The point at infinity: zero times the generator.
    pub fn identity() -> G2Point {
        G2Point(blst_p2_affine::default())
    }

    /// The generator g2 that all implementations share.
    pub fn generator() -> G2Point {
        // SAFETY: blst returns the address of a constant that lives as long as the program.
        G2Point(unsafe { *blst_p2_affine_generator() })
    }

    /// Whether this is the point at infinity.
    pub fn is_identity(&self) -> bool {
        // SAFETY: the point is only read.
        unsafe { blst_p2_affine_is_inf(&self.0) }
    }

    /// Decodes a point from 96 bytes in the reference's order (c0 of x first), as on Flow's wire.
    ///
    /// # Errors
    ///
    /// See [`PointError`]. The identity is accepted, with any last byte, as the reference does.
    pub fn from_flow_bytes(bytes: &[u8]) -> Result<G2Point, PointError> {
        E2Point::decode_flow(exactly(bytes)?)?.check_subgroup()
    }

    /// Decodes a point from the 96 bytes of the ZCash compressed form (c1 of x first), as in the IETF drafts, Ethereum
    /// and blst.
    ///
    /// # Errors
    ///
    /// See [`PointError`]. The identity is accepted in its one canonical encoding.
    pub fn from_standard_bytes(bytes: &[u8]) -> Result<G2Point, PointError> {
        E2Point::decode_standard(exactly(bytes)?)?.check_subgroup()
    }

    /// The point as 96 bytes in the reference's order (c0 of x first).
    pub fn to_flow_bytes(&self) -> [u8; COMPRESSED] {
        swap_halves(self.to_standard_bytes())
    }

    /// The point as the 96 bytes of the ZCash compressed form (c1 of x first).
    pub fn to_standard_bytes(&self) -> [u8; COMPRESSED] {
        let mut bytes = [0; COMPRESSED];
        // SAFETY: 96 bytes are written, which `bytes` has; the point is only read.
        unsafe { blst_p2_affine_compress(bytes.as_mut_ptr(), &self.0) };
        bytes
    }

    /// The point as the 192 bytes of the ZCash uncompressed form.
    pub(super) fn to_uncompressed_bytes(self) -> [u8; UNCOMPRESSED] {
        let mut bytes = [0; UNCOMPRESSED];
        // SAFETY: 192 bytes are written, which `bytes` has; the point is only read.
        unsafe { blst_p2_affine_serialize(bytes.as_mut_ptr(), &self.0) };
        bytes
    }

    pub(super) fn as_affine(&self) -> &blst_p2_affine {
        &self.0
    }

    /// A sum of points of G2, or what else is known to be in it.
    pub(super) fn from_affine(point: blst_p2_affine) -> G2Point {
        G2Point(point)
    }

    /// The sum of points, each times a number of `N` bytes (little endian). Not constant-time.
    pub(super) fn linear_combination<const N: usize>(terms: &[(G2Point, [u8; N])]) -> G2Point {
        let (points, factors): (Vec<_>, Vec<_>) = terms.iter().map(|(point, factor)| (point.0, *factor)).unzip();
        // blst panics on an empty list.
        if points.is_empty() {
            return G2Point::identity();
        }
        Projective(points.mult(factors.as_flattened(), 8 * N)).to_affine()
    }
}

impl fmt::Debug for G2Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "G2Point({})", crate::hex::encode(&self.to_flow_bytes()))
    }
}

/// A point of G2 in the coordinates in which blst adds: no inversion until the result is wanted.
#[derive(Clone, Copy)]
pub(super) struct Projective(blst_p2);

impl Projective {
    pub(super) fn identity() -> Projective {
        Projective(blst_p2::default())
    }

    pub(super) fn to_affine(self) -> G2Point {
        let mut out = blst_p2_affine::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_p2_to_affine(&mut out, &self.0) };
        G2Point(out)
    }

    /// `self + point`, whatever the two are; in constant time.
    pub(super) fn plus_affine(&self, point: &blst_p2_affine) -> Projective {
        let mut out = blst_p2::default();
        // SAFETY: the first argument is valid for writes, the others are only read.
        unsafe { blst_p2_add_or_double_affine(&mut out, &self.0, point) };
        Projective(out)
    }

    /// `self + other`, whatever the two are.
    pub(super) fn plus(&self, other: &Projective) -> Projective {
        let mut out = blst_p2::default();
        // SAFETY: the first argument is valid for writes, the others are only read.
        unsafe { blst_p2_add_or_double(&mut out, &self.0, &other.0) };
        Projective(out)
    }

    pub(super) fn doubled(&self) -> Projective {
        let mut out = blst_p2::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_p2_double(&mut out, &self.0) };
        Projective(out)
    }

    pub(super) fn is_in_subgroup(&self) -> bool {
        // SAFETY: the point is only read, and is on the curve.
        unsafe { blst_p2_in_g2(&self.0) }
    }

    /// Many points in affine coordinates. They share one inversion.
    pub(super) fn all_to_affine(points: &[Projective]) -> Vec<blst_p2_affine> {
        let points: Vec<blst_p2> = points.iter().map(|point| point.0).collect();
        // blst panics on an empty list.
        if points.is_empty() { Vec::new() } else { p2_affines::from(&points).as_slice().to_vec() }
    }

    /// `self` times a small public number, by doubling and adding: for the few bits of an abscissa this is faster than
    /// blst's multiplication, which makes a table first. Not constant-time.
    pub(super) fn times_small(&self, factor: u8) -> Projective {
        let Some(top_bit) = factor.checked_ilog2() else { return Projective::identity() };
        (0..top_bit).rev().fold(*self, |power, bit| {
            let doubled = power.doubled();
            if factor >> bit & 1 == 1 { doubled.plus(self) } else { doubled }
        })
    }
}

/// From the reference's order of the two coefficients of x to the standard one, or back: the halves trade places, the
/// flag bits stay in the first byte.
fn swap_halves(mut bytes: [u8; COMPRESSED]) -> [u8; COMPRESSED] {
    let flags = bytes[0] & FLAGS;
    bytes[0] &= !FLAGS;
    bytes.rotate_left(HALF);
    bytes[0] |= flags;
    bytes
}

/// The bytes as an array of the length that the encoding has.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], PointError> {
    bytes.try_into().map_err(|_| PointError::Length { expected: N, actual: bytes.len() })
}
