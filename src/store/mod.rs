//! What must survive a crash: the life of each epoch's key (spec section 6).
//!
//! A host brings a [`Store`]: atomic, durable batches of small records. [`DkgState`] keeps one [`EpochRecord`] per epoch in
//! it and refuses transitions that the key state machine does not have, whoever asks for them.
//!
//! [`MemoryStore`] keeps records for the process's life; `FileStore` (feature `file-store`) keeps them in a file, sealed.
//!
//! Only a committed key is safe to sign with, and it has a type of its own, [`CommittedKey`], which exists only where the
//! chain's evidence has been compared with the key. Whether a node holds the keys that it should hold is asked in three
//! places: [`recover`] finds a key that the chain names anew, [`KeyCheck`] decides whether a node starts without its key, and
//! [`KeyHealth`] tells its operator. With the feature `file-store`, a `Backup` takes one epoch's share out of a store and back
//! into another.

#[cfg(feature = "file-store")]
mod backup;
mod check;
#[cfg(feature = "eip2335")]
pub mod eip2335;
#[cfg(feature = "file-store")]
pub mod file;
mod health;
mod host;
mod id;
mod journal;
mod memory;
mod record;
mod recovery;
mod retention;
#[cfg(feature = "file-store")]
pub mod seal;
#[cfg(feature = "file-store")]
mod secret_file;
#[cfg(any(feature = "eip2335", feature = "file-store"))]
mod share_file;

#[cfg(feature = "file-store")]
pub use backup::{Backup, BackupError, MAX_BACKUP_BYTES};
pub use check::{KeyCheck, KeyCheckError, KeyVerdict};
#[cfg(feature = "file-store")]
pub use file::{FileError, FileStore, Owner};
#[cfg(feature = "metrics")]
pub use health::{HEALTH_GAUGE, record_metrics};
pub use health::{HealthStatus, KeyHealth};
pub use id::{RecordId, RecordKind};
pub use journal::{Dealing, Journal, ReceivedShare};
pub use memory::MemoryStore;
pub use record::{CommittedKey, EpochRecord, KeyShare, KeyStatus, SafeKey, SelfTestError, TransitionError};
pub use recovery::{Recovered, recover};
pub use retention::{KEPT_EPOCHS, MAX_KEPT_EPOCHS, NoKey, REMEMBERED_EPOCHS};
#[cfg(feature = "file-store")]
pub use seal::Unlock;
#[cfg(feature = "file-store")]
pub use secret_file::{ExposedFile, SecretAccess, SecretFileError, check_sealed, open_secret};
#[cfg(any(feature = "eip2335", feature = "file-store"))]
pub use share_file::ShareFileError;
#[cfg(feature = "node")]
pub(crate) use share_file::{read_text, write_new};

use std::sync::Arc;

use host::HostStore;

use crate::bls::Index;
use crate::epoch::EpochCounter;
use crate::secret::SecretBytes;

/// The most bytes a record may have.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// How often a write is judged and tried, where others write at the same time.
const MAX_WRITE_TRIES: usize = 8;

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
    /// A record is there, and another was to take its place.
    #[error("{0} is stored already, and another may not take its place")]
    Overwrite(RecordId),
    /// A condition of a commit does not hold: somebody else has written since what it was made from was read.
    #[error("{0} was written by somebody else in the meantime; see that only one engine uses this store")]
    Conflict(RecordId),
    /// A transition that the key state machine does not have.
    #[error("epoch {epoch}: {error}")]
    Transition {
        /// Which record.
        epoch: EpochCounter,
        /// What was asked for.
        error: TransitionError,
    },
}

/// One part of a commit to a store: a change, or a condition for all of them.
pub enum Change {
    /// Writes a record, in the place of the one before.
    Put(RecordId, SecretBytes),
    /// Removes a record, if it is there.
    Remove(RecordId),
    /// Changes nothing. Wherever it stands in a commit, the commit takes place only if the record was this one before it, or
    /// was not there (`None`).
    Expect(RecordId, Option<SecretBytes>),
}

