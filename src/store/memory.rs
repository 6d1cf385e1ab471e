//! A store in memory: for tests, examples and runs that need not survive the process.

use std::collections::BTreeMap;

use super::{Store, StoreError};
use crate::epoch::EpochCounter;
use crate::secret::SecretBytes;
use crate::sync::Mutex;

/// Keeps records for as long as it lives.
#[derive(Default)]
pub struct MemoryStore {
    records: Mutex<BTreeMap<EpochCounter, SecretBytes>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn read(&self, epoch: EpochCounter) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.records.lock().get(&epoch).cloned())
    }

    fn commit(&self, records: Vec<(EpochCounter, SecretBytes)>) -> Result<(), StoreError> {
        self.records.lock().extend(records);
        Ok(())
    }
}
