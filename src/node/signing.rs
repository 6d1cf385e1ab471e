//! Threshold signatures from several members' shares, offline: each member signs by itself, anybody combines.
//!
//! A share is a small JSON object, and so is what it is checked against: the public result of the run that made the key.
//! The shares are combined first and the result is verified; only if it is wrong are shares checked. Bad ones are named
//! then, and do not keep good ones from being combined.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bls::{CombineError, Combined, Index, PublicKey, Signature, SignatureCollector, Tag};
use crate::committee::threshold;
use crate::engine::{OsRandomness, Randomness, RandomnessError};
use crate::epoch::{EpochCommit, EpochCounter};
use crate::hex;
use crate::store::{DkgState, NoKey, StoreError};

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
    /// The shares that were no good. A share that was not needed may be none and not be here.
    pub refused: Vec<RefusedShare>,
}

/// A share that was no good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedShare {
    /// Which of the shares that were given, counted from 0.
    pub share: usize,
    /// Whose it says it is.
    pub index: Index,
    /// What is wrong with it, as the end of a sentence about it.
    pub reason: String,
}

/// Why shares do not make a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The message is too long.
    #[error("a message of {0} bytes is too long; {MAX_MESSAGE_BYTES} are allowed: sign its hash")]
    TooLong(usize),
    /// There is no key to sign with.
    #[error(transparent)]
    NoKey(#[from] NoKey),
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
    #[error(
        "shares of {needed} members are needed, and there are those of {}; {} could still sign{}",
        members(.signed), members(.missing), named(.refused)
    )]
    TooFew {
        /// Whose shares there are, as far as is known good ones.
        signed: Vec<Index>,
        /// Whose there are not.
        missing: Vec<Index>,
        /// How many it takes.
        needed: usize,
        /// Which are not, and why.
        refused: Vec<RefusedShare>,
    },
    /// They combine to something else.
    #[error(transparent)]
    Combine(#[from] CombineError),
    /// The operating system gives no randomness to find bad shares with.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

fn members(indices: &[Index]) -> String {
    let all: Vec<_> = indices.iter().map(ToString::to_string).collect();
    match all.as_slice() {
        [] => "nobody".to_owned(),
        [one] => format!("member {one}"),
        [first @ .., last] => format!("members {} and {last}", first.join(", ")),
    }
}

fn named(refused: &[RefusedShare]) -> String {
    refused.iter().map(|refused| format!("; that of member {} {}", refused.index, refused.reason)).collect()
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
        if hex::decode(&self.group_public_key) != Some(group.to_standard_bytes().to_vec()) {
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
    /// Signs with the committed key of this epoch; `current` is the one that the chain is in, where that is known.
    ///
    /// # Errors
    /// The message is too long, there is no such key, or the store cannot be read.
    pub fn sign(
        state: &DkgState,
        chain_id: &str,
        epoch: u64,
        current: Option<EpochCounter>,
        message: &[u8],
        tag: &str,
    ) -> Result<Self, SigningError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(SigningError::TooLong(message.len()));
        }
        let key = state.key_of(EpochCounter(epoch), current)??;
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
    let mut collector = SignatureCollector::new(group_key, key_shares, result.t, message, &Tag::new(tag.to_owned()))?;
    let in_hex = hex::encode(message);
    let mut refused = Vec::new();
    let mut refuse = |at: usize, reason: &str| {
        refused.push(RefusedShare { share: at, index: shares[at].index, reason: reason.to_owned() });
    };
    let mut offered = Vec::new();
    for (at, share) in shares.iter().enumerate() {
        if (share.chain_id.as_str(), share.epoch) != (result.chain_id.as_str(), result.epoch) {
            refuse(at, &format!("is of epoch {} of chain {}", share.epoch, share.chain_id));
        } else if share.tag != tag || hex::decode(&share.message).as_deref() != Some(message) {
            refuse(at, "is of another message, or under another tag");
        } else {
            offered.push(at);
        }
    }
    // For each member, which share of its own is in the collector.
    let mut kept = BTreeMap::new();
    let (again, outcome) = loop {
        let mut again = Vec::new();
        for at in offered {
            let share = &shares[at];
            match collector.add(share.index, &hex::decode(&share.signature).unwrap_or_default()) {
                Ok(_) => drop(kept.insert(share.index, at)),
                Err(CombineError::DuplicateSigner(_)) => again.push(at),
                Err(error) => refuse(at, &format!("is not taken: {error}")),
            }
        }
        let mut randomness = [0; 32];
        OsRandomness.fill(&mut randomness)?;
        let outcome = collector.signature(&randomness);
        let bad = match &outcome {
            Ok(Combined { refused, .. }) | Err(CombineError::BadShares { refused, .. }) => &refused[..],
            Err(_) => &[],
        };
        for at in bad.iter().filter_map(|index| kept.remove(index)) {
            refuse(at, "does not verify under its public key share");
        }
        // Somebody's second share takes the place of a first one that was bad.
        let replaces = |at: &usize| !kept.contains_key(&shares[*at].index);
        if outcome.is_ok() || !again.iter().any(replaces) {
            break (again, outcome);
        }
        offered = again;
    };
    for at in again {
        refuse(at, "is not the only one of this member");
    }
    refused.sort_by_key(|refused| refused.share);
    match outcome {
        Ok(Combined { signature, signers, .. }) => Ok(GroupSignature {
            chain_id: result.chain_id.clone(),
            epoch: result.epoch,
            tag: tag.to_owned(),
            message: in_hex,
            signature: hex::encode(&signature.to_bytes()),
            signers,
            refused,
        }),
        Err(CombineError::NotEnoughShares { needed, .. } | CombineError::BadShares { needed, .. }) => {
            let (signed, missing) = Index::all(result.n).partition(|index| kept.contains_key(index));
            Err(SigningError::TooFew { signed, missing, needed, refused })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether this is the group's signature of this message.
pub fn verify(group_key: &PublicKey, message: &[u8], tag: &str, signature: &[u8]) -> bool {
    let tag = Tag::new(tag.to_owned());
    Signature::from_bytes(signature).is_ok_and(|signature| group_key.verify(message, &tag, &signature))
}
