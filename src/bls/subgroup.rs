//! Whether many points of E2 are in G2, at once.
//!
//! # Why a random sum tells
//!
//! E2 has h2·r points, and the smallest prime that divides the cofactor h2 = 13²·23²·2713·11953·262069·p448 is 13. Take
//! points P_1 … P_N of E2, and a digit c_i for each, drawn from m ≤ 13 different small numbers. If some P_i is not in G2,
//! its class in E2/G2 has an order of at least 13; then, whatever the other digits are, the m values of c_i·P_i lie in m
//! different classes, and at most one of them brings the sum into G2. So Σ c_i·P_i passes for a point of G2 with
//! probability at most 1/m, and k sums with digits of their own with the product of their 1/m. (Larger digits are of no use:
//! a point of order 13 cannot tell c from c + 13. That is why one sum with large random factors would be wrong.)
//!
//! The digits must be drawn after the points are fixed, by a generator that nobody who made the points can foresee: then
//! the bound holds for each try, and whoever tries is found out by the one-by-one check that follows a failure.
//!
//! # Why it is cheap
//!
//! Three sums share one pass over the points: a point goes into the bucket of its three digits (or, negated, of the
//! opposite ones), and the sums are read off the buckets. All additions are complete on E2 (see [`affine`](super::affine));
//! no endomorphism is used before the points are known to be in G2.

use blst::blst_p2_affine;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use super::affine::{Adder, negated};
use super::effort::{EVERYTHING_AT_ONCE, Effort, Strength};
use super::g2::{E2Point, Projective};

/// How many numbers the digits of the sums of one pass are drawn from, each odd and at most 13.
type Shape = &'static [usize];

/// The shapes there are to choose from, from few buckets to many.
const SHAPES: [Shape; 7] = [&[13], &[9, 9], &[13, 13], &[9, 7, 5], &[9, 9, 7], &[13, 13, 11], &[13, 13, 13]];

/// What the check of one sum costs, in additions.
const CHECK_COST: usize = 150;

/// What the check of one point by itself costs, in additions.
const SINGLE_COST: usize = 110;

/// Passes over the points, all of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    shape: Shape,
    passes: usize,
}

impl Plan {
    /// The way to check so many points that is done first on so many threads; `None` if that is one by one.
    fn for_points(points: usize, bits: f64, threads: usize) -> Option<Plan> {
        let plan = |shape: Shape| {
            let buckets: usize = shape.iter().product();
            let passes = (bits / (buckets as f64).log2()).ceil() as usize;
            (passes.div_ceil(threads) * (points + buckets + CHECK_COST * shape.len()), Plan { shape, passes })
        };
        let (cost, plan) = SHAPES.into_iter().map(plan).min_by_key(|(cost, _)| *cost)?;
        (EVERYTHING_AT_ONCE || cost < points * SINGLE_COST / threads).then_some(plan)
    }
}

/// Whether all points are in G2. Points outside are overlooked with the probability that `effort` allows, provided that
/// nobody who made the points knows `random`'s state; points inside never fail.
pub(super) fn all_in_subgroup(points: &[&[E2Point]], random: &mut ChaCha20Rng, effort: Effort) -> bool {
    let bits = match effort.strength {
        Strength::Bits64 => 64.0,
        Strength::Bits128 => 128.0,
    };
    let count = points.iter().map(|part| part.len()).sum();
    match Plan::for_points(count, bits, effort.threads.get()) {
        None => {
            let checked = effort.map(points, |part| part.iter().all(E2Point::is_in_subgroup));
            checked.into_iter().all(|good| good)
        }
        Some(Plan { shape, passes }) => {
            let seeds: Vec<[u8; 32]> = (0..passes).map(|_| seed(random)).collect();
            let passed = effort.map(&seeds, |seed| pass(points, shape, &mut ChaCha20Rng::from_seed(*seed)));
            passed.into_iter().all(|passed| passed)
        }
    }
}

/// One pass: as many random sums as the shape has digits, each checked.
fn pass(points: &[&[E2Point]], shape: Shape, random: &mut ChaCha20Rng) -> bool {
    let buckets: usize = shape.iter().product();
    let middle = buckets / 2;
    // Each point with its bucket: 0 where all digits are zero, otherwise half of the buckets, for the other half hold the
    // opposite digits.
    let mut sizes = vec![0; middle + 1];
    let drawn: Vec<(usize, bool)> = points
        .iter()
        .flat_map(|part| part.iter())
        .map(|_| {
            let value = below(random, buckets);
            let bucket = value.abs_diff(middle);
            sizes[bucket] += 1;
            (bucket, value < middle)
        })
        .collect();
    let mut next: Vec<usize> =
        sizes[1..].iter().scan(0, |end, size| Some(std::mem::replace(end, *end + size))).collect();
    let mut sorted = vec![blst_p2_affine::default(); drawn.len() - sizes[0]];
    for (point, (bucket, negative)) in points.iter().flat_map(|part| part.iter()).zip(drawn) {
        if let Some(next) = bucket.checked_sub(1).map(|bucket| &mut next[bucket]) {
            sorted[*next] = if negative { negated(point.as_affine()) } else { *point.as_affine() };
            *next += 1;
        }
    }
    let mut adder = Adder::default();
    let sums = adder.sum_groups(sorted, &sizes[1..]);
    totals(&mut adder, shape, sums).iter().all(Projective::is_in_subgroup)
}

