//! The committee file: what all members of a log chain agree on, as text (spec section 9).
//!
//! ```toml
//! chain_id = "beacon"
//! genesis = "2026-12-01T12:00:00Z"   # when view 0 begins
//! view_ms = 1000                     # how long a view is
//! vectors = "uncompressed"           # how commitment vectors travel; or "compressed", as on Flow
//!
//! [schedule]                         # in views
//! views_in_epoch = 600
//! setup_first_view = 60              # where in the epoch the run begins
//! views_per_phase = 120
//! poll_step = 10
//!
//! [log]
//! kind = "http"                      # or "etcd", with a prefix for its keys; or "local", in one process
//! endpoints = ["http://10.0.0.9:7500"]
//!
//! [[member]]                         # as `dkg keygen` prints it, one for each
//! node_id = "1f6e…"
//! staking_key = "…"                  # 192 hex digits, in the order of Flow
//! staking_key_proof = "…"            # 96 hex digits: proof that its owner has the private key
//! network_key = "…"                  # 64 hex digits
//! address = "10.0.0.1:7000"
//! ```
//!
//! The order of the members, comments and white space do not matter: the chain's identity is a hash of what the file says.
//! Nothing in it is secret. Who puts it together is trusted with who is in it, and with nothing else: every key comes with a
//! proof, and the members compare the hash.

use std::fmt::{self, Write};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use jiff::Timestamp;
use serde::Deserialize;

use crate::address::{Address, Endpoint};
use crate::bls::{ProofOfPossession, ProvenPublicKey, PublicKey, VectorEncoding};
use crate::chain::log::{ChainConfig, ChainMember, ChainSpec, LogPlace, Schedule};
use crate::committee::{MAX_MEMBERS, NodeId};
use crate::hex;

/// The most bytes of a committee file; one of 254 members has about 190,000.
pub const MAX_COMMITTEE_FILE_BYTES: u64 = 1 << 20;

/// What is wrong with a committee file, or with a member's public part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default())]
pub struct CommitteeFileError {
    /// The file, if it came from one.
    pub file: Option<PathBuf>,
    /// What is wrong, with the member and the field it is about.
    pub reason: String,
}

impl From<String> for CommitteeFileError {
    fn from(reason: String) -> Self {
        CommitteeFileError { file: None, reason }
    }
}

/// One member's public part: its keys, with the proof that its staking key is its own, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFile {
    /// Who it is.
    pub node_id: NodeId,
    /// What its broadcasts are signed with.
    pub staking_key: PublicKey,
    /// Proof that it has the private key.
    pub staking_key_proof: ProofOfPossession,
    /// What its log entries are signed with, and its links.
    pub network_key: VerifyingKey,
    /// Where it is reached; `None` for a member that lives in one process with the others.
    pub address: Option<Address>,
}

/// A committee file that has been read and checked.
#[derive(Clone, Debug)]
pub struct CommitteeFile {
    members: Vec<MemberFile>,
    chain: Arc<ChainConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    chain_id: String,
    genesis: Genesis,
    view_ms: u64,
    #[serde(default)]
    vectors: Vectors,
    schedule: ScheduleFields,
    log: LogFields,
    #[serde(default)]
    member: Vec<MemberFields>,
}

