//! A node's store, with a disk that can fail: what was durable survives a crash, what was not is gone.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::SecretBytes;
use crate::epoch::EpochCounter;
use crate::store::{EpochRecord, Store, StoreError};

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
    durable: BTreeMap<EpochCounter, SecretBytes>,
    next: NextCommit,
    /// Whatever is written is forgotten in a crash: a defect, to see it caught.
    forgetful: bool,
    unsynced: BTreeMap<EpochCounter, Option<SecretBytes>>,
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
        let status = |epoch: &EpochCounter, record: &SecretBytes| {
            EpochRecord::decode(*epoch, record).map_or("damaged", |record| record.status().name())
        };
        inner.durable.iter().map(|(epoch, record)| (*epoch, status(epoch, record))).collect()
    }

    /// The machine is off, and on again.
    pub(super) fn crash(&self) {
        let mut inner = self.0.lock();
        inner.next = NextCommit::Kept;
        for (epoch, before) in std::mem::take(&mut inner.unsynced) {
            match before {
                Some(before) => inner.durable.insert(epoch, before),
                None => inner.durable.remove(&epoch),
            };
        }
    }
}

impl Store for Disk {
    fn read(&self, epoch: EpochCounter) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.0.lock().durable.get(&epoch).cloned())
    }

    fn commit(&self, records: Vec<(EpochCounter, SecretBytes)>) -> Result<(), StoreError> {
        let mut inner = self.0.lock();
        let dead = || Err(StoreError::Failed("the machine is off".into()));
        if inner.next == NextCommit::Lost {
            return dead();
        }
        for (epoch, record) in records {
            let before = inner.durable.insert(epoch, record);
            if inner.forgetful {
                inner.unsynced.entry(epoch).or_insert(before);
            }
        }
        if inner.next == NextCommit::KeptUnseen { dead() } else { Ok(()) }
    }
}
