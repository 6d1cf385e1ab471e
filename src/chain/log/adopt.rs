//! Taking over another member's copy of the log in the place of one's own, as far as signatures vouch for it.
//!
//! For a member whose copy is damaged, or lost, and whose log's host cannot be asked. What is taken is what more than `t`
//! members have vouched for; the rest comes from the host when the node runs again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::log::{ChainConfig, FileLog, FileLogError, Forked, LogChain, LogError, LogHost};

/// How many entries are read at a time.
const BATCH: usize = 512;
/// How many copies that were replaced are kept; a further one has to be moved away by whoever looks into them.
const MAX_REPLACED: usize = 8;

/// What has been taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// How many entries the copy has now: all that more than `t` members had vouched for.
    pub entries: u64,
    /// How many the other copy has beyond these.
    pub left_out: u64,
    /// Where the copy is that was there before, if there was one.
    pub replaced: Option<PathBuf>,
    /// What was wrong with it, if it could not be opened.
    pub damage: Option<String>,
}

/// Why nothing was taken. The copy is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// The node runs, or its copy cannot be written.
    #[error(transparent)]
    Own(FileLogError),
    /// The other copy cannot be read.
    #[error("the other copy: {0}")]
    Other(LogError),
    /// More than `t` members have seen another log than the other copy.
    #[error("the other copy is not the members' log: {0}")]
    Forked(#[from] Forked),
    /// What more than `t` members have vouched for in one's own copy is not in the other.
    #[error(
        "the other copy is not this node's log: at position {position} it {has}, and more than t members have vouched for what this \
         node's own copy has there; keep both, and compare them with further members'"
    )]
    Contradicts {
        /// The first position at which they differ.
        position: u64,
        /// What it has there.
        has: &'static str,
    },
    /// A file cannot be moved or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// Takes what `other` has, as far as more than `t` members have vouched for it, in the place of the copy at `own`, which is kept
/// beside it (`NAME.replaced-0` to `-7`). Nobody may use `own` meanwhile.
///
/// # Errors
/// See [`AdoptError`].
pub fn adopt(own: &Path, other: &dyn LogHost, config: &Arc<ChainConfig>) -> Result<Adopted, AdoptError> {
    let (mine, damage) = match FileLog::open(own, config.identity()) {
        Ok(mine) => (Some(mine), None),
        Err(FileLogError::Missing(_)) => (None, None),
        Err(error @ (FileLogError::Damaged { .. } | FileLogError::DamagedEntry { .. })) => {
            (None, Some(error.to_string()))
        }
        Err(error) => return Err(AdoptError::Own(error)),
    };
    let unfinished = beside(own, "adopted.unfinished");
    // Left by a try that was broken off.
    remove(&unfinished)?;
    let taken = FileLog::create(&unfinished, config.identity()).map_err(AdoptError::Own)?;
    let outcome = take(&taken, mine.as_ref(), other, config);
    drop((taken, mine));
    let (entries, left_out) = match outcome {
        Ok(found) => found,
        Err(error) => {
            remove(&unfinished)?;
            return Err(error);
        }
    };
    let mut replaced = None;
    if own.try_exists().map_err(|error| at(own, &error))? {
        let free = (0..MAX_REPLACED).map(|number| beside(own, &format!("replaced-{number}")));
        let free = free.into_iter().find(|path| !path.exists()).ok_or_else(|| AdoptError::File {
            path: own.to_owned(),
            reason: format!("{MAX_REPLACED} copies that were replaced are beside it already; move them away"),
        })?;
        fs::rename(own, &free).map_err(|error| at(own, &error))?;
        replaced = Some(free);
    }
    fs::rename(&unfinished, own).map_err(|error| at(own, &error))?;
    Ok(Adopted { entries, left_out, replaced, damage })
}

/// Judges the other copy from its beginning and keeps what is vouched for.
fn take(
    taken: &FileLog,
    mine: Option<&FileLog>,
    other: &dyn LogHost,
    config: &Arc<ChainConfig>,
) -> Result<(u64, u64), AdoptError> {
    let own = |error: LogError| AdoptError::File { path: taken.path().to_owned(), reason: error.to_string() };
    let mut replica = LogChain::new(Arc::clone(config));
    let writer = taken.reader();
    loop {
        let from = replica.prefix().position;
        let entries = other.read(from, BATCH).map_err(AdoptError::Other)?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            replica.apply(entry)?;
        }
        writer.append_all(from, &entries).map_err(own)?;
    }
    let (vouched, end) = (replica.vouched(), replica.prefix().position);
    writer.cut(vouched, vouched).map_err(own)?;
    if let Some(mine) = mine {
        compare(&mine.reader(), &writer, config)?;
    }
    Ok((vouched, end - vouched))
}

/// Whether all is in the other copy that more than `t` members have vouched for in one's own.
fn compare(mine: &dyn LogHost, taken: &dyn LogHost, config: &Arc<ChainConfig>) -> Result<(), AdoptError> {
    let mut replica = LogChain::new(Arc::clone(config));
    let mut differs = None;
    loop {
        let from = replica.prefix().position;
        let ours = mine.read(from, BATCH).map_err(AdoptError::Other)?;
        if ours.is_empty() {
            break;
        }
        let theirs = taken.read(from, BATCH).map_err(AdoptError::Other)?;
        for (number, entry) in ours.iter().enumerate() {
            if differs.is_none() && theirs.get(number) != Some(entry) {
                let has = if theirs.len() > number { "has another entry" } else { "ends, as far as it is vouched for" };
                differs = Some((from.saturating_add(number as u64), has));
            }
            // A copy that has forked has vouched for no more.
            if replica.apply(entry).is_err() {
                return judge(differs, replica.vouched());
            }
        }
    }
    judge(differs, replica.vouched())
}

fn judge(differs: Option<(u64, &'static str)>, vouched: u64) -> Result<(), AdoptError> {
    match differs {
        Some((position, has)) if position < vouched => Err(AdoptError::Contradicts { position, has }),
        _ => Ok(()),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

fn at(path: &Path, error: &io::Error) -> AdoptError {
    AdoptError::File { path: path.to_owned(), reason: error.to_string() }
}

fn remove(path: &Path) -> Result<(), AdoptError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}
