//! What all members of a log chain agree on beforehand: who they are, and what happens in which view.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use sha3::{Digest, Sha3_256};

use crate::address::{Address, Endpoint};
use crate::bls::{ProvenPublicKey, VectorEncoding};
use crate::committee::{Committee, CommitteeError, Index, Member, NodeId};
use crate::epoch::{EpochCounter, View};

/// The most characters a chain id can have; it stands in every envelope.
pub const MAX_CHAIN_ID_BYTES: usize = 64;

/// The most views an epoch can have.
pub const MAX_VIEWS_IN_EPOCH: u64 = u32::MAX as u64;

/// The least views a phase can have. With one, a phase would be over in the block that begins it, before anybody could
/// post: no run could ever succeed.
pub const MIN_VIEWS_PER_PHASE: u64 = 2;

/// How many epochs the chain can pass over with one view, after a long outage, or from a genesis long ago: two years of epochs
/// of a minute. What is further ahead than that is no time.
pub const MAX_JUMP_EPOCHS: u64 = 1 << 20;

/// The longest a view can be, in milliseconds: a day.
pub const MAX_VIEW_MS: u64 = 24 * 60 * 60 * 1000;

/// The most endpoints a log can have.
pub const MAX_LOG_ENDPOINTS: usize = 16;

/// What happens in which view of an epoch. All numbers are views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long an epoch is.
    pub views_in_epoch: u64,
    /// Where in the epoch the setup phase begins: 0 is the epoch's first view.
    pub setup_first_view: u64,
    /// How long each of the three phases of a run is.
    pub views_per_phase: u64,
    /// How far apart the reads of the whiteboard within a phase are.
    pub poll_step: u64,
}

/// One member of a log chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainMember {
    /// Its identity.
    pub node_id: NodeId,
    /// What its broadcasts are signed with.
    pub staking_key: ProvenPublicKey,
    /// What its log entries are signed with.
    pub network_key: VerifyingKey,
    /// Where the others reach it; `None` for a member that lives in one process with them.
    pub address: Option<Address>,
}

/// Where the log of a chain is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogPlace {
    /// In the process of all its members.
    #[default]
    Local,
    /// By a log server, which is reached under any of these.
    Http(Vec<Endpoint>),
    /// By an etcd cluster.
    Etcd {
        /// Its members.
        endpoints: Vec<Endpoint>,
        /// What the keys of all entries begin with.
        prefix: String,
    },
}

impl LogPlace {
    /// Where it is reached; there is no such place in one process.
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            LogPlace::Local => &[],
            LogPlace::Http(endpoints) | LogPlace::Etcd { endpoints, .. } => endpoints,
        }
    }
}

/// The content of a committee file, before it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSpec {
    /// The chain's name: letters, digits, `-`, `_` and `.`.
    pub chain_id: String,
    /// When view 0 begins, in milliseconds of Unix time.
    pub genesis_ms: u64,
    /// How long a view is, in milliseconds.
    pub view_ms: u64,
    /// What happens in which view.
    pub schedule: Schedule,
    /// Who takes part, in any order.
    pub members: Vec<ChainMember>,
    /// How the members write commitment vectors.
    pub vector_encoding: VectorEncoding,
    /// Where the log is kept.
    pub log: LogPlace,
}

