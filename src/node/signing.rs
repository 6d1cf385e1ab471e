//! Threshold signatures from several members' shares, offline: each member signs by itself, anybody combines.
//!
//! A share is a small JSON object, and so is what it is checked against: the public result of the run that made the key.
//! Bad shares are named, and do not keep good ones from being combined.

use serde::{Deserialize, Serialize};

use crate::bls::{CombineError, Index, PublicKey, Signature, SignatureCollector, Tag};
use crate::committee::threshold;
use crate::epoch::{EpochCommit, EpochCounter};
use crate::hex;
use crate::store::{DkgState, SafeKey, StoreError};

/// The most bytes of a message; who signs more signs its hash.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The public keys of an epoch, as the committee agreed on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicResult {
    /// The chain's name.
    pub chain_id: String,
    /// The epoch that the keys serve.
    pub epoch: u64,
    /// Members with a key share.
    pub n: usize,
    /// The threshold: more than so many sign.
    pub t: usize,
    /// The group public key in the usual encoding, in hex.
    pub group_public_key: String,
    /// The same in the order of Flow.
    pub group_public_key_flow: String,
    /// The public key shares in order of index, in the order of Flow.
    pub public_key_shares_flow: Vec<String>,
}

/// One member's share of a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureShare {
    /// The chain's name.
    pub chain_id: String,
    /// The epoch of the key.
    pub epoch: u64,
    /// Who signed.
    pub index: Index,
    /// What the signature is for.
    pub tag: String,
    /// The message, in hex.
    pub message: String,
    /// The share: 48 bytes in hex.
    pub signature: String,
}

/// A group's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSignature {
    /// The chain's name.
    pub chain_id: String,
    /// The epoch of the key.
    pub epoch: u64,
    /// What the signature is for.
    pub tag: String,
    /// The message, in hex.
    pub message: String,
    /// The signature: 48 bytes in hex. It verifies under the group key.
    pub signature: String,
    /// Whose shares went in.
    pub signers: Vec<Index>,
    /// Whose did not, and why.
    pub refused: Vec<(Index, String)>,
}

/// Why shares do not make a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The message is too long.
    #[error("a message of {0} bytes is too long; {MAX_MESSAGE_BYTES} are allowed: sign its hash")]
    TooLong(usize),
    /// There is no key to sign with yet.
    #[error("the key of epoch {0} is not committed yet; try again later")]
    NotYet(u64),
    /// There will be none.
    #[error("this node has no key of epoch {0}, and will not have one; let another member sign")]
    Never(u64),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The public result is not one.
    #[error("the public result of epoch {epoch} is no good: {reason}")]
    Result {
        /// Its epoch.
        epoch: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few good ones.
    #[error("{good} good shares are too few, {needed} are needed{}", named(.refused))]
    TooFew {
        /// How many are good.
        good: usize,
        /// How many it takes.
        needed: usize,
        /// Which are not, and why.
        refused: Vec<(Index, String)>,
    },
    /// They combine to something else.
    #[error(transparent)]
    Combine(#[from] CombineError),
}

fn named(refused: &[(Index, String)]) -> String {
    refused.iter().map(|(index, reason)| format!("; that of member {index} {reason}")).collect()
}

impl PublicResult {
    /// The keys of a committed epoch.
    pub fn of(chain_id: &str, commit: &EpochCommit) -> Self {
        let n = commit.key_shares.len();
        PublicResult {
            chain_id: chain_id.to_owned(),
            epoch: commit.epoch.0,
            n,
            t: threshold(n),
            group_public_key: hex::encode(&commit.group_key.to_standard_bytes()),
            group_public_key_flow: hex::encode(&commit.group_key.to_flow_bytes()),
            public_key_shares_flow: commit.key_shares.iter().map(|key| hex::encode(&key.to_flow_bytes())).collect(),
        }
    }

    /// The keys: the group's, and the members' in order of index.
    ///
    /// # Errors
    /// They are no keys, or the numbers do not fit.
    pub fn keys(&self) -> Result<(PublicKey, Vec<PublicKey>), SigningError> {
        let wrong = |reason: String| SigningError::Result { epoch: self.epoch, reason };
        let key = |digits: &str| {
            let bytes = hex::decode(digits).ok_or_else(|| wrong("a key is not in hex".to_owned()))?;
            PublicKey::from_flow_bytes(&bytes).map_err(|error| wrong(format!("a key: {error}")))
        };
        let group = key(&self.group_public_key_flow)?;
        if hex::encode(&group.to_standard_bytes()) != self.group_public_key {
            return Err(wrong("its two forms of the group key differ".to_owned()));
        }
        let shares: Vec<_> = self.public_key_shares_flow.iter().map(|digits| key(digits)).collect::<Result<_, _>>()?;
        if (shares.len(), threshold(shares.len())) != (self.n, self.t) {
            return Err(wrong(format!("{} key shares do not fit n = {} and t = {}", shares.len(), self.n, self.t)));
        }
        Ok((group, shares))
    }
}

impl SignatureShare {
    /// Signs with the committed key of this epoch.
    ///
    /// # Errors
    /// The message is too long, there is no such key, or the store cannot be read.
    pub fn sign(state: &DkgState, chain_id: &str, epoch: u64, message: &[u8], tag: &str) -> Result<Self, SigningError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(SigningError::TooLong(message.len()));
        }
        let key = match state.safe_key(EpochCounter(epoch))? {
            SafeKey::Key(key) => key,
            SafeKey::NotYet => return Err(SigningError::NotYet(epoch)),
            SafeKey::Never => return Err(SigningError::Never(epoch)),
        };
        let signature = key.secret_key().sign(message, &Tag::new(tag.to_owned()));
        Ok(SignatureShare {
            chain_id: chain_id.to_owned(),
            epoch,
            index: key.index(),
            tag: tag.to_owned(),
            message: hex::encode(message),
            signature: hex::encode(&signature.to_bytes()),
        })
    }
}

