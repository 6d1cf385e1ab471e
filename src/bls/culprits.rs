//! Which of many signatures of one message are bad, without checking each.
//!
//! Each signature σ and key Q make a claim: e(σ, g2) = e(H, Q), for the message's point H. Claims add, so one pairing
//! check tells whether all of a group of them hold, provided that the faults in it do not cancel; therefore each is
//! multiplied by a random number first. A group that fails is halved, and the failure of one half tells the other's.
//! Before it is halved, the claims are added once more, each times its place in the order: if exactly one of them is bad,
//! the second failure is the first to the power of that place, which names it (the exponentiation method of L. Law and
//! B. Matt, "Finding Invalid Signatures in Pairing-Based Batches", 2007).
//!
//! For this the random numbers may be tiny, because it proves nothing yet. The proof comes in the end, when all that were
//! not accused are checked at once with 64-bit numbers: if they are good, no other than the accused can have made their
//! groups fail. If they are not, faults have cancelled, or have looked like somebody else's; then all begins anew with
//! other numbers, and the third time everybody is checked alone.
//!
//! The pairing does not see components of small order, so whether signatures are in G1 is asked at last, of random sums.

use std::ops::Range;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;
use rand::seq::SliceRandom;

use super::draw::{Check, factors};
use super::effort::EVERYTHING_AT_ONCE;
use super::g1::E1Point;
use super::hash::hash_to_point;
use super::pairing::Gt;
use super::{G2Point, PublicKey, Signature, Tag, g1, g2};

/// So many are checked one by one: finding the bad ones otherwise takes no less.
const FEW: usize = if EVERYTHING_AT_ONCE { 0 } else { 4 };

/// The most that are looked through at once: as many as there are participants.
const BLOCK: usize = 254;

/// A claim is multiplied by one of so many powers of two, from one to 128. Faults that are made to deceive do so in about
/// one of as many attempts, and then the round was for nothing.
const FACTORS: u32 = 8;

/// How often faults may deceive before everybody is checked alone.
const MAX_ROUNDS: usize = 2;

/// Whether each of the signatures is its key's over the message: what [`PublicKey::verify`] says of each, for less work
/// than that if most of them are good. 3 bad ones among 100 take the time of 13 verifications.
///
/// The order of the checks and their random factors are drawn from ChaCha20 under `randomness`, which has to be fresh:
/// nobody who made the signatures may have known it. Then an answer differs from that of [`PublicKey::verify`] with
/// probability at most 2^-63. There is one exception: signatures that differ from good ones by a component of small order
/// pass with probability at most 2^-25, which harms nobody where a combination of them is verified.
///
/// With many bad ones (more than about one in five) it gives up and checks each, after half as many pairing checks in
/// vain.
pub fn verify_each(message: &[u8], tag: &Tag, signed: &[(PublicKey, Signature)], randomness: &[u8; 32]) -> Vec<bool> {
    let mut stream = factors(Check::Culprits, 0, randomness);
    verify_each_hashed(&hash_to_point(message, tag), signed, &mut stream)
}

/// The same, for a message that has been hashed already.
pub(super) fn verify_each_hashed(
    hash: &E1Point,
    signed: &[(PublicKey, Signature)],
    stream: &mut ChaCha20Rng,
) -> Vec<bool> {
    let block = |signed| Block { hash, signed }.verdicts(stream);
    signed.chunks(BLOCK).flat_map(block).collect()
}

/// At most 254 signatures of one message.
struct Block<'a> {
    hash: &'a E1Point,
    signed: &'a [(PublicKey, Signature)],
}

