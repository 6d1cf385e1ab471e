//! A member's own copy of the log.
//!
//! [`LogCopy`] stands between a member and the host. What the copy has is read from the copy; what is new is read from the
//! host together with the copy's last entries, and handed out if those are as they were. It gets into the copy when it has been
//! [judged](OwnCopy::keep), not before. So a host that shows another log than before is found out at the next read if it
//! differs in the last [`OVERLAP`] entries, and at the next start if it differs in the last [`OVERLAP_AT_START`]; in whatever
//! it differs beyond, the members' signed prefix hashes tell ([`Forked`](crate::chain::log::Forked)), since each vouches for
//! all that it has read.
//!
//! What more than `t` members have vouched for is never taken out again. What comes after that can be, where the host shows
//! something else: it is set aside in a file beside the copy (`NAME.given-up-0` to `-7`, a line for each entry: its position
//! and its bytes in hex).
//!
//! # What this does not promise
//!
//! Which of two logs is the true one where more than `t` members have vouched for what the host shows no more: the copy is
//! evidence, kept for whoever looks into it.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::chain::log::{Compared, FileLog, FileLogReader, LogError, LogHost, OwnCopy};
use crate::hex;

/// How many of the copy's last entries are read again with what is new.
pub const OVERLAP: u64 = 4;
/// How many are read again with the first read of a process.
pub const OVERLAP_AT_START: u64 = 1024;
/// How many entries are read from the host at a time.
const FETCH_BATCH: usize = 512;
/// How many tails that were given up are kept beside the copy. What is given up after that is told, and not kept.
pub const MAX_GIVEN_UP: usize = 8;
/// The most bytes of entries that are kept of each.
const MAX_GIVEN_UP_BYTES: usize = 16 << 20;

/// A member's own copy in front of the host that it comes from.
pub struct LogCopy {
    copy: FileLogReader,
    path: PathBuf,
    host: Arc<dyn LogHost>,
    /// Held while the host is compared with the copy, and while the copy changes.
    known: Mutex<Known>,
}

/// What this process knows of copy and host.
#[derive(Default)]
struct Known {
    /// Whether it has compared anything with the host yet.
    compared: bool,
    /// How often the host has said, one time after the other, that it has less than the copy.
    lost: u32,
    /// How often the host has shown all of the copy again, since it has shown anything new.
    same: u32,
    /// Where copy and host differ, and the first position at which they do: that is searched for only once as long as they do.
    differs: Option<(u64, u64)>,
    /// What has been judged, and is still to be written, from this position on. No more is read as long as there is
    /// anything.
    unwritten: (u64, Vec<Vec<u8>>),
}

impl LogCopy {
    /// The log of `host`, as far as `copy` has it from there. Nobody else may write to `copy`.
    pub fn new(copy: &FileLog, host: Arc<dyn LogHost>) -> Self {
        LogCopy { copy: copy.reader(), path: copy.path().to_owned(), host, known: Mutex::default() }
    }

    /// What the host has beyond the copy, at most `limit` entries.
    fn fetch(&self, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let mut known = self.known.lock();
        self.write(&mut known)?;
        let fetched = self.try_fetch(limit, &mut known);
        match fetched {
            Ok(_) => *known = Known { compared: true, ..Known::default() },
            Err(LogError::Rewritten(_) | LogError::Lost { .. }) => self.host.distrust(),
            Err(_) => {}
        }
        fetched
    }

    fn try_fetch(&self, limit: usize, known: &mut Known) -> Result<Vec<Vec<u8>>, LogError> {
        let end = self.copy.end();
        let mut at = end.saturating_sub(if known.compared { OVERLAP } else { OVERLAP_AT_START });
        // A host may hand out fewer than it is asked for, but none only at its end.
        loop {
            let old = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let mut theirs = match self.host.read(at, old.saturating_add(limit).min(FETCH_BATCH)) {
                // How often it has said so is counted here.
                Err(LogError::Lost { .. }) => Vec::new(),
                theirs => theirs?,
            };
            if theirs.is_empty() && at < end {
                known.lost = known.lost.saturating_add(1);
                return Err(LogError::Lost { host_has: at, we_have: end, tries: known.lost });
            }
            let ours = self.copy.read(at, theirs.len())?;
            if let Some(position) = first_difference(at, &ours, &theirs) {
                return Err(LogError::Rewritten(self.search(position, known)?));
            }
            if theirs.is_empty() || theirs.len() > old {
                return Ok(theirs.split_off(old.min(theirs.len())));
            }
            at = at.saturating_add(theirs.len() as u64);
        }
    }

    /// The first position at which the host's log differs from the copy; that at `found` does for certain.
    fn search(&self, found: u64, known: &mut Known) -> Result<u64, LogError> {
        // A host that says something else every time may have shown a difference that is none.
        if let Some((_, first)) = known.differs.filter(|(differs, _)| *differs == found)
            && self.difference(first, first.saturating_add(1))?.is_some()
        {
            return Ok(first);
        }
        let first = self.difference(0, found)?.unwrap_or(found);
        known.differs = Some((found, first));
        Ok(first)
    }

