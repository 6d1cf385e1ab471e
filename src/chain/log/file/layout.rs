//! The file of a log: how entries lie in its database, and what can be wrong with it. Knows nothing of who reads and who waits.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use redb::{
    Builder, CommitError, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition, TableError, TransactionError, WriteTransaction,
};
use sha3::{Digest, Sha3_256};

use crate::chain::log::LogError;
use crate::sync::catch_panic;

/// What the database keeps of the file in memory, in bytes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// The version of the layout.
const LAYOUT: u64 = 1;
/// What sets these checksums apart from other hashes.
const CHECKSUM_DOMAIN: &[u8] = b"dkg-engine log file 1";
const CHECKSUM_BYTES: usize = 32;

const ENTRIES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("entries");
const ABOUT: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("about");
const ABOUT_LAYOUT: &str = "layout";
const ABOUT_CHAIN: &str = "chain";
const ABOUT_ACKNOWLEDGED: &str = "acknowledged";
/// Only where something has been cut off: how many entries were final then.
const ABOUT_VOUCHED: &str = "vouched";
/// Why a log file cannot be used. Whatever it is, nothing in the file has been thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileLogError {
    /// There is nothing to open.
    #[error(
        "there is no log at {}; put the file back where it was, or create a log if this chain never had one here",
        .0.display()
    )]
    Missing(PathBuf),
    /// There is something already where a log is to be created.
    #[error("{} is there already; open it, or choose another place for a new log", .0.display())]
    Exists(PathBuf),
    /// Another process, or another part of this one, has it open.
    #[error("the log {} is in use; stop the program that has it open, or choose another place", .0.display())]
    InUse(PathBuf),
    /// It belongs to another chain.
    #[error(
        "the log {} belongs to the chain {}, not to {}; use the committee file it was made with, or another log",
        .file.display(), crate::hex::encode(.found), crate::hex::encode(.expected)
    )]
    OtherChain {
        /// The file.
        file: PathBuf,
        /// The identity of the chain whose log it is.
        found: [u8; 32],
        /// The identity of the chain whose log was asked for.
        expected: [u8; 32],
    },
    /// One entry is not what was written.
    #[error("the log {} is damaged: the entry at position {position} {reason}; put a copy in its place", .file.display())]
    DamagedEntry {
        /// The file.
        file: PathBuf,
        /// Where in the log.
        position: u64,
        /// What is wrong with the entry.
        reason: &'static str,
    },
    /// It is no log, or not as it was written.
    #[error("the log {} is damaged, or no log at all: {reason}; put a copy in its place", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It may be read but not written.
    #[error("the log {} cannot be written: {reason}; let this user write it and the folder it is in", .file.display())]
    ReadOnly {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The disk, or the limit of the log, leaves no room.
    #[error("no room for the log {}: {reason}; make room and start again", .file.display())]
    Full {
        /// The file.
        file: PathBuf,
        /// What is full.
        reason: String,
    },
    /// The operating system fails.
    #[error("the log {} failed: {reason}; see to the disk and start again", .file.display())]
    Failed {
        /// The file.
        file: PathBuf,
        /// What failed.
        reason: String,
    },
}

impl FileLogError {
    /// Whether the file may be in order again without anybody's doing anything to it.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, FileLogError::Full { .. } | FileLogError::Failed { .. } | FileLogError::ReadOnly { .. })
    }
}

impl From<FileLogError> for LogError {
    fn from(error: FileLogError) -> Self {
        let text = error.to_string();
        if error.may_pass() { LogError::Disk(text) } else { LogError::Failed(text) }
    }
}
/// The file itself: knows nothing of who reads and who waits.
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    chain: [u8; 32],
    /// None while it is opened anew, and if that has failed.
    database: RwLock<Option<Database>>,
}

