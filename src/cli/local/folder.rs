//! A committee in a folder: what `--data` keeps, and how it is found again.
//!
//! ```text
//! DIR/lock                   held by the one process that uses the folder
//! DIR/committee/             everything of the committee:
//!     committee.json           what it was made with, and its members' public keys
//!     key                      32 random bytes in hex, for nobody else to read
//!     identities.json          the members' private keys, sealed under `key`
//!     log                      the chain
//!     member-<index>.store     what the member must not lose, sealed under `key`; and its `.witness`
//! DIR/committee.unfinished/  a committee that is just being made
//! ```
//!
//! A committee is made under its other name, and gets its own by one rename when all of it is on the disk. So:
//!
//! - what is in `committee.unfinished` was never used, and is thrown away;
//! - what is not in `committee` has been taken out of it, and is never made anew;
//! - a folder with neither is taken for a new one only if there is nothing else in it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dkg_engine::chain::log::{ChainConfig, Clock, FileLog, Schedule, SystemClock};
use dkg_engine::committee::NodeId;
use dkg_engine::hex;
use dkg_engine::node::identity::Identity;
use dkg_engine::store::seal::{DataKey, SealedKey, create_key_file};
use dkg_engine::store::{FileStore, Owner, Store, Unlock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::home::{CHAIN_ID, Home, new_chain};
use super::identity::Source;
use super::lock::Lock;

const LOCK: &str = "lock";
const COMMITTEE: &str = "committee";
const UNFINISHED: &str = "committee.unfinished";
const COMMITTEE_FILE: &str = "committee.json";
const KEY_FILE: &str = "key";
const IDENTITIES_FILE: &str = "identities.json";
const LOG_FILE: &str = "log";

/// The version of all this.
const LAYOUT: u32 = 1;
/// The most bytes that are read of a file in one go; with 254 members there are about 100,000.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the command line asks for, as far as the committee depends on it.
pub(super) struct Wanted {
    pub(super) source: Source,
    /// What each member does, by name, in order of index.
    pub(super) behaviours: Vec<&'static str>,
    pub(super) view_ms: u64,
    pub(super) schedule: Schedule,
}

/// What a committee was made with; nothing of it is secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitteeFile {
    layout: u32,
    genesis_ms: u64,
    view_ms: u64,
    views_in_epoch: u64,
    setup_first_view: u64,
    views_per_phase: u64,
    poll_step: u64,
    /// Whether its keys and dealings come from a seed.
    seeded: bool,
    /// In order of index.
    members: Vec<MemberFile>,
}

/// What everybody may know of a member.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct MemberFile {
    node_id: String,
    behaviour: String,
    staking_key: String,
    staking_key_proof: String,
    network_key: String,
}

/// The members' private keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentitiesFile {
    key: SealedKey,
    /// In order of index, in hex.
    members: Vec<String>,
}

