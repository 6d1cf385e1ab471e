//! Whether an engine that has been stopped is still heard of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dkg_engine::SecretBytes;
use dkg_engine::engine::{EngineEvent, Observer};
use dkg_engine::epoch::EpochCounter;
use dkg_engine::store::{Change, DkgState, EpochRecord, MemoryStore, RecordId, RecordKind, Store, StoreError};
use parking_lot::Mutex;

use crate::support::Watched;

/// Shared by all that one engine calls. Dug when its stop has returned.
#[derive(Default)]
pub struct Grave {
    closed: AtomicBool,
    heard: Mutex<Vec<&'static str>>,
}

impl Grave {
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// The engine has done something.
    pub fn note(&self, what: &'static str) {
        if self.closed.load(Ordering::SeqCst) {
            self.heard.lock().push(what);
        }
    }

    /// What the engine has done after it had been stopped.
    pub fn heard(&self) -> Vec<&'static str> {
        self.heard.lock().clone()
    }
}

/// What a member's engines have told, with the number of the life in which they did. Without what a flood makes a flood of.
pub type Diary = Arc<Watched<Vec<(usize, EngineEvent)>>>;

pub struct Voice {
    pub life: usize,
    pub diary: Diary,
    pub grave: Arc<Grave>,
}

impl Observer for Voice {
    fn notify(&self, event: &EngineEvent) {
        self.grave.note("observer");
        if !matches!(event, EngineEvent::PostDropped { .. } | EngineEvent::Flagged { .. }) {
            self.diary.update(|diary| diary.push((self.life, event.clone())));
        }
    }
}

/// Every record a member has ever written.
pub type Written = Arc<Mutex<Vec<EpochRecord>>>;

/// A member's store as one of its lives has it.
pub struct Ledger {
    pub store: Arc<MemoryStore>,
    pub written: Written,
    pub grave: Arc<Grave>,
}

impl Store for Ledger {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.grave.note("read from the store");
        self.store.read(id)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.store.list()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.grave.note("write to the store");
        let written = |change: &Change| match change {
            Change::Put(RecordId { epoch, kind: RecordKind::Key }, _) => Some(*epoch),
            _ => None,
        };
        let epochs: Vec<EpochCounter> = changes.iter().filter_map(written).collect();
        self.store.commit(changes)?;
        let state = DkgState::new(self.store.clone());
        for epoch in epochs {
            self.written.lock().push(state.record(epoch)?);
        }
        Ok(())
    }
}
