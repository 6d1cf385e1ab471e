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
//! A folder that is not there or empty is filled by way of `DATA/unfinished`, in place, since it may be a volume of its own;
//! `DATA/store` comes last, and says that all of it is on the disk. What is missing from such a folder has been taken out of
//! it, and is never made anew.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kind::{committee_of, identity_of};
use super::results::Results;
use super::{NodeConfig, NodeError};
use crate::chain::log::{ChainConfig, FileLog};
use crate::committee::NodeId;
use crate::store::{DkgState, FileStore, Owner, Unlock};

const STORE: &str = "store";
const LOG: &str = "log";
const RESULTS: &str = "results";
const ADMIN: &str = "admin.sock";
const RUNS_TWICE: &str = "runs-twice";
/// The most bytes of what was seen.
const MAX_SIGHTING_BYTES: u64 = 4096;
const WITNESS: &str = "store.witness";
/// What is being made, until it is whole.
const UNFINISHED: &str = "unfinished";
/// What a node's folder has in it.
const OURS: [&str; 7] = [STORE, WITNESS, LOG, RESULTS, ADMIN, RUNS_TWICE, UNFINISHED];
/// What may be in an empty folder: the file system's own, and what a check has left that was cut off.
const PASSED_OVER: [&str; 2] = ["lost+found", super::check::DISK_TEST];
/// The most names that are looked at in a folder; a node's has a handful.
const MAX_NAMES: usize = 1000;
/// The most names that are shown.
const MAX_NAMES_SHOWN: usize = 4;

/// What a node works with.
pub(super) struct Folder {
    pub(super) store: FileStore,
    pub(super) log: FileLog,
}

/// Where a node's store is, in its folder.
pub fn store_file(data: &Path) -> PathBuf {
    data.join(STORE)
}

/// Where a node's copy of the log is, in its folder.
pub fn log_file(data: &Path) -> PathBuf {
    data.join(LOG)
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

/// What there is to say of the place of the data before a start.
pub(super) fn described(data: &Path) -> Result<&'static str, String> {
    match state(data) {
        Ok(State::Made) => Ok("is there"),
        Ok(State::Fillable) => Ok("is there and empty, and will be filled with --create"),
        Ok(State::Absent) => Ok("will be made with --create"),
        Ok(State::Lost) => Err(NodeError::StoreLost(data.to_owned()).to_string()),
        Ok(State::Foreign(names)) => Err(not_empty(data, "a node's", &names)),
        Err(error) => Err(format!("{}: {error}", data.display())),
    }
}

/// The folder of this member, which is made if it is not there or empty and `create` says so.
pub(super) fn open(
    data: &Path,
    config: &ChainConfig,
    member: NodeId,
    unlock: &Unlock,
    create: bool,
) -> Result<Folder, NodeError> {
    let owner = Owner { chain_id: config.chain_id().to_owned(), member };
    match state(data).map_err(|error| at(data, &error))? {
        State::Made => tidy(data),
        State::Absent | State::Fillable if create => {
            let make = |folder: &Path| {
                drop(FileStore::create(&folder.join(STORE), &owner, unlock)?);
                drop(FileLog::create(&folder.join(LOG), config.identity())?);
                Ok(())
            };
            fill(data, make, || Ok(()))?;
        }
        State::Absent | State::Fillable => return Err(NodeError::NoData(data.to_owned())),
        State::Lost => return Err(NodeError::StoreLost(data.to_owned())),
        State::Foreign(names) => return Err(NodeError::ForeignData(not_empty(data, "a node's", &names))),
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
    let committee = committee_of(config)?;
    let chain_id = committee.chain().chain_id().to_owned();
    let member = identity_of(config, unlock)?.node_id;
    let store = FileStore::open(&config.data.join(STORE), &Owner { chain_id: chain_id.clone(), member }, unlock)?;
    Ok((chain_id, DkgState::new(Arc::new(store))))
}

/// What stands at the place of a node's data.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Absent,
    /// A folder with nothing in it, as a new disk or volume, or with what a start has left that was broken off.
    Fillable,
    /// A node's data.
    Made,
    /// What a node has left, without its store.
    Lost,
    /// Somebody else's files.
    Foreign(Vec<String>),
}

/// What a folder with these names is.
fn classify(names: &[String]) -> State {
    let has = |name: &str| names.iter().any(|there| there == name);
    let is_ours = |name: &&String| OURS.contains(&name.as_str());
    let (ours, foreign): (Vec<_>, Vec<_>) = names.iter().partition(is_ours);
    // These are there only where a node has run.
    let has_run = has(RESULTS) || has(ADMIN) || has(RUNS_TWICE);
    if has(STORE) {
        State::Made
    } else if has_run || (!ours.is_empty() && !has(UNFINISHED)) {
        State::Lost
    } else if foreign.is_empty() {
        State::Fillable
    } else {
        State::Foreign(foreign.into_iter().cloned().collect())
    }
}

fn state(data: &Path) -> io::Result<State> {
    match names(data) {
        Ok(names) => Ok(classify(&names)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Absent),
        Err(error) => Err(error),
    }
}

