//! What kind of file is this? For the words of an error about a file that was given in another one's place.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::{NodeConfig, NodeError};
use crate::chain::log::CommitteeFile;
use crate::store::Unlock;

/// How much of a file is looked at.
const LOOKED_AT: u64 = 64 << 10;

/// The files that commands take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A member's sealed keys.
    Identity,
    /// A member's public part.
    Member,
    /// The committee file.
    Committee,
    /// A node's configuration.
    NodeConfig,
    /// A member's share of a signature.
    SignatureShare,
    /// A group's signature.
    Signature,
    /// An epoch's public keys.
    PublicResult,
    /// A node's status.
    Status,
    /// A sealed backup of a key share.
    Backup,
    /// An EIP-2335 keystore.
    Keystore,
    /// The key that opens an identity and a store.
    KeyFile,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Identity => "a member's sealed keys (identity.json, by `dkg keygen`)",
            FileKind::Member => "a member's public part (member.toml, by `dkg keygen`)",
            FileKind::Committee => "a committee file (committee.toml, by `dkg committee new`)",
            FileKind::NodeConfig => "a node's configuration (node.toml)",
            FileKind::SignatureShare => "one member's share of a signature (by `dkg sign`)",
            FileKind::Signature => "a group's signature (by `dkg combine`)",
            FileKind::PublicResult => "an epoch's public keys (data/results/EPOCH.json of a node)",
            FileKind::Status => "a node's status (by `dkg status --json`)",
            FileKind::Backup => "a sealed backup of a key share (by `dkg keys export`)",
            FileKind::Keystore => "an EIP-2335 keystore",
            FileKind::KeyFile => "a key file (by `dkg keygen --key-file`)",
        })
    }
}

impl FileKind {
    /// What a text is, by the names of its fields; `None` if it is none of ours.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let has = |field: &str| match text.starts_with('{') {
            true => text.contains(&format!("\"{field}\"")),
            false => text.lines().any(|line| {
                let rest = line.trim_start().strip_prefix(field);
                rest.is_some_and(|rest| rest.trim_start().starts_with('='))
            }),
        };
        let is_key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        // From the most telling field to the least.
        let kinds = [
            (is_key, FileKind::KeyFile),
            (has("crypto") && has("version"), FileKind::Keystore),
            (has("sealed_by"), FileKind::Backup),
            (has("secrets") && has("node_id"), FileKind::Identity),
            (has("verdict") || has("results"), FileKind::Status),
            (has("public_key_shares_flow"), FileKind::PublicResult),
            (has("signature") && has("signers"), FileKind::Signature),
            (has("signature") && has("index"), FileKind::SignatureShare),
            (has("chain_id") && has("genesis"), FileKind::Committee),
            (has("committee") && has("identity"), FileKind::NodeConfig),
            (has("staking_key") && has("node_id"), FileKind::Member),
        ];
        kinds.into_iter().find_map(|(is_it, kind)| is_it.then_some(kind))
    }

    /// What a file is; `None` also where it cannot be read.
    pub fn of_file(file: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(file).ok()?.take(LOOKED_AT).read_to_end(&mut bytes).ok()?;
        Self::of(&String::from_utf8_lossy(&bytes))
    }

    /// If a file that could not be read as this kind is one of another, what to say of it.
    pub fn mistaken(self, file: &Path) -> Option<WrongFile> {
        let is = Self::of_file(file).filter(|is| *is != self)?;
        Some(WrongFile { file: file.to_owned(), is, wanted: self })
    }
}

/// A file was given in another one's place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is {is}; what is needed here is {wanted}", file.display())]
pub struct WrongFile {
    /// The file.
    pub file: PathBuf,
    /// What it is.
    pub is: FileKind,
    /// What it should be.
    pub wanted: FileKind,
}

/// The committee file that a configuration names.
pub(super) fn committee_of(config: &NodeConfig) -> Result<CommitteeFile, NodeError> {
    let file = &config.committee;
    CommitteeFile::read(file).map_err(|error| match FileKind::Committee.mistaken(file) {
        Some(wrong) => wrong.into(),
        None => error.into(),
    })
}

/// The keys that a configuration names.
pub(super) fn identity_of(config: &NodeConfig, unlock: &Unlock) -> Result<Identity, NodeError> {
    Identity::of(config, unlock).map_err(|error| match FileKind::Identity.mistaken(&config.identity) {
        Some(wrong) => wrong.into(),
        None => error,
    })
}
