//! A node's store, with a disk that can fail: what was durable survives a crash, what was not is gone.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::SecretBytes;
use crate::epoch::EpochCounter;
use crate::store::{Change, EpochRecord, RecordId, RecordKind, Store, StoreError};

/// What becomes of the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextCommit {
    /// It becomes durable.
    Kept,
    /// The machine dies first.
    Lost,
    /// It becomes durable, and the machine dies before anybody knows.
    KeptUnseen,
}

/// A disk that outlives the node's process.
pub(super) struct Disk(Mutex<Inner>);

struct Inner {
    durable: BTreeMap<RecordId, SecretBytes>,
    next: NextCommit,
    /// Whatever is written is forgotten in a crash: a defect, to see it caught.
    forgetful: bool,
    unsynced: BTreeMap<RecordId, Option<SecretBytes>>,
}

impl Disk {
    pub(super) fn new(forgetful: bool) -> Self {
        let (durable, unsynced) = (BTreeMap::new(), BTreeMap::new());
        Disk(Mutex::new(Inner { durable, next: NextCommit::Kept, forgetful, unsynced }))
    }

    /// Decides what becomes of the next commit.
    pub(super) fn arm(&self, next: NextCommit) {
        self.0.lock().next = next;
    }

    /// What is on it, by epoch: the status of each key.
    pub(super) fn statuses(&self) -> BTreeMap<EpochCounter, &'static str> {
        let inner = self.0.lock();
        let status = |epoch: EpochCounter, record: &SecretBytes| {
            EpochRecord::decode(epoch, record).map_or("damaged", |record| record.status().name())
        };
        let keys = inner.durable.iter().filter(|(id, _)| id.kind == RecordKind::Key);
        keys.map(|(id, record)| (id.epoch, status(id.epoch, record))).collect()
    }

    /// The machine is off, and on again.
    pub(super) fn crash(&self) {
        let mut inner = self.0.lock();
        inner.next = NextCommit::Kept;
        for (id, before) in std::mem::take(&mut inner.unsynced) {
            match before {
                Some(before) => inner.durable.insert(id, before),
                None => inner.durable.remove(&id),
            };
        }
    }
}

impl Store for Disk {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.0.lock().durable.get(&id).cloned())
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        Ok(self.0.lock().durable.keys().copied().collect())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut inner = self.0.lock();
        let dead = || Err(StoreError::Failed("the machine is off".into()));
        if inner.next == NextCommit::Lost {
            return dead();
        }
        changes.iter().try_for_each(|change| change.check(|id| Ok(inner.durable.get(&id).cloned())))?;
        for change in changes {
            let (id, before) = match change {
                Change::Put(id, record) => (id, inner.durable.insert(id, record)),
                Change::Remove(id) => (id, inner.durable.remove(&id)),
                Change::Expect(..) => continue,
            };
            if inner.forgetful {
                inner.unsynced.entry(id).or_insert(before);
            }
        }
        if inner.next == NextCommit::KeptUnseen { dead() } else { Ok(()) }
    }
}