impl LogFile {
    pub(super) fn write_new(path: &Path, chain: &[u8; 32]) -> Result<(), FileLogError> {
        // What members say to each other is for those who run them, and whose disk it is.
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        drop(options.open(path).map_err(|error| at(path, &error))?);
        checked(path, || {
            let database = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
            let transaction = database.begin_write()?;
            {
                transaction.open_table(ENTRIES)?;
                let mut about = transaction.open_table(ABOUT)?;
                about.insert(ABOUT_LAYOUT, LAYOUT.to_be_bytes().as_slice())?;
                about.insert(ABOUT_CHAIN, chain.as_slice())?;
            }
            transaction.commit()?;
            acknowledge(&database, 0)?;
            Ok(database.close()?)
        })
    }

    /// The file, how many entries it has, and of how many bytes.
    pub(super) fn open(path: &Path, chain: &[u8; 32]) -> Result<(Self, u64, u64), FileLogError> {
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FileLogError::Missing(path.to_owned()),
            _ => at(path, &error),
        })?;
        if !metadata.is_file() {
            return Err(damaged(path, "it is not a file"));
        }
        let database = checked(path, || Ok(Builder::new().set_cache_size(CACHE_BYTES).open(path)?))?;
        let mut file = LogFile { path: path.to_owned(), chain: *chain, database: RwLock::new(Some(database)) };
        // The entries first: what is wrong with one of them is told with its position.
        file.check_what_it_is()?;
        let found = file.check_entries()?;
        let as_it_was = checked(path, || match file.database.get_mut() {
            Some(database) => Ok(database.check_integrity()?),
            None => Err(not_open()),
        })?;
        let (entries, bytes) = if as_it_was { found } else { file.check_entries()? };
        Ok((file, entries, bytes))
    }

    fn database(&self) -> Result<MappedRwLockReadGuard<'_, Database>, Trouble> {
        RwLockReadGuard::try_map(self.database.read(), Option::as_ref).map_err(|_| not_open())
    }

    /// Opens the file anew, which had so many entries when it failed, and some that were to be written; returns how many it has
    /// now.
    pub(super) fn reopen(&self, durable: u64, waiting: &[Arc<[u8]>]) -> Result<u64, FileLogError> {
        checked(&self.path, || {
            let mut database = self.database.write();
            // The file is locked as long as it is open.
            *database = None;
            *database = Some(Builder::new().set_cache_size(CACHE_BYTES).open(&self.path)?);
            Ok(())
        })?;
        let entries = checked(&self.path, || Ok(self.database()?.begin_read()?.open_table(ENTRIES)?.len()?))?;
        if entries < durable {
            return Err(self.damaged_entry(entries, "is missing"));
        }
        let more = self.read(durable, entries)?;
        if more.len() > waiting.len() || more.iter().zip(waiting).any(|(there, written)| there[..] != written[..]) {
            return Err(damaged(&self.path, "it has other entries than were to be written"));
        }
        Ok(entries)
    }

    pub(super) fn vouched(&self) -> Result<u64, FileLogError> {
        checked(&self.path, || {
            let about = self.database()?.begin_read()?.open_table(ABOUT)?;
            let vouched = about.get(ABOUT_VOUCHED)?;
            Ok(vouched.and_then(|bytes| bytes.value().try_into().ok()).map_or(0, u64::from_be_bytes))
        })
    }

    fn check_what_it_is(&self) -> Result<(), FileLogError> {
        let about = |name| {
            checked(&self.path, || {
                let about = self.database()?.begin_read()?.open_table(ABOUT)?;
                let value = about.get(name)?;
                Ok(value.map(|value| value.value().to_vec()))
            })
        };
        let layout = about(ABOUT_LAYOUT)?;
        if layout.as_deref() != Some(&LAYOUT.to_be_bytes()) {
            return Err(damaged(&self.path, "its layout is not one that this version knows"));
        }
        let chain = about(ABOUT_CHAIN)?.and_then(|chain| <[u8; 32]>::try_from(chain).ok());
        match chain {
            None => Err(damaged(&self.path, "it does not say which chain it belongs to")),
            Some(found) if found != self.chain => {
                Err(FileLogError::OtherChain { file: self.path.clone(), found, expected: self.chain })
            }
            Some(_) => Ok(()),
        }
    }

    /// Reads all there is; returns how many entries, and of how many bytes.
    fn check_entries(&self) -> Result<(u64, u64), FileLogError> {
        let mut found = (0_u64, 0_u64);
        let mut problem = None;
        let acknowledged = checked(&self.path, || {
            let transaction = self.database()?.begin_read()?;
            for entry in transaction.open_table(ENTRIES)?.iter()? {
                let (position, record) = entry?;
                match self.unpack(found.0, position.value(), record.value()) {
                    Ok(entry) => found = (found.0 + 1, found.1.saturating_add(entry.len() as u64)),
                    Err(damage) => {
                        problem = Some(damage);
                        return Ok(0);
                    }
                }
            }
            let acknowledged = transaction.open_table(ABOUT)?.get(ABOUT_ACKNOWLEDGED)?;
            Ok(acknowledged.and_then(|bytes| bytes.value().try_into().ok()).map_or(u64::MAX, u64::from_be_bytes))
        })?;
        match problem {
            Some(problem) => Err(problem),
            None if found.0 < acknowledged => Err(self.damaged_entry(found.0, "is missing")),
            None => Ok(found),
        }
    }

    pub(super) fn write(&self, first: u64, batch: &[Arc<[u8]>]) -> Result<(), FileLogError> {
        checked(&self.path, || {
            let database = self.database()?;
            let transaction = database.begin_write()?;
            self.insert(&transaction, first, batch)?;
            transaction.commit()?;
            acknowledge(&database, first.saturating_add(batch.len() as u64))
        })
    }

    fn insert(&self, transaction: &WriteTransaction, first: u64, batch: &[Arc<[u8]>]) -> Result<(), Trouble> {
        let mut entries = transaction.open_table(ENTRIES)?;
        if entries.len()? != first {
            return Err(Trouble::Damaged("it does not end where it ended before".to_owned()));
        }
        for (position, entry) in (first..).zip(batch) {
            let record = [self.checksum(position, entry).as_slice(), entry].concat();
            entries.insert(position, record.as_slice())?;
        }
        Ok(())
    }

    /// Takes the entries from `from` up to the end out; returns how many bytes they had.
    pub(super) fn cut(&self, from: u64, end: u64, vouched: u64) -> Result<u64, FileLogError> {
        checked(&self.path, || {
            let transaction = self.database()?.begin_write()?;
            let mut bytes = 0_u64;
            {
                // Fewer are acknowledged first, in the same transaction.
                let mut about = transaction.open_table(ABOUT)?;
                about.insert(ABOUT_ACKNOWLEDGED, from.to_be_bytes().as_slice())?;
                about.insert(ABOUT_VOUCHED, vouched.to_be_bytes().as_slice())?;
                let mut entries = transaction.open_table(ENTRIES)?;
                for position in from..end {
                    let length = entries.remove(position)?.map_or(0, |record| record.value().len());
                    bytes = bytes.saturating_add(length.saturating_sub(CHECKSUM_BYTES) as u64);
                }
            }
            transaction.commit()?;
            Ok(bytes)
        })
    }

    /// The entries from `from` up to `end`, all of which are there.
    pub(super) fn read(&self, from: u64, end: u64) -> Result<Vec<Vec<u8>>, FileLogError> {
        let mut problem = None;
        let entries = checked(&self.path, || {
            let table = self.database()?.begin_read()?.open_table(ENTRIES)?;
            let mut entries = Vec::new();
            for (expected, record) in (from..end).zip(table.range(from..end)?) {
                let (position, record) = record?;
                match self.unpack(expected, position.value(), record.value()) {
                    Ok(entry) => entries.push(entry.to_vec()),
                    Err(damage) => {
                        problem = Some(damage);
                        break;
                    }
                }
            }
            Ok(entries)
        })?;
        let next = from.saturating_add(entries.len() as u64);
        match problem {
            Some(problem) => Err(problem),
            None if next < end => Err(self.damaged_entry(next, "is missing")),
            None => Ok(entries),
        }
    }

    /// The entry in a record that was found at `position` where that at `expected` should be.
    pub(super) fn unpack<'r>(&self, expected: u64, position: u64, record: &'r [u8]) -> Result<&'r [u8], FileLogError> {
        if position != expected {
            return Err(self.damaged_entry(expected, "is missing"));
        }
        match record.split_first_chunk::<CHECKSUM_BYTES>() {
            Some((checksum, entry)) if *checksum == self.checksum(position, entry) => Ok(entry),
            _ => Err(self.damaged_entry(position, "is not what was written")),
        }
    }

    fn checksum(&self, position: u64, entry: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let hasher = Sha3_256::new_with_prefix(CHECKSUM_DOMAIN).chain_update(self.chain);
        hasher.chain_update(position.to_le_bytes()).chain_update(entry).finalize().into()
    }

    fn damaged_entry(&self, position: u64, reason: &'static str) -> FileLogError {
        FileLogError::DamagedEntry { file: self.path.clone(), position, reason }
    }
}

