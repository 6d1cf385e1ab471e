//! Additions of many points of E2 at once, in affine coordinates: all additions of a batch share one inversion, which makes
//! each of them about half as dear as by itself (Montgomery's trick; Cohen, "A Course in Computational Algebraic Number
//! Theory", algorithm 10.3.4).
//!
//! Everything here is complete: it gives the right sum for all points of E2, whatever their order, equal ones, opposite ones
//! and the identity among them. Nothing is constant-time, and nothing is for secrets.

use blst::{blst_fp2, blst_p2_affine};

use super::fp2::{self, Inverter};

/// How many additions share an inversion: so many that it costs next to nothing, and so few that they stay in the cache.
const BLOCK: usize = 192;

/// Adds points of E2, lane by lane. Keeps its scratch from one batch to the next.
#[derive(Default)]
pub(super) struct Adder {
    /// By what each lane's slope is divided, then its inverse, then the slope.
    slopes: Vec<blst_fp2>,
    /// The same for second chords.
    second_slopes: Vec<blst_fp2>,
    /// Where first chords end.
    middles: Vec<blst_fp2>,
    inverter: Inverter,
}

impl Adder {
    /// Adds to each point the one at its place in `others`.
    pub(super) fn add(&mut self, points: &mut [blst_p2_affine], others: &[blst_p2_affine]) {
        for (points, others) in points.chunks_mut(BLOCK).zip(others.chunks(BLOCK)) {
            let slopes = lanes(&mut self.slopes, points.len());
            for ((point, other), run) in points.iter().zip(others).zip(slopes.iter_mut()) {
                if !is_chord(point, other, run) {
                    match is_tangent(point, other) {
                        // Not zero: E2 has no points of order two.
                        true => fp2::add_into(run, &point.y, &point.y),
                        false => *run = fp2::NOT_ZERO,
                    }
                }
            }
            self.inverter.invert_all(slopes);
            let mut rise = blst_fp2::default();
            for ((point, other), slope) in points.iter_mut().zip(others).zip(slopes) {
                if is_identity(other) {
                    continue;
                } else if is_identity(point) {
                    *point = *other;
                } else if point.x != other.x {
                    fp2::sub_into(&mut rise, &other.y, &point.y);
                    fp2::mul_assign(slope, &rise);
                    go_to_third(point, &other.x, slope);
                } else if point.y == other.y {
                    double(point, slope);
                } else {
                    *point = blst_p2_affine::default();
                }
            }
        }
    }

    /// Doubles each point.
    pub(super) fn double(&mut self, points: &mut [blst_p2_affine]) {
        for points in points.chunks_mut(BLOCK) {
            let slopes = lanes(&mut self.slopes, points.len());
            for (point, run) in points.iter().zip(slopes.iter_mut()) {
                match is_identity(point) {
                    true => *run = fp2::NOT_ZERO,
                    false => fp2::add_into(run, &point.y, &point.y),
                }
            }
            self.inverter.invert_all(slopes);
            for (point, inverse) in points.iter_mut().zip(slopes) {
                if !is_identity(point) {
                    double(point, inverse);
                }
            }
        }
    }

    /// Doubles each point and adds the one at its place in `others`: a chord and another chord from its end, which saves the
    /// ordinate between them (Eisenträger, Lauter and Montgomery, "Fast elliptic curve arithmetic and improved Weil pairing
    /// evaluation", section 2).
    pub(super) fn double_and_add(&mut self, points: &mut [blst_p2_affine], others: &[blst_p2_affine]) {
        for (points, others) in points.chunks_mut(BLOCK).zip(others.chunks(BLOCK)) {
            // Lanes that are no two chords, of which honest vectors have none.
            let mut odd: Vec<usize> = Vec::new();
            let first = lanes(&mut self.slopes, points.len());
            for (lane, (point, other)) in points.iter().zip(others).enumerate() {
                if !is_chord(point, other, &mut first[lane]) {
                    odd.push(lane);
                    first[lane] = fp2::NOT_ZERO;
                }
            }
            self.inverter.invert_all(first);
            let middles = lanes(&mut self.middles, points.len());
            let second = lanes(&mut self.second_slopes, points.len());
            let mut rise = blst_fp2::default();
            for (lane, (point, other)) in points.iter().zip(others).enumerate() {
                let (slope, middle, run) = (&mut first[lane], &mut middles[lane], &mut second[lane]);
                fp2::sub_into(&mut rise, &other.y, &point.y);
                fp2::mul_assign(slope, &rise);
                third_into(middle, &point.x, &other.x, slope);
                fp2::sub_into(run, &point.x, middle);
                if fp2::is_zero(run) {
                    if !odd.contains(&lane) {
                        odd.push(lane);
                    }
                    *run = fp2::NOT_ZERO;
                }
            }
            self.inverter.invert_all(second);
            let mut odd_points: Vec<blst_p2_affine> = odd.iter().map(|lane| points[*lane]).collect();
            for (lane, point) in points.iter_mut().enumerate() {
                let slope = &mut second[lane];
                fp2::add_into(&mut rise, &point.y, &point.y);
                fp2::mul_assign(slope, &rise);
                fp2::sub_assign(slope, &first[lane]);
                go_to_third(point, &middles[lane], slope);
            }
            if !odd.is_empty() {
                let odd_others: Vec<blst_p2_affine> = odd.iter().map(|lane| others[*lane]).collect();
                self.double(&mut odd_points);
                self.add(&mut odd_points, &odd_others);
                odd.iter().zip(odd_points).for_each(|(lane, point)| points[*lane] = point);
            }
        }
    }

