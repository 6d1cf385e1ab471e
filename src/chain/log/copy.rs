//! A member's own copy of the log: what it has read once never changes for it, whatever the host shows later.
//!
//! [`LogCopy`] stands between a member and the host. What the copy has is read from the copy; what is new is read from the
//! host together with the copy's last entries, compared, made durable here, and only then handed out. So a host that shows
//! another log than before is found out at the next read if it differs in the last [`OVERLAP`] entries, and at the next
//! start if it differs in the last [`OVERLAP_AT_START`]; in whatever it differs beyond, the members' signed prefix hashes
//! tell ([`Forked`](crate::chain::log::Forked)), since each vouches for all that it has read.
//!
//! # What this does not promise
//!
//! Which of the two logs is the true one: the copy is evidence, kept for whoever looks into it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::chain::log::{FileLog, FileLogReader, LogError, LogHost};

/// How many of the copy's last entries are read again with what is new.
pub const OVERLAP: u64 = 4;
/// How many are read again with the first read of a process.
pub const OVERLAP_AT_START: u64 = 1024;
/// How many entries are read from the host at a time.
const FETCH_BATCH: usize = 512;

/// A member's own copy in front of the host that it comes from.
pub struct LogCopy {
    copy: FileLogReader,
    host: Arc<dyn LogHost>,
    /// Held while the copy grows. Whether this process has compared anything with the host yet.
    compared: Mutex<bool>,
}

impl LogCopy {
    /// The log of `host`, as far as `copy` has it from there. Nobody else may write to `copy`.
    pub fn new(copy: &FileLog, host: Arc<dyn LogHost>) -> Self {
        LogCopy { copy: copy.reader(), host, compared: Mutex::new(false) }
    }

    /// Reads what the host has beyond the copy, at most `limit` entries, into the copy.
    fn fetch(&self, limit: usize) -> Result<(), LogError> {
        let fetched = self.try_fetch(limit);
        if matches!(fetched, Err(LogError::Rewritten(_) | LogError::Lost { .. })) {
            self.host.distrust();
        }
        fetched
    }

    fn try_fetch(&self, limit: usize) -> Result<(), LogError> {
        let mut compared = self.compared.lock();
        let end = self.copy.end();
        let mut at = end.saturating_sub(if *compared { OVERLAP } else { OVERLAP_AT_START });
        // A host may hand out fewer than it is asked for, but none only at its end.
        while at <= end {
            let known = usize::try_from(end - at).unwrap_or(usize::MAX);
            let theirs = self.host.read(at, known.saturating_add(limit).min(FETCH_BATCH))?;
            if theirs.is_empty() {
                break;
            }
            let ours = self.copy.read(at, theirs.len())?;
            if let Some(position) = first_difference(at, &ours, &theirs) {
                return Err(LogError::Rewritten(self.search(position)?));
            }
            at = at.saturating_add(theirs.len() as u64);
            self.copy.append_all(theirs.get(ours.len()..).unwrap_or_default())?;
        }
        if at < end {
            return Err(LogError::Lost { host_has: at, we_have: end });
        }
        *compared = true;
        Ok(())
    }

    /// The first position at which the host's log differs from the copy; that at `known` does for certain.
    fn search(&self, known: u64) -> Result<u64, LogError> {
        let mut from = 0;
        while from < known {
            let theirs = match self.host.read(from, FETCH_BATCH) {
                // It has changed, and forgotten what was before.
                Err(LogError::Forgotten { first, .. }) if first > from => {
                    from = first;
                    continue;
                }
                theirs => theirs?,
            };
            let ours = self.copy.read(from, theirs.len())?;
            if let Some(position) = first_difference(from, &ours, &theirs) {
                return Ok(position);
            }
            if theirs.is_empty() {
                break;
            }
            from = from.saturating_add(theirs.len() as u64);
        }
        Ok(known)
    }
}

/// The first position at which two pieces of a log differ, as far as both go.
fn first_difference(from: u64, ours: &[Vec<u8>], theirs: &[Vec<u8>]) -> Option<u64> {
    (from..).zip(ours.iter().zip(theirs)).find(|(_, (ours, theirs))| ours != theirs).map(|(position, _)| position)
}

impl LogHost for LogCopy {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        self.host.append(entry)
    }

    /// What the copy has, or else what is new at the host.
    ///
    /// # Errors
    /// Those of the host; [`LogError::Rewritten`] and [`LogError::Lost`]; [`LogError::Disk`] and [`LogError::Failed`] if the copy's file fails.
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        if limit > 0 && from >= self.copy.end() {
            self.fetch(limit)?;
        }
        self.copy.read(from, limit)
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        if from < self.copy.end() { Ok(()) } else { self.host.wait(from, timeout) }
    }

    fn distrust(&self) {
        self.host.distrust();
    }

    fn shutdown(&self) {
        self.host.shutdown();
        self.copy.shutdown();
    }
}
