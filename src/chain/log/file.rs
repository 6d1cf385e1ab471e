//! A log in a file: what has been acknowledged is still there after any crash.
//!
//! An entry is durable before [`append`](LogHost::append) returns and before any reader sees it. Appends that wait at the
//! same time share the work: whoever finds nobody writing writes for all.
//!
//! # The file
//!
//! A [redb](redb) database with two tables: the entries by position, each behind a checksum over the chain's identity, its
//! position and its bytes; and what the log is: the version of this layout, the chain, and how many entries have been
//! acknowledged. Every batch takes two transactions, first the entries, then their number. A database that finds its last
//! transaction damaged goes back to the one before it, and so it still has every entry that was acknowledged.
//!
//! A file is created under another name and renamed when it is whole: under its own name it is a log or damaged.
//!
//! A file that could not be written (no room, say) is opened anew with the next call, and then after pauses of up to four
//! seconds. What had got a position keeps it: it is written first when the file can be. Only a file that is damaged is given up.
//!
//! # What this does not promise
//!
//! Whoever can write the file can put an older copy in its place. The members find that out ([`Forked`]) as far as they
//! remember more than the host.
//!
//! [`Forked`]: crate::chain::log::Forked

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use redb::{
    Builder, CommitError, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition, TableError, TransactionError, WriteTransaction,
};
use sha3::{Digest, Sha3_256};

use crate::chain::log::{LogError, LogHost, MAX_ENTRY_BYTES};
use crate::sync::catch_panic;

/// The most bytes of entries that a [`FileLog`] takes: 64 GiB.
pub const MAX_FILE_LOG_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// The most entries in one transaction; who comes later waits for the next.
const MAX_BATCH: usize = 1024;
/// What the database keeps of the file in memory, in bytes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// The version of the layout.
const LAYOUT: u64 = 1;
/// How long a file that has failed twice is left alone before it is opened anew; twice as long each time.
const REOPEN_WAIT: Duration = Duration::from_millis(250);
/// The longest of these waits.
const MAX_REOPEN_WAIT: Duration = Duration::from_secs(4);
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
    fn may_pass(&self) -> bool {
        matches!(self, FileLogError::Full { .. } | FileLogError::Failed { .. } | FileLogError::ReadOnly { .. })
    }
}

impl From<FileLogError> for LogError {
    fn from(error: FileLogError) -> Self {
        let text = error.to_string();
        if error.may_pass() { LogError::Disk(text) } else { LogError::Failed(text) }
    }
}

/// A log in a file. Clones are the same log.
#[derive(Clone)]
pub struct FileLog {
    shared: Arc<Shared>,
}

struct Shared {
    file: LogFile,
    state: Mutex<State>,
    /// Told of every batch and every shutdown.
    changed: Condvar,
}

struct State {
    /// How many entries are durable.
    durable: u64,
    /// The bytes of all entries, those that wait included.
    bytes: u64,
    /// How many entries were final when something was last cut off.
    vouched: u64,
    max_bytes: u64,
    /// Entries that are not durable yet, and how many of them somebody is writing.
    waiting: Vec<Arc<[u8]>>,
    writing: bool,
    /// Whether each access has been shut down.
    readers: BTreeMap<u64, bool>,
    next_reader: u64,
    /// What became of the file. After this nobody knows what it holds, until it has been opened anew.
    failed: Option<FileLogError>,
    /// When that is tried, and how long after it the next time.
    reopen_at: Option<Instant>,
    reopen_wait: Duration,
    /// What the last write has come to, if it failed.
    unwritable: Option<FileLogError>,
}

impl State {
    fn check_open(&self, reader: u64) -> Result<(), LogError> {
        if self.readers.get(&reader) == Some(&false) { Ok(()) } else { Err(LogError::ShutDown) }
    }

    fn fail(&mut self, error: FileLogError) {
        self.failed = Some(error);
        self.reopen_at = Instant::now().checked_add(self.reopen_wait);
        self.reopen_wait = self.reopen_wait.saturating_mul(2).clamp(REOPEN_WAIT, MAX_REOPEN_WAIT);
    }
}

impl FileLog {
    /// A new log for the chain with this [identity](crate::chain::log::ChainConfig::identity). Only one process may create
    /// a log at `path` at a time: of two, the later would replace the log of the earlier.
    ///
    /// # Errors
    /// There is something at `path` already, or the file cannot be written.
    pub fn create(path: &Path, chain: &[u8; 32]) -> Result<Self, FileLogError> {
        if path.try_exists().map_err(|error| at(path, &error))? {
            return Err(FileLogError::Exists(path.to_owned()));
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        // Left by a creation that was broken off, and never a log.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&unfinished, &error)),
            _ => {}
        }
        LogFile::write_new(&unfinished, chain)?;
        fs::rename(&unfinished, path).map_err(|error| at(path, &error))?;
        sync_folder_of(path).map_err(|error| at(path, &error))?;
        Self::open(path, chain)
    }

