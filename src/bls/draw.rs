//! Where the checks of many things at once draw their random factors from.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;

/// What is checked. One caller's randomness often serves several checks, one after the other: none of them may draw what
/// another has drawn, since what a check's verdict shows could then be used against the next.
#[derive(Clone, Copy)]
pub(super) enum Check {
    Subgroup = 1,
    Shares = 2,
    Signatures = 3,
    Culprits = 4,
    Combination = 5,
}

/// The factors of one part of a check: ChaCha20 under `randomness`, in a stream that nothing else has.
pub(super) fn factors(check: Check, part: u32, randomness: &[u8; 32]) -> ChaCha20Rng {
    let mut stream = ChaCha20Rng::from_seed(*randomness);
    stream.set_stream(u64::from(check as u32) << 32 | u64::from(part));
    stream
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chacha20::rand_core::Rng;

    use super::*;

    #[test]
    fn two_checks_under_one_seed_have_no_factor_in_common() {
        let mut drawn = BTreeSet::new();
        let checks = [Check::Subgroup, Check::Shares, Check::Signatures, Check::Culprits, Check::Combination];
        for (check, part) in checks.into_iter().flat_map(|check| (0..8).map(move |part| (check, part))) {
            let mut stream = factors(check, part, &[7; 32]);
            for _ in 0..64 {
                assert!(drawn.insert(stream.next_u64()), "part {part} of check {}", check as u32);
            }
        }
    }
}