/// The committee in this folder, made now if the folder is new.
///
/// # Errors
/// The folder is in use, damaged, of something else, or of a committee that was made with other arguments.
pub(super) fn open(dir: &Path, wanted: Wanted) -> Result<Home, String> {
    if !exists(dir)? {
        make_folder(dir)?;
        // Or the machine's death might take the folder with it, keys and all.
        sync(dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    }
    let committee = dir.join(COMMITTEE);
    if !exists(&committee)? {
        check_new(dir)?;
    }
    let lock = lock(dir)?;
    if !exists(&committee)? {
        check_new(dir)?;
        create(dir, &wanted)?;
    }
    let file: CommitteeFile = read_json(&committee.join(COMMITTEE_FILE))?;
    check_wanted(dir, &file, &wanted)?;
    let unlock = Unlock::KeyFile(committee.join(KEY_FILE));
    let identities = read_identities(&committee, &file, &unlock)?;
    let config = new_chain(&identities, file.genesis_ms, file.view_ms, wanted.schedule)?;
    let log = FileLog::open(&committee.join(LOG_FILE), config.identity()).map_err(text)?;
    let mut stores: Vec<Arc<dyn Store>> = Vec::with_capacity(identities.len());
    for (index, identity) in identities.iter().enumerate() {
        let path = store_file(&committee, index);
        stores.push(Arc::new(FileStore::open(&path, &owner(identity.node_id), &unlock).map_err(text)?));
    }
    let log = Box::new(move || Arc::new(log.reader()) as _);
    Ok(Home { config, source: wanted.source, identities, stores, log, lock: Some(lock) })
}

/// Makes a committee, all of it or none.
fn create(dir: &Path, wanted: &Wanted) -> Result<(), String> {
    let (unfinished, committee) = (dir.join(UNFINISHED), dir.join(COMMITTEE));
    if exists(&unfinished)? {
        fs::remove_dir_all(&unfinished).map_err(|error| at(&unfinished, &error))?;
    }
    make_folder(&unfinished)?;
    let identities = wanted.source.identities(wanted.behaviours.len())?;
    let config = new_chain(&identities, SystemClock.now_ms(), wanted.view_ms, wanted.schedule)?;
    let unlock = Unlock::KeyFile(unfinished.join(KEY_FILE));
    create_key_file(&unfinished.join(KEY_FILE)).map_err(text)?;
    write_json(&unfinished.join(IDENTITIES_FILE), &seal(&identities, &unlock)?)?;
    write_json(&unfinished.join(COMMITTEE_FILE), &describe(&config, &identities, wanted)?)?;
    drop(FileLog::create(&unfinished.join(LOG_FILE), config.identity()).map_err(text)?);
    for (index, identity) in identities.iter().enumerate() {
        let path = store_file(&unfinished, index);
        drop(FileStore::create(&path, &owner(identity.node_id), &unlock).map_err(text)?);
    }
    sync(&unfinished)?;
    fs::rename(&unfinished, &committee).map_err(|error| at(&committee, &error))?;
    sync(dir)
}

fn describe(config: &ChainConfig, identities: &[Identity], wanted: &Wanted) -> Result<CommitteeFile, String> {
    let Schedule { views_in_epoch, setup_first_view, views_per_phase, poll_step } = wanted.schedule;
    let members = identities.iter().zip(&wanted.behaviours).map(|(identity, behaviour)| public(identity, behaviour));
    Ok(CommitteeFile {
        layout: LAYOUT,
        genesis_ms: config.begins_at(dkg_engine::epoch::View(0)),
        view_ms: wanted.view_ms,
        views_in_epoch,
        setup_first_view,
        views_per_phase,
        poll_step,
        seeded: wanted.source.is_seed(),
        members: members.collect(),
    })
}

fn public(identity: &Identity, behaviour: &str) -> MemberFile {
    MemberFile {
        node_id: identity.node_id.to_string(),
        behaviour: behaviour.to_owned(),
        staking_key: hex::encode(&identity.staking_key.public_key().to_flow_bytes()),
        staking_key_proof: hex::encode(&identity.staking_key.prove_possession().to_bytes()),
        network_key: hex::encode(identity.network_key.verifying_key().as_bytes()),
    }
}

fn check_wanted(dir: &Path, file: &CommitteeFile, wanted: &Wanted) -> Result<(), String> {
    if file.layout != LAYOUT {
        return Err(format!(
            "{} was made by another version of this command, with layout {} instead of {LAYOUT}; use that version",
            dir.display(),
            file.layout
        ));
    }
    let numbers = [
        ("--nodes", file.members.len() as u64, wanted.behaviours.len() as u64),
        ("--view-ms", file.view_ms, wanted.view_ms),
        ("--phase-views", file.views_per_phase, wanted.schedule.views_per_phase),
        ("the length of an epoch", file.views_in_epoch, wanted.schedule.views_in_epoch),
        ("the first view of the setup phase", file.setup_first_view, wanted.schedule.setup_first_view),
        ("the poll step", file.poll_step, wanted.schedule.poll_step),
    ];
    let numbers = numbers.into_iter().map(|(name, was, is)| (name, was.to_string(), is.to_string()));
    let behaviours = file.members.iter().map(|member| member.behaviour.as_str()).collect::<Vec<_>>().join(", ");
    let mut compared: Vec<_> = numbers.collect();
    compared.push(("--fault", behaviours, wanted.behaviours.join(", ")));
    // What comes first explains the rest.
    let other = compared.iter().find(|(_, was, is)| was != is);
    let told = match other {
        Some((name, was, is)) => format!("{name} was {was} and is now {is}"),
        None if !is_same_seed(file, wanted)? => "--seed is another one, or only one of the two has one".to_owned(),
        None => return Ok(()),
    };
    Err(format!(
        "{} holds a committee that was made with other arguments: {told}; use the same, or another folder",
        dir.display()
    ))
}

/// One seed makes one committee, so the members tell.
fn is_same_seed(file: &CommitteeFile, wanted: &Wanted) -> Result<bool, String> {
    if !file.seeded || !wanted.source.is_seed() {
        return Ok(file.seeded == wanted.source.is_seed());
    }
    let identities = wanted.source.identities(wanted.behaviours.len())?;
    Ok(identities
        .iter()
        .map(|identity| identity.node_id.to_string())
        .eq(file.members.iter().map(|m| m.node_id.clone())))
}

fn seal(identities: &[Identity], unlock: &Unlock) -> Result<IdentitiesFile, String> {
    let key = DataKey::generate().map_err(text)?;
    let seal = |identity: &Identity| key.seal(&context(&identity.node_id), &identity.secrets());
    let members = identities.iter().map(|identity| Ok(hex::encode(&seal(identity).map_err(text)?)));
    Ok(IdentitiesFile {
        members: members.collect::<Result<_, String>>()?,
        key: SealedKey::seal(&key, unlock).map_err(text)?,
    })
}

fn read_identities(committee: &Path, file: &CommitteeFile, unlock: &Unlock) -> Result<Vec<Identity>, String> {
    let path = committee.join(IDENTITIES_FILE);
    let sealed: IdentitiesFile = read_json(&path)?;
    let key = sealed.key.open(unlock).map_err(|error| format!("{}: {error}", path.display()))?;
    if sealed.members.len() != file.members.len() {
        return Err(damaged(&path, &format!("it has the keys of {} members", sealed.members.len())));
    }
    let mut identities = Vec::with_capacity(sealed.members.len());
    for (index, (sealed, member)) in sealed.members.iter().zip(&file.members).enumerate() {
        let open = || {
            let node_id: NodeId = member.node_id.parse().map_err(text)?;
            let sealed = hex::decode(sealed).ok_or("they are not in hex")?;
            let secrets = key.open(&context(&node_id), &sealed).map_err(text)?;
            Identity::from_secrets(node_id, &secrets).ok_or_else(|| "they are no keys".to_owned())
        };
        let identity = open().map_err(|error| damaged(&path, &format!("the keys of member {index}: {error}")))?;
        if public(&identity, &member.behaviour) != *member {
            return Err(damaged(&committee.join(COMMITTEE_FILE), &format!("the keys of member {index} are others")));
        }
        identities.push(identity);
    }
    Ok(identities)
}

/// What sets a member's sealed keys apart from everything else that is sealed.
fn context(node_id: &NodeId) -> Vec<u8> {
    [b"dkg local identity 1".as_slice(), node_id.as_bytes()].concat()
}

fn owner(member: NodeId) -> Owner {
    Owner { chain_id: CHAIN_ID.to_owned(), member }
}

fn store_file(committee: &Path, index: usize) -> PathBuf {
    committee.join(format!("member-{index}.store"))
}

fn lock(dir: &Path) -> Result<Lock, String> {
    let path = dir.join(LOCK);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|error| at(&path, &error))?;
    Lock::take(file).map_err(|error| match error {
        TryLockError::WouldBlock => {
            format!("{} is in use; wait for the other process, or choose another folder", dir.display())
        }
        TryLockError::Error(error) => at(&path, &error),
    })
}