impl Change {
    /// Whether the condition that this part makes holds, if it makes one, where `read` reads what is stored before the commit.
    /// Nobody else may write between this and the changes: a [`Store`] asks it of every part within its own lock or
    /// transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it does not hold, or what `read` says.
    pub fn check(
        &self,
        read: impl FnOnce(RecordId) -> Result<Option<SecretBytes>, StoreError>,
    ) -> Result<(), StoreError> {
        let Change::Expect(id, expected) = self else { return Ok(()) };
        let holds = match (expected, read(*id)?) {
            (None, None) => true,
            (Some(expected), Some(found)) => expected.ct_eq(&found),
            _ => false,
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict(*id)) }
    }
}

/// Durable records, as the engine uses them. Values are secret: keep them where only this node can read.
///
/// What must not happen is a condition of the commit itself ([`Change::Expect`]), and never of what was read before it. So a
/// key, a dealing or a share that is stored is not overwritten, by whichever handle, thread or process another one comes, as
/// long as [`commit`](Self::commit) is atomic for all of them.
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

    /// Makes all changes, in their order, or none, and returns when they are durable. First [`Change::check`] is asked of each
    /// of them, against what is stored; nobody else writes between that and the changes.
    ///
    /// # Errors
    /// A condition does not hold ([`StoreError::Conflict`]), and nothing is changed. Or the store cannot be written. Whether all of the changes were made or none is then not known before the store has been
    /// opened anew; until then it fails, or shows none of them.
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// A node's key states, one per epoch. Cheap to clone; all clones share one store.
///
/// Every write names what it was made from as a condition of the commit: of two that come at once, through clones or through
/// two `DkgState`s of one store, one is made, and the other is judged again by what is stored then.
#[derive(Clone)]
pub struct DkgState {
    store: Arc<HostStore>,
    kept_epochs: u64,
}

impl DkgState {
    /// The key states kept in `store`; keys are erased after [`KEPT_EPOCHS`], see [`keeping`](Self::keeping).
    pub fn new(store: Arc<dyn Store>) -> Self {
        DkgState { store: Arc::new(HostStore::new(store)), kept_epochs: KEPT_EPOCHS }
    }

    /// What is recorded of an epoch; an epoch never heard of is `Uninitialized`.
    ///
    /// # Errors
    /// The store cannot be read or the record is damaged.
    pub fn record(&self, epoch: EpochCounter) -> Result<EpochRecord, StoreError> {
        Self::decoded(epoch, self.store.read(RecordId::key(epoch))?.as_ref())
    }

    fn decoded(epoch: EpochCounter, stored: Option<&SecretBytes>) -> Result<EpochRecord, StoreError> {
        stored.map_or_else(|| Ok(EpochRecord::new(epoch)), |bytes| EpochRecord::decode(epoch, bytes))
    }

