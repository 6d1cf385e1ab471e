//! What people see of keys, and what scripts read. Nothing here has ever seen a secret.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use dkg_engine::committee::{Index, NodeId};
use dkg_engine::epoch::EpochCounter;
use dkg_engine::hex;
use dkg_engine::store::{Backup, CommittedKey, EpochRecord, KeyHealth, KeyShare, KeyStatus, StoreError};

use crate::cli::outcome::write_json;

/// How much of a public key a table shows.
const SHORT_KEY: usize = 16;

/// One epoch.
#[derive(Serialize)]
pub(super) struct Listed {
    epoch: EpochCounter,
    /// `null` where the record cannot be read.
    state: Option<&'static str>,
    /// Without what the chain expects, which no store knows; `damaged` where the record cannot be read.
    status: &'static str,
    index: Option<Index>,
    public_key: Option<String>,
    failure: Option<String>,
    reason: String,
}

impl Listed {
    pub(super) fn new(record: &EpochRecord, health: KeyHealth) -> Self {
        Listed {
            epoch: health.epoch,
            state: Some(record.status().name()),
            status: health.status.name(),
            index: health.index,
            public_key: health.public_key.map(|key| hex::encode(&key.to_flow_bytes())),
            failure: record.failure().map(str::to_owned),
            reason: health.reason,
        }
    }

    pub(super) fn damaged(epoch: EpochCounter, error: &StoreError) -> Self {
        Listed {
            epoch,
            state: None,
            status: "damaged",
            index: None,
            public_key: None,
            failure: None,
            reason: format!("{error}; restore the store, or the key from a backup into a new one"),
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        self.state.is_some()
    }
}

/// All of them.
#[derive(Serialize)]
pub(super) struct Listing {
    pub(super) store: String,
    pub(super) chain: String,
    #[serde(serialize_with = "as_text")]
    pub(super) member: NodeId,
    pub(super) keys: Vec<Listed>,
}

fn as_text<S: serde::Serializer>(member: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(member)
}

pub(super) fn list(listing: &Listing, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, listing);
    }
    if listing.keys.is_empty() {
        return writeln!(out, "nothing is recorded of any epoch");
    }
    writeln!(out, "{:>8}  {:<9} {:<14} {:>5}  {:<17}  reason", "epoch", "status", "state", "index", "public key")?;
    for key in &listing.keys {
        let index = key.index.map_or("-".into(), |index| index.to_string());
        let public_key = key.public_key.as_ref().and_then(|key| key.get(..SHORT_KEY));
        let public_key = public_key.map_or("-".into(), |key| format!("{key}…"));
        let (status, state) = (key.status, key.state.unwrap_or("-"));
        writeln!(out, "{:>8}  {status:<9} {state:<14} {index:>5}  {public_key:<17}  {}", key.epoch, key.reason)?;
    }
    Ok(())
}

pub(super) fn one(key: &Listed, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, key);
    }
    writeln!(out, "epoch       {}", key.epoch)?;
    writeln!(out, "status      {}", key.status)?;
    writeln!(out, "state       {}", key.state.unwrap_or("-"))?;
    writeln!(out, "index       {}", key.index.map_or("-".into(), |index| index.to_string()))?;
    writeln!(out, "public key  {}", key.public_key.as_deref().unwrap_or("-"))?;
    writeln!(out, "reason      {}", key.reason)
}

#[derive(Serialize)]
struct ShownBackup<'a> {
    chain: &'a str,
    member: &'a str,
    epoch: EpochCounter,
    index: Index,
    public_key: &'a str,
    state: &'static str,
}

pub(super) fn backup(backup: &Backup, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let shown = ShownBackup {
        chain: backup.chain(),
        member: backup.member(),
        epoch: backup.epoch(),
        index: backup.index(),
        public_key: backup.public_key_share(),
        state: backup.state().name(),
    };
    if json {
        return write_json(&mut out, &shown);
    }
    writeln!(out, "chain       {:?}", shown.chain)?;
    writeln!(out, "member      {:?}", shown.member)?;
    writeln!(out, "epoch       {}", shown.epoch)?;
    writeln!(out, "index       {}", shown.index)?;
    writeln!(out, "public key  {:?}", shown.public_key)?;
    writeln!(out, "state       {} when the backup was made", shown.state)?;
    writeln!(out, "none of this is proven before the backup is opened")
}

