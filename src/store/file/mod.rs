//! A store in a file: sealed records in one database, and a witness that it is the newest one.
//!
//! A [`FileStore`] is a [redb](https://docs.rs/redb) database. Every record is sealed under the store's [`DataKey`], for its
//! name, its owner and the schema's version; the data key is in the same file, sealed with a passphrase or a key file
//! ([`Unlock`]). What can be read without either: whose store it is, which epochs have records of which kind, and how long
//! they are.
//!
//! # What is promised
//!
//! - A commit is durable when it is reported, all of it or nothing. A crash leaves the state before or after the commit
//!   that it interrupted.
//! - One process and one handle at a time: the file is locked for as long as it is open.
//! - Nothing starts over by itself. A store that is missing, of another member or chain, cut short, damaged, of a newer
//!   schema, or that does not open with what was given, is a [`FileError`] that names the file and says what to do. Every
//!   page is checked when the file is opened, and every record when it is read.
//! - A handle that has failed once answers nothing any more, with the same error: what is on the disk then is found out by
//!   opening anew.
//!
//! # The witness
//!
//! An older copy of the database, brought back, would forget a committed key, or that a run has been dealt: dealt again
//! with other randomness, it would give shares away. So each commit numbers the database anew (its generation, sealed in it),
//! and the number is also written to a small file beside it, the witness: the database's name with `.witness` added.
//!
//! ```text
//! commit:  changes and generation g+1 -> database, durable;  then g+1 -> witness, durable;  then done is reported
//! open:    database < witness: refused;  database = witness: good;  database > witness: the witness is brought up to it
//! ```
//!
//! - A crash before the database is durable: both say g. Good; the commit did not happen.
//! - A crash between the two: the database says g+1, the witness g. Good: what is there is whole. Who brings back an older
//!   copy at that moment undoes a commit that was never reported, so that nothing it protects has left the node.
//! - A crash within the witness' write: it has two places, used in turn, so that the number before stands.
//! - The database is always durable before the witness says so; an honest crash never leaves it behind.
//! - A crash within a store's creation, which was not reported either: that is said, and to make it again is left to its
//!   owner. A copy of the new store beside an emptied witness looks the same.
//! - A place of the witness that does not read was being written when the machine died, and so the database has to be one
//!   further than the place that does read. Where it is not, one of the two files is damaged or old, and that is said.
//!
//! What cannot be seen from here: both files brought back together, or the whole machine. Then the whiteboard is the
//! witness: it still has what this node dealt, and a node that finds another vector of its own there must not deal. Nor who
//! can rewrite the database from within, and puts an older record of the same name in a newer one's place. Removing the
//! witness does not help: a database without it is refused, until its owner has declared it to be the newest
//! ([`FileStore::renew_witness`]).
//!
//! # What is not promised
//!
//! Removed records and the data key as it was sealed before may stay in unused pages, sealed. [`FileStore::reseal`] is for
//! a passphrase that should be another one; it does not help once a copy of the file and the old passphrase are in one hand.

mod database;
mod error;
mod medium;
mod witness;

use std::path::{Path, PathBuf};

use database::Database;
use medium::FileMedium;
use witness::Witness;

use super::seal::{DataKey, SealedKey, Unlock};
use super::{Backup, BackupError, Change, EpochRecord, MAX_RECORD_BYTES, RecordId, Store, StoreError, sync_folder};
use crate::committee::NodeId;
use crate::secret::SecretBytes;
use crate::sync::Mutex;

pub use error::FileError;
pub use medium::Medium;

/// The version of what is in the tables and how it is sealed. Another one is refused.
pub const SCHEMA_VERSION: u32 = 1;
/// The most bytes of an owner's chain id.
pub const MAX_OWNER_CHAIN_ID_BYTES: usize = 256;
/// Added to the database's file name, it is the witness' one.
const WITNESS_SUFFIX: &str = ".witness";

/// Whose store it is. Nobody else's opens in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The chain that the keys are for.
    pub chain_id: String,
    /// The member whose keys they are.
    pub member: NodeId,
}

/// What something was sealed for. Names are prefixes of no other's.
enum Place {
    Generation,
    Witness,
    Record(RecordId),
}

