//! The pairing e of G1 and G2, and the group GT of its values.
#![allow(unsafe_code)]

use blst::{
    blst_fp, blst_fp_cneg, blst_fp12, blst_fp12_conjugate, blst_fp12_cyclotomic_sqr, blst_fp12_mul, blst_p1_affine,
    blst_p2_affine, blst_p2_affine_generator,
};

use super::g1::E1Point;
use super::g2::G2Point;

/// An element of GT, the group of order r that the pairing's values are in.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Gt(blst_fp12);

impl Gt {
    /// How far a signature is from fitting: e(signature, g2) / e(hash, key), which is one if it does. The two pairings
    /// share their squarings and the final exponentiation.
    ///
    /// A component of small order in the signature does not show: e takes it to one. Any argument may be the identity.
    pub(super) fn misfit(signature: &E1Point, hash: &E1Point, key: &G2Point) -> Gt {
        // SAFETY: blst returns the address of a constant that lives as long as the program.
        let generator: blst_p2_affine = unsafe { *blst_p2_affine_generator() };
        // blst does not look out for the identity, whose pairing is one.
        let (mut left, mut right): (Vec<blst_p1_affine>, Vec<blst_p2_affine>) = (Vec::new(), Vec::new());
        if !signature.is_identity() {
            left.push(*signature.as_affine());
            right.push(generator);
        }
        if !hash.is_identity() && !key.is_identity() {
            left.push(negated(hash.as_affine()));
            right.push(*key.as_affine());
        }
        if left.is_empty() { Gt::one() } else { Gt(blst_fp12::miller_loop_n(&right, &left).final_exp()) }
    }

    /// One: where products start.
    pub(super) fn one() -> Gt {
        Gt(blst_fp12::default())
    }

    pub(super) fn is_one(&self) -> bool {
        *self == Gt::one()
    }

    /// `self * factor`.
    pub(super) fn times(&self, factor: &Gt) -> Gt {
        let mut out = blst_fp12::default();
        // SAFETY: the first argument is valid for writes, the others are only read.
        unsafe { blst_fp12_mul(&mut out, &self.0, &factor.0) };
        Gt(out)
    }

    /// `self / divisor`.
    pub(super) fn over(&self, divisor: &Gt) -> Gt {
        let mut inverse = divisor.0;
        // SAFETY: the argument is valid for reads and writes. In GT, the conjugate is the inverse.
        unsafe { blst_fp12_conjugate(&mut inverse) };
        self.times(&Gt(inverse))
    }

    /// `self` to the power of a small number.
    pub(super) fn power(&self, exponent: usize) -> Gt {
        let bits = usize::BITS - exponent.leading_zeros();
        (0..bits).rev().fold(Gt::one(), |power, bit| {
            let mut square = blst_fp12::default();
            // SAFETY: the first argument is valid for writes, the second is only read, and is in GT.
            unsafe { blst_fp12_cyclotomic_sqr(&mut square, &power.0) };
            let square = Gt(square);
            if exponent >> bit & 1 == 1 { square.times(self) } else { square }
        })
    }
}

/// The point with the other y, where x and y are not both zero.
fn negated(point: &blst_p1_affine) -> blst_p1_affine {
    let mut y = blst_fp::default();
    // SAFETY: the first argument is valid for writes, the second is only read.
    unsafe { blst_fp_cneg(&mut y, &point.y, true) };
    blst_p1_affine { x: point.x, y }
}