/// A time as text, or as TOML writes times: without quotes.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a time such as \"2026-12-01T12:00:00Z\", with or without quotes")]
enum Genesis {
    Text(String),
    Time(toml::value::Datetime),
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Vectors {
    Compressed,
    #[default]
    Uncompressed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFields {
    views_in_epoch: u64,
    setup_first_view: u64,
    views_per_phase: u64,
    poll_step: u64,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum LogFields {
    Local {},
    Http { endpoints: Vec<String> },
    Etcd { endpoints: Vec<String>, prefix: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberFields {
    node_id: String,
    staking_key: String,
    staking_key_proof: String,
    network_key: String,
    #[serde(default)]
    address: String,
}

impl MemberFile {
    /// A member's public part, as `dkg keygen` prints it.
    ///
    /// # Errors
    /// A field is missing, unknown or malformed, or the proof does not fit.
    pub fn parse(text: &str) -> Result<Self, CommitteeFileError> {
        let fields: MemberFields = toml::from_str(text).map_err(|error| plain(&error))?;
        let member = fields.decode().map_err(|reason| format!("the member's {reason}"))?;
        member.proven().map_err(|reason| format!("the member's {reason}"))?;
        Ok(member)
    }

    /// As [`parse`](Self::parse), from a file.
    ///
    /// # Errors
    /// As there, and the file cannot be read.
    pub fn read(file: &Path) -> Result<Self, CommitteeFileError> {
        Self::parse(&read(file)?).map_err(|error| CommitteeFileError { file: Some(file.to_owned()), ..error })
    }

    /// As it is read again.
    pub fn text(&self) -> String {
        let MemberFile { node_id, staking_key, staking_key_proof, network_key, address } = self;
        let (key, proof) = (hex::encode(&staking_key.to_flow_bytes()), hex::encode(&staking_key_proof.to_bytes()));
        let network_key = hex::encode(network_key.as_bytes());
        format!(
            "node_id = \"{node_id}\"\nstaking_key = \"{key}\"\nstaking_key_proof = \"{proof}\"\n\
             network_key = \"{network_key}\"\naddress = {}\n",
            toml::Value::from(address.as_ref().map_or("", Address::as_str))
        )
    }

    /// The member as a chain has it, with its proof checked.
    ///
    /// # Errors
    /// The proof does not fit.
    pub fn proven(&self) -> Result<ChainMember, String> {
        let staking_key = ProvenPublicKey::check(self.staking_key, &self.staking_key_proof)
            .map_err(|error| format!("staking_key_proof: {error}"))?;
        let MemberFile { node_id, network_key, .. } = *self;
        Ok(ChainMember { node_id, staking_key, network_key, address: self.address.clone() })
    }
}

impl MemberFields {
    /// The fields; errors begin with the name of the one that is wrong.
    fn decode(self) -> Result<MemberFile, String> {
        let digits = |name: &str, text: &str| hex::decode(text).ok_or(format!("{name}: it is not hex digits"));
        let wrong = |name: &'static str| move |error: &dyn fmt::Display| format!("{name}: {error}");
        let node_id = self.node_id.parse().map_err(|error| wrong("node_id")(&error))?;
        let staking_key = PublicKey::from_flow_bytes(&digits("staking_key", &self.staking_key)?)
            .map_err(|error| wrong("staking_key")(&error))?;
        let staking_key_proof = ProofOfPossession::from_bytes(&digits("staking_key_proof", &self.staking_key_proof)?)
            .map_err(|error| wrong("staking_key_proof")(&error))?;
        let address = match self.address.as_str() {
            "" => None,
            address => Some(address.parse().map_err(|error| wrong("address")(&error))?),
        };
        let network_key = hex::decode_array(&self.network_key).ok_or("network_key: it is not 64 hex digits")?;
        let network_key = VerifyingKey::from_bytes(&network_key)
            .map_err(|_| "network_key: it is not an Ed25519 public key".to_owned())?;
        Ok(MemberFile { node_id, staking_key, staking_key_proof, network_key, address })
    }
}

impl CommitteeFile {
    /// The committee of these members.
    ///
    /// # Errors
    /// As [`parse`](Self::parse). The members of `spec` are not looked at.
    pub fn new(spec: ChainSpec, members: Vec<MemberFile>) -> Result<Self, CommitteeFileError> {
        let remote = spec.log != LogPlace::Local;
        let proven = members.iter().enumerate().map(|(number, member)| {
            let named = |reason: String| format!("member {} (number {}): {reason}", member.node_id, number + 1);
            if remote && member.address.is_none() {
                return Err(named("address: it is empty, and nobody could send it its shares".to_owned()));
            }
            member.proven().map_err(named)
        });
        let spec = ChainSpec { members: proven.collect::<Result<_, _>>()?, ..spec };
        let chain = ChainConfig::new(spec).map_err(|error| error.to_string())?;
        let mut members = members;
        members.sort_by_key(|member| member.node_id);
        Ok(CommitteeFile { members, chain: Arc::new(chain) })
    }

    /// The committee that this text describes.
    ///
    /// # Errors
    /// It is too long, is no TOML, has fields that are missing, unknown or malformed, a proof that does not fit, or the whole
    /// does not make a chain ([`ConfigError`](crate::chain::log::ConfigError)).
    pub fn parse(text: &str) -> Result<Self, CommitteeFileError> {
        if text.len() as u64 > MAX_COMMITTEE_FILE_BYTES {
            return Err(format!("it has more than {MAX_COMMITTEE_FILE_BYTES} bytes").into());
        }
        let fields: Fields = toml::from_str(text).map_err(|error| plain(&error))?;
        // Before any proof is checked, which takes a millisecond each.
        if fields.member.len() > MAX_MEMBERS {
            return Err(format!("it has {} members; {MAX_MEMBERS} are allowed", fields.member.len()).into());
        }
        let genesis = match fields.genesis {
            Genesis::Text(text) => text,
            Genesis::Time(time) => time.to_string(),
        };
        let genesis: Timestamp = genesis.parse().map_err(|error| format!("genesis: {error}"))?;
        let genesis_ms =
            u64::try_from(genesis.as_millisecond()).map_err(|_| "genesis: it is before 1970".to_owned())?;
        let decode = |(number, member): (usize, MemberFields)| {
            let name: String = member.node_id.chars().take(64).collect();
            member.decode().map_err(|reason| format!("member {name} (number {}): {reason}", number + 1))
        };
        let members = fields.member.into_iter().enumerate().map(decode).collect::<Result<_, _>>()?;
        let ScheduleFields { views_in_epoch, setup_first_view, views_per_phase, poll_step } = fields.schedule;
        let spec = ChainSpec {
            chain_id: fields.chain_id,
            genesis_ms,
            view_ms: fields.view_ms,
            schedule: Schedule { views_in_epoch, setup_first_view, views_per_phase, poll_step },
            members: Vec::new(),
            vector_encoding: match fields.vectors {
                Vectors::Compressed => VectorEncoding::Compressed,
                Vectors::Uncompressed => VectorEncoding::Uncompressed,
            },
            log: match fields.log {
                LogFields::Local {} => LogPlace::Local,
                LogFields::Http { endpoints: texts } => LogPlace::Http(endpoints(&texts)?),
                LogFields::Etcd { endpoints: texts, prefix } => {
                    LogPlace::Etcd { endpoints: endpoints(&texts)?, prefix }
                }
            },
        };
        Self::new(spec, members)
    }

    /// As [`parse`](Self::parse), from a file.
    ///
    /// # Errors
    /// As there, and the file cannot be read.
    pub fn read(file: &Path) -> Result<Self, CommitteeFileError> {
        Self::parse(&read(file)?).map_err(|error| CommitteeFileError { file: Some(file.to_owned()), ..error })
    }

    /// The chain that it is about.
    pub fn chain(&self) -> &Arc<ChainConfig> {
        &self.chain
    }

    /// The members' public parts, in order of index.
    pub fn members(&self) -> &[MemberFile] {
        &self.members
    }

    /// The file, as it is read again.
    pub fn text(&self) -> String {
        let chain = &self.chain;
        let Schedule { views_in_epoch, setup_first_view, views_per_phase, poll_step } = chain.schedule();
        let vectors = match chain.vector_encoding() {
            VectorEncoding::Compressed => "compressed",
            VectorEncoding::Uncompressed => "uncompressed",
        };
        let genesis_ms = i64::try_from(chain.begins_at(crate::epoch::View(0))).unwrap_or(i64::MAX);
        let genesis = Timestamp::from_millisecond(genesis_ms).unwrap_or(Timestamp::MAX);
        let endpoints = || {
            let quoted =
                chain.log().endpoints().iter().map(|endpoint| toml::Value::from(endpoint.as_str()).to_string());
            quoted.collect::<Vec<_>>().join(", ")
        };
        let log = match chain.log() {
            LogPlace::Local => "kind = \"local\"\n".to_owned(),
            LogPlace::Http(_) => format!("kind = \"http\"\nendpoints = [{}]\n", endpoints()),
            LogPlace::Etcd { prefix, .. } => {
                format!("kind = \"etcd\"\nendpoints = [{}]\nprefix = \"{prefix}\"\n", endpoints())
            }
        };
        let mut text = format!(
            "# The committee of the chain {id}. All members have the same file; its hash is\n# {hash}\n\n\
             chain_id = \"{id}\"\ngenesis = \"{genesis}\"\nview_ms = {view_ms}\nvectors = \"{vectors}\"\n\n\
             [schedule] # in views\nviews_in_epoch = {views_in_epoch}\nsetup_first_view = {setup_first_view}\n\
             views_per_phase = {views_per_phase}\npoll_step = {poll_step}\n\n[log]\n{log}",
            id = chain.chain_id(),
            hash = hex::encode(chain.identity()),
            view_ms = chain.view_ms(),
        );
        for (index, member) in self.members.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(text, "\n[[member]] # index {index}\n{}", member.text());
        }
        text
    }
}

fn endpoints(texts: &[String]) -> Result<Vec<Endpoint>, String> {
    texts.iter().map(|text| text.parse().map_err(|error| format!("log.endpoints: {error}"))).collect()
}

fn read(file: &Path) -> Result<String, CommitteeFileError> {
    let failed = |reason: String| CommitteeFileError { file: Some(file.to_owned()), reason };
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(MAX_COMMITTEE_FILE_BYTES + 1).read_to_string(&mut text));
    read.map_err(|error| failed(format!("it cannot be read: {error}")))?;
    if text.len() as u64 > MAX_COMMITTEE_FILE_BYTES {
        return Err(failed(format!("it has more than {MAX_COMMITTEE_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// The most characters of what the TOML reader says, which quotes the line at fault.
const MAX_SAID: usize = 400;

fn plain(error: &toml::de::Error) -> String {
    error.to_string().trim_end().chars().take(MAX_SAID).collect()
}
