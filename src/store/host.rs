//! The host's store, as [`DkgState`](super::DkgState) sees it: a panic is a store that has failed.

use std::sync::Arc;

use super::{Change, RecordId, Store, StoreError};
use crate::fence::{Fenced, HostPanic};
use crate::secret::SecretBytes;

pub(super) struct HostStore(Fenced<dyn Store>);

impl HostStore {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        HostStore(Fenced::new(store, "Store destructor"))
    }

    pub(super) fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.0.call("Store::read", |store| store.read(id)).unwrap_or_else(|panic| Err(failed(&panic)))
    }

    pub(super) fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.0.call("Store::list", |store| store.list()).unwrap_or_else(|panic| Err(failed(&panic)))
    }

    pub(super) fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.0.call("Store::commit", |store| store.commit(changes)).unwrap_or_else(|panic| Err(failed(&panic)))
    }
}

fn failed(panic: &HostPanic) -> StoreError {
    StoreError::Failed(panic.to_string())
}
