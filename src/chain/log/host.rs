//! Where a log can be kept: what every host must do, and the simplest one, in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::chain::log::MAX_ENTRY_BYTES;

/// The most bytes of entries a [`MemoryLog`] keeps for readers that have not read them: 256 MiB.
pub const MAX_MEMORY_LOG_BYTES: usize = 256 * 1024 * 1024;
/// The most entries a [`MemoryLog`] keeps for readers that have not read them.
pub const MAX_MEMORY_LOG_ENTRIES: usize = 1 << 20;

/// Who has to do something about a [`LogError`]. Nothing that a host says ends anything by itself: it is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogErrorClass {
    /// The host cannot be reached, or what it says cannot be used or believed. Others are asked, it is told, and tried
    /// again with bounded waits for as long as it takes.
    Host,
    /// What was to be appended: no host takes it, and trying again changes nothing.
    Entry,
    /// This machine's disk does not do what it should just now. Told, and tried again.
    Disk,
    /// This machine's own file is not what was written. Going on would be a guess: the end of who relies on it.
    Broken,
    /// This access has been shut down.
    ShutDown,
}

/// Why a host did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It could not be reached, or not just now, or says what cannot be: worth trying again. An append may or may not have
    /// happened.
    #[error("the log cannot be used just now: {0}")]
    Unavailable(String),
    /// The log keeps as much as it can for a reader that does not come for it.
    #[error("the log is full: one of its readers has stopped reading at position {0}")]
    Full(u64),
    /// The entry is too long for any replica to take.
    #[error("an entry of {0} bytes is too long; {MAX_ENTRY_BYTES} are allowed")]
    TooLong(usize),
    /// The host says that it does not do this, and why. It may be wrong, or know of something that is still to be read
    /// here; whether an entry is good is for the replicas to say.
    #[error("the log's host refuses: {0}")]
    Refused(String),
    /// A tick that says what the log says already: it need not come in, and nothing is wrong with it.
    #[error("the log knows already what the entry says")]
    NothingNew,
    /// The entries asked for are not kept any more.
    #[error("the log no longer has the entry at position {asked}; it begins at {first}")]
    Forgotten {
        /// The position asked for.
        asked: u64,
        /// The first that is still there.
        first: u64,
    },
    /// The host shows another log than it did before. Nothing of it is taken while it does.
    #[error(
        "the log has been rewritten: at position {0} its host shows another entry than before; this node's own copy is \
         evidence, keep it, and ask the other members what theirs say"
    )]
    Rewritten(u64),
    /// The host has less than it had before. Nothing is taken from it while it does.
    #[error(
        "the log has lost entries: its host has {host_has} of the {we_have} that this node has read; bring back the host's \
         newest copy of it"
    )]
    Lost {
        /// How many entries it has now.
        host_has: u64,
        /// How many it had.
        we_have: u64,
        /// How often it has said so, one time after the other.
        tries: u32,
    },
    /// This machine's own file of the log cannot be read or written just now: no room, say. It may be again.
    #[error("{0}")]
    Disk(String),
    /// This machine's own file of the log is not what was written. Never for what a host says.
    #[error("{0}")]
    Failed(String),
    /// This access to the log has been shut down.
    #[error("the log has been shut down here")]
    ShutDown,
}

impl LogError {
    /// Who has to do something about it.
    pub fn class(&self) -> LogErrorClass {
        match self {
            LogError::Unavailable(_)
            | LogError::Full(_)
            | LogError::Refused(_)
            | LogError::Forgotten { .. }
            | LogError::Rewritten(_)
            | LogError::Lost { .. } => LogErrorClass::Host,
            LogError::TooLong(_) | LogError::NothingNew => LogErrorClass::Entry,
            LogError::Disk(_) => LogErrorClass::Disk,
            LogError::Failed(_) => LogErrorClass::Broken,
            LogError::ShutDown => LogErrorClass::ShutDown,
        }
    }

    /// Whether it may be over by itself: whoever follows the log tells it and tries again.
    pub fn may_pass(&self) -> bool {
        matches!(self.class(), LogErrorClass::Host | LogErrorClass::Disk)
    }
}

/// One member's access to a host of the log: an order of byte strings, nothing more.
///
/// Positions count from 0. What has been read at a position never changes; the replicas find out if it does. After
/// [`shutdown`](Self::shutdown) all calls, also those in flight, return [`LogError::ShutDown`] promptly.
pub trait LogHost: Send + Sync {
    /// Puts an entry at the end; returns its position once the host has it for good.
    ///
    /// # Errors
    /// See [`LogError`].
    fn append(&self, entry: &[u8]) -> Result<u64, LogError>;

    /// The entries from position `from` on: at most `limit` of them, and none only if the log ends there. Who reads
    /// from a position has no more use for what is before it.
    ///
    /// # Errors
    /// See [`LogError`].
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError>;

    /// Returns when there is an entry at position `from`, or the time is up.
    ///
    /// # Errors
    /// See [`LogError`].
    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError>;

    /// What this host has said does not fit what it said before, or what others say: where there are several ways to it, the
    /// next call takes another, and what is read from now on is asked for anew.
    fn distrust(&self) {}

