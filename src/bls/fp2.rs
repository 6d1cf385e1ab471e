//! The field Fp2 over which E2 lies: what adding many points at once is made of.
//!
//! Every result is written where it stays, instead of being returned: blst writes it word by word, and a processor that is to
//! move it at once, in wider pieces, has to wait. That saves a tenth of an addition.
#![allow(unsafe_code)]

use blst::{
    blst_fp, blst_fp_add, blst_fp_cneg, blst_fp_inverse, blst_fp_mul, blst_fp_sqr, blst_fp2, blst_fp2_add,
    blst_fp2_cneg, blst_fp2_mul, blst_fp2_sqr, blst_fp2_sub,
};

/// A number other than zero.
pub(super) const NOT_ZERO: blst_fp2 = blst_fp2 { fp: [blst_fp { l: [1, 0, 0, 0, 0, 0] }, blst_fp { l: [0; 6] }] };

/// One of blst's functions of two numbers, with its result in a place of its own and in that of the first number.
macro_rules! operation {
    ($function:ident of $number:ty: $into:ident, $assign:ident) => {
        #[inline(always)]
        pub(super) fn $into(out: &mut $number, a: &$number, b: &$number) {
            // SAFETY: references to numbers, of which the first is written and the others are read.
            unsafe { $function(out, a, b) }
        }

        #[inline(always)]
        pub(super) fn $assign(a: &mut $number, b: &$number) {
            let a: *mut $number = a;
            // SAFETY: pointers to numbers; a result of blst's may have the place of an operand.
            unsafe { $function(a, a, b) }
        }
    };
}

operation!(blst_fp2_add of blst_fp2: add_into, add_assign);
operation!(blst_fp2_sub of blst_fp2: sub_into, sub_assign);
operation!(blst_fp2_mul of blst_fp2: mul_into, mul_assign);
operation!(blst_fp_mul of blst_fp: half_mul_into, half_mul_assign);

#[inline(always)]
pub(super) fn square_into(out: &mut blst_fp2, a: &blst_fp2) {
    // SAFETY: references to numbers, of which the first is written and the other is read.
    unsafe { blst_fp2_sqr(out, a) }
}

/// Makes it the opposite if `flag` says so; in constant time.
#[inline(always)]
pub(super) fn negate_if(a: &mut blst_fp2, flag: bool) {
    let a: *mut blst_fp2 = a;
    // SAFETY: pointers to a number; a result of blst's may have the place of an operand.
    unsafe { blst_fp2_cneg(a, a, flag) }
}

#[inline(always)]
pub(super) fn is_zero(a: &blst_fp2) -> bool {
    a.fp.iter().flat_map(|half| half.l).fold(0, |bits, limb| bits | limb) == 0
}

/// Inverts many numbers at once. Keeps its scratch from one time to the next.
#[derive(Default)]
pub(super) struct Inverter {
    norms: Vec<blst_fp>,
    /// The product of all norms up to each.
    products: Vec<blst_fp>,
}

impl Inverter {
    /// Puts the inverses of numbers, none of which is zero, in their place. The inverse of a + bi is (a - bi) / (a² + b²), and
    /// the norms, which are numbers of Fp, share one inversion (Montgomery's trick).
    pub(super) fn invert_all(&mut self, numbers: &mut [blst_fp2]) {
        let Inverter { norms, products } = self;
        let mut scratch = blst_fp::default();
        norms.resize(numbers.len(), scratch);
        products.clear();
        for (number, norm) in numbers.iter().zip(norms.iter_mut()) {
            norm_into(norm, number, &mut scratch);
            products.push(*norm);
            if let [.., before, product] = products.as_mut_slice() {
                half_mul_into(product, before, norm);
            }
        }
        let Some(product) = products.pop() else { return };
        let mut inverse = blst_fp::default();
        // SAFETY: references to two numbers, of which the first is written and the other is read.
        unsafe { blst_fp_inverse(&mut inverse, &product) };
        for ((number, norm), before) in numbers[1..].iter_mut().zip(&norms[1..]).zip(products.iter()).rev() {
            half_mul_into(&mut scratch, &inverse, before);
            half_mul_assign(&mut inverse, norm);
            conjugate_times(number, &scratch);
        }
        conjugate_times(&mut numbers[0], &inverse);
    }
}

/// a² + b² of a + bi: not zero if the number is not, for -1 is no square in Fp.
#[inline(always)]
fn norm_into(norm: &mut blst_fp, number: &blst_fp2, scratch: &mut blst_fp) {
    let [a, b] = &number.fp;
    let norm: *mut blst_fp = norm;
    // SAFETY: pointers to numbers; a result of blst's may have the place of an operand.
    unsafe {
        blst_fp_sqr(norm, a);
        blst_fp_sqr(scratch, b);
        blst_fp_add(norm, norm, scratch);
    }
}

/// Conjugates a number, and multiplies it by a number of Fp.
#[inline(always)]
fn conjugate_times(number: &mut blst_fp2, factor: &blst_fp) {
    let [a, b] = &mut number.fp;
    half_mul_assign(a, factor);
    half_mul_assign(b, factor);
    let b: *mut blst_fp = b;
    // SAFETY: pointers to a number; a result of blst's may have the place of an operand.
    unsafe { blst_fp_cneg(b, b, true) };
}
