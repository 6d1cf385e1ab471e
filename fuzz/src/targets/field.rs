//! The field of BLS12-381 in the plainest way there is: what decoded points are held against. Slow, and shares no line with
//! the library that decodes them.

use std::cmp::Ordering;

/// Bytes of an element.
pub const BYTES: usize = 48;

/// The modulus, least limb first.
const P: [u64; 6] = [
    0xb9fe_ffff_ffff_aaab,
    0x1eab_fffe_b153_ffff,
    0x6730_d2a0_f6b0_f624,
    0x6477_4b84_f385_12bf,
    0x4b1b_a7b6_434b_acd7,
    0x1a01_11ea_397f_e69a,
];

/// A number below the modulus, least limb first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp([u64; 6]);

impl Fp {
    pub const ZERO: Fp = Fp([0; 6]);
    /// The curve's constant: y² = x³ + 4 in G1, and 4(1 + u) in G2.
    pub const FOUR: Fp = Fp([4, 0, 0, 0, 0, 0]);

    /// The number written in 48 bytes, big endian, the top three bits of which must be clear; `None` from the modulus on.
    pub fn from_be_bytes(bytes: &[u8; BYTES]) -> Option<Fp> {
        let mut limbs = [0; 6];
        for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_be_bytes(*chunk);
        }
        (compare(&limbs, &P) == Ordering::Less).then_some(Fp(limbs))
    }

    pub fn plus(self, other: Fp) -> Fp {
        // Twice the modulus has 382 bits: nothing is carried out of the last limb.
        let mut sum = [0; 6];
        let mut carry = false;
        for (place, out) in sum.iter_mut().enumerate() {
            let (low, first) = self.0[place].overflowing_add(other.0[place]);
            let (low, second) = low.overflowing_add(u64::from(carry));
            (*out, carry) = (low, first || second);
        }
        if compare(&sum, &P) == Ordering::Less { Fp(sum) } else { Fp(difference(&sum, &P)) }
    }

    pub fn minus(self, other: Fp) -> Fp {
        if compare(&self.0, &other.0) == Ordering::Less {
            Fp(difference(&P, &difference(&other.0, &self.0)))
        } else {
            Fp(difference(&self.0, &other.0))
        }
    }

    pub fn times(self, other: Fp) -> Fp {
        let mut product = Fp::ZERO;
        for bit in (0..381).rev() {
            product = product.plus(product);
            if other.0[bit / 64] >> (bit % 64) & 1 == 1 {
                product = product.plus(self);
            }
        }
        product
    }

    /// Whether some number's square is this: Jacobi's symbol by reciprocity.
    pub fn is_square(self) -> bool {
        let (mut a, mut n, mut square) = (self.0, P, true);
        while a != [0; 6] {
            while a[0] & 1 == 0 {
                halve(&mut a);
                square ^= matches!(n[0] & 7, 3 | 5);
            }
            if compare(&a, &n) == Ordering::Less {
                std::mem::swap(&mut a, &mut n);
                square ^= a[0] & 3 == 3 && n[0] & 3 == 3;
            }
            a = difference(&a, &n);
        }
        square
    }
}

/// `c0 + c1 u` with `u² = -1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp2 {
    pub c0: Fp,
    pub c1: Fp,
}

impl Fp2 {
    pub fn plus(self, other: Fp2) -> Fp2 {
        Fp2 { c0: self.c0.plus(other.c0), c1: self.c1.plus(other.c1) }
    }

    pub fn times(self, other: Fp2) -> Fp2 {
        Fp2 {
            c0: self.c0.times(other.c0).minus(self.c1.times(other.c1)),
            c1: self.c0.times(other.c1).plus(self.c1.times(other.c0)),
        }
    }

    /// Whether some number's square is this: exactly if its norm is one in the field below.
    pub fn is_square(self) -> bool {
        self.c0.times(self.c0).plus(self.c1.times(self.c1)).is_square()
    }
}

/// `x³ + 4`: the square of y on the curve of G1.
pub fn g1_right_side(x: Fp) -> Fp {
    x.times(x).times(x).plus(Fp::FOUR)
}

/// `x³ + 4(1 + u)`: the square of y on the curve of G2.
pub fn g2_right_side(x: Fp2) -> Fp2 {
    x.times(x).times(x).plus(Fp2 { c0: Fp::FOUR, c1: Fp::FOUR })
}

fn compare(a: &[u64; 6], b: &[u64; 6]) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

/// `a - b`, which must not be negative.
fn difference(a: &[u64; 6], b: &[u64; 6]) -> [u64; 6] {
    let mut out = [0; 6];
    let mut borrow = false;
    for (place, out) in out.iter_mut().enumerate() {
        let (low, first) = a[place].overflowing_sub(b[place]);
        let (low, second) = low.overflowing_sub(u64::from(borrow));
        (*out, borrow) = (low, first || second);
    }
    out
}

fn halve(a: &mut [u64; 6]) {
    for place in 0..6 {
        let above = if place < 5 { a[place + 1] << 63 } else { 0 };
        a[place] = a[place] >> 1 | above;
    }
}