    /// Whether an honest host of this kind lets in only what every replica takes. Anything else that it shows is then not
    /// what its log has.
    fn sifts(&self) -> bool {
        false
    }

    /// The reader's own copy of the log, if it keeps one: what it has read stays in it.
    fn own_copy(&self) -> Option<&dyn OwnCopy> {
        None
    }

    /// Ends this access, for good.
    fn shutdown(&self) {}
}

/// How a member's copy of the log compares with what its host shows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// It shows the same.
    Same {
        /// How often it has done so since it has shown anything new.
        times: u32,
    },
    /// It shows something else from this position on.
    Differs(u64),
}

/// What a member has kept of the log that its host showed it.
pub trait OwnCopy {
    /// How many entries are in it.
    fn end(&self) -> u64;

    /// Keeps these entries, which were read at position `from` and have been judged.
    ///
    /// # Errors
    /// The disk fails. What was to be kept is, before anything more is read.
    fn keep(&self, from: u64, entries: &[Vec<u8>]) -> Result<(), LogError>;

    /// Whether the host still shows what the copy has from position `from` on.
    ///
    /// # Errors
    /// The host cannot be asked or has less, or the disk fails.
    fn compare(&self, from: u64) -> Result<Compared, LogError>;

    /// How many entries more than `t` members had vouched for when something was last given up. They may have done so in what
    /// was given up, so that the copy no longer shows it.
    fn vouched(&self) -> u64;

    /// Takes the entries from `from` on out of the copy, and sets them aside as evidence; so many entries, which stay, have
    /// been vouched for.
    ///
    /// # Errors
    /// The disk fails. They are still in the copy then.
    fn give_up(&self, from: u64, vouched: u64) -> Result<(), LogError>;
}

/// A log in memory, for members in one process.
///
/// An entry is forgotten when every [reader](Self::reader) has read past it; a reader that never reads keeps everything.
#[derive(Clone, Default)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told of every append and every shutdown.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Vec<u8>>,
    /// The position of the first of them.
    first: u64,
    bytes: usize,
    /// Up to which position each reader has read.
    cursors: BTreeMap<u64, Cursor>,
    next_reader: u64,
}

#[derive(Clone, Copy)]
struct Cursor {
    position: u64,
    shut_down: bool,
}

impl State {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }

    /// Drops what all readers have read. With no readers left there is nobody to decide, and all of it stays.
    fn forget(&mut self) {
        let Some(read) = self.slowest() else {
            return;
        };
        while self.first < read {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(entry.len());
            self.first += 1;
        }
    }

    fn slowest(&self) -> Option<u64> {
        self.cursors.values().filter(|cursor| !cursor.shut_down).map(|cursor| cursor.position).min()
    }

    fn check_open(&self, reader: u64) -> Result<(), LogError> {
        match self.cursors.get(&reader) {
            Some(cursor) if !cursor.shut_down => Ok(()),
            _ => Err(LogError::ShutDown),
        }
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        MemoryLog::default()
    }

    /// A new access to the log, from the first entry that is still there on. Entries are kept for it until it has read
    /// past them, is shut down or dropped.
    pub fn reader(&self) -> MemoryLogReader {
        let mut state = self.shared.state.lock();
        let id = state.next_reader;
        state.next_reader += 1;
        let position = state.first;
        state.cursors.insert(id, Cursor { position, shut_down: false });
        MemoryLogReader { shared: Arc::clone(&self.shared), id }
    }

    /// How many entries are kept at present.
    pub fn kept(&self) -> usize {
        self.shared.state.lock().entries.len()
    }
}

/// One member's access to a [`MemoryLog`].
pub struct MemoryLogReader {
    shared: Arc<Shared>,
    id: u64,
}

impl LogHost for MemoryLogReader {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(LogError::TooLong(entry.len()));
        }
        let mut state = self.shared.state.lock();
        state.check_open(self.id)?;
        if state.entries.len() >= MAX_MEMORY_LOG_ENTRIES || state.bytes + entry.len() > MAX_MEMORY_LOG_BYTES {
            return Err(LogError::Full(state.slowest().unwrap_or(state.first)));
        }
        let position = state.end();
        state.entries.push_back(entry.to_vec());
        state.bytes += entry.len();
        drop(state);
        self.shared.changed.notify_all();
        Ok(position)
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let mut state = self.shared.state.lock();
        state.check_open(self.id)?;
        if from < state.first {
            return Err(LogError::Forgotten { asked: from, first: state.first });
        }
        let read = from.min(state.end());
        if let Some(cursor) = state.cursors.get_mut(&self.id) {
            cursor.position = cursor.position.max(read);
        }
        state.forget();
        let skip = usize::try_from(from.saturating_sub(state.first)).unwrap_or(usize::MAX);
        Ok(state.entries.iter().skip(skip).take(limit).cloned().collect())
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.state.lock();
        loop {
            state.check_open(self.id)?;
            if state.end() > from {
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
        let mut state = self.shared.state.lock();
        if let Some(cursor) = state.cursors.get_mut(&self.id) {
            cursor.shut_down = true;
        }
        state.forget();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for MemoryLogReader {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.cursors.remove(&self.id);
        state.forget();
    }
}