    /// The key that is safe to sign with in `epoch`.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn safe_key(&self, epoch: EpochCounter) -> Result<SafeKey, StoreError> {
        Ok(self.record(epoch)?.safe_key())
    }

    /// What is remembered of a run that makes the keys of `epoch`, if it was begun here and is not over.
    ///
    /// # Errors
    /// The store cannot be read or a record is damaged.
    pub fn journal(&self, epoch: EpochCounter) -> Result<Option<Journal>, StoreError> {
        let Some(dealing) = self.dealing(epoch)? else { return Ok(None) };
        let mut shares = Vec::new();
        for id in self.store.list()? {
            if let (true, RecordKind::Share(dealer)) = (id.epoch == epoch, id.kind)
                && let Some(bytes) = self.store.read(id)?
            {
                shares.push(ReceivedShare::decode(epoch, dealer, &bytes)?);
            }
        }
        Ok(Some(Journal { dealing, shares }))
    }

    /// The dealers whose shares of a run that goes on are kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn shares_kept(&self, epoch: EpochCounter) -> Result<Vec<Index>, StoreError> {
        let dealer = |id: &RecordId| match id.kind {
            RecordKind::Share(dealer) if id.epoch == epoch => Some(dealer),
            _ => None,
        };
        Ok(self.store.list()?.iter().filter_map(dealer).collect())
    }

    /// The newest epoch before `epoch` whose key is committed.
    ///
    /// # Errors
    /// The store cannot be read or a record is damaged.
    pub fn committed_before(&self, epoch: EpochCounter) -> Result<Option<CommittedKey>, StoreError> {
        for id in self.store.list()?.iter().rev().filter(|id| id.epoch < epoch && id.kind == RecordKind::Key) {
            if let SafeKey::Key(key) = self.safe_key(id.epoch)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Writes new key records, all or none, in their order.
    ///
    /// # Errors
    /// The store fails, or a record is not a legal successor of what is stored or comes before it.
    pub fn commit(&self, records: &[EpochRecord]) -> Result<(), StoreError> {
        self.write(&Batch { keys: records.to_vec(), ..Batch::default() })
    }

    /// Makes all changes of a batch, or none.
    ///
    /// # Errors
    /// The store fails, or a record may not take the place of the one that is stored.
    pub fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let changes = self.changes(batch)?;
            let written = if changes.is_empty() { Ok(()) } else { self.store.commit(changes) };
            match written {
                // What has been written in between may allow this or not.
                Err(StoreError::Conflict(_)) if tries < MAX_WRITE_TRIES => {}
                written => return written,
            }
        }
    }

    /// What a batch comes to, given what is stored; with that as its condition.
    fn changes(&self, batch: &Batch) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for (position, record) in batch.keys.iter().enumerate() {
            let (epoch, id) = (record.epoch(), RecordId::key(record.epoch()));
            let before = match batch.keys[..position].iter().rfind(|before| before.epoch() == epoch) {
                Some(before) => before.clone(),
                None => {
                    let stored = self.store.read(id)?;
                    let before = Self::decoded(epoch, stored.as_ref())?;
                    changes.push(Change::Expect(id, stored));
                    before
                }
            };
            before.check_successor(record).map_err(|error| StoreError::Transition { epoch, error })?;
            changes.push(Change::Put(id, record.encode()?));
        }
        if let Some(dealing) = &batch.dealing {
            let stored = self.store.read(dealing.id())?;
            let before = stored.as_ref().map(|bytes| Dealing::decode(dealing.epoch(), bytes)).transpose()?;
            if before.is_some_and(|before| !before.gives_way_to(dealing)) {
                return Err(StoreError::Overwrite(dealing.id()));
            }
            changes.push(Change::Expect(dealing.id(), stored));
            changes.push(Change::Put(dealing.id(), dealing.encode()?));
        }
        for share in &batch.shares {
            if self.store.read(share.id())?.is_some() {
                return Err(StoreError::Overwrite(share.id()));
            }
            changes.push(Change::Expect(share.id(), None));
            changes.push(Change::Put(share.id(), share.encode()?));
        }
        if !batch.closed.is_empty() || batch.prune_for.is_some() {
            changes.extend(self.outdated(batch)?);
        }
        Ok(changes)
    }

    /// What a batch lets go of: journals, and the shares in key records, of which it stays on record that they were erased.
    fn outdated(&self, batch: &Batch) -> Result<Vec<Change>, StoreError> {
        let outdated = batch.prune_for.map(|prune| self.outdated_for(prune)).transpose()?;
        let mut changes = Vec::new();
        for id in self.store.list()? {
            if id.kind != RecordKind::Key {
                if batch.closed.contains(&id.epoch) || outdated.is_some_and(|outdated| outdated.takes_journal(id.epoch))
                {
                    changes.push(Change::Remove(id));
                }
            } else if let Some(outdated) = outdated.filter(|outdated| outdated.takes_key(id.epoch)) {
                if id.epoch.0.saturating_add(REMEMBERED_EPOCHS) < outdated.oldest_kept.0 {
                    changes.push(Change::Remove(id));
                } else if let Some(stored) = self.store.read(id)?
                    // What cannot be read is left for whoever can repair it.
                    && let Ok(record) = EpochRecord::decode(id.epoch, &stored)
                    && let Some(erased) = record.erased(self.kept_epochs, outdated.current)
                {
                    changes.extend([Change::Expect(id, Some(stored)), Change::Put(id, erased.encode()?)]);
                }
            }
        }
        Ok(changes)
    }

    fn outdated_for(&self, Prune { current, in_force }: Prune) -> Result<Outdated, StoreError> {
        let fallback = self.committed_before(current)?.map(|key| key.epoch());
        let held = matches!(self.safe_key(current)?, SafeKey::Key(_));
        Ok(Outdated {
            current,
            oldest_kept: EpochCounter(current.0.saturating_sub(self.kept_epochs)),
            fallback,
            superseded: if held { Some(current) } else { fallback },
            in_force,
        })
    }

    fn dealing(&self, epoch: EpochCounter) -> Result<Option<Dealing>, StoreError> {
        self.store.read(RecordId::dealing(epoch))?.map(|bytes| Dealing::decode(epoch, &bytes)).transpose()
    }
}

