//! What a node must not lose, in one folder.
//!
//! ```text
//! DATA/store       the key states, the journal of the present run, and the keys, sealed; and its `.witness`
//! DATA/log         this node's own copy of the log
//! DATA/results     the public keys of every epoch, one file each, to verify old signatures with
//! DATA/runs-twice  only where this member was seen to run twice: what was seen, until it is started as the only one
//! DATA/admin.sock  where commands on this machine reach the running node
//! ```
//!
//! A folder is made under another name and gets its own when all of it is on the disk. What is missing from a folder has
//! been taken out of it, and is never made anew.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::identity::Identity;
use super::results::Results;
use super::{NodeConfig, NodeError};
use crate::chain::log::{ChainConfig, CommitteeFile, FileLog};
use crate::committee::NodeId;
use crate::store::{DkgState, FileStore, Owner, Unlock};

const STORE: &str = "store";
const LOG: &str = "log";
const RESULTS: &str = "results";
const ADMIN: &str = "admin.sock";
const RUNS_TWICE: &str = "runs-twice";
/// The most bytes of what was seen.
const MAX_SIGHTING_BYTES: u64 = 4096;

/// What a node works with.
pub(super) struct Folder {
    pub(super) store: FileStore,
    pub(super) log: FileLog,
}

/// Where a node's store is, in its folder.
pub fn store_file(data: &Path) -> PathBuf {
    data.join(STORE)
}

/// The public keys of the epochs that the node has followed.
pub(super) fn results(data: &Path) -> Result<Results, NodeError> {
    let folder = data.join(RESULTS);
    Results::open(folder.clone()).map_err(|error| at(&folder, &error))
}

/// Where a running node is reached, in its folder.
pub fn admin_socket(data: &Path) -> PathBuf {
    data.join(ADMIN)
}

/// What this node has seen of another in its member's name, and been told nothing about since.
pub(super) fn sighting(data: &Path) -> Result<Option<String>, NodeError> {
    let path = data.join(RUNS_TWICE);
    let mut text = String::new();
    match fs::File::open(&path).and_then(|file| file.take(MAX_SIGHTING_BYTES).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(&path, &error)),
    }
}

/// Notes durably that somebody else writes in this member's name.
pub(super) fn note_sighting(data: &Path, what: &str) -> Result<(), NodeError> {
    let path = data.join(RUNS_TWICE);
    let write = || {
        let mut file = fs::File::create(&path)?;
        writeln!(file, "{what}")?;
        file.sync_all()?;
        sync(data)
    };
    write().map_err(|error| at(&path, &error))
}

/// Declares the node of this folder the only one of its member: for a node that was held because the member ran twice, after
/// the other one has been stopped for good. Does nothing where none was seen.
///
/// # Errors
/// The folder cannot be written.
pub fn declare_sole_owner(data: &Path) -> Result<(), NodeError> {
    let path = data.join(RUNS_TWICE);
    match fs::remove_file(&path).and_then(|()| sync(data)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path, &error)),
        _ => Ok(()),
    }
}

/// The folder of this member, which is made if it is not there and `create` says so.
pub(super) fn open(
    data: &Path,
    config: &ChainConfig,
    member: NodeId,
    unlock: &Unlock,
    create: bool,
) -> Result<Folder, NodeError> {
    let owner = Owner { chain_id: config.chain_id().to_owned(), member };
    let there = data.try_exists().map_err(|error| at(data, &error))?;
    match (there, create) {
        (false, false) => return Err(NodeError::NoData(data.to_owned())),
        (false, true) => make(data, config, &owner, unlock)?,
        (true, _) => {}
    }
    let store = FileStore::open(&data.join(STORE), &owner, unlock)?;
    let log = FileLog::open(&data.join(LOG), config.identity())?;
    Ok(Folder { store, log })
}

/// The key states of a node that does not run, for who has its configuration and what opens its keys.
///
/// # Errors
/// A file is missing or does not open, or the node does run and has the store.
pub fn state_at_rest(config: &NodeConfig, unlock: &Unlock) -> Result<(String, DkgState), NodeError> {
    let committee = CommitteeFile::read(&config.committee)?;
    let chain_id = committee.chain().chain_id().to_owned();
    let member = Identity::open(&config.identity, unlock)?.node_id;
    let store = FileStore::open(&config.data.join(STORE), &Owner { chain_id: chain_id.clone(), member }, unlock)?;
    Ok((chain_id, DkgState::new(Arc::new(store))))
}

fn make(data: &Path, config: &ChainConfig, owner: &Owner, unlock: &Unlock) -> Result<(), NodeError> {
    let mut unfinished = data.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    // Left by a start that was broken off; nothing has been said with what is in it.
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&unfinished, &error)),
        _ => {}
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&unfinished).map_err(|error| at(&unfinished, &error))?;
    drop(FileStore::create(&unfinished.join(STORE), owner, unlock)?);
    drop(FileLog::create(&unfinished.join(LOG), config.identity())?);
    let made = sync(&unfinished).and_then(|()| fs::rename(&unfinished, data));
    let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    made.and_then(|()| sync(parent)).map_err(|error| at(data, &error))
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn at(path: &Path, error: &io::Error) -> NodeError {
    NodeError::File { path: path.to_owned(), reason: error.to_string() }
}