/// What is wrong with a committee file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The chain id is empty, too long, or has characters that would have to be escaped somewhere.
    #[error("'{0}' cannot be a chain id: 1 to {MAX_CHAIN_ID_BYTES} letters, digits, '-', '_' and '.'")]
    ChainId(String),
    /// A number that must not be zero is.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// No run can succeed in phases so short.
    #[error(
        "a phase of {0} views is too short: it would be over in the block that begins it, before any member could post; \
         at least {MIN_VIEWS_PER_PHASE} are needed"
    )]
    PhaseTooShort(u64),
    /// A view is longer than any schedule has use for.
    #[error("a view of {0} ms is too long: the chain would stand still; at most {MAX_VIEW_MS} ms (a day) are allowed")]
    ViewTooLong(u64),
    /// The whiteboard would be read only at the end of a phase of any length.
    #[error("a poll step of {0} views is too long: no epoch has more than {MAX_VIEWS_IN_EPOCH}")]
    PollStepTooLong(u64),
    /// The epoch is longer than can be counted safely.
    #[error("an epoch of {0} views is too long; {MAX_VIEWS_IN_EPOCH} are allowed")]
    EpochTooLong(u64),
    /// The epoch ends before its run can.
    #[error(
        "an epoch of {views_in_epoch} views is too short: three phases of {views_per_phase} views from view \
         {setup_first_view} on, and at least one more to agree on the result, do not fit"
    )]
    PhasesDoNotFit {
        /// How long the epoch is.
        views_in_epoch: u64,
        /// Where its setup phase begins.
        setup_first_view: u64,
        /// How long each phase is.
        views_per_phase: u64,
    },
    /// The members do not form a committee.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// Two members have one network key.
    #[error("nodes {0} and {1} have the same network key; every member needs its own")]
    DuplicateNetworkKey(NodeId, NodeId),
    /// A network key that many could sign for.
    #[error("the network key of node {0} has small order: anyone could sign for it")]
    WeakNetworkKey(NodeId),
    /// Two members have one address.
    #[error("nodes {0} and {1} have the same address; every member needs its own")]
    DuplicateAddress(NodeId, NodeId),
    /// A log without addresses, or with too many.
    #[error("the log has {0} endpoints; 1 to {MAX_LOG_ENDPOINTS} are allowed")]
    Endpoints(usize),
    /// A prefix that etcd keys cannot begin with.
    #[error("'{0}' cannot be a key prefix: 1 to {MAX_CHAIN_ID_BYTES} letters, digits, '-', '_', '.' and '/'")]
    KeyPrefix(String),
}

/// The views of one epoch.
///
/// Epoch `e` has the views from `e * views_in_epoch` on. View 0 is the genesis block, which nobody ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochViews {
    /// The epoch.
    pub epoch: EpochCounter,
    /// The epoch that the run in its setup phase makes keys for: the next one.
    pub run_for: EpochCounter,
    /// Its first view.
    pub first: View,
    /// The first view of its setup phase.
    pub setup_first: View,
    /// The last view of each phase of the run.
    pub phase_finals: [View; 3],
    /// Its last view.
    pub last: View,
}

impl EpochViews {
    /// The last view up to which time is let pass for the run: behind its third phase as long again as a phase, for the members
    /// to agree on the result, or to the end of the epoch.
    pub fn run_last(&self) -> View {
        let [_, second, third] = self.phase_finals;
        View(third.0.saturating_add(third.0 - second.0)).min(self.last)
    }
}

/// A checked committee file: what every member of a log chain has to agree on.
#[derive(Clone, PartialEq, Eq)]
pub struct ChainConfig {
    chain_id: String,
    genesis_ms: u64,
    view_ms: u64,
    schedule: Schedule,
    committee: Arc<Committee>,
    /// In order of index.
    network_keys: Vec<VerifyingKey>,
    /// In order of index.
    addresses: Vec<Option<Address>>,
    vector_encoding: VectorEncoding,
    log: LogPlace,
    identity: [u8; 32],
}