/// Refuses a folder with something in it that no committee leaves there.
fn check_new(dir: &Path) -> Result<(), String> {
    for entry in fs::read_dir(dir).map_err(|error| at(dir, &error))? {
        let name = entry.map_err(|error| at(dir, &error))?.file_name();
        if name != LOCK && name != UNFINISHED {
            return Err(format!(
                "{} has no committee in it, but {}; put back what was taken out, or choose an empty folder",
                dir.display(),
                name.display()
            ));
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), String> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{}: the folder it is to be in is missing; make that first", path.display()),
        _ => at(path, &error),
    })
}

fn exists(path: &Path) -> Result<bool, String> {
    path.try_exists().map_err(|error| at(path, &error))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|error| format!("{}: {error}", path.display()))?;
    json.push(b'\n');
    write(path, &json)
}

/// Writes a new file that nobody else may read, to the disk.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || {
        let mut file = options.open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| at(path, &error))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let length = fs::metadata(path).map_err(|error| at(path, &error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(damaged(path, &format!("it has {length} bytes")));
    }
    let bytes = fs::read(path).map_err(|error| at(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error.to_string()))
}

/// Makes the names in a folder durable.
fn sync(dir: &Path) -> Result<(), String> {
    // Only unix lets a folder be opened for that.
    let sync = || if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) };
    sync().map_err(|error: io::Error| at(dir, &error))
}

fn at(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} is missing; put it back", path.display()),
        io::ErrorKind::PermissionDenied => format!("{}: {error}; let this user read and write it", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}

fn damaged(path: &Path, reason: &str) -> String {
    format!("{} is damaged: {reason}; put a copy in its place", path.display())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
