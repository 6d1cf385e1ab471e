//! Backups: one epoch's key share in one file, under a passphrase of its own.
//!
//! A backup is JSON. In clear stand the chain, the member, the epoch, the index and the public key share, so that anybody can
//! see what it is a backup of; the share itself is sealed, bound to all of these: change one, and it does not open. The
//! passphrase is the backup's own, and outlives that of the store.
//!
//! Restoring adds a key where there is none, and never replaces one. A restored share is not safe to sign with before the
//! chain's evidence has confirmed it: see [`EpochRecord::import`].
//!
//! A backup of a share is as good as the share, for whoever has the passphrase: it lets its holder sign as this member in
//! every epoch that the key serves. Nothing here ages it, counts copies or takes one back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::seal::{DataKey, SealError, SealedKey};
use super::share_file::{read_text, write_new};
use super::{DkgState, EpochRecord, KeyShare, KeyStatus, Owner, ShareFileError, StoreError, TransitionError, Unlock};
use crate::bls::{Index, PublicKey, Scalar, SecretKey};
use crate::committee::NodeId;
use crate::epoch::{EpochCommit, EpochCounter};
use crate::secret::SecretBytes;
use crate::{hex, wire};

/// The most bytes a backup may have.
pub const MAX_BACKUP_BYTES: usize = 64 * 1024;

const FORMAT: &str = "dkg-key-backup";
const VERSION: u32 = 1;
/// The most bytes of what a share is bound to.
const MAX_CONTEXT_BYTES: usize = 16 * 1024;

/// Why there is no backup, or nothing can be restored from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be written or read.
    #[error(transparent)]
    File(#[from] ShareFileError),
    /// There is no share to back up.
    #[error("epoch {epoch} has no key share to back up (state {status})")]
    NoShare {
        /// The epoch.
        epoch: EpochCounter,
        /// Where its key stands.
        status: KeyStatus,
    },
    /// Not a backup, or one of another version.
    #[error("this is no backup that this program can read: {0}")]
    Malformed(String),
    /// It is somebody else's.
    #[error("this is a backup of member {member} on chain {chain}, and the store is another's")]
    OtherOwner {
        /// Whose it is.
        member: NodeId,
        /// On which chain.
        chain: String,
    },
    /// It does not open.
    #[error("the backup does not open ({0}); try the passphrase that it was made with, or another copy of it")]
    Sealed(SealError),
    /// It opens, and what is in it is not what it says.
    #[error("the share in the backup is not the one whose public key share it names; use another copy of it")]
    OtherKey,
    /// The store does not take it.
    #[error("epoch {epoch}: {error}")]
    Refused {
        /// The epoch.
        epoch: EpochCounter,
        /// Why.
        error: TransitionError,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A backup of one share. What is public of it can be read without a passphrase.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    format: String,
    version: u32,
    chain: String,
    member: String,
    epoch: EpochCounter,
    index: Index,
    /// 192 hex digits, in the order of Flow.
    public_key_share: String,
    /// Where the key stood when the backup was made.
    state: KeyStatus,
    sealed_by: SealedKey,
    share: String,
}

/// What the share is bound to.
#[derive(Serialize)]
struct Context<'a> {
    format: &'a str,
    version: u32,
    chain: &'a str,
    member: &'a str,
    epoch: EpochCounter,
    index: Index,
    public_key_share: &'a str,
    state: KeyStatus,
}

impl Backup {
    /// Seals the share of `record`, the committed one if there is one.
    ///
    /// # Errors
    /// There is no share, or sealing fails.
    pub fn seal(owner: &Owner, record: &EpochRecord, unlock: &Unlock) -> Result<Self, BackupError> {
        let key = DataKey::generate().map_err(BackupError::Sealed)?;
        let sealed_by = SealedKey::seal(&key, unlock).map_err(BackupError::Sealed)?;
        Self::seal_under(owner, record, &key, sealed_by)
    }

    /// [`seal`](Self::seal) under a data key that is there already, and opens as `sealed_by` says.
    pub(super) fn seal_under(
        owner: &Owner,
        record: &EpochRecord,
        key: &DataKey,
        sealed_by: SealedKey,
    ) -> Result<Self, BackupError> {
        let (epoch, status) = (record.epoch(), record.status());
        let share = record.held().ok_or(BackupError::NoShare { epoch, status })?;
        Self::of(owner, (epoch, status), share, key, sealed_by)
    }

    /// The same backup under another passphrase or key file.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`seal`](Self::seal).
    pub fn resealed(&self, owner: &Owner, unlock: &Unlock, new: &Unlock) -> Result<Self, BackupError> {
        let share = self.open(owner, unlock)?;
        let key = DataKey::generate().map_err(BackupError::Sealed)?;
        let sealed_by = SealedKey::seal(&key, new).map_err(BackupError::Sealed)?;
        Self::of(owner, (self.epoch, self.state), &share, &key, sealed_by)
    }

