//! Values of commitments, of many at one place and of one at many places.

use std::ops::RangeInclusive;

use blst::blst_p2_affine;

use super::affine::{Adder, Chain};
use super::effort::Effort;
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
/// Stirling numbers of the second kind; T(j,k) = k!·S(j,k) has T(j,k) = k·(T(j-1,k-1) + T(j-1,k)). So coefficient k turns
/// into its difference in k rounds, of which round i makes it i times the sum of itself and of its neighbour above, after
/// that one's round i. No factor is greater than t.
pub(super) fn at_first_places(coefficients: &[G2Point], n: usize, effort: Effort) -> Vec<G2Point> {
    let points: Vec<blst_p2_affine> = coefficients.iter().map(|point| *point.as_affine()).collect();
    let Some((constant, rest)) = points.split_first() else { return vec![G2Point::identity(); n] };
    let degree = rest.len();
    let mut differences = vec![*constant];
    if effort.threads.get() > 1 && degree > 1 {
        // What the lower half lacks of the upper one is what its lowest coefficient is after each of the first rounds.
        let half = degree / 2;
        let upper = Rounds { lowest: half + 1, points: rest[half..].to_vec(), rounds: 1..=half, above: Vec::new() };
        let (upper, above) = upper.run();
        let halves = [
            Rounds { lowest: 1, points: rest[..half].to_vec(), rounds: 1..=half, above },
            Rounds { lowest: half + 1, points: upper, rounds: half + 1..=degree, above: Vec::new() },
        ];
        differences.extend(effort.map(&halves, |half| half.clone().run().0).concat());
    } else {
        let all = Rounds { lowest: 1, points: rest.to_vec(), rounds: 1..=degree, above: Vec::new() };
        differences.extend(all.run().0);
    }
    let mut adder = Adder::new();
    (1..=n)
        .map(|place| {
            // What no later value rests on need not be kept up.
            let needed = degree.min(n - place + 1);
            let above = differences[1..=needed].to_vec();
            adder.add(&mut differences[..needed], &above);
            G2Point::from_affine(differences[0])
        })
        .collect()
}

/// Some rounds of some neighbouring coefficients on their way to differences.
#[derive(Clone)]
struct Rounds {
    /// The number of the first coefficient.
    lowest: usize,
    points: Vec<blst_p2_affine>,
    rounds: RangeInclusive<usize>,
    /// The neighbour above the last coefficient after each of the rounds; nothing if there is none.
    above: Vec<blst_p2_affine>,
}

impl Rounds {
    /// The coefficients after these rounds, and the lowest one after each of those it took part in.
    fn run(mut self) -> (Vec<blst_p2_affine>, Vec<blst_p2_affine>) {
        let mut adder = Adder::new();
        let mut lowest_after = Vec::new();
        let (first, last) = self.rounds.into_inner();
        let width = self.points.len();
        // In wave w, the highest coefficient but w is in its first round, and the ones above it in the rounds after that, as
        // far as there are any: what each needs of its neighbour was made in the wave before. Coefficient k is done after
        // round k, so all are once the lowest is, be it after its own last round or after the last of these.
        for wave in 0..(width + last.min(self.lowest)).saturating_sub(first) {
            let begin = first + (wave + 1).saturating_sub(width);
            let end = last.min(first + wave);
            let start = width - 1 + begin - first - wave;
            let lanes = start..start + end - begin + 1;
            let mut neighbours = self.points[lanes.start + 1..width.min(lanes.end + 1)].to_vec();
            if neighbours.len() < lanes.len() {
                neighbours.push(self.above.get(end - first).copied().unwrap_or_default());
            }
            adder.add(&mut self.points[lanes.clone()], &neighbours);
            adder.times_counting(&mut self.points[lanes.clone()], begin);
            if lanes.start == 0 {
                lowest_after.push(self.points[0]);
            }
        }
        (self.points, lowest_after)
    }
}
