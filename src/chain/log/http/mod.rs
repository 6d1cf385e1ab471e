//! A log that a server keeps for members on other machines, over HTTP/1.1.
//!
//! # The interface
//!
//! Every request names the chain it means, and every answer the chain the server keeps, in the header `dkg-chain`: the
//! [identity](crate::chain::log::ChainConfig::identity) in hex. Who asks for another chain gets a 409. Answers to entries
//! also say in `dkg-end` how many entries the log has.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /v1/entries`, the body is an entry | 200 and its position in digits, once it is durable |
//! | `GET /v1/entries?from=N&limit=M&wait_ms=W` | 200 and the entries from position `N` on, at most `M`, each behind its length (4 bytes, little-endian). If there are none, waits up to `W` ms for one |
//! | `GET /v1/status` | 200 and JSON: what the server knows of itself |
//! | `GET /metrics` | 200 and the same as Prometheus text |
//! | `GET /` | 200 and a page that shows it |
//!
//! An entry that is not taken gets a 409 (413 if it is too long) with the rule it breaks in words, and in the header
//! `dkg-reason` as one word. The same entry sent twice in a row gets the position of the first: an append whose answer was
//! lost can be repeated. A 429 asks for patience, a 503 says that the log cannot be written just now, and why.
//!
//! # What this does not promise
//!
//! The server speaks plain HTTP: entries are signed and public among the members, and the members' own keys are not used
//! here. Where others must not read along or choke the link, put a reverse proxy with TLS in front; the client speaks
//! `https` with the feature `log-tls`. Behind a proxy all members share one address and its limits.

#[cfg(feature = "log-http")]
mod client;
#[cfg_attr(not(all(feature = "log-http", feature = "log-server")), allow(dead_code, reason = "each end uses its part"))]
mod frames;
#[cfg(feature = "log-server")]
mod gate;
#[cfg(feature = "log-server")]
mod polls;
#[cfg(feature = "log-server")]
mod server;
#[cfg(feature = "log-server")]
mod status;

use std::time::Duration;

#[cfg(feature = "log-http")]
pub use client::{HttpLog, HttpLogConfig, HttpLogStatus};
#[cfg(feature = "log-server")]
pub use server::{LogServer, LogServerConfig, LogServerError};
#[cfg(feature = "log-server")]
pub use status::LogServerStatus;

/// The header with the chain's identity in hex.
const CHAIN_HEADER: &str = "dkg-chain";
/// The header with the number of entries in the log.
const END_HEADER: &str = "dkg-end";
/// The header with the word for why an entry was not taken.
const REASON_HEADER: &str = "dkg-reason";

/// The most entries in one answer.
const MAX_ENTRIES_PER_READ: usize = 1024;
/// An answer ends with the entry with which it has so many bytes: 1 MiB.
const MAX_READ_BYTES: usize = 1024 * 1024;
/// The longest that a request waits for an entry.
const MAX_POLL: Duration = Duration::from_secs(10);

/// Why an entry was not taken, besides the reasons of [`SkipReason`](crate::chain::log::SkipReason).
#[cfg_attr(not(all(feature = "log-http", feature = "log-server")), allow(dead_code, reason = "each end uses its part"))]
mod reason {
    pub(super) const OTHER_CHAIN: &str = "other-chain";
    pub(super) const FORKED: &str = "forked";
    pub(super) const TOO_LONG: &str = "too-long";
    pub(super) const LOG_FAILED: &str = "log-failed";
    pub(super) const OLD_TICK: &str = "old-tick";
    pub(super) const STALE_PREFIX: &str = "stale-prefix";
}
