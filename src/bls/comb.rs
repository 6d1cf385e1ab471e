//! Multiples of the generator of G2, in constant time: the one multiplication that dealing consists of.
//!
//! A fixed-base comb: the scalar, made odd by adding r where it is even, is written in base 64 with odd digits from -63 to 63, none
//! of them zero (Joye and Tunstall, "Exponent recoding and regular exponentiation algorithms", 2009). A table holds every
//! place's odd multiples, so that the product is one addition for each digit and no doubling. The digits are computed, and the
//! table is read, without a branch or an address that depends on the scalar: each look-up goes over its whole row.

use std::hint::black_box;
use std::sync::OnceLock;

use blst::blst_p2_affine;
use zeroize::Zeroizing;

use super::effort::Effort;
use super::fp2;
use super::g2::{G2Point, Projective};
use super::scalar::Scalar;

/// What one product is worth, in points of a vector that are checked.
const POINTS: usize = 8;
/// Bits of a digit.
const WINDOW: usize = 6;
/// The odd multiples of one place: 1, 3 … 63.
const ROW: usize = 1 << (WINDOW - 1);
/// Digits of a number below 2^256, which a scalar plus r is.
const DIGITS: usize = 256_usize.div_ceil(WINDOW);

/// The order r of the group, the lowest limb first.
const ORDER: [u64; 4] = [0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48];

/// For each digit's place, the odd multiples of the generator times 64^place. 264 KiB, made once: about 4 ms.
fn table() -> &'static [blst_p2_affine] {
    static TABLE: OnceLock<Vec<blst_p2_affine>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut points = Vec::with_capacity(DIGITS * ROW);
        let mut unit = Projective::identity().plus_affine(G2Point::generator().as_affine());
        for _ in 0..DIGITS {
            let twice = unit.doubled();
            let mut multiple = unit;
            for _ in 0..ROW {
                points.push(multiple);
                multiple = multiple.plus(&twice);
            }
            unit = (0..WINDOW).fold(unit, |unit, _| unit.doubled());
        }
        Projective::all_to_affine(&points)
    })
}

impl Scalar {
    /// The public value of this secret, g2^x, in constant time. Takes about 60 µs.
    pub fn public_value(&self) -> G2Point {
        times_generator(self).to_affine()
    }

    /// The public values of many secrets, in constant time.
    pub(super) fn public_values(secrets: &[Scalar], effort: Effort) -> Vec<G2Point> {
        let values = effort.for_points(secrets.len() * POINTS).map(secrets, times_generator);
        Projective::all_to_affine(&values).into_iter().map(G2Point::from_affine).collect()
    }
}

fn times_generator(secret: &Scalar) -> Projective {
    let odd = made_odd(secret);
    let mut product = Projective::identity();
    for (place, row) in table().chunks_exact(ROW).enumerate() {
        // Seven bits, the lowest of them set: one more than the digit has, since every digit lends 64 to the next.
        let bits = window(&odd, place * WINDOW) | 1;
        let (magnitude, negative) = if place == DIGITS - 1 { (bits, 0) } else { signed(bits) };
        product = product.plus_affine(&look_up(row, magnitude >> 1, negative));
    }
    product
}

/// The scalar if it is odd, and the scalar plus r if it is even.
fn made_odd(secret: &Scalar) -> Zeroizing<[u64; 4]> {
    let canonical = secret.to_canonical();
    let mut limbs = Zeroizing::new([0; 4]);
    for (limb, bytes) in limbs.iter_mut().zip(canonical.b.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*bytes);
    }
    let even = black_box(limbs[0] & 1).wrapping_sub(1);
    let mut carry = 0;
    for (limb, order) in limbs.iter_mut().zip(ORDER) {
        let sum = u128::from(*limb) + u128::from(order & even) + carry;
        *limb = sum as u64;
        carry = sum >> 64;
    }
    limbs
}

/// Seven bits from bit `start` on; there are zeros above bit 255.
fn window(limbs: &[u64; 4], start: usize) -> u64 {
    let (limb, shift) = (start / 64, start % 64);
    let low = limbs[limb] >> shift;
    let high = if shift > 57 && limb < 3 { limbs[limb + 1] << (64 - shift) } else { 0 };
    (low | high) & 0x7f
}

/// Seven bits, the lowest set, less 64: how much it is, and all ones if it is negative.
fn signed(bits: u64) -> (u64, u64) {
    let digit = bits.wrapping_sub(64);
    let negative = black_box(0_u64.wrapping_sub(digit >> 63));
    ((digit ^ negative).wrapping_sub(negative), negative)
}

/// One point of a row, or its opposite where `negative` is all ones.
fn look_up(row: &[blst_p2_affine], wanted: u64, negative: u64) -> blst_p2_affine {
    let mut found = blst_p2_affine::default();
    for (place, point) in (0_u64..).zip(row) {
        // All ones where the two are equal, and zero elsewhere.
        let difference = place ^ wanted;
        let mask = black_box((difference | difference.wrapping_neg()) >> 63).wrapping_sub(1);
        let coordinates = found.x.fp.iter_mut().chain(&mut found.y.fp);
        for (found, coordinate) in coordinates.zip(point.x.fp.iter().chain(&point.y.fp)) {
            for (found, limb) in found.l.iter_mut().zip(coordinate.l) {
                *found |= limb & mask;
            }
        }
    }
    fp2::negate_if(&mut found.y, negative != 0);
    found
}
