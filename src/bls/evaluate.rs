//! Values of commitments, of many at one place and of one at many places.

use blst::blst_p2_affine;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::affine::{Adder, Chain};
use super::effort::{EVERYTHING_AT_ONCE, Effort};
use super::g2::G2Point;

/// Fewer vectors than these are evaluated one by one: an inversion shared by so few does not pay.
pub(super) const MIN_LANES: usize = if EVERYTHING_AT_ONCE { 1 } else { 6 };

/// What a coefficient costs in each of its steps before x = 0, in additions: to be added to, and multiplied.
const ADDITIONS_A_STEP: usize = 7;

/// What a point of a vector costs to be checked, in additions.
const ADDITIONS_A_POINT: usize = 20;

/// The values at `x` (at least 1) of several polynomials of one degree, given by their coefficients, the lowest first. Horner's
/// rule, all of them in step: the multiplications are by `x` itself, which is small.
pub(super) fn at_one_place(polynomials: &[&[G2Point]], x: u8) -> Vec<G2Point> {
    let mut adder = Adder::default();
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
/// Stirling numbers of the second kind. T(j,k) = k!·S(j,k) has T(j,k) = k·(T(j-1,k-1) + T(j-1,k)); turned into steps, step
/// s adds to each of the s highest coefficients its neighbour above, and takes them times 1, 2 … s. So every factor is at
/// most t, and in every step, before x = 0 and after, each number needs of the others its neighbour alone.
pub(super) fn at_first_places(coefficients: &[G2Point], n: usize, effort: Effort) -> Vec<G2Point> {
    let mut rest: Vec<blst_p2_affine> = coefficients.iter().map(|point| *point.as_affine()).collect();
    let Some(degree) = rest.len().checked_sub(1) else { return vec![G2Point::identity(); n] };
    let cost = |k: usize| ADDITIONS_A_STEP * k + n;
    let total: usize = (0..=degree).map(cost).sum();
    let threads = effort.for_points(total / ADDITIONS_A_POINT).threads.get();
    // A track has nothing to do before those above have come down to it, and nothing any more while those below finish. So
    // tracks of 1, 2 … threads … 2, 1 parts of the work: the first are short that the next begin soon, and who has done one
    // of them goes on with one of the last.
    let mut shares = (1..=threads).chain((1..threads).rev());
    let (mut tracks, mut above) = (Vec::new(), None);
    let (mut taken, mut end) = (0, shares.next().unwrap_or_default());
    for k in (0..=degree).rev() {
        taken += cost(k);
        if k == 0 || taken * threads.pow(2) >= total * end {
            end += shares.next().unwrap_or_default();
            let (below, next_above) = (k > 0).then(|| crossbeam_channel::bounded(degree + n)).unzip();
            let above = std::mem::replace(&mut above, next_above);
            tracks.push(Mutex::new(Some(Track { degree, n, lowest: k, points: rest.split_off(k), above, below })));
        }
    }
    // In this order: whatever a track waits for comes from one that is done or under way.
    let run = |track: &Mutex<Option<Track>>| track.lock().take().map(Track::run);
    let values = effort.map(&tracks, run).pop().flatten().unwrap_or_default();
    values.into_iter().map(G2Point::from_affine).collect()
}

/// Some neighbouring coefficients on their way to differences, and on from there.
struct Track {
    degree: usize,
    n: usize,
    /// The number of the first of them.
    lowest: usize,
    points: Vec<blst_p2_affine>,
    /// What the neighbour above the last is before each step in which it is needed; nothing if there is none.
    above: Option<Receiver<blst_p2_affine>>,
    /// Where the first goes, for the track below; nothing if there is none.
    below: Option<Sender<blst_p2_affine>>,
}

impl Track {
    /// What its first number is at 1, 2 … n.
    fn run(self) -> Vec<blst_p2_affine> {
        let Track { degree, n, lowest, mut points, above, below } = self;
        let mut adder = Adder::default();
        let mut values = Vec::with_capacity(n);
        for step in 1..=degree + n {
            let place = step.saturating_sub(degree);
            let changing = match place {
                0 => degree + 1 - step..degree + 1,
                // What no later value rests on need not be kept up.
                _ => 0..degree.min(n - place + 1),
            };
            if let Some(below) = &below
                && changing.contains(&(lowest - 1))
            {
                let _ = below.send(points[0]);
            }
            let own = changing.start.max(lowest)..changing.end.min(lowest + points.len());
            if !own.is_empty() {
                let lanes = own.start - lowest..own.end - lowest;
                let mut neighbours = points[lanes.start + 1..points.len().min(lanes.end + 1)].to_vec();
                if neighbours.len() < lanes.len() {
                    // No neighbour is as good as the identity. (A track that is gone too early has panicked, and so will this
                    // call.)
                    let neighbour = above.as_ref().and_then(|above| above.recv().ok());
                    neighbours.push(neighbour.unwrap_or_default());
                }
                adder.add(&mut points[lanes.clone()], &neighbours);
                if place == 0 {
                    adder.times_counting(&mut points[lanes], own.start + step - degree);
                }
            }
            if place > 0 {
                values.push(points[0]);
            }
        }
        values
    }
}