/// Combines shares of the signature of `message` under `tag`, and verifies what comes out. Shares of anything else are
/// refused.
///
/// # Errors
/// See [`SigningError`].
pub fn combine(
    result: &PublicResult,
    message: &[u8],
    tag: &str,
    shares: &[SignatureShare],
) -> Result<GroupSignature, SigningError> {
    let (group_key, key_shares) = result.keys()?;
    let (in_hex, tag_text) = (hex::encode(message), tag.to_owned());
    let mut collector = SignatureCollector::new(group_key, key_shares, result.t, message, &Tag::new(tag_text.clone()))?;
    let (mut signers, mut refused) = (Vec::new(), Vec::new());
    for share in shares {
        let fault = if (share.chain_id.as_str(), share.epoch) != (result.chain_id.as_str(), result.epoch) {
            Some(format!("is of epoch {} of chain {}", share.epoch, share.chain_id))
        } else if (&share.tag, &share.message) != (&tag_text, &in_hex) {
            Some("is of another message, or under another tag".to_owned())
        } else {
            let added = collector.verify_and_add(share.index, &hex::decode(&share.signature).unwrap_or_default());
            match added {
                Ok(added) if added.valid => None,
                Ok(_) => Some("does not verify under its public key share".to_owned()),
                Err(error) => Some(format!("is not taken: {error}")),
            }
        };
        match fault {
            None => signers.push(share.index),
            Some(reason) => refused.push((share.index, reason)),
        }
    }
    let needed = result.t + 1;
    if signers.len() < needed {
        return Err(SigningError::TooFew { good: signers.len(), needed, refused });
    }
    signers.truncate(needed);
    let signature = hex::encode(&collector.signature()?.to_bytes());
    let (chain_id, epoch) = (result.chain_id.clone(), result.epoch);
    Ok(GroupSignature { chain_id, epoch, tag: tag_text, message: in_hex, signature, signers, refused })
}

/// Whether this is the group's signature of this message.
pub fn verify(group_key: &PublicKey, message: &[u8], tag: &str, signature: &[u8]) -> bool {
    let tag = Tag::new(tag.to_owned());
    Signature::from_bytes(signature).is_ok_and(|signature| group_key.verify(message, &tag, &signature))
}