    /// The first position from `from` on, before `end`, at which the host shows something else.
    fn difference(&self, mut from: u64, end: u64) -> Result<Option<u64>, LogError> {
        while from < end {
            let limit = usize::try_from(end - from).unwrap_or(usize::MAX).min(FETCH_BATCH);
            let theirs = match self.host.read(from, limit) {
                // It has changed, and forgotten what was before.
                Err(LogError::Forgotten { first, .. }) if first > from => {
                    from = first;
                    continue;
                }
                theirs => theirs?,
            };
            let ours = self.copy.read(from, theirs.len())?;
            if let Some(position) = first_difference(from, &ours, &theirs) {
                return Ok(Some(position));
            }
            if theirs.is_empty() {
                // Whether it differs there is not to be seen.
                return Err(LogError::Lost { host_has: from, we_have: self.copy.end(), tries: 0 });
            }
            from = from.saturating_add(theirs.len() as u64);
        }
        Ok(None)
    }

    fn write(&self, known: &mut Known) -> Result<(), LogError> {
        let (from, entries) = &mut known.unwritten;
        self.copy.append_all(*from, entries)?;
        entries.clear();
        Ok(())
    }

    /// Writes what is given up where it can be looked into, if there is room for one more.
    fn set_aside(&self, from: u64) -> Result<Option<PathBuf>, LogError> {
        let failed = |path: &Path, error: &io::Error| {
            LogError::Disk(format!("{}: what is given up of the log cannot be set aside: {error}", path.display()))
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        for number in 0..MAX_GIVEN_UP {
            let mut path = self.path.as_os_str().to_owned();
            path.push(format!(".given-up-{number}"));
            let path = PathBuf::from(path);
            let file = match options.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file.map_err(|error| failed(&path, &error))?,
            };
            let (mut file, mut at, mut bytes) = (BufWriter::new(file), from, 0);
            while bytes < MAX_GIVEN_UP_BYTES {
                let entries = self.copy.read(at, FETCH_BATCH)?;
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    writeln!(file, "{at} {}", hex::encode(&entry)).map_err(|error| failed(&path, &error))?;
                    (at, bytes) = (at.saturating_add(1), bytes.saturating_add(entry.len()));
                }
            }
            let whole = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
            return whole.map(|()| Some(path.clone())).map_err(|error| failed(&path, &error));
        }
        Ok(None)
    }
}

impl OwnCopy for LogCopy {
    fn end(&self) -> u64 {
        self.copy.end()
    }

    fn keep(&self, from: u64, entries: &[Vec<u8>]) -> Result<(), LogError> {
        let mut known = self.known.lock();
        self.write(&mut known)?;
        // What is there already was kept by somebody who has read the same.
        let end = self.copy.end();
        let there = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
        known.unwritten = (end, entries.iter().skip(there).cloned().collect());
        self.write(&mut known)
    }

    fn compare(&self, from: u64) -> Result<Compared, LogError> {
        let mut known = self.known.lock();
        // What the host showed before is in doubt: it is to be asked for, not remembered.
        self.host.distrust();
        if let Some(position) = self.difference(from, self.copy.end())? {
            return Ok(Compared::Differs(position));
        }
        known.same = known.same.saturating_add(1);
        Ok(Compared::Same { times: known.same })
    }

    fn vouched(&self) -> u64 {
        self.copy.vouched()
    }

    fn give_up(&self, from: u64, vouched: u64) -> Result<(), LogError> {
        let mut known = self.known.lock();
        let entries = self.copy.end().saturating_sub(from);
        let aside = self.set_aside(from)?;
        self.copy.cut(from, vouched)?;
        *known = Known::default();
        let aside = aside.map_or_else(
            || format!("{MAX_GIVEN_UP} others are kept already, and this is not"),
            |path| format!("kept as evidence in {}", path.display()),
        );
        log::error!(
            "the log's host no longer shows the last {entries} entries of this node's copy, from position {from} on, for which \
             too few members had vouched: they are read anew; {aside}"
        );
        Ok(())
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
            let new = self.fetch(limit)?;
            // Who asks for more than the next entry has taken what it did not keep.
            let ahead = usize::try_from(from.saturating_sub(self.copy.end())).unwrap_or(usize::MAX);
            return Ok(new.into_iter().skip(ahead).collect());
        }
        self.copy.read(from, limit)
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        if from < self.copy.end() { Ok(()) } else { self.host.wait(from, timeout) }
    }

    fn distrust(&self) {
        self.host.distrust();
    }

    fn sifts(&self) -> bool {
        self.host.sifts()
    }

    fn own_copy(&self) -> Option<&dyn OwnCopy> {
        Some(self)
    }

    fn shutdown(&self) {
        self.host.shutdown();
        self.copy.shutdown();
    }
}