    fn of(
        owner: &Owner,
        (epoch, state): (EpochCounter, KeyStatus),
        share: &KeyShare,
        key: &DataKey,
        sealed_by: SealedKey,
    ) -> Result<Self, BackupError> {
        let mut backup = Backup {
            format: FORMAT.into(),
            version: VERSION,
            chain: owner.chain_id.clone(),
            member: owner.member.to_string(),
            epoch,
            index: share.index(),
            public_key_share: hex::encode(&share.public_key().to_flow_bytes()),
            state,
            sealed_by,
            share: String::new(),
        };
        let secret = SecretBytes::new(share.secret().scalar().to_be_bytes().to_vec());
        let sealed = key.seal(&backup.context()?, &secret);
        backup.share = hex::encode(&sealed.map_err(BackupError::Sealed)?);
        Ok(backup)
    }

    /// Which chain it belongs to.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Whose it is, in hex.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The epoch whose key it holds.
    pub fn epoch(&self) -> EpochCounter {
        self.epoch
    }

    /// The index of the share.
    pub fn index(&self) -> Index {
        self.index
    }

    /// The public key share, 192 hex digits in the order of Flow.
    pub fn public_key_share(&self) -> &str {
        &self.public_key_share
    }

    /// Where the key stood when the backup was made.
    pub fn state(&self) -> KeyStatus {
        self.state
    }

    /// The share, after every check that can be made without the chain.
    ///
    /// # Errors
    /// It is another owner's, the passphrase is another, or it is not what it says.
    pub fn open(&self, owner: &Owner, unlock: &Unlock) -> Result<KeyShare, BackupError> {
        let member: NodeId =
            self.member.parse().map_err(|_| BackupError::Malformed("its member is no node id".into()))?;
        if (member, &self.chain) != (owner.member, &owner.chain_id) {
            return Err(BackupError::OtherOwner { member, chain: self.chain.clone() });
        }
        let named = hex::decode(&self.public_key_share).and_then(|bytes| PublicKey::from_flow_bytes(&bytes).ok());
        let named = named.ok_or_else(|| BackupError::Malformed("its public key share is no public key".into()))?;
        let sealed = hex::decode(&self.share).ok_or_else(|| BackupError::Malformed("its share is not hex".into()))?;
        let key = self.sealed_by.open(unlock).map_err(BackupError::Sealed)?;
        let secret = key.open(&self.context()?, &sealed).map_err(BackupError::Sealed)?;
        let secret = Scalar::from_be_bytes(secret.expose()).ok();
        let secret = secret.and_then(SecretKey::from_scalar).filter(|secret| secret.public_key() == named);
        Ok(KeyShare::new(self.index, secret.ok_or(BackupError::OtherKey)?))
    }

    /// Opens the backup and adds its share to a store that has none for the epoch; with the epoch's `commit` it is confirmed
    /// at once. Where the key then stands.
    ///
    /// # Errors
    /// As [`open`](Self::open); a share is stored; the evidence is about another key; the store fails. Nothing is changed.
    pub fn restore(
        &self,
        state: &DkgState,
        owner: &Owner,
        unlock: &Unlock,
        commit: Option<&EpochCommit>,
    ) -> Result<KeyStatus, BackupError> {
        let epoch = self.epoch;
        let refused = |error| BackupError::Refused { epoch, error };
        let record = state.record(epoch)?;
        if record.held().is_some() {
            return Err(refused(TransitionError::Overwrite));
        }
        let share = self.open(owner, unlock)?;
        let evidence = commit.map(|commit| (commit, &owner.member));
        let steps = record.import(share, evidence).map_err(refused)?;
        state.commit(&steps)?;
        Ok(state.record(epoch)?.status())
    }

    /// Writes the backup to a file that is not there yet, for its owner's eyes only, durably.
    ///
    /// # Errors
    /// There is such a file, or it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BackupError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| BackupError::Malformed(error.to_string()))?;
        Ok(write_new(path, (text + "\n").as_bytes())?)
    }

    /// Reads a backup.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is no backup.
    pub fn read(path: &Path) -> Result<Self, BackupError> {
        let text = read_text(path, MAX_BACKUP_BYTES)?;
        let file = |reason: String| ShareFileError { path: path.to_owned(), reason };
        #[derive(Deserialize)]
        struct Header {
            format: String,
            version: u32,
        }
        let header: Header =
            serde_json::from_str(&text).map_err(|_| file("this is no backup of a key share".into()))?;
        if (header.format.as_str(), header.version) != (FORMAT, VERSION) {
            let reason = format!(
                "this is a '{}' of version {}; this program reads '{FORMAT}' of version {VERSION}",
                header.format, header.version
            );
            return Err(file(reason).into());
        }
        Ok(serde_json::from_str(&text).map_err(|error| file(format!("this backup is damaged: {error}")))?)
    }

    fn context(&self) -> Result<Vec<u8>, BackupError> {
        let context = Context {
            format: &self.format,
            version: self.version,
            chain: &self.chain,
            member: &self.member,
            epoch: self.epoch,
            index: self.index,
            public_key_share: &self.public_key_share,
            state: self.state,
        };
        wire::encode(&context, MAX_CONTEXT_BYTES).map_err(|error| BackupError::Malformed(error.to_string()))
    }
}