    /// The log of the chain with this [identity](crate::chain::log::ChainConfig::identity), after it has been read and
    /// checked from one end to the other.
    ///
    /// # Errors
    /// See [`FileLogError`]. Never starts over.
    pub fn open(path: &Path, chain: &[u8; 32]) -> Result<Self, FileLogError> {
        let (file, durable, bytes) = LogFile::open(path, chain)?;
        let state = State {
            durable,
            bytes,
            vouched: file.vouched()?,
            max_bytes: MAX_FILE_LOG_BYTES,
            waiting: Vec::new(),
            writing: false,
            readers: BTreeMap::new(),
            next_reader: 0,
            failed: None,
            reopen_at: None,
            reopen_wait: Duration::ZERO,
            unwritable: None,
        };
        Ok(FileLog { shared: Arc::new(Shared { file, state: Mutex::new(state), changed: Condvar::new() }) })
    }

    /// Takes no more than so many bytes of entries in all, and never more than [`MAX_FILE_LOG_BYTES`].
    pub fn limit(&self, max_bytes: u64) {
        self.shared.state.lock().max_bytes = max_bytes.min(MAX_FILE_LOG_BYTES);
    }

    /// A new access to the log.
    pub fn reader(&self) -> FileLogReader {
        let mut state = self.shared.state.lock();
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, false);
        FileLogReader { shared: Arc::clone(&self.shared), id }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.file.path
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.shared.state.lock().durable
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all entries, those that are about to become durable included.
    pub fn bytes(&self) -> u64 {
        self.shared.state.lock().bytes
    }

    /// What has happened to the file, if it cannot be written at the moment, or ever.
    pub fn failure(&self) -> Option<FileLogError> {
        let state = self.shared.state.lock();
        state.failed.clone().or_else(|| state.unwritable.clone())
    }
}

impl Shared {
    /// Opens a file anew that has failed, if it is time, and finds out what it holds.
    fn revive(&self, state: &mut State) -> Result<(), FileLogError> {
        let Some(error) = &state.failed else { return Ok(()) };
        let too_soon = state.reopen_at.is_none_or(|at| Instant::now() < at);
        if !error.may_pass() || state.writing || too_soon {
            return Err(error.clone());
        }
        match self.file.reopen(state.durable, &state.waiting) {
            Ok(entries) => {
                // What had come onto the disk before the file failed.
                let written = usize::try_from(entries.saturating_sub(state.durable)).unwrap_or(usize::MAX);
                state.waiting.drain(..written.min(state.waiting.len()));
                (state.durable, state.failed) = (entries, None);
                Ok(())
            }
            Err(error) => {
                log::error!("{error}");
                state.fail(error.clone());
                Err(error)
            }
        }
    }

    /// The entries from `from` up to `end`, all of which are there; once more from a file that has been opened anew.
    fn read(&self, from: u64, end: u64) -> Result<Vec<Vec<u8>>, FileLogError> {
        let read = self.file.read(from, end);
        match read {
            Err(error) if error.may_pass() => {
                let mut state = self.state.lock();
                if state.failed.is_none() {
                    state.fail(error);
                }
                self.revive(&mut state)?;
                drop(state);
                self.file.read(from, end)
            }
            read => read,
        }
    }
}

/// One access to a [`FileLog`].
pub struct FileLogReader {
    shared: Arc<Shared>,
    id: u64,
}

impl FileLogReader {
    /// Gives an entry its position, before it is on the disk. For a writer that has to know the order early: nothing else
    /// comes between two calls of one writer that holds a lock. Somebody has to [settle](Self::settle) it.
    pub(super) fn enqueue(&self, entry: &[u8]) -> Result<u64, LogError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(LogError::TooLong(entry.len()));
        }
        let mut state = self.shared.state.lock();
        state.check_open(self.id)?;
        self.shared.revive(&mut state)?;
        // What waits on a disk that does not take it must not become more.
        if state.unwritable.is_some() && !state.waiting.is_empty() {
            let last = state.durable.saturating_add(state.waiting.len() as u64 - 1);
            drop(state);
            self.settle(last)?;
            state = self.shared.state.lock();
        }
        let bytes = state.bytes.saturating_add(entry.len() as u64);
        if bytes > state.max_bytes {
            let reason = format!("it may have {} bytes of entries", state.max_bytes);
            return Err(FileLogError::Full { file: self.shared.file.path.clone(), reason }.into());
        }
        state.bytes = bytes;
        let position = state.durable.saturating_add(state.waiting.len() as u64);
        state.waiting.push(entry.into());
        Ok(position)
    }

    /// Returns when the entry at this position is on the disk; writes it itself, with what waits along with it, if nobody
    /// else does.
    pub(super) fn settle(&self, position: u64) -> Result<(), LogError> {
        let mut state = self.shared.state.lock();
        loop {
            if state.durable > position {
                return Ok(());
            }
            self.shared.revive(&mut state)?;
            if state.durable > position {
                return Ok(());
            }
            // Whoever comes next writes what has been left behind.
            state.check_open(self.id)?;
            if state.writing {
                self.shared.changed.wait(&mut state);
                continue;
            }
            state.writing = true;
            let batch: Vec<_> = state.waiting.iter().take(MAX_BATCH).cloned().collect();
            let first = state.durable;
            drop(state);
            let written = self.shared.file.write(first, &batch);
            state = self.shared.state.lock();
            state.writing = false;
            match written {
                Ok(()) => {
                    state.waiting.drain(..batch.len());
                    state.durable = first.saturating_add(batch.len() as u64);
                    (state.unwritable, state.reopen_wait) = (None, Duration::ZERO);
                }
                Err(error) => {
                    if state.unwritable.as_ref() != Some(&error) {
                        log::error!("{error}");
                    }
                    state.unwritable = Some(error.clone());
                    state.fail(error);
                }
            }
            self.shared.changed.notify_all();
        }
    }
}