impl Block<'_> {
    fn verdicts(&self, stream: &mut ChaCha20Rng) -> Vec<bool> {
        // Identities fit nobody's key, and would fit the key that is the identity.
        let suspects: Vec<usize> = (0..self.signed.len())
            .filter(|at| !self.signed[*at].0.is_identity() && !self.signed[*at].1.point().is_identity())
            .collect();
        let good = self.good_at_once(&suspects, stream).unwrap_or_else(|| {
            suspects
                .iter()
                .copied()
                .filter(|at| self.signed[*at].0.verify_hashed(self.hash, &self.signed[*at].1))
                .collect()
        });
        let mut verdicts = vec![false; self.signed.len()];
        for at in good {
            verdicts[at] = true;
        }
        verdicts
    }

    /// The good ones among the suspects; `None` if they are better checked one by one.
    fn good_at_once(&self, suspects: &[usize], stream: &mut ChaCha20Rng) -> Option<Vec<usize>> {
        if suspects.len() <= FEW {
            return None;
        }
        for _ in 0..MAX_ROUNDS {
            let accused = Search::run(self, suspects, stream)?;
            let mut rest: Vec<usize> = suspects.iter().copied().filter(|at| !accused.contains(at)).collect();
            // Those outside G1 are asked as well: if it was they that made a group fail, somebody else is accused for it.
            if self.all_fit(&rest, stream) {
                let points: Vec<E1Point> = rest.iter().map(|at| *self.signed[*at].1.point()).collect();
                if !E1Point::all_in_subgroup(&points, stream) {
                    rest.retain(|at| self.signed[*at].1.is_in_subgroup());
                }
                return Some(rest);
            }
        }
        None
    }

    /// Whether all of these are good, but for components of small order; wrongly said with probability at most 2^-64.
    fn all_fit(&self, of: &[usize], stream: &mut ChaCha20Rng) -> bool {
        let (mut signatures, mut keys) = (Vec::with_capacity(of.len()), Vec::with_capacity(of.len()));
        for at in of {
            let (key, signature) = &self.signed[*at];
            let factor = stream.next_u64().to_le_bytes();
            signatures.push((*signature.point(), factor));
            keys.push((*key.point(), factor));
        }
        let (share, key) = (E1Point::random_combination(&signatures), G2Point::linear_combination(&keys));
        Gt::misfit(&share, self.hash, &key).is_one()
    }
}

/// A signature and its key, or a sum of such.
#[derive(Clone, Copy)]
struct Claim {
    signature: g1::Projective,
    key: g2::Projective,
}

impl Claim {
    fn nothing() -> Claim {
        Claim { signature: g1::Projective::identity(), key: g2::Projective::identity() }
    }

    fn of(key: &PublicKey, signature: &Signature) -> Claim {
        let key = g2::Projective::identity().plus_affine(key.point().as_affine());
        Claim { signature: g1::Projective::from_affine(signature.point()), key }
    }

    fn plus(&self, other: &Claim) -> Claim {
        Claim { signature: self.signature.plus(&other.signature), key: self.key.plus(&other.key) }
    }

    fn times(&self, factor: u8) -> Claim {
        Claim { signature: self.signature.times_small(factor), key: self.key.times_small(factor) }
    }
}

/// Halving until each bad one is alone. Places count the claims in random order, each times a random factor.
struct Search<'a> {
    hash: &'a E1Point,
    /// For each place, the sum of the claims before it; and the sum of all in the end.
    sums: Vec<Claim>,
    /// The sums of the first of these sums: the claim at place i is in the one at k just k - i times.
    sums_of_sums: Vec<Claim>,
    /// The places that are to blame.
    accused: Vec<usize>,
    /// How many pairing checks may still be made: with many bad ones it is cheaper to check each.
    checks_left: usize,
}

/// How far claims are from holding.
#[derive(Clone, Copy)]
struct Failure {
    /// Their sum.
    plain: Gt,
    /// Their sum, each times its place.
    by_place: Gt,
}

impl Failure {
    fn over(&self, divisor: &Failure) -> Failure {
        Failure { plain: self.plain.over(&divisor.plain), by_place: self.by_place.over(&divisor.by_place) }
    }
}

