//! BLS12-381: secrets, Feldman commitments, signatures, and the combination of signature shares.
//!
//! Everything the protocol computes on the curve is here, over the `blst` library, and nothing here knows the protocol.
//! A dealer draws a [`Polynomial`], hands each participant its [`Polynomial::share`], and publishes the
//! [`CommitmentVector`]. Whoever holds the commitment can tell a right share from a wrong one ([`share_matches`],
//! [`shares_match_all`]) and knows everybody's public key share ([`CommitmentVector::evaluate_all`]). Commitments add
//! like polynomials, which is how a group key is made that no one dealt alone. Any t+1 shares of the key then sign for
//! the group:
//!
//! ```
//! use dkg_engine::bls::{Index, Polynomial, PublicKey, RANDOM_BEACON_TAG, SecretKey, SignatureCollector};
//!
//! // Two of three: a polynomial of degree 1. (One dealer here; in a run, the sum of several.)
//! let polynomial = Polynomial::from_seed(&[42; 32], 1)?;
//! let commitment = polynomial.commit();
//! let group_key = PublicKey::from(commitment.constant_term());
//! let key_shares: Vec<PublicKey> = commitment.evaluate_all(3).into_iter().map(PublicKey::from).collect();
//!
//! let message = b"view 1000";
//! let mut collector = SignatureCollector::new(group_key, key_shares, 1, message, &RANDOM_BEACON_TAG)?;
//! for participant in Index::all(3).skip(1) {
//!     let key = SecretKey::from_scalar(polynomial.share(participant)).expect("shares are zero with probability 1/r");
//!     collector.add(participant, &key.sign(message, &RANDOM_BEACON_TAG).to_bytes())?;
//! }
//!
//! // The shares are combined, and the result is verified. Fresh randomness finds the bad ones if it is wrong.
//! let combined = collector.signature(&[17; 32])?;
//! assert!(group_key.verify(message, &RANDOM_BEACON_TAG, &combined.signature));
//! assert!(combined.refused.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Encodings
//!
//! Decoders accept exactly what the reference (`onflow/crypto`) accepts, since honest members that judge the same bytes
//! differently end with different keys. `tests/vectors/README.md` pins this.
//!
//! | what | bytes | form |
//! | --- | --- | --- |
//! | [`Scalar`] | 32 | big endian, 0 < x < r, never reduced |
//! | [`Signature`], [`ProofOfPossession`] | 48 | ZCash compressed |
//! | [`PublicKey`], [`G2Point`], *flow* | 96 | compressed, but c0 of x before c1; the flags stay in the first byte |
//! | [`PublicKey`], [`G2Point`], *standard* | 96 | ZCash compressed, c1 before c0, as in the IETF drafts and in Ethereum |
//! | [`CommitmentVector`], compressed | 96 a point | flow form |
//! | [`CommitmentVector`], uncompressed | 192 a point | ZCash uncompressed, c1 before c0 |
//!
//! One oddity is kept: in the 48-byte form and in the flow form, the identity `c0 00 … 00` is read whatever its last byte
//! is. It is always written with a zero.
//!
//! # Types that carry what has been checked
//!
//! A [`G2Point`] is in the subgroup of order r: there is no other way to make one. An [`UncheckedVector`] is only known
//! to be on the curve. So is a [`Signature`], because [`combine`] has to treat shares outside G1 as the reference does;
//! [`PublicKey::verify`] refuses them. A [`ProvenPublicKey`] is one whose owner holds the private key.
//!
//! # Signatures
//!
//! Signatures are in G1 and keys in G2. A message is hashed with KMAC128 (NIST SP 800-185) in the place of
//! `expand_message` and then as RFC 9380 says for the suite `BLS12381G1_XMD:SHA-256_SSWU_RO_`; see [`expand_message`].
//! The [`Tag`] is part of the KMAC key, so signatures made for one purpose do not serve another. A proof of possession
//! signs the flow bytes of the public key under a KMAC key of its own, `BLS_POP_BLS12381G1_XOF:KMAC128_SSWU_RO_POP_`, as
//! `onflow/crypto` does (`bls_multisig.go`; no vector pins this).
//!
//! # Many signatures at once
//!
//! A [`SignatureCollector`] verifies the group's signature, and no share unless that is wrong. [`verify_each`] then finds the
//! bad ones in halves, with the verdicts of one by one. [`Combiner`] and [`PublicKey::verify_all`] take several messages
//! together. All of these draw random factors from the caller's randomness, which must be fresh once the signatures are
//! fixed; a signature that a collector returns is right whatever it was.
//!
//! Only the pairing equations are added up. Membership in G1 is checked for each signature, or by sums with factors 0, 1
//! and 2: E1 has points of order 3, which a sum with larger factors hides no less often. In one case membership of the shares
//! does not count: components of small order that cancel leave a combination that verifies, and that is the group's
//! signature.
//!
//! # Many at once
//!
//! What a committee's vectors cost is decided by how many are looked at together. [`UncheckedVector::check_all`] checks random
//! sums of all points instead of every point, [`CommitmentVector::evaluate_each`] evaluates all vectors in step so that they
//! share inversions, [`shares_match_all`] adds the equations up, [`CommitmentVector::sum_all`] and
//! [`CommitmentVector::evaluate_all`] make all key shares from the sum, by differences. [`Effort`] says on how many threads,
//! and how sure the random checks have to be. They are one-sided: what is good always passes, and after a failure everything
//! is checked one by one, so that each verdict on a bad dealer is the strict one. What is bad passes with probability 2^-64
//! (or 2^-128) for each try, if the randomness is fresh and drawn after everything that is checked was fixed.
//!
//! # Constant time, and what is not promised
//!
//! What touches secrets is constant-time in them, as far as `blst` and the compiler keep to it: arithmetic on scalars,
//! [`Polynomial::share`], [`Polynomial::commit`], [`Scalar::public_value`], [`SecretKey::sign`],
//! [`SecretKey::prove_possession`], and the share's side of [`share_matches`] and [`shares_match_all`]. Decoding a scalar
//! reveals whether it was accepted, and why not. The comb that dealing uses reads whole rows of its table under masks.
//!
//! This is checked: `cargo bench --bench constant_time` runs them (arithmetic on scalars as a part of the others) under valgrind's
//! memcheck with the secret declared undefined, which follows it through the optimized program and finds every jump and every
//! address that depends on it. The few jumps that are let pass are named in `benches/constant_time.supp`, each with its reason.
//! Instructions that take longer for some operands would not be seen.
//!
//! What works on public values is *not* constant-time: sums and evaluations of commitments, random linear combinations,
//! verification, [`combine`], the search for bad shares.
//!
//! Secrets ([`Scalar`], [`SecretKey`], [`Polynomial`]) are wiped when dropped, have no `Debug` and no `==`, and are in no
//! error. Copies that the compiler leaves on the stack, that `SHA3` keeps while it hashes a seed, or that the system
//! swaps out are not wiped. Nothing here draws randomness: seeds come from the caller.
//!
//! [`combine`] takes shares as they are. For points of an order up to 8 (on E1, the two of order 3, with x = 0) and fewer
//! than 32 shares, what blst computes is not their combination. No signature comes of it either way.

mod affine;
mod batch;
mod comb;
mod culprits;
mod draw;
mod effort;
mod encoding;
mod evaluate;
mod fp2;
mod g1;
mod g2;
mod hash;
mod index;
mod keys;
mod pairing;
mod polynomial;
mod scalar;
#[cfg(test)]
#[path = "../../tests/small_order/mod.rs"]
mod small_order;
mod subgroup;
mod threshold;
mod vector;

pub use culprits::verify_each;
pub use effort::{Effort, Strength};
pub use encoding::PointError;
pub use g2::G2Point;
pub use hash::{DKG_MESSAGE_TAG, RANDOM_BEACON_TAG, Tag, expand_message, hash_to_g1};
pub use index::{Index, NotAnIndex};
pub use keys::{PossessionError, ProofOfPossession, ProvenPublicKey, PublicKey, SecretKey, Signature};
pub use polynomial::{Polynomial, SeedError};
pub use scalar::{Scalar, ScalarError};
pub use threshold::{Added, CombineError, Combined, Combiner, SignatureCollector, combine};
pub use vector::{CommitmentVector, UncheckedVector, VectorEncoding, VectorError, share_matches, shares_match_all};