impl Owner {
    fn context(&self, place: &Place) -> Vec<u8> {
        let mut context = b"dkg-engine file store".to_vec();
        context.extend_from_slice(&SCHEMA_VERSION.to_be_bytes());
        context.extend_from_slice(&(self.chain_id.len() as u64).to_be_bytes());
        context.extend_from_slice(self.chain_id.as_bytes());
        context.extend_from_slice(self.member.as_bytes());
        match place {
            Place::Generation => context.push(0),
            Place::Witness => context.push(1),
            Place::Record(id) => {
                context.push(2);
                context.extend_from_slice(&id.to_bytes());
            }
        }
        context
    }
}

/// Sealed records in a file.
pub struct FileStore {
    path: PathBuf,
    owner: Owner,
    key: DataKey,
    state: Mutex<State>,
}

struct State {
    database: Database,
    witness: Witness,
    generation: u64,
    /// Why this handle is of no use any more.
    failed: Option<FileError>,
}

/// How much a witness that does not fit matters.
#[derive(Clone, Copy, PartialEq)]
enum Trust {
    Witness,
    Database,
}

impl FileStore {
    /// Makes a new store: a database at `path` and its witness beside it, for their owner alone (mode 0600).
    ///
    /// # Errors
    /// There is a database or a witness already, which is left alone; or one of them cannot be written.
    pub fn create(path: &Path, owner: &Owner, unlock: &Unlock) -> Result<Self, FileError> {
        let beside = witness_path(path);
        if path.symlink_metadata().is_ok() {
            return Err(FileError::Exists(path.to_owned()));
        }
        // The witness first: where there is one, there has been a store, and a new one would forget what it knew.
        let witness = FileMedium::create(&beside)?;
        let made = FileMedium::create(path).and_then(|database| {
            let durable = sync_folder(path).map_err(|error| FileError::from_io(path, &error));
            let made = durable.and_then(|()| Self::create_on(path, database, witness, owner, unlock));
            made.inspect_err(|_| remove(path))
        });
        made.inspect_err(|_| remove(&beside))
    }

    /// Makes a new store on storage of one's own, which is empty; `path` is what errors call it.
    ///
    /// # Errors
    /// The storage is not empty or cannot be written.
    pub fn create_on(
        path: &Path,
        database: impl Medium,
        witness: impl Medium,
        owner: &Owner,
        unlock: &Unlock,
    ) -> Result<Self, FileError> {
        let sealing = |error| FileError::Unlock { path: path.to_owned(), error };
        let witness = Witness::new(witness_path(path), witness);
        if database.size().map_err(|error| FileError::from_io(path, &error))? > 0 {
            return Err(FileError::Exists(path.to_owned()));
        }
        let key = DataKey::generate().map_err(sealing)?;
        let sealed_key = SealedKey::seal(&key, unlock).map_err(sealing)?;
        let generation = 0;
        let database = Database::open(path, database)?;
        let sealed = seal_number(path, &key, owner, &Place::Generation, generation)?;
        database.write(&sealed, Some((owner, &sealed_key)), &[])?;
        witness.begin(generation, &key, owner)?;
        Ok(FileStore::new(path, owner, key, State { database, witness, generation, failed: None }))
    }

    /// Opens a store.
    ///
    /// # Errors
    /// There is none, or it cannot be trusted to be this owner's newest: see [`FileError`].
    pub fn open(path: &Path, owner: &Owner, unlock: &Unlock) -> Result<Self, FileError> {
        let database = FileMedium::open(path)?;
        let beside = witness_path(path);
        if !beside.exists() {
            return Err(FileError::WitnessMissing { database: path.to_owned(), witness: beside });
        }
        Self::open_on(path, database, FileMedium::open(&beside)?, owner, unlock)
    }