impl ChainConfig {
    /// Checks what a committee file says.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(spec: ChainSpec) -> Result<Self, ConfigError> {
        let ChainSpec { chain_id, genesis_ms, view_ms, schedule, mut members, vector_encoding, log } = spec;
        check_chain_id(&chain_id)?;
        check_schedule(&schedule, view_ms)?;
        let committee = Arc::new(Committee::new(
            members.iter().map(|m| Member { node_id: m.node_id, staking_key: m.staking_key.clone() }).collect(),
        )?);
        members.sort_by_key(|member| member.node_id);
        check_network_keys(&members)?;
        check_addresses(&members)?;
        check_log(&log)?;
        let (network_keys, addresses) = members.into_iter().map(|member| (member.network_key, member.address)).unzip();
        let mut config = ChainConfig {
            chain_id,
            genesis_ms,
            view_ms,
            schedule,
            committee,
            network_keys,
            addresses,
            vector_encoding,
            log,
            identity: [0; 32],
        };
        config.identity = config.hash();
        Ok(config)
    }

    /// The chain's identity: two members follow the same chain exactly if this is equal.
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    /// The chain's name.
    pub fn chain_id(&self) -> &str {
        &self.chain_id
    }

    /// Who takes part.
    pub fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// What the entries of this member are signed with.
    pub fn network_key(&self, index: Index) -> Option<&VerifyingKey> {
        self.network_keys.get(usize::from(index))
    }

    /// The member that signs with this network key.
    pub fn index_of_network_key(&self, key: &VerifyingKey) -> Option<Index> {
        Index::from_position(self.network_keys.iter().position(|known| known == key)?)
    }

    /// Where this member is reached by the committee file; there is no such place in one process.
    pub fn address(&self, index: Index) -> Option<&Address> {
        self.addresses.get(usize::from(index))?.as_ref()
    }

    /// Where the log is kept.
    pub fn log(&self) -> &LogPlace {
        &self.log
    }

    /// What happens in which view of an epoch.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// How the members write commitment vectors.
    pub fn vector_encoding(&self) -> VectorEncoding {
        self.vector_encoding
    }

    /// How long a view is, in milliseconds.
    pub fn view_ms(&self) -> u64 {
        self.view_ms
    }

    /// The view at this time (milliseconds of Unix time); 0 before genesis.
    pub fn view_at(&self, now_ms: u64) -> View {
        View(now_ms.saturating_sub(self.genesis_ms) / self.view_ms)
    }

    /// When this view begins, in milliseconds of Unix time; the last moment that can be named if it is later.
    pub fn begins_at(&self, view: View) -> u64 {
        view.0.saturating_mul(self.view_ms).saturating_add(self.genesis_ms)
    }

    /// The epoch that a view belongs to. Views beyond `u64::MAX` do not exist: the last epoch is cut short there.
    pub fn epoch_at(&self, view: View) -> EpochViews {
        let Schedule { views_in_epoch, setup_first_view, views_per_phase, .. } = self.schedule;
        let epoch = view.0 / views_in_epoch;
        let first = view.0 - view.0 % views_in_epoch;
        let after = |views: u64| View(first.saturating_add(views));
        // The schedule's own sums are below `MAX_VIEWS_IN_EPOCH`, as `check_schedule` saw to.
        let phase_final = |phase: u64| after(setup_first_view + phase * views_per_phase - 1);
        EpochViews {
            epoch: EpochCounter(epoch),
            run_for: EpochCounter(epoch.saturating_add(1)),
            first: View(first),
            // View 0 is the genesis block.
            setup_first: after(setup_first_view).max(View(1)),
            phase_finals: [phase_final(1), phase_final(2), phase_final(3)],
            last: after(views_in_epoch - 1),
        }
    }

    /// SHA3-256 over every field, each behind its length.
    fn hash(&self) -> [u8; 32] {
        let mut hasher = Sha3_256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(b"dkg-engine log chain 1");
        field(self.chain_id.as_bytes());
        let Schedule { views_in_epoch, setup_first_view, views_per_phase, poll_step } = self.schedule;
        for number in [self.genesis_ms, self.view_ms, views_in_epoch, setup_first_view, views_per_phase, poll_step] {
            field(&number.to_le_bytes());
        }
        field(match self.vector_encoding {
            VectorEncoding::Compressed => b"compressed",
            VectorEncoding::Uncompressed => b"uncompressed",
        });
        let (kind, prefix) = match &self.log {
            LogPlace::Local => ("local", ""),
            LogPlace::Http(_) => ("http", ""),
            LogPlace::Etcd { prefix, .. } => ("etcd", prefix.as_str()),
        };
        field(kind.as_bytes());
        field(prefix.as_bytes());
        field(&(self.log.endpoints().len() as u64).to_le_bytes());
        self.log.endpoints().iter().for_each(|endpoint| field(endpoint.as_str().as_bytes()));
        for ((member, network_key), address) in
            self.committee.members().iter().zip(&self.network_keys).zip(&self.addresses)
        {
            field(member.node_id.as_bytes());
            field(&member.staking_key.key().to_flow_bytes());
            field(network_key.as_bytes());
            field(address.as_ref().map_or("", Address::as_str).as_bytes());
        }
        hasher.finalize().into()
    }
}