/// Changes that become durable together.
#[derive(Clone, Default)]
pub struct Batch {
    /// New key records.
    pub keys: Vec<EpochRecord>,
    /// What this node deals from in a run that begins; or that it deals nothing.
    pub dealing: Option<Dealing>,
    /// Shares that have come. Each is written once.
    pub shares: Vec<ReceivedShare>,
    /// The keys of these epochs are committed: the journals of their runs are of no more use.
    pub closed: Vec<EpochCounter>,
    /// What the chain has left behind goes.
    pub prune_for: Option<Prune>,
}

/// What the chain has left behind, to be let go of.
///
/// A key share is erased when it is older than keys are kept ([`DkgState::keeping`]); never the newest committed one before the
/// current epoch, since a chain in fallback may still use that. That it was erased stays on record for [`REMEMBERED_EPOCHS`]. A run's journal goes when this node has a committed key for the run's epoch or a
/// later one up to the current: whatever keys are in force, they are its own then, and those of the run can be in force no more.
/// A journal that made no key here stays, since a share may still come out of it: for as long as keys are kept, and for as long
/// as the keys of its run are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The epoch the chain is in.
    pub current: EpochCounter,
    /// The epoch whose run made the keys that are in force in it, if that is known.
    pub in_force: Option<EpochCounter>,
}

/// Which records go.
#[derive(Clone, Copy)]
struct Outdated {
    current: EpochCounter,
    /// What is older than this epoch's goes, whatever became of it.
    oldest_kept: EpochCounter,
    /// The newest committed key before the current epoch.
    fallback: Option<EpochCounter>,
    /// The newest committed key up to the current epoch.
    superseded: Option<EpochCounter>,
    /// The run whose keys are in force.
    in_force: Option<EpochCounter>,
}

impl Outdated {
    fn takes_key(&self, epoch: EpochCounter) -> bool {
        epoch < self.oldest_kept && Some(epoch) != self.fallback
    }

    fn takes_journal(&self, epoch: EpochCounter) -> bool {
        let superseded = self.superseded.is_some_and(|committed| epoch <= committed);
        superseded || (epoch < self.oldest_kept && Some(epoch) != self.in_force)
    }
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let Batch { keys, dealing, shares, closed, prune_for } = self;
        keys.is_empty() && dealing.is_none() && shares.is_empty() && closed.is_empty() && prune_for.is_none()
    }
}

/// Makes what was created, renamed or removed at `path` durable: the folder's own list of files.
#[cfg(any(feature = "eip2335", feature = "file-store"))]
fn sync_folder(path: &std::path::Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => std::path::Path::new("."),
    };
    // Only unix lets a folder be opened for that.
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}