/// For each digit of the shape, the sum of the buckets times that digit. `sums` are those of buckets 1, 2, 3 …
///
/// A bucket's number is its digits written one after the other, each from -(m-1)/2 to (m-1)/2 and in base m. So the last
/// digit is what is left of it; and its last digit taken away, it is a bucket of the shape without that.
fn totals(adder: &mut Adder, shape: Shape, sums: Vec<blst_p2_affine>) -> Vec<Projective> {
    let Some((&base, shorter)) = shape.split_last() else { return Vec::new() };
    let half = base / 2;
    let parts = |bucket: usize| {
        let rest = (bucket + half) / base;
        (rest, bucket as isize - (rest * base) as isize)
    };
    let rests = shorter.iter().product::<usize>() / 2;
    let mut by_digit = vec![Vec::new(); half];
    let mut by_rest = vec![Vec::new(); rests];
    for (bucket, sum) in (1..).zip(&sums) {
        let (rest, digit) = parts(bucket);
        if let Some(group) = digit.unsigned_abs().checked_sub(1) {
            by_digit[group].push(if digit < 0 { negated(sum) } else { *sum });
        }
        if let Some(group) = rest.checked_sub(1) {
            by_rest[group].push(*sum);
        }
    }
    let mut sum_each = |groups: Vec<Vec<blst_p2_affine>>| {
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        adder.sum_groups(groups.concat(), &sizes)
    };
    let (digits, rests) = (sum_each(by_digit), sum_each(by_rest));
    // Σ d·M_d, from the highest digit: each M_d is added once for every digit up to d.
    let (mut running, mut total) = (Projective::identity(), Projective::identity());
    for marginal in digits.iter().rev() {
        running = running.plus_affine(marginal);
        total = total.plus(&running);
    }
    let mut all = totals(adder, shorter, rests);
    all.push(total);
    all
}

/// A number below `limit`, all equally likely.
fn below(random: &mut ChaCha20Rng, limit: usize) -> usize {
    let limit = limit as u32;
    let fair = u32::MAX - u32::MAX % limit;
    loop {
        let drawn = random.next_u32();
        if drawn < fair {
            return (drawn % limit) as usize;
        }
    }
}

/// The seed of a generator for a thread of its own.
fn seed(random: &mut ChaCha20Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    random.fill_bytes(&mut seed);
    seed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::vector::UncheckedVector;
    use crate::bls::{Polynomial, small_order};

    /// Tries of one pass that are counted.
    const TRIES: u32 = 2000;

    fn point(text: &str) -> E2Point {
        let bytes = crate::hex::decode(text).unwrap();
        UncheckedVector::decode(&bytes, 1).unwrap().points()[0]
    }

    fn honest(count: usize) -> Vec<E2Point> {
        let vector = Polynomial::from_seed(&[1; 32], count - 1).unwrap().commit();
        let bytes = vector.encode(crate::bls::VectorEncoding::Uncompressed);
        UncheckedVector::decode(&bytes, count).unwrap().points().to_vec()
    }

    /// How often one pass of this shape takes the points for good.
    fn accepted(points: &[E2Point], shape: Shape) -> u32 {
        let mut seed = [0; 32];
        rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed).unwrap();
        let mut random = ChaCha20Rng::from_seed(seed);
        (0..TRIES).map(|_| u32::from(pass(&[points], shape, &mut random))).sum()
    }

    /// Whether a count is what so many tries with this chance come to, within six standard deviations.
    fn is_expected(count: u32, chance: f64) -> bool {
        let (expected, tries) = (f64::from(TRIES) * chance, f64::from(TRIES));
        (f64::from(count) - expected).abs() <= 6.0 * (tries * chance * (1.0 - chance)).sqrt()
    }

    #[test]
    fn a_pass_takes_bad_points_for_good_as_often_as_theory_says_and_good_ones_always() {
        assert_eq!(accepted(&honest(6), &[13, 13]), TRIES);
        for (order, alone, within) in small_order::SMALL_ORDERS {
            for bad in [alone, within] {
                let mut points = honest(6);
                points[2] = point(bad);
                for (shape, chance) in [(&[13][..], 1.0 / 13.0), (&[9, 9], 1.0 / 81.0), (&[13, 13], 1.0 / 169.0)] {
                    let count = accepted(&points, shape);
                    assert!(is_expected(count, chance), "order {order}, shape {shape:?}: {count} of {TRIES}");
                }
                // Two that cancel pass where their digits are the same, or differ by a multiple of the order: no more often.
                points[4] = E2Point::from_affine(negated(point(alone).as_affine()));
                points[2] = point(alone);
                let count = accepted(&points, &[13]);
                assert!(is_expected(count, 1.0 / 13.0), "order {order}, a pair: {count} of {TRIES}");
            }
        }
    }

    #[test]
    fn every_plan_is_as_strong_as_asked_for_and_no_digit_is_drawn_from_more_than_thirteen() {
        for (points, bits) in
            [10, 60, 100, 1000, 5000, 32_131, 1 << 20].into_iter().flat_map(|n| [(n, 64.0), (n, 128.0)])
        {
            let plan = |threads| Plan::for_points(points, bits, threads);
            let Some(Plan { shape, passes }) = plan(1).or(plan(2)) else { continue };
            assert!(shape.iter().all(|base| base % 2 == 1 && *base <= 13));
            let miss: f64 = shape.iter().map(|base| (*base as f64).log2()).sum::<f64>() * passes as f64;
            assert!(miss >= bits, "{points} points, {bits} bits: {shape:?}, {passes} passes");
        }
    }
}
