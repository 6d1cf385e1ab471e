//! The field Fp2 over which E2 lies: what adding many points at once is made of.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use blst::{
    blst_fp2, blst_fp2_add, blst_fp2_cneg, blst_fp2_inverse, blst_fp2_mul, blst_fp2_sqr, blst_fp2_sub,
    blst_p2_affine_generator,
};

/// The two operands' result, as one of blst's functions writes it.
macro_rules! result_of {
    ($function:ident($($operand:expr),*)) => {{
        let mut out = MaybeUninit::<blst_fp2>::uninit();
        // SAFETY: `out` is valid for writes and wholly written; the operands are valid references, only read.
        unsafe {
            $function(out.as_mut_ptr(), $($operand),*);
            out.assume_init()
        }
    }};
}

#[inline(always)]
pub(super) fn add(a: &blst_fp2, b: &blst_fp2) -> blst_fp2 {
    result_of!(blst_fp2_add(a, b))
}

#[inline(always)]
pub(super) fn sub(a: &blst_fp2, b: &blst_fp2) -> blst_fp2 {
    result_of!(blst_fp2_sub(a, b))
}

#[inline(always)]
pub(super) fn mul(a: &blst_fp2, b: &blst_fp2) -> blst_fp2 {
    result_of!(blst_fp2_mul(a, b))
}

#[inline(always)]
pub(super) fn square(a: &blst_fp2) -> blst_fp2 {
    result_of!(blst_fp2_sqr(a))
}

/// The opposite if `flag` says so; in constant time.
#[inline(always)]
pub(super) fn negated_if(a: &blst_fp2, flag: bool) -> blst_fp2 {
    result_of!(blst_fp2_cneg(a, flag))
}

#[inline(always)]
pub(super) fn is_zero(a: &blst_fp2) -> bool {
    a.fp.iter().flat_map(|half| half.l).fold(0, |bits, limb| bits | limb) == 0
}

/// One, as blst keeps it.
pub(super) fn one() -> blst_fp2 {
    // SAFETY: blst returns the address of a constant that lives as long as the program.
    let generator = unsafe { &(*blst_p2_affine_generator()).x };
    mul(generator, &result_of!(blst_fp2_inverse(generator)))
}

/// The inverses of numbers, none of which is zero, in their place: one inversion, and three products a number. `before` is
/// scratch.
pub(super) fn invert_all(numbers: &mut [blst_fp2], before: &mut Vec<blst_fp2>) {
    before.clear();
    let Some(first) = numbers.first() else { return };
    let mut product = *first;
    for number in &numbers[1..] {
        before.push(product);
        product = mul(&product, number);
    }
    let mut inverse = result_of!(blst_fp2_inverse(&product));
    for (number, before) in numbers[1..].iter_mut().zip(before.iter()).rev() {
        let own = mul(&inverse, before);
        inverse = mul(&inverse, number);
        *number = own;
    }
    numbers[0] = inverse;
}