impl Search<'_> {
    /// Who is accused; `None` if there are too many of them to be found in this way.
    fn run(block: &Block<'_>, suspects: &[usize], stream: &mut ChaCha20Rng) -> Option<Vec<usize>> {
        let mut order = suspects.to_vec();
        order.shuffle(stream);
        let (mut sums, mut sums_of_sums) = (vec![Claim::nothing()], vec![Claim::nothing()]);
        let (mut sum, mut sum_of_sums) = (Claim::nothing(), Claim::nothing());
        for at in &order {
            let (key, signature) = &block.signed[*at];
            let factor = 1 << (stream.next_u32() % FACTORS);
            sum = sum.plus(&Claim::of(key, signature).times(factor));
            sum_of_sums = sum_of_sums.plus(&sum);
            sums.push(sum);
            sums_of_sums.push(sum_of_sums);
        }
        let checks_left = order.len() / 2;
        let mut search = Search { hash: block.hash, sums, sums_of_sums, accused: Vec::new(), checks_left };
        let plain = search.plain_until(order.len())?;
        if !plain.is_one() {
            let by_place = search.by_place_until(order.len(), &plain)?;
            let none = Failure { plain: Gt::one(), by_place: Gt::one() };
            search.blame(0..order.len(), &none, &Failure { plain, by_place })?;
        }
        Some(search.accused.iter().map(|place| order[*place]).collect())
    }

    /// Finds who is to blame for the failure of these claims, given that of all before them and that of all until their
    /// end. They do fail.
    fn blame(&mut self, places: Range<usize>, before: &Failure, until_end: &Failure) -> Option<()> {
        let failure = until_end.over(before);
        if let Some(place) = only_one(&places, &failure) {
            self.accused.push(place);
            return Some(());
        }
        // Not one alone of the two.
        if places.len() <= 2 {
            self.accused.extend(places);
            return Some(());
        }
        let middle = places.start + places.len() / 2;
        let (left, right) = (places.start..middle, middle..places.end);
        let plain = self.plain_until(middle)?;
        if plain == before.plain {
            return self.blame(right, before, until_end);
        }
        if plain == until_end.plain {
            return self.blame(left, before, until_end);
        }
        let until_middle = Failure { plain, by_place: self.by_place_until(middle, &plain)? };
        self.blame(left, before, &until_middle)?;
        self.blame(right, &until_middle, until_end)
    }

    /// How far the sum of the claims before this place is from holding.
    fn plain_until(&mut self, place: usize) -> Option<Gt> {
        self.check(|search| search.sums[place])
    }

    /// The same for their sum, each times its place, given the former.
    fn by_place_until(&mut self, place: usize, plain: &Gt) -> Option<Gt> {
        // Each times how far it is from here, taken from each times this place.
        Some(plain.power(place).over(&self.check(|search| search.sums_of_sums[place])?))
    }

    fn check(&mut self, sum: impl FnOnce(&Self) -> Claim) -> Option<Gt> {
        self.checks_left = self.checks_left.checked_sub(1)?;
        let sum = sum(self);
        Some(Gt::misfit(&sum.signature.to_affine(), self.hash, &sum.key.to_affine()))
    }
}

/// The one place whose claim explains the failure: where the plain one to the power of the place is that by place.
fn only_one(places: &Range<usize>, failure: &Failure) -> Option<usize> {
    // Small steps up to the width of a giant's, and then as a giant.
    let width = places.len().isqrt() + 1;
    let step = |power: &Gt| Some(power.times(&failure.plain));
    let small: Vec<Gt> = std::iter::successors(Some(Gt::one()), step).take(width).collect();
    let giant = failure.plain.power(width);
    let mut goal = failure.by_place.over(&failure.plain.power(places.start));
    for start in places.clone().step_by(width) {
        if let Some(step) = small.iter().position(|power| *power == goal) {
            return Some(start + step).filter(|place| places.contains(place));
        }
        goal = goal.over(&giant);
    }
    None
}
