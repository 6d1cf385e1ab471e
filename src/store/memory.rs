//! A store in memory: for tests, examples and runs that need not survive the process.

use std::collections::BTreeMap;

use super::{Change, RecordId, Store, StoreError};
use crate::secret::SecretBytes;
use crate::sync::Mutex;

/// Keeps records for as long as it lives.
#[derive(Default)]
pub struct MemoryStore {
    records: Mutex<BTreeMap<RecordId, SecretBytes>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.records.lock().get(&id).cloned())
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        Ok(self.records.lock().keys().copied().collect())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut records = self.records.lock();
        changes.iter().try_for_each(|change| change.check(|id| Ok(records.get(&id).cloned())))?;
        for change in changes {
            match change {
                Change::Put(id, record) => records.insert(id, record),
                Change::Remove(id) => records.remove(&id),
                Change::Expect(..) => None,
            };
        }
        Ok(())
    }
}
