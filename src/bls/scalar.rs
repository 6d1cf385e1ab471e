//! Numbers modulo r, the order of the groups. All of this file is constant-time in the values.
#![allow(unsafe_code)]

use std::ops::AddAssign;

use blst::{
    blst_fr, blst_fr_add, blst_fr_from_scalar, blst_fr_from_uint64, blst_fr_inverse, blst_fr_mul, blst_fr_sub,
    blst_scalar, blst_scalar_fr_check, blst_scalar_from_be_bytes, blst_scalar_from_fr,
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Index;

/// The bits of a scalar that can be set: r is just below 2^255.
pub(super) const SCALAR_BITS: usize = 255;

/// A number modulo r: a private key, a share, a polynomial's coefficient.
///
/// Scalars are taken for secret. They are wiped when dropped, are never printed, and are compared only by
/// [`Scalar::ct_eq`].
#[derive(Clone)]
pub struct Scalar(blst_fr);

/// Why bytes are not a scalar. None of the variants holds the bytes: they may be somebody's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    /// Not 32 bytes long.
    #[error("a scalar is 32 bytes long, not {0}")]
    Length(usize),
    /// The number is r or more.
    #[error("the scalar is not below the order of the group")]
    NotCanonical,
    /// The number is zero, which neither a key nor a share may be.
    #[error("the scalar is zero")]
    Zero,
}

impl Scalar {
    /// The scalar written as 32 bytes, big endian. Nothing is reduced.
    ///
    /// # Errors
    ///
    /// Anything but 32 bytes with 0 < x < r, which is how shares, complaint answers and private keys are judged
    /// (spec section 3).
    pub fn from_be_bytes(bytes: &[u8]) -> Result<Scalar, ScalarError> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| ScalarError::Length(bytes.len()))?;
        let mut little_endian = blst_scalar { b: *bytes };
        little_endian.b.reverse();
        // SAFETY: the argument is a valid reference, only read.
        if !unsafe { blst_scalar_fr_check(&little_endian) } {
            return Err(ScalarError::NotCanonical);
        }
        let scalar = Scalar::from_canonical(&little_endian);
        if scalar.is_zero() { Err(ScalarError::Zero) } else { Ok(scalar) }
    }

    /// Zero: where sums start.
    pub fn zero() -> Scalar {
        Scalar(blst_fr::default())
    }

    /// Whether this is zero.
    pub fn is_zero(&self) -> bool {
        self.0.l.iter().fold(0, |bits, limb| bits | limb) == 0
    }

    /// The scalar as 32 bytes, big endian.
    pub fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new(self.to_canonical().b);
        bytes.reverse();
        bytes
    }

    /// Whether two scalars are equal, in a time that does not depend on them.
    pub fn ct_eq(&self, other: &Scalar) -> bool {
        // blst keeps every result below r, so equal numbers have equal limbs.
        let difference = self.0.l.iter().zip(&other.0.l).fold(0, |bits, (a, b)| bits | (a ^ b));
        std::hint::black_box(difference) == 0
    }

    /// Any number of big-endian bytes, reduced modulo r.
    pub(super) fn reduce(bytes: &[u8]) -> Scalar {
        let mut reduced = blst_scalar::default();
        // SAFETY: `reduced` is valid for writes, and exactly `bytes.len()` bytes are read from `bytes`. The returned
        // flag only says whether the result is zero.
        unsafe { blst_scalar_from_be_bytes(&mut reduced, bytes.as_ptr(), bytes.len()) };
        Scalar::from_canonical(&reduced)
    }

    /// One: where products start.
    pub(super) fn one() -> Scalar {
        Scalar::small(1)
    }

    /// The abscissa of a participant.
    pub(super) fn abscissa(index: Index) -> Scalar {
        Scalar::small(index.abscissa())
    }

    fn small(number: u8) -> Scalar {
        let limbs = [u64::from(number), 0, 0, 0];
        let mut out = blst_fr::default();
        // SAFETY: `out` is valid for writes, and the four limbs that are read are there.
        unsafe { blst_fr_from_uint64(&mut out, limbs.as_ptr()) };
        Scalar(out)
    }

    /// `self * factor`.
    pub(super) fn times(&self, factor: &Scalar) -> Scalar {
        let mut out = blst_fr::default();
        // SAFETY: the first argument is valid for writes, the others are only read.
        unsafe { blst_fr_mul(&mut out, &self.0, &factor.0) };
        Scalar(out)
    }

    /// `self - other`.
    pub(crate) fn minus(&self, other: &Scalar) -> Scalar {
        let mut out = blst_fr::default();
        // SAFETY: the first argument is valid for writes, the others are only read.
        unsafe { blst_fr_sub(&mut out, &self.0, &other.0) };
        Scalar(out)
    }

    /// `1 / self`; zero for zero.
    pub(super) fn inverse(&self) -> Scalar {
        let mut out = blst_fr::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_fr_inverse(&mut out, &self.0) };
        Scalar(out)
    }

    /// The form in which blst multiplies points: 32 bytes, little endian, wiped when dropped.
    pub(super) fn to_canonical(&self) -> blst_scalar {
        let mut out = blst_scalar::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_scalar_from_fr(&mut out, &self.0) };
        out
    }

    /// From the form that [`Scalar::to_canonical`] gives. The number must be below r.
    pub(super) fn from_canonical(scalar: &blst_scalar) -> Scalar {
        let mut out = blst_fr::default();
        // SAFETY: the first argument is valid for writes, the second is only read.
        unsafe { blst_fr_from_scalar(&mut out, scalar) };
        Scalar(out)
    }
}

impl AddAssign<&Scalar> for Scalar {
    fn add_assign(&mut self, other: &Scalar) {
        let sum: *mut blst_fr = &mut self.0;
        // SAFETY: `sum` is valid for reads and writes, `other` is only read, and blst lets the result overwrite an
        // operand, so that no copy of the old value is left behind.
        unsafe { blst_fr_add(sum, sum, &other.0) };
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        self.0.l.zeroize();
    }
}

impl ZeroizeOnDrop for Scalar {}
