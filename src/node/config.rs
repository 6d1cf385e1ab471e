//! What a node is told in its configuration file, `node.toml`.
//!
//! ```toml
//! committee = "committee.toml"     # the same file for all members
//! identity = "identity.json"       # this member's sealed keys, from `dkg keygen`
//! data = "data"                    # what this node must not lose: its store, and its copy of the log
//! key_file = "node.key"            # opens identity and store; or passphrase_file; or neither, and it is asked for
//! mounted_secrets = false          # true where files with secrets are mounted read-only (root's, of mode 0440 or 0444)
//! listen = "0.0.0.0:7000"          # where the other members reach it; the port of its address if left out
//! status = "127.0.0.1:7080"        # page, status and metrics; none if left out
//! status_names = ["node3.example.org"]  # names that browsers and collectors may ask it under, beside addresses and localhost
//! key_check = "off"                # or "strict", or { lenient = EPOCH }: start only with the key that is expected now
//! clock_offset_ms = 0              # added to this machine's clock
//!
//! [keys]
//! keep = { epochs = 16 }           # or { days = N }: how long key shares are kept after their epoch; then they are erased
//!
//! [log]                            # only where the committee file is out of date, or the log asks who one is
//! endpoints = ["http://10.0.0.9:7500"]
//! username = "member-3"            # etcd
//! password_file = "etcd.password"
//! ca_file = "ca.pem"               # https: who vouches for it; or roots = "system", what this machine trusts
//! client_cert = "member-3.pem"     # https: what is shown to a log that asks for a certificate
//! client_key = "member-3.key"
//!
//! [peers]                          # only where the committee file is out of date: node id = address
//! 1f6e… = "10.0.0.7:7000"
//! ```
//!
//! Paths are taken from the folder that the file is in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::NodeError;
use crate::address::{Address, Endpoint, listening};
use crate::chain::log::{ChainConfig, ConfigError, MAX_LOG_ENDPOINTS};
use crate::committee::NodeId;
use crate::epoch::EpochCounter;
use crate::store::{KEPT_EPOCHS, KeyCheck, MAX_KEPT_EPOCHS, SecretAccess};

/// The most bytes of a configuration file.
pub const MAX_NODE_CONFIG_BYTES: u64 = 256 * 1024;
/// The furthest that a clock can be put right: a day.
pub const MAX_CLOCK_OFFSET_MS: u64 = 24 * 60 * 60 * 1000;

/// The most days that keys can be kept for: ten years.
pub const MAX_KEPT_DAYS: u64 = 3653;
const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

/// A node's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The committee file.
    pub committee: PathBuf,
    /// The file with this member's sealed keys.
    pub identity: PathBuf,
    /// The folder of what this node must not lose.
    pub data: PathBuf,
    /// What opens identity and store.
    pub key_file: Option<PathBuf>,
    /// Or the file with the passphrase that does.
    pub passphrase_file: Option<PathBuf>,
    /// Who may read the files with secrets that this names.
    pub secrets: SecretAccess,
    /// Where to listen for the other members.
    pub listen: Option<SocketAddr>,
    /// Where page, status and metrics are served.
    pub status: Option<SocketAddr>,
    /// The names under which they may be asked for, beside addresses and `localhost`.
    pub status_names: Vec<String>,
    /// Whether to look for the current epoch's key at the start, and not to start without. By default a node starts in any
    /// case, and shows that the key is missing: who has missed one run has to be there for the next.
    pub key_check: Option<KeyCheck>,
    /// Added to the machine's clock, in milliseconds.
    pub clock_offset_ms: i64,
    /// How long key shares are kept.
    pub keep: Keep,
    /// What is said of the log beside the committee file.
    pub log: LogSettings,
    /// Members' addresses that have changed since the committee file was made.
    pub peers: BTreeMap<NodeId, Address>,
}

/// How long key shares are kept after their epoch. Then they are erased, so that who takes the machine over later cannot sign for
/// what is past. The newest committed key is kept in any case, and public keys for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// For so many epochs.
    Epochs(u64),
    /// For so many days by the chain's schedule, rounded up to whole epochs.
    Days(u64),
}

impl Default for Keep {
    fn default() -> Self {
        Keep::Epochs(KEPT_EPOCHS)
    }
}

impl Keep {
    /// In epochs of this chain.
    ///
    /// # Errors
    /// More than [`MAX_KEPT_EPOCHS`].
    pub fn epochs(self, chain: &ChainConfig) -> Result<u64, NodeError> {
        let epoch_ms = chain.view_ms().saturating_mul(chain.schedule().views_in_epoch).max(1);
        let epochs = match self {
            Keep::Epochs(epochs) => epochs,
            Keep::Days(days) => days.saturating_mul(MS_PER_DAY).div_ceil(epoch_ms),
        };
        if epochs > MAX_KEPT_EPOCHS {
            let most_days = MAX_KEPT_EPOCHS.saturating_mul(epoch_ms) / MS_PER_DAY;
            return Err(NodeError::KeptTooLong { keep: self, epochs, most_days });
        }
        Ok(epochs.max(1))
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Keep::Epochs(epochs) => write!(f, "{{ epochs = {epochs} }}"),
            Keep::Days(days) => write!(f, "{{ days = {days} }}"),
        }
    }
}

/// What is said of the keys.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysField {
    #[serde(default)]
    keep: Keep,
}

