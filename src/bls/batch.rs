//! Several messages at once, under one key.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;

use super::draw::{Check, factors};
use super::g1::E1Point;
use super::hash::hash_to_point;
use super::pairing::Gt;
use super::{PublicKey, Signature, Tag};

impl PublicKey {
    /// Whether all of these are this key's signatures of their messages under the tag, by one pairing check; `true` if
    /// there are none. After a `false`, ask [`PublicKey::verify`] for each to learn which are not.
    ///
    /// The equations are added up, each times a random 128-bit number drawn from ChaCha20 under `randomness`. If one of
    /// them does not hold, the answer is `true` with probability at most 2^-128, provided that `randomness` is fresh and
    /// that nobody who made the signatures could know it. That each signature is in G1 is checked one by one: E1 has
    /// points of order 3, and a random multiple of one is the identity in a third of all cases.
    pub fn verify_all(&self, tag: &Tag, signed: &[(&[u8], Signature)], randomness: &[u8; 32]) -> bool {
        let hashed: Vec<(E1Point, Signature)> =
            signed.iter().map(|(message, signature)| (hash_to_point(message, tag), *signature)).collect();
        self.verify_all_hashed(&hashed, &mut factors(Check::Signatures, 0, randomness))
    }

    /// The same, for messages that have been hashed already.
    pub(super) fn verify_all_hashed(&self, signed: &[(E1Point, Signature)], stream: &mut ChaCha20Rng) -> bool {
        if let [] | [_] = signed {
            return signed.iter().all(|(hash, signature)| self.verify_hashed(hash, signature));
        }
        let in_order = |signature: &Signature| !signature.point().is_identity() && signature.is_in_subgroup();
        if self.is_identity() || !signed.iter().all(|(_, signature)| in_order(signature)) {
            return false;
        }
        let (mut signatures, mut hashes) = (Vec::with_capacity(signed.len()), Vec::with_capacity(signed.len()));
        for (hash, signature) in signed {
            let mut factor = [0; 16];
            stream.fill_bytes(&mut factor);
            signatures.push((*signature.point(), factor));
            hashes.push((*hash, factor));
        }
        let (signature, hash) = (E1Point::random_combination(&signatures), E1Point::random_combination(&hashes));
        Gt::misfit(&signature, &hash, self.point()).is_one()
    }
}