/// What is in a folder, besides what file systems put there and what `dkg check` may have left.
///
/// # Errors
/// It cannot be read, or has more than [`MAX_NAMES`] names: it is somebody else's.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !PASSED_OVER.contains(&name.as_str()) {
            names.push(name);
        }
        if names.len() > MAX_NAMES {
            return Err(io::Error::other(format!("it has more than {MAX_NAMES} files in it, which are not a node's")));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What is in a folder that is to be `what`, besides what belongs there, as a sentence; `None` if there is nothing or no folder.
///
/// # Errors
/// The folder cannot be read.
pub fn strangers(folder: &Path, what: &str, belongs: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    match names(folder) {
        Ok(names) => {
            let foreign: Vec<_> = names.into_iter().filter(|name| !belongs(name)).collect();
            Ok((!foreign.is_empty()).then(|| not_empty(folder, what, &foreign)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn not_empty(folder: &Path, what: &str, foreign: &[String]) -> String {
    let shown: Vec<_> = foreign.iter().take(MAX_NAMES_SHOWN).map(String::as_str).collect();
    let more = if foreign.len() > shown.len() { ", and more" } else { "" };
    format!(
        "{} has files in it that are not {what} ({}{more}); name a folder that is empty, or one that is not there",
        folder.display(),
        shown.join(", ")
    )
}

/// Makes a node's data in a folder that is not there or fillable. `make` puts everything into the folder that it is given;
/// `step` is called between any two steps, at each of which a crash leaves what can be filled again, or is a node's data.
fn fill(
    data: &Path,
    make: impl FnOnce(&Path) -> Result<(), NodeError>,
    mut step: impl FnMut() -> Result<(), NodeError>,
) -> Result<(), NodeError> {
    let failed = |error: io::Error| at(data, &error);
    let unfinished = data.join(UNFINISHED);
    if !data.try_exists().map_err(failed)? {
        let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        private_folder(data).and_then(|()| sync(parent)).map_err(failed)?;
        step()?;
    }
    if unfinished.try_exists().map_err(failed)? {
        // Left by a start that was broken off; nothing has been said with it. First what was moved already: without `unfinished`
        // it would be what a node has left.
        for name in names(data).map_err(failed)?.iter().filter(|name| *name != UNFINISHED) {
            fs::remove_file(data.join(name)).map_err(failed)?;
            step()?;
        }
        sync(data).and_then(|()| fs::remove_dir_all(&unfinished)).map_err(failed)?;
        step()?;
    }
    private_folder(&unfinished).and_then(|()| sync(data)).map_err(failed)?;
    step()?;
    make(&unfinished)?;
    sync(&unfinished).map_err(failed)?;
    step()?;
    let move_up = |name: &str| fs::rename(unfinished.join(name), data.join(name)).map_err(failed);
    for name in names(&unfinished).map_err(failed)?.iter().filter(|name| *name != STORE) {
        move_up(name)?;
        step()?;
    }
    // The store is the mark of a folder that is whole.
    sync(data).map_err(failed)?;
    step()?;
    move_up(STORE)?;
    sync(data).map_err(failed)?;
    step()?;
    tidy(data);
    Ok(())
}

/// Removes what a start has left that was broken off when all was done.
fn tidy(data: &Path) {
    // It is empty; whatever else may be there is not this node's.
    let _ = fs::remove_dir(data.join(UNFINISHED));
}

/// A folder for this user alone.
fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn at(path: &Path, error: &io::Error) -> NodeError {
    NodeError::File { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("dkg-folder-{name}-{}", std::process::id()));
        // Of an earlier process with this number.
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    /// What a crash looks like from here.
    fn crash() -> NodeError {
        NodeError::Panicked
    }

    fn make(folder: &Path) -> Result<(), NodeError> {
        [WITNESS, STORE, LOG].iter().try_for_each(|name| fs::write(folder.join(name), name)).map_err(|e| at(folder, &e))
    }

    #[test]
    fn a_start_that_is_cut_off_anywhere_leaves_what_the_next_one_fills() {
        let mut cuts = 0;
        for is_there in [false, true] {
            for survived in 0.. {
                let data = folder("cut");
                if is_there {
                    fs::create_dir_all(data.join("lost+found")).unwrap();
                }
                let cut_at = |least: usize| {
                    let mut steps = 0;
                    move || {
                        steps += 1;
                        if steps > least { Err(crash()) } else { Ok(()) }
                    }
                };
                let whole = fill(&data, make, cut_at(survived)).is_ok();
                cuts += usize::from(!whole);
                // And once more, somewhere else, before anybody comes by who has time.
                for again in 0..4 {
                    match state(&data).unwrap() {
                        State::Made => tidy(&data),
                        State::Absent | State::Fillable => drop(fill(&data, make, cut_at(again * 2))),
                        other => panic!("cut after {survived} steps, then {again}: {other:?}"),
                    }
                }
                if state(&data).unwrap() != State::Made {
                    fill(&data, make, || Ok(())).unwrap();
                }
                assert_eq!(names(&data).unwrap(), [LOG, STORE, WITNESS], "cut after {survived} steps");
                assert!([LOG, STORE, WITNESS].iter().all(|name| fs::read(data.join(name)).unwrap() == name.as_bytes()));
                fs::remove_dir_all(&data).unwrap();
                if whole {
                    break;
                }
            }
        }
        assert!(cuts > 10, "{cuts}");
    }

    #[test]
    fn what_a_node_has_left_without_its_store_is_never_filled() {
        let say = |names: &[&str]| classify(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(say(&[]), State::Fillable);
        assert_eq!(say(&[UNFINISHED]), State::Fillable);
        assert_eq!(say(&[LOG, WITNESS, UNFINISHED]), State::Fillable, "a start that was cut off");
        for left in [&[LOG, WITNESS][..], &[WITNESS], &[LOG], &[RESULTS], &[ADMIN], &[RESULTS, UNFINISHED], &[LOG, "x"]]
        {
            assert_eq!(say(left), State::Lost, "{left:?}");
        }
        assert_eq!(say(&["store", "x"]), State::Made);
        assert_eq!(say(&["notes.txt"]), State::Foreign(vec!["notes.txt".to_owned()]));
        assert_eq!(say(&["notes.txt", UNFINISHED]), State::Foreign(vec!["notes.txt".to_owned()]));
    }
}
