//! Values of commitments, of many at one place and of one at many places.

use blst::blst_p2_affine;

use super::affine::{Adder, Chain};
use super::g2::G2Point;

/// So few vectors are evaluated one by one: an inversion shared by so few does not pay.
pub(super) const MIN_LANES: usize = 6;

/// The values at `x` (at least 1) of several polynomials of one degree, given by their coefficients, the lowest first. Horner's
/// rule, all of them in step: the multiplications are by `x` itself, which is small.
pub(super) fn at_one_place(polynomials: &[&[G2Point]], x: u8) -> Vec<G2Point> {
    let mut adder = Adder::new();
    let coefficients = |k: usize| polynomials.iter().map(|polynomial| *polynomial[k].as_affine()).collect::<Vec<_>>();
    let length = polynomials.iter().map(|polynomial| polynomial.len()).min().unwrap_or(0);
    let Some(highest) = length.checked_sub(1) else { return vec![G2Point::identity(); polynomials.len()] };
    let chain = Chain::to(x);
    let mut values = coefficients(highest);
    for k in (0..highest).rev() {
        adder.times_and_add(&mut values, &chain, &coefficients(k));
    }
    values.into_iter().map(G2Point::from_affine).collect()
}

/// The values at 1, 2 … `n` of one polynomial, given by its coefficients, the lowest first.
///
/// By forward differences: when the differences Δ^k P(x) for k = 0 … t are known at one x, each is one addition at the next
/// (Knuth, "The Art of Computer Programming", volume 2, section 4.6.4). At x = 0 they are Δ^k P(0) = Σ_j S(j,k)·k!·a_j, with
/// Stirling numbers of the second kind. T(j,k) = k!·S(j,k) has T(j,k) = k·(T(j-1,k-1) + T(j-1,k)); turned into rounds over
/// the coefficients, round r replaces the r highest of them by b_k := i·(b_k + b_(k+1)) with i = 1 … r. So every factor is
/// at most t, and a round is one batch.
pub(super) fn at_first_places(coefficients: &[G2Point], n: usize) -> Vec<G2Point> {
    let mut adder = Adder::new();
    let mut differences: Vec<blst_p2_affine> = coefficients.iter().map(|point| *point.as_affine()).collect();
    let degree = differences.len().saturating_sub(1);
    for round in 1..=degree {
        let lanes = &mut differences[degree + 1 - round..];
        let mut next = lanes[1..].to_vec();
        next.push(blst_p2_affine::default());
        adder.add(lanes, &next);
        adder.times_counting(lanes);
    }
    (1..=n)
        .map(|place| {
            // What no later value rests on need not be kept up.
            let needed = degree.min(n - place + 1);
            let above = differences[1..=needed].to_vec();
            adder.add(&mut differences[..needed], &above);
            G2Point::from_affine(differences.first().copied().unwrap_or_default())
        })
        .collect()
}