/// The second transaction of every batch.
fn acknowledge(database: &Database, entries: u64) -> Result<(), Trouble> {
    let transaction = database.begin_write()?;
    transaction.open_table(ABOUT)?.insert(ABOUT_ACKNOWLEDGED, entries.to_be_bytes().as_slice())?;
    Ok(transaction.commit()?)
}

fn not_open() -> Trouble {
    Trouble::Other("it could not be opened anew".to_owned())
}

/// What a database has to complain of.
enum Trouble {
    InUse,
    Io(io::Error),
    Damaged(String),
    Other(String),
}

/// Calls the database. It panics where it trusts what it reads, and what it reads may be damaged.
fn checked<T>(path: &Path, call: impl FnOnce() -> Result<T, Trouble>) -> Result<T, FileLogError> {
    let outcome = catch_panic(call).unwrap_or_else(|_| Err(Trouble::Damaged("it cannot be made sense of".to_owned())));
    outcome.map_err(|trouble| match trouble {
        Trouble::InUse => FileLogError::InUse(path.to_owned()),
        Trouble::Io(error) => at(path, &error),
        Trouble::Damaged(reason) => damaged(path, &reason),
        Trouble::Other(reason) => FileLogError::Failed { file: path.to_owned(), reason },
    })
}

/// Makes a file's name durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Only unix lets a folder be opened for that.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn damaged(file: &Path, reason: &str) -> FileLogError {
    FileLogError::Damaged { file: file.to_owned(), reason: reason.to_owned() }
}

pub(super) fn at(file: &Path, error: &io::Error) -> FileLogError {
    let (file, reason) = (file.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FileLogError::ReadOnly { file, reason },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            FileLogError::Full { file, reason }
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => FileLogError::Damaged { file, reason },
        _ => FileLogError::Failed { file, reason },
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) => Trouble::Io(error),
            StorageError::Corrupted(reason) => Trouble::Damaged(reason),
            other => Trouble::Other(other.to_string()),
        }
    }
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Trouble::InUse,
            DatabaseError::Storage(error) => error.into(),
            other => Trouble::Other(other.to_string()),
        }
    }
}

impl From<TransactionError> for Trouble {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Trouble::Other(other.to_string()),
        }
    }
}

impl From<TableError> for Trouble {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            // Every log has these tables.
            other => Trouble::Damaged(other.to_string()),
        }
    }
}

impl From<CommitError> for Trouble {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Trouble::Other(other.to_string()),
        }
    }
}