    /// Takes each point times the chain's factor, and adds the one at its place in `others`.
    pub(super) fn times_and_add(&mut self, points: &mut [blst_p2_affine], chain: &Chain, others: &[blst_p2_affine]) {
        let (mut base, mut minus) = (points.to_vec(), Vec::new());
        let (last, steps) = match chain.0.split_last() {
            Some((Step::Double, steps)) => (Step::Double, steps),
            _ => (Step::Add, chain.0.as_slice()),
        };
        for step in steps {
            match step {
                Step::Double => self.double(points),
                Step::DoubleAndAdd => self.double_and_add(points, &base),
                Step::DoubleAndSubtract => {
                    if minus.is_empty() {
                        minus = base.iter().map(negated).collect();
                    }
                    self.double_and_add(points, &minus);
                }
                Step::Add => self.add(points, &base),
                Step::Rebase => {
                    base.copy_from_slice(points);
                    minus.clear();
                }
            }
        }
        match last {
            Step::Double => self.double_and_add(points, others),
            _ => self.add(points, others),
        }
    }

    /// Takes the first point times `first`, which is not zero, the second times `first + 1`, and so on.
    pub(super) fn times_counting(&mut self, points: &mut [blst_p2_affine], first: usize) {
        let base = points.to_vec();
        let digits: Vec<Vec<i8>> = (first..).map(signed_digits).take(points.len()).collect();
        let longest = digits.last().map_or(0, Vec::len);
        let mut added = Vec::new();
        for after in (0..longest.saturating_sub(1)).rev() {
            // The greater a number, the longer: what has begun already is the rest of the lanes.
            let begun = digits.partition_point(|digits| digits.len() <= after + 1);
            self.double(&mut points[begun..]);
            let digit = |lane: usize| digits[lane][digits[lane].len() - after - 1];
            let lanes: Vec<usize> = (begun..points.len()).filter(|lane| digit(*lane) != 0).collect();
            let signed = |lane: usize| if digit(lane) == 1 { base[lane] } else { negated(&base[lane]) };
            let others: Vec<blst_p2_affine> = lanes.iter().map(|lane| signed(*lane)).collect();
            added.clear();
            added.extend(lanes.iter().map(|lane| points[*lane]));
            self.add(&mut added, &others);
            lanes.iter().zip(&added).for_each(|(lane, point)| points[*lane] = *point);
        }
    }

    /// The sums of the groups that the points come in, one after the other; `sizes` says how many there are of each. An empty
    /// group's sum is the identity.
    pub(super) fn sum_groups(&mut self, mut points: Vec<blst_p2_affine>, sizes: &[usize]) -> Vec<blst_p2_affine> {
        let mut sizes = sizes.to_vec();
        let (mut left, mut right, mut places) = (Vec::new(), Vec::new(), Vec::new());
        // In each round every group is folded upon itself: two neighbours become one. The results move to the front, where
        // everything has been read by then.
        while sizes.iter().any(|size| *size > 1) {
            let (mut from, mut to) = (0, 0);
            for size in &mut sizes {
                let mut pairs = points[from..from + *size].chunks_exact(2);
                for pair in &mut pairs {
                    left.push(pair[0]);
                    right.push(pair[1]);
                    places.push(to);
                    to += 1;
                }
                if let [single] = *pairs.remainder() {
                    points[to] = single;
                    to += 1;
                }
                from += *size;
                *size = size.div_ceil(2);
                if left.len() >= BLOCK {
                    self.fold(&mut points, &mut left, &mut right, &mut places);
                }
            }
            self.fold(&mut points, &mut left, &mut right, &mut places);
            points.truncate(to);
        }
        let mut points = points.into_iter();
        sizes.iter().map(|size| if *size == 0 { None } else { points.next() }.unwrap_or_default()).collect()
    }

    /// Adds `left` and `right`, and puts the sums where they belong.
    fn fold(
        &mut self,
        points: &mut [blst_p2_affine],
        left: &mut Vec<blst_p2_affine>,
        right: &mut Vec<blst_p2_affine>,
        places: &mut Vec<usize>,
    ) {
        self.add(left, right);
        right.clear();
        places.drain(..).zip(left.drain(..)).for_each(|(place, sum)| points[place] = sum);
    }
}

