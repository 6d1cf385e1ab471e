//! Who a member is: its node id and its two private keys; and the file that they are kept in, sealed.
//!
//! The file is JSON: the layout's version, the node id, a data key sealed with a passphrase or a key file, and the private
//! keys sealed with that. It is made once, readable by its owner alone, and never written over. Losing it means leaving the
//! committee; who steals it and what opens it speaks in the member's name, but does not get its key shares with it.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};
use zeroize::Zeroizing;

use super::{NodeConfig, NodeError};
use crate::SecretBytes;
use crate::address::Address;
use crate::bls::{Scalar, SecretKey};
use crate::chain::log::MemberFile;
use crate::committee::NodeId;
use crate::engine::{OsRandomness, Randomness, RandomnessError};
use crate::hex;
use crate::store::seal::{DataKey, SealError, SealedKey};
use crate::store::{SecretFileError, ShareFileError, Unlock, check_sealed, read_text, write_new};

/// The version of the file.
const LAYOUT: u32 = 1;
/// The most bytes of an identity file; it has about 700.
const MAX_IDENTITY_BYTES: usize = 16 * 1024;
/// What sets the sealed keys apart from everything else that is sealed.
const SEAL_CONTEXT: &[u8] = b"dkg-engine identity 1";
/// What node ids are derived under.
const NODE_ID_DOMAIN: &[u8] = b"dkg-engine node id 1";
/// Bytes that a staking key is made from.
const STAKING_SEED_BYTES: usize = 48;

/// One member's name and private keys. Both keys wipe themselves.
pub struct Identity {
    /// Its identity on the chain.
    pub node_id: NodeId,
    /// Signs its broadcasts.
    pub staking_key: SecretKey,
    /// Signs its log entries, and proves who it is on its links.
    pub network_key: SigningKey,
}

/// Why an identity file was not written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The file.
    #[error(transparent)]
    File(#[from] ShareFileError),
    /// What seals or opens it.
    #[error("{}: {error}", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: SealError,
    },
    /// It is no identity file, or not as it was written.
    #[error("{} is damaged, or no identity file: {reason}; bring back a copy of it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gives no randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    layout: u32,
    node_id: String,
    key: SealedKey,
    /// In hex.
    secrets: String,
}

impl Identity {
    /// Bytes of an identity's secrets.
    pub const SECRET_BYTES: usize = 64;

    /// A new member, with the node id that it has chosen, or else with one that is derived from its public keys.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn generate(node_id: Option<NodeId>) -> Result<Self, RandomnessError> {
        loop {
            let mut staking = Zeroizing::new([0; STAKING_SEED_BYTES]);
            let mut network = Zeroizing::new([0; 32]);
            OsRandomness.fill(&mut staking[..])?;
            OsRandomness.fill(&mut network[..])?;
            // A seed makes no key once in 2^255 times.
            if let Ok(staking_key) = SecretKey::from_seed(&staking[..]) {
                let network_key = SigningKey::from_bytes(&network);
                let node_id = node_id.unwrap_or_else(|| derived_node_id(&staking_key, &network_key));
                return Ok(Identity { node_id, staking_key, network_key });
            }
        }
    }

    /// What the others need to know of it, with where it is reached, unless that is in one process with them.
    pub fn public(&self, address: Option<Address>) -> MemberFile {
        MemberFile {
            node_id: self.node_id,
            staking_key: self.staking_key.public_key(),
            staking_key_proof: self.staking_key.prove_possession(),
            network_key: self.network_key.verifying_key(),
            address,
        }
    }

    /// Both private keys, to be sealed.
    pub fn secrets(&self) -> SecretBytes {
        let mut bytes = Vec::with_capacity(Identity::SECRET_BYTES);
        bytes.extend_from_slice(&self.staking_key.scalar().to_be_bytes()[..]);
        bytes.extend_from_slice(self.network_key.as_bytes());
        SecretBytes::new(bytes)
    }

    /// The member with this name and these [`secrets`](Self::secrets); `None` if they are no keys.
    pub fn from_secrets(node_id: NodeId, secrets: &SecretBytes) -> Option<Self> {
        let (staking, network) = secrets.expose().split_first_chunk::<32>()?;
        let network = Zeroizing::new(<[u8; 32]>::try_from(network).ok()?);
        Some(Identity {
            node_id,
            staking_key: SecretKey::from_scalar(Scalar::from_be_bytes(staking).ok()?)?,
            network_key: SigningKey::from_bytes(&network),
        })
    }

    /// Writes a new identity file, sealed.
    ///
    /// # Errors
    /// There is a file already, which is left alone; it cannot be written; or it cannot be sealed.
    pub fn create(&self, path: &Path, unlock: &Unlock) -> Result<(), IdentityError> {
        let sealed = || {
            let key = DataKey::generate()?;
            let secrets = hex::encode(&key.seal(&context(&self.node_id), &self.secrets())?);
            Ok((SealedKey::seal(&key, unlock)?, secrets))
        };
        let (key, secrets) = sealed().map_err(|error| IdentityError::Seal { path: path.to_owned(), error })?;
        let file = IdentityFile { layout: LAYOUT, node_id: self.node_id.to_string(), key, secrets };
        let json = serde_json::to_vec_pretty(&file).map_err(|error| damaged(path, &error))?;
        Ok(write_new(path, &json)?)
    }

    /// The identity of a node, out of a file that is closed to others.
    pub(super) fn of(config: &NodeConfig, unlock: &Unlock) -> Result<Self, NodeError> {
        check_sealed(&config.identity, config.secrets).map_err(SecretFileError::from)?;
        Ok(Self::open(&config.identity, unlock)?)
    }

    /// Reads and opens an identity file.
    ///
    /// # Errors
    /// It is not there, damaged, of another version, or sealed with something else.
    pub fn open(path: &Path, unlock: &Unlock) -> Result<Self, IdentityError> {
        let text = read_text(path, MAX_IDENTITY_BYTES)?;
        let file: IdentityFile = serde_json::from_str(&text).map_err(|error| damaged(path, &error))?;
        if file.layout != LAYOUT {
            return Err(damaged(path, &format!("its layout is {}, and this program knows {LAYOUT}", file.layout)));
        }
        let node_id: NodeId = file.node_id.parse().map_err(|error| damaged(path, &error))?;
        let secrets = hex::decode(&file.secrets).ok_or_else(|| damaged(path, &"the sealed keys are not in hex"))?;
        let key = file.key.open(unlock);
        let opened = key.and_then(|key| key.open(&context(&node_id), &secrets));
        let opened = opened.map_err(|error| IdentityError::Seal { path: path.to_owned(), error })?;
        Identity::from_secrets(node_id, &opened).ok_or_else(|| damaged(path, &"what is sealed in it are no keys"))
    }
}

fn context(node_id: &NodeId) -> Vec<u8> {
    [SEAL_CONTEXT, node_id.as_bytes()].concat()
}

fn derived_node_id(staking_key: &SecretKey, network_key: &SigningKey) -> NodeId {
    let hasher = Sha3_256::new_with_prefix(NODE_ID_DOMAIN).chain_update(staking_key.public_key().to_flow_bytes());
    NodeId::new(hasher.chain_update(network_key.verifying_key().as_bytes()).finalize().into())
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}
