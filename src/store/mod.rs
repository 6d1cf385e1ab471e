//! What must survive a crash: the life of each epoch's key (spec section 6).
//!
//! A host brings a [`Store`]: atomic, durable batches of small records. [`DkgState`] keeps one [`EpochRecord`] per epoch in
//! it and refuses transitions that the key state machine does not have, whoever asks for them.
//!
//! Only a committed key is safe to sign with, and it has a type of its own, [`CommittedKey`], which exists only where the
//! chain's evidence has been compared with the key.

mod id;
mod memory;
mod record;

pub use id::{RecordId, RecordKind};
pub use memory::MemoryStore;
pub use record::{CommittedKey, EpochRecord, KeyShare, KeyStatus, SafeKey, TransitionError};

use std::sync::Arc;

use crate::epoch::EpochCounter;
use crate::secret::SecretBytes;

/// The most bytes a record may have.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// Why a store did not do what was asked. The engine stops on any of these: going on would be a guess.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store itself failed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// A record is there but cannot be read.
    #[error("the record of {record} is damaged: {reason}")]
    Damaged {
        /// Which record.
        record: RecordId,
        /// What is wrong with it.
        reason: String,
    },
    /// A transition that the key state machine does not have.
    #[error("epoch {epoch}: {error}")]
    Transition {
        /// Which record.
        epoch: EpochCounter,
        /// What was asked for.
        error: TransitionError,
    },
}

/// One change to a store.
pub enum Change {
    /// Writes a record, in the place of the one before.
    Put(RecordId, SecretBytes),
    /// Removes a record, if it is there.
    Remove(RecordId),
}

/// Durable records, as the engine uses them. Values are secret: keep them where only this node can read.
pub trait Store: Send + Sync {
    /// The record as last written, if there is one.
    ///
    /// # Errors
    /// The store cannot be read.
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError>;

    /// The records that there are, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot be read.
    fn list(&self) -> Result<Vec<RecordId>, StoreError>;

    /// Makes all changes, in their order, or none, and returns when they are durable.
    ///
    /// # Errors
    /// The store cannot be written; then none of the changes may appear later.
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// A node's key states, one per epoch. Cheap to clone; all clones share one store.
#[derive(Clone)]
pub struct DkgState {
    store: Arc<dyn Store>,
}

impl DkgState {
    /// The key states kept in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        DkgState { store }
    }

    /// What is recorded of an epoch; an epoch never heard of is `Uninitialized`.
    ///
    /// # Errors
    /// The store cannot be read or the record is damaged.
    pub fn record(&self, epoch: EpochCounter) -> Result<EpochRecord, StoreError> {
        match self.store.read(RecordId::key(epoch))? {
            None => Ok(EpochRecord::new(epoch)),
            Some(bytes) => EpochRecord::decode(epoch, &bytes),
        }
    }

    /// The key that is safe to sign with in `epoch`.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn safe_key(&self, epoch: EpochCounter) -> Result<SafeKey, StoreError> {
        Ok(self.record(epoch)?.safe_key())
    }

    /// Writes new records, all or none, in their order.
    ///
    /// # Errors
    /// The store fails, or a record is not a legal successor of what is stored or comes before it.
    pub fn commit(&self, records: &[EpochRecord]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::with_capacity(records.len());
        for (position, record) in records.iter().enumerate() {
            let epoch = record.epoch();
            let before = match records[..position].iter().rfind(|before| before.epoch() == epoch) {
                Some(before) => before.clone(),
                None => self.record(epoch)?,
            };
            before.check_successor(record).map_err(|error| StoreError::Transition { epoch, error })?;
            batch.push(Change::Put(RecordId::key(epoch), record.encode()?));
        }
        self.store.commit(batch)
    }
}