/// How to multiply by a small number: what to do one after the other with the point itself, the base to begin with.
pub(super) struct Chain(Vec<Step>);

#[derive(Clone, Copy)]
enum Step {
    Double,
    DoubleAndAdd,
    DoubleAndSubtract,
    /// Add the base.
    Add,
    /// What has been reached is the base from here on.
    Rebase,
}

impl Step {
    /// What it costs, in products of Fp.
    fn cost(self) -> u32 {
        match self {
            Step::Double => 18,
            Step::DoubleAndAdd | Step::DoubleAndSubtract => 28,
            Step::Add => 16,
            Step::Rebase => 0,
        }
    }
}

impl Chain {
    /// The cheapest chain of these: along the number's digits, or by one of its divisors and then by the rest.
    pub(super) fn to(number: u8) -> Chain {
        let by_digits = match number {
            3 => vec![Step::Double, Step::Add],
            _ => signed_digits(number.into())
                .iter()
                .skip(1)
                .map(|digit| match digit {
                    0 => Step::Double,
                    1 => Step::DoubleAndAdd,
                    _ => Step::DoubleAndSubtract,
                })
                .collect(),
        };
        let divisors = (2..16).filter(|divisor| *divisor < number && number.is_multiple_of(*divisor));
        let by_divisor = |divisor: u8| {
            let (Chain(mut steps), Chain(rest)) = (Chain::to(divisor), Chain::to(number / divisor));
            steps.push(Step::Rebase);
            steps.extend(rest);
            Chain(steps)
        };
        let cost = |chain: &Chain| chain.0.iter().map(|step| step.cost()).sum::<u32>();
        std::iter::once(Chain(by_digits)).chain(divisors.map(by_divisor)).min_by_key(cost).unwrap_or(Chain(Vec::new()))
    }
}

/// The digits -1, 0 and 1 of a number other than zero, the highest first: the form in which no two neighbours are both
/// other than zero.
fn signed_digits(number: usize) -> Vec<i8> {
    let mut rest = number as i64;
    let mut digits = Vec::with_capacity(9);
    while rest != 0 {
        let digit = if rest & 1 == 0 { 0 } else { 2 - (rest & 3) };
        digits.push(digit as i8);
        rest = (rest - digit) / 2;
    }
    digits.reverse();
    digits
}

/// So many places for numbers, in which anything may be.
fn lanes(scratch: &mut Vec<blst_fp2>, count: usize) -> &mut [blst_fp2] {
    scratch.resize(count, blst_fp2::default());
    scratch
}

pub(super) fn negated(point: &blst_p2_affine) -> blst_p2_affine {
    let mut negated = *point;
    fp2::negate_if(&mut negated.y, true);
    negated
}

/// The identity has both coordinates zero, which no point of the curve has.
#[inline(always)]
pub(super) fn is_identity(point: &blst_p2_affine) -> bool {
    fp2::is_zero(&point.x) && fp2::is_zero(&point.y)
}

fn is_tangent(point: &blst_p2_affine, other: &blst_p2_affine) -> bool {
    point == other && !is_identity(point)
}

/// Whether the line through two points has just one more point; if so, `run` is then the difference of their abscissas.
#[inline(always)]
fn is_chord(point: &blst_p2_affine, other: &blst_p2_affine, run: &mut blst_fp2) -> bool {
    fp2::sub_into(run, &other.x, &point.x);
    !(fp2::is_zero(run) || is_identity(point) || is_identity(other))
}

/// Doubles a point. `inverse` is that of twice its ordinate, and becomes the tangent's slope.
#[inline(always)]
fn double(point: &mut blst_p2_affine, inverse: &mut blst_fp2) {
    let (mut square, mut rise) = (blst_fp2::default(), blst_fp2::default());
    fp2::square_into(&mut square, &point.x);
    fp2::add_into(&mut rise, &square, &square);
    fp2::add_assign(&mut rise, &square);
    fp2::mul_assign(inverse, &rise);
    let x = point.x;
    go_to_third(point, &x, inverse);
}

/// The abscissa of the third point on the line of this slope through two points, given by theirs.
#[inline(always)]
fn third_into(third: &mut blst_fp2, one: &blst_fp2, other: &blst_fp2, slope: &blst_fp2) {
    fp2::square_into(third, slope);
    fp2::sub_assign(third, one);
    fp2::sub_assign(third, other);
}

/// Moves a point to the third point on the line of this slope through it and another abscissa, mirrored.
#[inline(always)]
fn go_to_third(point: &mut blst_p2_affine, other: &blst_fp2, slope: &blst_fp2) {
    let (mut third, mut rise) = (blst_fp2::default(), blst_fp2::default());
    third_into(&mut third, &point.x, other, slope);
    fp2::sub_assign(&mut point.x, &third);
    fp2::mul_into(&mut rise, slope, &point.x);
    let y = point.y;
    fp2::sub_into(&mut point.y, &rise, &y);
    point.x = third;
}
