//! Keys, signatures, and proofs that a key's owner holds it.

use std::fmt;

use blst::blst_scalar;
use blst::min_sig;

use super::g1::E1Point;
use super::hash::{hash_key_to_point, hash_to_point};
use super::pairing::Gt;
use super::{G2Point, PointError, Scalar, SeedError, Tag};

/// The most bytes of a key's seed.
const MAX_SEED: usize = 256;

/// A private key: a scalar other than zero. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(Scalar);

impl SecretKey {
    /// The key that the seed determines: KeyGen of draft-irtf-cfrg-bls-signature-05 (section 2.3) without key info.
    ///
    /// # Errors
    ///
    /// A seed of less than 32 or more than 256 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<SecretKey, SeedError> {
        if seed.len() > MAX_SEED {
            return Err(SeedError::TooLong(seed.len()));
        }
        // blst refuses short seeds, and nothing else.
        let key = min_sig::SecretKey::key_gen(seed, b"").map_err(|_| SeedError::TooShort(seed.len()))?;
        Ok(SecretKey(Scalar::from_canonical(<&blst_scalar>::from(&key))))
    }

    /// The key with this value, a share say; `None` for zero.
    pub fn from_scalar(scalar: Scalar) -> Option<SecretKey> {
        if scalar.is_zero() { None } else { Some(SecretKey(scalar)) }
    }

    /// The key's value.
    pub fn scalar(&self) -> &Scalar {
        &self.0
    }

    /// The public key g2^x, in constant time.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_value())
    }

    /// Signs a message under a tag, in constant time (but for the length of the message). Deterministic.
    pub fn sign(&self, message: &[u8], tag: &Tag) -> Signature {
        Signature(hash_to_point(message, tag).times(&self.0))
    }

    /// Proves that whoever publishes [`SecretKey::public_key`] holds this key: a signature over the 96 flow bytes of the
    /// public key, under a suite that no message is signed under.
    pub fn prove_possession(&self) -> ProofOfPossession {
        ProofOfPossession(Signature(hash_key_to_point(&self.public_key().to_flow_bytes()).times(&self.0)))
    }
}

/// A public key: a point of G2. The identity can be represented (a public key share may turn out to be it), but
/// verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(G2Point);

impl PublicKey {
    /// Decodes a key from 96 bytes in the reference's order; see [`G2Point::from_flow_bytes`].
    ///
    /// # Errors
    ///
    /// See [`PointError`].
    pub fn from_flow_bytes(bytes: &[u8]) -> Result<PublicKey, PointError> {
        G2Point::from_flow_bytes(bytes).map(PublicKey)
    }

    /// Decodes a key from the 96 bytes of the standard form; see [`G2Point::from_standard_bytes`].
    ///
    /// # Errors
    ///
    /// See [`PointError`].
    pub fn from_standard_bytes(bytes: &[u8]) -> Result<PublicKey, PointError> {
        G2Point::from_standard_bytes(bytes).map(PublicKey)
    }

    /// The key as 96 bytes in the reference's order.
    pub fn to_flow_bytes(&self) -> [u8; 96] {
        self.0.to_flow_bytes()
    }

    /// The key as the 96 bytes of the standard form.
    pub fn to_standard_bytes(&self) -> [u8; 96] {
        self.0.to_standard_bytes()
    }

    /// Whether this is the identity, the public key of the secret zero.
    pub fn is_identity(&self) -> bool {
        self.0.is_identity()
    }

    /// The key's point.
    pub fn point(&self) -> &G2Point {
        &self.0
    }

    /// Whether the signature is this key's over the message under the tag. Always `false` for the identity key and for a
    /// signature outside G1.
    pub fn verify(&self, message: &[u8], tag: &Tag, signature: &Signature) -> bool {
        self.verify_hashed(&hash_to_point(message, tag), signature)
    }

    /// The same, for a message that has been hashed already.
    pub(super) fn verify_hashed(&self, hash: &E1Point, signature: &Signature) -> bool {
        // The identity signature would fit only the identity key.
        !self.is_identity()
            && !signature.0.is_identity()
            && signature.0.is_in_subgroup()
            && Gt::misfit(&signature.0, hash, &self.0).is_one()
    }
}

impl From<G2Point> for PublicKey {
    fn from(point: G2Point) -> PublicKey {
        PublicKey(point)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", crate::hex::encode(&self.to_flow_bytes()))
    }
}

/// A signature, or a share of one: a point of the curve E1, not yet known to be in G1 or to fit any key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(E1Point);

impl Signature {
    /// Decodes a signature from the 48 bytes of the ZCash compressed form.
    ///
    /// # Errors
    ///
    /// See [`PointError`]. The identity is accepted, with any last byte, as the reference does; a point outside G1 too:
    /// [`PublicKey::verify`] is what refuses them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Signature, PointError> {
        E1Point::decode(bytes).map(Signature)
    }

    /// The 48 bytes of the ZCash compressed form.
    pub fn to_bytes(&self) -> [u8; 48] {
        self.0.encode()
    }

    /// Whether this is in the subgroup G1. [`PublicKey::verify`] asks by itself.
    pub fn is_in_subgroup(&self) -> bool {
        self.0.is_in_subgroup()
    }

    pub(super) fn point(&self) -> &E1Point {
        &self.0
    }
}

impl From<E1Point> for Signature {
    fn from(point: E1Point) -> Signature {
        Signature(point)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", crate::hex::encode(&self.to_bytes()))
    }
}

/// Proof that the owner of a public key holds its private key. Without it, somebody could choose a public key in terms
/// of other people's, and make aggregated signatures that they had no part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofOfPossession(Signature);

impl ProofOfPossession {
    /// Decodes a proof from 48 bytes, encoded like a signature.
    ///
    /// # Errors
    ///
    /// See [`Signature::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<ProofOfPossession, PointError> {
        Signature::from_bytes(bytes).map(ProofOfPossession)
    }

    /// The proof as 48 bytes.
    pub fn to_bytes(&self) -> [u8; 48] {
        self.0.to_bytes()
    }
}

/// Why a public key is not taken for its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PossessionError {
    /// The key is the identity, whose private key, zero, everybody knows.
    #[error("the public key is the identity, which is nobody's key")]
    IdentityKey,
    /// The proof is not one for this key.
    #[error("the proof of possession does not fit the public key: its owner has to make a new one")]
    Mismatch,
}

/// A public key whose owner is known to hold the private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenPublicKey(PublicKey);

impl ProvenPublicKey {
    /// Checks the proof.
    ///
    /// # Errors
    ///
    /// See [`PossessionError`].
    pub fn check(key: PublicKey, proof: &ProofOfPossession) -> Result<ProvenPublicKey, PossessionError> {
        if key.is_identity() {
            return Err(PossessionError::IdentityKey);
        }
        if key.verify_hashed(&hash_key_to_point(&key.to_flow_bytes()), &proof.0) {
            Ok(ProvenPublicKey(key))
        } else {
            Err(PossessionError::Mismatch)
        }
    }

    /// Takes the caller's word for it: the host's chain checked possession when the key was registered, as Flow's
    /// staking contract does. Nothing is checked here.
    pub fn vouched_for(key: PublicKey) -> ProvenPublicKey {
        ProvenPublicKey(key)
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.0
    }
}