    /// Opens a store on storage of one's own; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        path: &Path,
        database: impl Medium,
        witness: impl Medium,
        owner: &Owner,
        unlock: &Unlock,
    ) -> Result<Self, FileError> {
        Self::open_trusting(path, database, Witness::new(witness_path(path), witness), owner, unlock, Trust::Witness)
    }

    /// Declares the database at `path` to be the newest, whatever its witness says, and opens it. For its owner, who knows
    /// that it is: after a witness was lost or damaged. Where it is not the newest, a run may be dealt twice, and its
    /// secret with it.
    ///
    /// # Errors
    /// As [`open`](Self::open), the witness' own errors aside.
    pub fn renew_witness(path: &Path, owner: &Owner, unlock: &Unlock) -> Result<Self, FileError> {
        let database = FileMedium::open(path)?;
        let beside = witness_path(path);
        let missing = !beside.exists();
        let witness = if missing { FileMedium::create(&beside)? } else { FileMedium::open(&beside)? };
        let durable = sync_folder(&beside).map_err(|error| FileError::from_io(&beside, &error));
        let witness = Witness::new(beside.clone(), witness);
        let renewed =
            durable.and_then(|()| Self::open_trusting(path, database, witness, owner, unlock, Trust::Database));
        // An empty witness would say something else than none.
        renewed.inspect_err(|_| {
            if missing {
                remove(&beside)
            }
        })
    }

    fn open_trusting(
        path: &Path,
        database: impl Medium,
        witness: Witness,
        owner: &Owner,
        unlock: &Unlock,
        trust: Trust,
    ) -> Result<Self, FileError> {
        let damaged = |reason: &str| FileError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let unfinished = || FileError::Unfinished { database: path.to_owned(), witness: witness_path(path) };
        // The witness is written last when a store is made: where it says something, there was something to lose.
        let begun =
            |witness: &Witness| if witness.is_blank()? { Err(unfinished()) } else { Err(damaged("it is empty")) };
        if database::is_blank(&database).map_err(|error| FileError::from_io(path, &error))? {
            return begun(&witness);
        }
        let database = Database::open(path, database)?;
        let Some(header) = database.read_header()? else { return begun(&witness) };
        if header.owner != *owner {
            let (owner, asked) = (Box::new(header.owner), Box::new(owner.clone()));
            return Err(FileError::OtherOwner { path: path.to_owned(), owner, asked });
        }
        let key = header.key.open(unlock).map_err(|error| FileError::Unlock { path: path.to_owned(), error })?;
        let mut generation = open_number(&key, owner, &Place::Generation, &header.generation)
            .ok_or_else(|| damaged("its generation does not open under its own key"))?;
        match trust {
            Trust::Witness => witness.compare(generation, path, &key, owner)?,
            Trust::Database => {
                // A number that no copy of the database has yet.
                generation = witness.newest(&key, owner)?.unwrap_or(0).max(generation).saturating_add(1);
                database.write(&seal_number(path, &key, owner, &Place::Generation, generation)?, None, &[])?;
                witness.begin(generation, &key, owner)?;
            }
        }
        Ok(FileStore::new(path, owner, key, State { database, witness, generation, failed: None }))
    }

    fn new(path: &Path, owner: &Owner, key: DataKey, state: State) -> Self {
        FileStore { path: path.to_owned(), owner: owner.clone(), key, state: Mutex::new(state) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on `new` opens this store, and what did before does not. One durable transaction; no record is touched.
    ///
    /// # Errors
    /// The key file cannot be used or the passphrase is empty, and all is as it was; or the store cannot be written.
    pub fn reseal(&self, new: &Unlock) -> Result<(), FileError> {
        let sealing = |error| FileError::Unlock { path: self.path.clone(), error };
        let sealed_key = SealedKey::seal(&self.key, new).map_err(sealing)?;
        self.write(Some(&sealed_key), &[])
    }

    /// A backup of an epoch's share under what opens this store now: for who has that, and wants to keep the share elsewhere. The
    /// bytes say nothing to anybody else; what a backup is bound to is bound to no record of a store.
    ///
    /// # Errors
    /// There is no share, sealing fails, or the store cannot be read.
    pub fn back_up(&self, record: &EpochRecord) -> Result<Backup, BackupError> {
        let header = self.in_order(|state| state.database.read_header()).map_err(StoreError::from)?;
        let damaged = || FileError::Damaged { path: self.path.clone(), reason: "it has no header".to_owned() };
        let header = header.ok_or_else(damaged).map_err(StoreError::from)?;
        Backup::seal_under(&self.owner, record, &self.key, header.key)
    }

    /// Makes one commit: the database, then the witness.
    fn write(&self, sealed_key: Option<&SealedKey>, changes: &[(RecordId, Option<Vec<u8>>)]) -> Result<(), FileError> {
        self.in_order(|state| self.write_next(state, sealed_key, changes))
    }

    fn write_next(
        &self,
        state: &mut State,
        sealed_key: Option<&SealedKey>,
        changes: &[(RecordId, Option<Vec<u8>>)],
    ) -> Result<(), FileError> {
        let next = state.generation.saturating_add(1);
        let generation = seal_number(&self.path, &self.key, &self.owner, &Place::Generation, next)?;
        state.database.write(&generation, sealed_key.map(|key| (&self.owner, key)), changes)?;
        state.witness.write(next, &self.key, &self.owner)?;
        state.generation = next;
        Ok(())
    }

    fn opened(&self, id: RecordId, sealed: Option<Vec<u8>>) -> Result<Option<SecretBytes>, StoreError> {
        let Some(sealed) = sealed else { return Ok(None) };
        let opened = self.key.open(&self.owner.context(&Place::Record(id)), &sealed);
        let damaged = |_| StoreError::Damaged {
            record: id,
            reason: format!("its sealed bytes in {} do not open; bring back a whole copy", self.path.display()),
        };
        opened.map(Some).map_err(damaged)
    }

    /// One at a time, and none after the first that failed.
    fn in_order<T>(&self, body: impl FnOnce(&mut State) -> Result<T, FileError>) -> Result<T, FileError> {
        let mut state = self.state.lock();
        match &state.failed {
            Some(error) => Err(error.clone()),
            None => body(&mut state).inspect_err(|error| state.failed = Some(error.clone())),
        }
    }
}

impl Store for FileStore {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.opened(id, self.in_order(|state| state.database.read(id))?)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        Ok(self.in_order(|state| state.database.list())?)
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut conditions = Vec::new();
        let mut sealed = Vec::new();
        for change in changes {
            match change {
                Change::Put(id, record) if record.len() > MAX_RECORD_BYTES => {
                    return Err(StoreError::Failed(format!(
                        "{} bytes are too many for {id} in {}; a record has at most {MAX_RECORD_BYTES}",
                        record.len(),
                        self.path.display()
                    )));
                }
                Change::Put(id, record) => {
                    let bytes = self.key.seal(&self.owner.context(&Place::Record(id)), &record);
                    let bytes = bytes.map_err(|error| FileError::Unlock { path: self.path.clone(), error })?;
                    sealed.push((id, Some(bytes)));
                }
                Change::Remove(id) => sealed.push((id, None)),
                Change::Expect(..) => conditions.push(change),
            }
        }
        self.in_order(|state| {
            for condition in &conditions {
                let Change::Expect(id, _) = condition else { continue };
                let stored = state.database.read(*id)?;
                // Not a failure of the file, which would end this handle.
                if let Err(error) = condition.check(|id| self.opened(id, stored)) {
                    return Ok(Err(error));
                }
            }
            self.write_next(state, None, &sealed).map(Ok)
        })?
    }
}

/// The witness of the database at `path`.
fn witness_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(WITNESS_SUFFIX);
    name.into()
}

/// Takes back a file that this call has made and could not finish.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        log::warn!("{} could not be finished, and not be removed either: {error}", path.display());
    }
}

fn seal_number(path: &Path, key: &DataKey, owner: &Owner, place: &Place, number: u64) -> Result<Vec<u8>, FileError> {
    let plain = SecretBytes::new(number.to_be_bytes().to_vec());
    key.seal(&owner.context(place), &plain).map_err(|error| FileError::Unlock { path: path.to_owned(), error })
}

fn open_number(key: &DataKey, owner: &Owner, place: &Place, sealed: &[u8]) -> Option<u64> {
    let plain = key.open(&owner.context(place), sealed).ok()?;
    Some(u64::from_be_bytes(plain.expose().try_into().ok()?))
}