impl fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainConfig({}, {} members)", self.chain_id, self.committee.size())
    }
}

fn check_chain_id(chain_id: &str) -> Result<(), ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_CHAIN_ID_BYTES).contains(&chain_id.len()) && chain_id.chars().all(allowed) {
        Ok(())
    } else {
        Err(ConfigError::ChainId(chain_id.chars().take(MAX_CHAIN_ID_BYTES + 16).collect()))
    }
}

fn check_schedule(schedule: &Schedule, view_ms: u64) -> Result<(), ConfigError> {
    let Schedule { views_in_epoch, setup_first_view, views_per_phase, poll_step } = *schedule;
    if views_per_phase == 0 {
        return Err(ConfigError::Zero("the number of views per phase"));
    }
    if views_per_phase < MIN_VIEWS_PER_PHASE {
        return Err(ConfigError::PhaseTooShort(views_per_phase));
    }
    if poll_step == 0 {
        return Err(ConfigError::Zero("the poll step"));
    }
    if poll_step > MAX_VIEWS_IN_EPOCH {
        return Err(ConfigError::PollStepTooLong(poll_step));
    }
    if view_ms == 0 {
        return Err(ConfigError::Zero("the view duration"));
    }
    if view_ms > MAX_VIEW_MS {
        return Err(ConfigError::ViewTooLong(view_ms));
    }
    if views_in_epoch > MAX_VIEWS_IN_EPOCH {
        return Err(ConfigError::EpochTooLong(views_in_epoch));
    }
    let run_end = views_per_phase.checked_mul(3).and_then(|phases| phases.checked_add(setup_first_view));
    if run_end.is_none_or(|end| end >= views_in_epoch) {
        return Err(ConfigError::PhasesDoNotFit { views_in_epoch, setup_first_view, views_per_phase });
    }
    Ok(())
}

fn check_network_keys(members: &[ChainMember]) -> Result<(), ConfigError> {
    let mut owners = std::collections::BTreeMap::new();
    for member in members {
        if member.network_key.is_weak() {
            return Err(ConfigError::WeakNetworkKey(member.node_id));
        }
        if let Some(other) = owners.insert(member.network_key.to_bytes(), member.node_id) {
            return Err(ConfigError::DuplicateNetworkKey(other, member.node_id));
        }
    }
    Ok(())
}

fn check_addresses(members: &[ChainMember]) -> Result<(), ConfigError> {
    let mut owners = std::collections::BTreeMap::new();
    for ChainMember { node_id, address, .. } in members {
        if let Some(address) = address
            && let Some(other) = owners.insert(address, *node_id)
        {
            return Err(ConfigError::DuplicateAddress(other, *node_id));
        }
    }
    Ok(())
}

fn check_log(log: &LogPlace) -> Result<(), ConfigError> {
    let endpoints = log.endpoints();
    if *log != LogPlace::Local && !(1..=MAX_LOG_ENDPOINTS).contains(&endpoints.len()) {
        return Err(ConfigError::Endpoints(endpoints.len()));
    }
    if let LogPlace::Etcd { prefix, .. } = log {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if !(1..=MAX_CHAIN_ID_BYTES).contains(&prefix.len()) || !prefix.chars().all(allowed) {
            return Err(ConfigError::KeyPrefix(prefix.chars().take(MAX_CHAIN_ID_BYTES + 16).collect()));
        }
    }
    Ok(())
}