/// What is said of the log beside the committee file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// Its endpoints, if not those of the committee file.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// As whom to log in (etcd).
    pub username: Option<String>,
    /// The file with the password for that.
    pub password_file: Option<PathBuf>,
    /// The certificates of the authorities that vouch for it, if not those of the web.
    pub ca_file: Option<PathBuf>,
    /// Whose authorities count without such a file.
    #[serde(default)]
    pub roots: Roots,
    /// The certificate that is shown to a log that asks for one.
    pub client_cert: Option<PathBuf>,
    /// The file with its private key.
    pub client_key: Option<PathBuf>,
}

/// Whose authorities vouch for a log that is reached over TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Roots {
    /// Those of the web, as this program was built with them.
    #[default]
    Bundled,
    /// Those that this machine trusts.
    System,
}

/// What is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration {}: {reason}", file.display())]
pub struct NodeConfigError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    committee: PathBuf,
    identity: PathBuf,
    data: PathBuf,
    key_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    #[serde(default)]
    mounted_secrets: bool,
    #[serde(default, deserialize_with = "listening_at")]
    listen: Option<SocketAddr>,
    #[serde(default, deserialize_with = "listening_at")]
    status: Option<SocketAddr>,
    #[serde(default)]
    status_names: Vec<String>,
    #[serde(default)]
    key_check: KeyCheckField,
    #[serde(default)]
    clock_offset_ms: i64,
    #[serde(default)]
    keys: KeysField,
    #[serde(default)]
    log: LogSettings,
    #[serde(default)]
    peers: BTreeMap<String, Address>,
}

fn listening_at<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    listening(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeyCheckField {
    Strict,
    #[default]
    Off,
    Lenient(u64),
}

/// Whether this could be the name of a host.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_'))
}

impl NodeConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// It cannot be read, is too long, or says something that makes no sense.
    pub fn read(file: &Path) -> Result<Self, NodeConfigError> {
        let failed = |reason: String| NodeConfigError { file: file.to_owned(), reason };
        let mut text = String::new();
        let read = File::open(file).and_then(|file| file.take(MAX_NODE_CONFIG_BYTES + 1).read_to_string(&mut text));
        read.map_err(|error| failed(format!("it cannot be read: {error}")))?;
        if text.len() as u64 > MAX_NODE_CONFIG_BYTES {
            return Err(failed(format!("it has more than {MAX_NODE_CONFIG_BYTES} bytes")));
        }
        Self::parse(&text, file.parent().unwrap_or(Path::new(""))).map_err(failed)
    }

    /// The configuration in this text, with paths as seen from `folder`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let fields: Fields = toml::from_str(text).map_err(|error| error.to_string())?;
        if fields.key_file.is_some() && fields.passphrase_file.is_some() {
            return Err("key_file and passphrase_file are both given; one thing opens the keys".to_owned());
        }
        if fields.clock_offset_ms.unsigned_abs() > MAX_CLOCK_OFFSET_MS {
            return Err(format!("clock_offset_ms is more than {MAX_CLOCK_OFFSET_MS}, a day; set the machine's clock"));
        }
        if let Some(name) = fields.status_names.iter().find(|name| !is_name(name)) {
            return Err(format!("status_names: '{name}' is no name of a host; give it without scheme, port and path"));
        }
        match fields.keys.keep {
            Keep::Epochs(1..=MAX_KEPT_EPOCHS) | Keep::Days(1..=MAX_KEPT_DAYS) => {}
            Keep::Epochs(_) => {
                return Err(format!("keys.keep: keys are kept for 1 to {MAX_KEPT_EPOCHS} epochs"));
            }
            Keep::Days(_) => return Err(format!("keys.keep: keys are kept for 1 to {MAX_KEPT_DAYS} days")),
        }
        let mut log = fields.log;
        if log.username.is_some() != log.password_file.is_some() {
            return Err("log.username and log.password_file belong together".to_owned());
        }
        if log.endpoints.len() > MAX_LOG_ENDPOINTS {
            return Err(ConfigError::Endpoints(log.endpoints.len()).to_string());
        }
        if log.client_cert.is_some() != log.client_key.is_some() {
            return Err("log.client_cert and log.client_key belong together".to_owned());
        }
        if log.ca_file.is_some() && log.roots == Roots::System {
            return Err(
                "log.ca_file and log.roots = \"system\" are both given; one says who vouches for the log".to_owned()
            );
        }
        let at = |path: PathBuf| folder.join(path);
        for file in [&mut log.password_file, &mut log.ca_file, &mut log.client_cert, &mut log.client_key] {
            *file = file.take().map(at);
        }
        let peer = |(node, address): (String, Address)| {
            let node = node.parse().map_err(|error| format!("peers: {error}"))?;
            Ok::<(NodeId, Address), String>((node, address))
        };
        Ok(NodeConfig {
            committee: at(fields.committee),
            identity: at(fields.identity),
            data: at(fields.data),
            key_file: fields.key_file.map(at),
            passphrase_file: fields.passphrase_file.map(at),
            secrets: if fields.mounted_secrets { SecretAccess::Mounted } else { SecretAccess::Owner },
            listen: fields.listen,
            status: fields.status,
            status_names: fields.status_names,
            key_check: match fields.key_check {
                KeyCheckField::Strict => Some(KeyCheck::Strict),
                KeyCheckField::Off => None,
                KeyCheckField::Lenient(epoch) => Some(KeyCheck::Lenient { epoch: EpochCounter(epoch) }),
            },
            clock_offset_ms: fields.clock_offset_ms,
            keep: fields.keys.keep,
            log,
            peers: fields.peers.into_iter().map(peer).collect::<Result<_, _>>()?,
        })
    }
}
