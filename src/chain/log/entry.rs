//! One entry of the log: what a member says, and proof that it said it on this chain, with this log behind it.
//!
//! The bytes of an entry are the [`wire`](crate::wire) encoding of [`Entry`], followed by the 64 bytes of its author's
//! Ed25519 signature.

use ed25519_dalek::{SIGNATURE_LENGTH, Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};

use crate::chain::DkgResult;
use crate::committee::Index;
use crate::envelope::MAX_POST_BYTES;
use crate::epoch::{InstanceId, View};
use crate::wire::{self, WireError};

/// The most bytes an entry can have: the longest post and a kilobyte for what surrounds it.
///
/// The longest result, of 254 members, is shorter than the longest post: 255 keys of 192 digits behind their lengths
/// and 254 pairs of node id and index come to less than 60,000 bytes.
pub const MAX_ENTRY_BYTES: usize = MAX_POST_BYTES + 1024;

/// What sets these signatures apart from everything else a network key signs, TLS handshakes above all.
const SIGNATURE_DOMAIN: &[u8] = b"dkg-engine log entry 1";

/// How much of the log somebody has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// How many entries.
    pub position: u64,
    /// Their hash.
    pub hash: [u8; 32],
}

impl Prefix {
    /// The empty log of the chain with this identity.
    pub fn genesis(chain: &[u8; 32]) -> Self {
        Prefix { position: 0, hash: *chain }
    }

    /// This log with one more entry; the hash is `SHA3-256(hash || length || entry)`.
    #[must_use]
    pub fn extended(&self, entry: &[u8]) -> Self {
        let hash = Sha3_256::new_with_prefix(self.hash)
            .chain_update((entry.len() as u64).to_le_bytes())
            .chain_update(entry)
            .finalize();
        Prefix { position: self.position.saturating_add(1), hash: hash.into() }
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// "My clock has reached this view."
    Tick(View),
    /// A message for the whiteboard.
    Post(String),
    /// The author's result of a run. It names the run: one that comes late must not count in the next.
    Submit {
        /// Which run.
        instance: InstanceId,
        /// What the author came out with.
        result: DkgResult,
    },
}

/// One entry, without its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who says it.
    pub author: Index,
    /// Greater than in all earlier entries of the author.
    pub sequence: u64,
    /// What it says.
    pub payload: Payload,
    /// The log that the author had seen.
    pub seen: Prefix,
}

impl Entry {
    /// The bytes for the log, signed.
    ///
    /// # Errors
    /// They would be more than [`MAX_ENTRY_BYTES`].
    pub fn sign(&self, chain: &[u8; 32], key: &SigningKey) -> Result<Vec<u8>, WireError> {
        let mut bytes = wire::encode(self, MAX_ENTRY_BYTES - SIGNATURE_LENGTH)?;
        let signature = key.sign(&signed_bytes(chain, &bytes));
        bytes.extend_from_slice(&signature.to_bytes());
        Ok(bytes)
    }
}

/// A decoded entry whose signature has not been checked yet.
#[derive(Clone, Debug)]
pub struct SignedEntry<'a> {
    entry: Entry,
    encoded: &'a [u8],
    signature: Signature,
}

impl<'a> SignedEntry<'a> {
    /// Reads an entry from the log.
    ///
    /// # Errors
    /// The bytes are too many, or are not exactly what [`Entry::sign`] writes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(WireError::TooLong(MAX_ENTRY_BYTES));
        }
        let (encoded, signature) = bytes
            .split_last_chunk::<SIGNATURE_LENGTH>()
            .ok_or_else(|| WireError::Malformed("it is shorter than a signature".into()))?;
        let entry = wire::decode(encoded, MAX_ENTRY_BYTES - SIGNATURE_LENGTH)?;
        Ok(SignedEntry { entry, encoded, signature: Signature::from_bytes(signature) })
    }

    /// What the entry says, if it is the author's.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// How many bytes it has in the log, signature included.
    pub fn encoded_len(&self) -> usize {
        self.encoded.len() + SIGNATURE_LENGTH
    }

    /// What the entry says, if it is the author's.
    pub fn into_entry(self) -> Entry {
        self.entry
    }

    /// Whether the holder of this key signed the entry for this chain.
    pub fn is_signed_by(&self, key: &VerifyingKey, chain: &[u8; 32]) -> bool {
        key.verify_strict(&signed_bytes(chain, self.encoded), &self.signature).is_ok()
    }
}

fn signed_bytes(chain: &[u8; 32], encoded: &[u8]) -> Vec<u8> {
    let parts = [SIGNATURE_DOMAIN, chain, encoded];
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}
