//! A whole member of a log chain, from a configuration file: what `dkg node` runs, and what a host without a chain of its
//! own embeds.
//!
//! ```text
//!  node.toml, committee file, identity, data folder
//!          |
//!          v
//!  [ dkg-node ]  reads what was missed -> starts the engine -> Follower -> waits for the end
//!     |  TcpNetwork <-> MessagingEngine <-> ReactorEngine <-> LogBoard
//!     |  host of the log <- LogCopy <- Follower
//!     +- Status: a copy of what there is to see, for page, metrics and commands
//! ```
//!
//! A node whose log cannot be reached, or shows what it does not believe, waits and says so ([`Status::verdict`]); it stops by
//! itself only where going on would be a guess ([`Node::ended`]): its store fails or its copy of the log is damaged, signatures
//! of more than `t` members prove that the log has forked, or it lacks the key that the present epoch expects and was not told
//! to start without. Where it has to read part of the log anew, its engine begins again as after a crash.
//!
//! # What this does not promise
//!
//! A start reads the log from its beginning, out of the node's own copy; a chain of many views takes a while.
//! Whoever can reach the status address sees what everybody in the committee knows, and no secret.

pub mod identity;
pub mod signing;

mod admin;
mod check;
mod config;
mod copies;
mod desk;
mod diary;
mod folder;
#[cfg(feature = "metrics")]
mod gauges;
mod ground;
mod host;
mod kind;
mod life;
mod links;
mod probe;
mod pulse;
mod results;
#[cfg(unix)]
mod socket;
mod status;
mod verdict;
mod web;

pub use crate::chain::log::PhaseName;
pub use admin::{Admin, AdminError, Answer, MAX_ADMIN_BYTES, Request, ask};
pub use check::{CheckItem, Checked, check};
pub use config::{
    Keep, LogSettings, MAX_CLOCK_OFFSET_MS, MAX_KEPT_DAYS, MAX_NODE_CONFIG_BYTES, NodeConfig, NodeConfigError, Roots,
};
pub use diary::{RunNotes, Told};
pub use folder::{admin_socket, declare_sole_owner, log_file, state_at_rest, store_file, strangers};
#[cfg(feature = "metrics")]
pub use gauges::record;
pub use kind::{FileKind, WrongFile};
pub use life::Node;
pub use probe::PeerCheck;
pub use status::{KeysStatus, LogStatus, SeenMember, Stage, Status};
pub use verdict::{
    Facts, Finding, HALTED_VIEWS, LATE_VIEWS, Level, MAX_SILENCE_MS, MIN_FREE_BYTES, MIN_LATE_MS, MIN_SILENCE_MS,
    SILENT_VIEWS, Subject, Verdict,
};
pub use web::{MetricsSource, StatusSource, Web};

use std::path::PathBuf;
use std::sync::Arc;

use crate::chain::log::{CommitteeFileError, FileLogError, FollowError};
use crate::engine::{EngineError, SpawnError, Stuck};
use crate::network::tcp::TcpError;
use crate::store::{FileError, MAX_KEPT_EPOCHS};

/// Why a node does not start, or has stopped by itself.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] NodeConfigError),
    /// The committee file.
    #[error(transparent)]
    Committee(#[from] CommitteeFileError),
    /// A file in another one's place.
    #[error(transparent)]
    WrongFile(#[from] WrongFile),
    /// This member's keys.
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    /// A file with a secret that is open to others, or cannot be read.
    #[error(transparent)]
    Secret(#[from] crate::store::SecretFileError),
    /// The keys are of nobody in the committee.
    #[error("{} has the keys of node {node}, which is not in the committee file {}", identity.display(), committee.display())]
    NotAMember {
        /// The file with the keys.
        identity: PathBuf,
        /// Whose they are.
        node: crate::committee::NodeId,
        /// The committee file.
        committee: PathBuf,
    },
    /// An address of somebody else.
    #[error("the configuration has an address under [peers] for node {0}, which is not in the committee file")]
    UnknownPeer(crate::committee::NodeId),
    /// Two members at one address.
    #[error(
        "nodes {0} and {1} would have the same address, by the committee file and [peers] of the configuration; every \
         member needs its own"
    )]
    SameAddress(crate::committee::NodeId, crate::committee::NodeId),
    /// Keys would be kept for too many epochs.
    #[error(
        "keys.keep = {keep} is {epochs} of this chain's epochs, and keys are kept for 1 to {MAX_KEPT_EPOCHS}, which here are \
         {most_days} whole days; give fewer"
    )]
    KeptTooLong {
        /// The setting.
        keep: Keep,
        /// In epochs.
        epochs: u64,
        /// The most whole days that can be asked for on this chain; none where its epochs are too short.
        most_days: u64,
    },
    /// The committee lives in one process.
    #[error("the committee file {} keeps its log in one process; a node needs a log server or an etcd cluster", .0.display())]
    LocalLog(PathBuf),
    /// The node has no folder.
    #[error(
        "there is no node's data in {}; if this node has never run before, start it with --create, and if it has, bring the \
         folder back: it holds its keys", .0.display()
    )]
    NoData(PathBuf),
    /// The node's folder has lost its store.
    #[error(
        "the store is missing from {}, where a node has run: bring {}/store and {}/store.witness back as they were last; a \
         new one would have none of its keys, and could deal a run twice", .0.display(), .0.display(), .0.display()
    )]
    StoreLost(PathBuf),
    /// The folder belongs to something else.
    #[error("{0}")]
    ForeignData(String),
    /// A file or folder fails.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What fails.
        reason: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] FileError),
    /// The copy of the log.
    #[error(transparent)]
    LogCopy(#[from] FileLogError),
    /// The links to the other members.
    #[error("{0}")]
    Network(Arc<TcpError>),
    /// The operating system.
    #[error("the operating system gives no {0}: {1}")]
    System(&'static str, String),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A thread that does not end.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// Somebody else writes in this member's name.
    #[error("this member runs twice: {0}")]
    RunsTwice(String),
    /// The chain.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// What is said of the log makes no sense.
    #[error("the log's settings: {0}")]
    LogSettings(String),
    /// The node's own thread has panicked.
    #[error("the node's thread has panicked; see the program's error output")]
    Panicked,
}