/// A share in a file of its own.
#[derive(Serialize)]
pub(super) struct Exported {
    epoch: EpochCounter,
    index: Index,
    public_key: String,
    file: String,
}

impl Exported {
    pub(super) fn new(epoch: EpochCounter, share: &KeyShare, file: &Path) -> Self {
        let public_key = hex::encode(&share.public_key().to_flow_bytes());
        Exported { epoch, index: share.index(), public_key, file: file.display().to_string() }
    }
}

pub(super) fn exported(exported: &Exported, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, exported);
    }
    let Exported { epoch, index, public_key, file } = exported;
    writeln!(out, "{file}: the share of epoch {epoch} (index {index}, public key {public_key})")
}

/// A share that has come back.
#[derive(Serialize)]
pub(super) struct Imported {
    epoch: EpochCounter,
    index: Index,
    public_key: String,
    state: &'static str,
}

impl Imported {
    pub(super) fn new(epoch: EpochCounter, share: &KeyShare, state: KeyStatus) -> Self {
        Imported {
            epoch,
            index: share.index(),
            public_key: hex::encode(&share.public_key().to_flow_bytes()),
            state: state.name(),
        }
    }
}

pub(super) fn imported(imported: &Imported, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, imported);
    }
    let Imported { epoch, index, public_key, state } = imported;
    writeln!(out, "epoch {epoch}: share {index} is stored (public key {public_key}, state {state})")?;
    writeln!(out, "start the node: it signs with the share when the chain has confirmed it")
}

/// How a self-test went.
#[derive(Serialize)]
pub(super) struct Tested {
    epoch: EpochCounter,
    /// `passed`, `failed`, or `no_key` where there is none to test.
    result: &'static str,
    state: Option<&'static str>,
    public_key: Option<String>,
    problem: Option<String>,
}

impl Tested {
    pub(super) fn passed(epoch: EpochCounter, key: &CommittedKey) -> Self {
        Tested {
            epoch,
            result: "passed",
            state: Some(KeyStatus::KeyCommitted.name()),
            public_key: Some(hex::encode(&key.public_key().to_flow_bytes())),
            problem: None,
        }
    }

    pub(super) fn failed(epoch: EpochCounter, record: Option<&EpochRecord>, problem: String) -> Self {
        let state = record.map(|record| record.status().name());
        let held = record.and_then(EpochRecord::held).map(|share| hex::encode(&share.public_key().to_flow_bytes()));
        Tested { epoch, result: "failed", state, public_key: held, problem: Some(problem) }
    }

    pub(super) fn without_key(epoch: EpochCounter, record: &EpochRecord) -> Self {
        Tested { epoch, result: "no_key", state: Some(record.status().name()), public_key: None, problem: None }
    }
}

/// How all of them went.
#[derive(Serialize)]
pub(super) struct Verified {
    pub(super) store: String,
    pub(super) keys: Vec<Tested>,
    /// Records of any kind that the store cannot give back.
    pub(super) unreadable: Vec<String>,
}

impl Verified {
    pub(super) fn is_good(&self) -> bool {
        self.unreadable.is_empty() && self.keys.iter().all(|key| key.result != "failed")
    }
}

pub(super) fn verified(verified: &Verified, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, verified);
    }
    for key in &verified.keys {
        let (epoch, state) = (key.epoch, key.state.unwrap_or("-"));
        match (key.result, &key.problem) {
            ("passed", _) => writeln!(out, "epoch {epoch}: the stored share signs, and its signature verifies")?,
            (_, Some(problem)) => writeln!(out, "epoch {epoch}: FAILED: {problem}")?,
            _ => writeln!(out, "epoch {epoch}: no confirmed share to test (state {state})")?,
        }
    }
    for problem in &verified.unreadable {
        writeln!(out, "UNREADABLE: {problem}")?;
    }
    writeln!(out, "{}", if verified.is_good() { "all is well" } else { "something is wrong" })
}

/// A store as a whole.
#[derive(Serialize)]
struct Whole {
    store: String,
}

pub(super) fn resealed(store: &Path, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let store = store.display().to_string();
    if json {
        return write_json(&mut out, &Whole { store });
    }
    writeln!(out, "{store}: sealed anew; what opened it before opens it no more, but opens older copies of the file")
}

pub(super) fn renewed(store: &Path, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let store = store.display().to_string();
    if json {
        return write_json(&mut out, &Whole { store });
    }
    writeln!(out, "{store}: this copy is the newest from now on; no other opens any more")
}
