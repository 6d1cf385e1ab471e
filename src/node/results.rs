//! The public keys of every epoch that this node has followed, kept for good: one small file each, so that what was signed long ago
//! can still be verified, and old shares combined.
//!
//! They are read off the chain, so nothing here has to survive a crash: what is missing is written again when the node goes
//! through its log at the next start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::signing::PublicResult;
use crate::chain::log::LogChain;
use crate::epoch::{EpochCommit, EpochPhase};

/// The folder of results.
pub(super) struct Results {
    folder: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    /// The epochs that are there.
    written: BTreeSet<u64>,
    /// The last write has failed, and that was told.
    failing: bool,
}

impl Results {
    /// The results in this folder, which is made if it is not there.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut written = BTreeSet::new();
        for file in fs::read_dir(&folder)? {
            let file = file?;
            let name = file.file_name();
            let epoch = Path::new(&name).file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            // An empty one is what a crash has left of a write.
            if let (Some(epoch), true) = (epoch, file.metadata()?.len() > 0) {
                written.insert(epoch);
            }
        }
        Ok(Results { folder, known: Mutex::new(Known { written, failing: false }) })
    }

    /// Writes what the chain knows and this folder does not. What fails is told in the log, and tried again the next time.
    pub(super) fn note(&self, replica: &Mutex<LogChain>) {
        let mut known = self.known.lock();
        let (chain_id, new) = {
            let chain = replica.lock();
            let next = match chain.phase() {
                EpochPhase::Committed(commit) => Some(commit),
                EpochPhase::Staking | EpochPhase::Setup(_) => None,
            };
            let all = chain.past_keys().chain(chain.keys()).chain(&next);
            let new = all.filter(|commit| !known.written.contains(&commit.epoch.0)).cloned().collect::<Vec<_>>();
            (chain.config().chain_id().to_owned(), new)
        };
        for commit in new {
            let written = self.write(&chain_id, &commit);
            if let (Err(error), false) = (&written, known.failing) {
                let folder = self.folder.display();
                log::warn!("the public keys of epoch {} are not written to {folder} yet: {error}", commit.epoch);
            }
            known.failing = written.is_err();
            if written.is_ok() {
                known.written.insert(commit.epoch.0);
            }
        }
    }

    fn write(&self, chain_id: &str, commit: &EpochCommit) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&PublicResult::of(chain_id, commit)).map_err(io::Error::other)?;
        let file = self.folder.join(format!("{}.json", commit.epoch));
        let unfinished = self.folder.join(format!(".{}.unfinished", commit.epoch));
        fs::write(&unfinished, text + "\n")?;
        fs::rename(&unfinished, file)
    }
}
