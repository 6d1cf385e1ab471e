//! A chain without a blockchain (spec section 9).
//!
//! Members without a chain of their own need three things: an ordered board, phase boundaries they agree on, and a
//! result they agree on. All three come from an **ordered log** of signed [`Entry`]s, which anybody can host, and a
//! deterministic state machine, [`LogChain`], which every member runs over it. The host ([`LogHost`]) orders and keeps;
//! it decides nothing. A [`MemoryLog`] is gone with its process; a `FileLog` (feature `log-file`) outlives any crash; a
//! `LogServer` (feature `log-server`) keeps one for members elsewhere, who reach it with an `HttpLog` (feature `log-http`).
//!
//! ```text
//!  clock -> Ticker -> Author ----append----> LogHost ----read----> LogChain -> ProtocolEvents, whiteboard
//!  engine's posts -----^                     (any host)           (one replica a member)
//! ```
//!
//! - **Time.** Members say "my clock has reached view v" ([`Payload::Tick`]). A view is final at the entry with which
//!   more than `t` members have said so, for this view or a later one: `t` members with wrong clocks neither hurry nor
//!   stop time. Its block is the log up to and including that entry.
//! - **Board.** [`Payload::Post`] and [`Payload::Submit`] go to the [`Contract`](super::contract::Contract) that runs
//!   inside. "As of a block" means as of its position in the log.
//! - **Epochs.** The schedule in the committee file ([`ChainConfig`]) says in which views a run's phases end. An epoch is
//!   committed when its third phase is over and the contract has a canonical result; if it ends without one, the keys of
//!   the last committed run stay in force.
//! - **What is skipped.** Bytes that are no entry, forgeries, repetitions, entries over their author's quota: every
//!   replica skips the same ones ([`SkipReason`]), so that nothing one member writes blinds or stops another.
//!
//! # What this does not promise
//!
//! A host can delay or withhold entries, and can stop the chain; it cannot forge or alter any. A host that shows
//! different logs to different members is found out by their signed prefix hashes: with honest members at most one of
//! the logs goes on, since a view takes more than `t` of them, and the replicas of the others stop ([`Forked`]). A host
//! in league with `t` members can feed two groups of honest members two logs that both go on. Who must exclude that
//! hosts the log on several machines, or has each group of members host its own copy.
//!
//! Who can append to a log without being a member can make every replica check signatures in vain; access to a host is
//! the host's business. A `LogServer` takes members' entries alone.

#[cfg(feature = "log-file")]
mod adopt;
mod board;
#[cfg(feature = "committee-file")]
mod committee_file;
mod config;
#[cfg(feature = "log-file")]
mod copy;
#[cfg(any(feature = "log-http", feature = "etcd"))]
mod endpoints;
mod entry;
mod epochs;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "log-file")]
mod file;
mod follower;
mod host;
#[cfg(any(feature = "log-http", feature = "log-server"))]
mod http;
mod intake;
mod node;
mod overview;
mod prefixes;
mod replica;
mod skip;
mod ticker;
mod twin;
mod unread;
#[cfg(any(feature = "log-http", feature = "etcd"))]
mod way;

#[cfg(feature = "log-file")]
pub use adopt::{AdoptError, Adopted, adopt};
#[cfg(feature = "committee-file")]
pub use committee_file::{CommitteeFile, CommitteeFileError, MAX_COMMITTEE_FILE_BYTES, MemberFile};
pub use config::{
    ChainConfig, ChainMember, ChainSpec, ConfigError, EpochViews, LogPlace, MAX_CHAIN_ID_BYTES, MAX_JUMP_EPOCHS,
    MAX_LOG_ENDPOINTS, MAX_VIEW_MS, MAX_VIEWS_IN_EPOCH, MIN_VIEWS_PER_PHASE, Schedule,
};
#[cfg(feature = "log-file")]
pub use copy::{LogCopy, MAX_GIVEN_UP, OVERLAP, OVERLAP_AT_START};
pub use entry::{Entry, MAX_ENTRY_BYTES, Payload, Prefix, SignedEntry};
pub use epochs::{ChainEvent, PAST_KEYS, ReadError};
#[cfg(feature = "simulator")]
pub(crate) use epochs::{Epochs, RunStart};
#[cfg(feature = "etcd")]
pub use etcd::{EtcdLog, EtcdLogConfig, EtcdLogin, EtcdStatus};
#[cfg(feature = "log-file")]
pub use file::{FileLog, FileLogError, FileLogReader, MAX_FILE_LOG_BYTES};
pub use follower::{Clock, FollowError, Follower, Pace, SystemClock};
#[cfg(feature = "simulator")]
pub(crate) use follower::{Follow, Next};
pub use host::{
    Compared, LogError, LogErrorClass, LogHost, MAX_MEMORY_LOG_BYTES, MAX_MEMORY_LOG_ENTRIES, MemoryLog,
    MemoryLogReader, OwnCopy,
};
#[cfg(feature = "log-http")]
pub use http::{HttpLog, HttpLogConfig, HttpLogStatus};
#[cfg(feature = "log-server")]
pub use http::{LogServer, LogServerConfig, LogServerError, LogServerStatus};
pub use node::{AppendError, Author, ChainNode, LogBoard, NodeError};
pub use overview::{
    ClockOverview, EntryOverview, EpochOverview, HeadOverview, MemberOverview, Overview, Overviews, PhaseName,
    RECENT_ENTRIES, RunOverview,
};
pub use prefixes::PREFIX_WINDOW;
pub use replica::{Applied, Forked, LogChain};
pub use skip::{Quota, Skip, SkipReason};
pub use ticker::{MAX_TICK_WAIT, Situation, Ticker, TickerStep};
pub use twin::Twin;
#[cfg(feature = "log-tls")]
pub use way::LogRoots;
#[cfg(any(feature = "log-http", feature = "etcd"))]
pub use way::LogTls;