impl FileLogReader {
    /// How many entries are on the disk.
    pub(super) fn end(&self) -> u64 {
        self.shared.state.lock().durable
    }

    /// Puts entries where they belong, from position `from` on, which is not beyond the end; returns when all are on the disk.
    /// Those that a call before has put there, whatever came of it, are not put there twice. For the only writer of a log.
    pub(super) fn append_all(&self, from: u64, entries: &[Vec<u8>]) -> Result<(), LogError> {
        let mut last = None;
        for (position, entry) in (from..).zip(entries) {
            if position >= self.next() {
                self.enqueue(entry)?;
            }
            last = Some(position);
        }
        last.map_or(Ok(()), |position| self.settle(position))
    }

    /// The position of the next entry.
    fn next(&self) -> u64 {
        let state = self.shared.state.lock();
        state.durable.saturating_add(state.waiting.len() as u64)
    }
}

impl FileLogReader {
    /// How many entries were final when something was last cut off.
    pub(super) fn vouched(&self) -> u64 {
        self.shared.state.lock().vouched
    }

    /// Takes the entries from `from` on out again, and remembers that so many are final. For the only writer of a log, which
    /// has nothing under way.
    pub(super) fn cut(&self, from: u64, vouched: u64) -> Result<(), LogError> {
        let mut state = self.shared.state.lock();
        state.check_open(self.id)?;
        self.shared.revive(&mut state)?;
        if from < state.durable {
            let cut = self.shared.file.cut(from, state.durable, vouched.max(state.vouched));
            match cut {
                Ok(bytes) => {
                    (state.durable, state.bytes) = (from, state.bytes.saturating_sub(bytes));
                    state.vouched = state.vouched.max(vouched);
                }
                Err(error) => {
                    state.fail(error.clone());
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}

impl LogHost for FileLogReader {
    /// Puts an entry at the end; returns its position once it is on the disk.
    ///
    /// # Errors
    /// [`LogError::Disk`] or [`LogError::Failed`] if the file fails (then it has to be opened anew, and may or may not have
    /// the entry) or is full (then it does not have it).
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        let position = self.enqueue(entry)?;
        self.settle(position)?;
        Ok(position)
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let end = {
            let state = self.shared.state.lock();
            state.check_open(self.id)?;
            state.durable.min(from.saturating_add(limit as u64))
        };
        if from >= end { Ok(Vec::new()) } else { Ok(self.shared.read(from, end)?) }
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.state.lock();
        loop {
            state.check_open(self.id)?;
            if state.durable > from {
                return Ok(());
            }
            match deadline {
                None => self.shared.changed.wait(&mut state),
                Some(deadline) => {
                    if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn shutdown(&self) {
        if let Some(shut_down) = self.shared.state.lock().readers.get_mut(&self.id) {
            *shut_down = true;
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for FileLogReader {
    fn drop(&mut self) {
        self.shared.state.lock().readers.remove(&self.id);
    }
}

/// The file itself: knows nothing of who reads and who waits.
struct LogFile {
    path: PathBuf,
    chain: [u8; 32],
    /// None while it is opened anew, and if that has failed.
    database: RwLock<Option<Database>>,
}

impl LogFile {
    fn write_new(path: &Path, chain: &[u8; 32]) -> Result<(), FileLogError> {
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
    fn open(path: &Path, chain: &[u8; 32]) -> Result<(Self, u64, u64), FileLogError> {
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
    fn reopen(&self, durable: u64, waiting: &[Arc<[u8]>]) -> Result<u64, FileLogError> {
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

    fn vouched(&self) -> Result<u64, FileLogError> {
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

    fn write(&self, first: u64, batch: &[Arc<[u8]>]) -> Result<(), FileLogError> {
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
    fn cut(&self, from: u64, end: u64, vouched: u64) -> Result<u64, FileLogError> {
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
    fn read(&self, from: u64, end: u64) -> Result<Vec<Vec<u8>>, FileLogError> {
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
    fn unpack<'r>(&self, expected: u64, position: u64, record: &'r [u8]) -> Result<&'r [u8], FileLogError> {
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
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Only unix lets a folder be opened for that.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn damaged(file: &Path, reason: &str) -> FileLogError {
    FileLogError::Damaged { file: file.to_owned(), reason: reason.to_owned() }
}

fn at(file: &Path, error: &io::Error) -> FileLogError {
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
