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

mod layout;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub use self::layout::FileLogError;
use self::layout::{LogFile, at, sync_folder_of};
use crate::chain::log::{LogError, LogHost, MAX_ENTRY_BYTES};

/// The most bytes of entries that a [`FileLog`] takes: 64 GiB.
pub const MAX_FILE_LOG_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// The most entries in one transaction; who comes later waits for the next.
const MAX_BATCH: usize = 1024;
/// How long a file that has failed twice is left alone before it is opened anew; twice as long each time.
const REOPEN_WAIT: Duration = Duration::from_millis(250);
/// The longest of these waits.
const MAX_REOPEN_WAIT: Duration = Duration::from_secs(4);

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
