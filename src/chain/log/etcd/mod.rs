//! A log that an etcd cluster keeps (v3, through its JSON gateway).
//!
//! An entry is a key under the chain's prefix, `<prefix>m<author>/<hash of the entry>`, created by a transaction that never
//! overwrites: an append that is tried again finds its own entry. The order of the log is the order in which the keys were
//! created, and of those that one transaction created, the order of the keys. It is read by one long-lived watch over the
//! prefix, from the beginning of its history on, so that a key that is overwritten or deleted later, even a moment later, still
//! counts with what it was created with, for every member alike. Nothing is concluded from a look at what is there now, and
//! news costs the same however long the log is. A read may be a moment behind the cluster, as far as the watch is.
//!
//! # What this does not promise
//!
//! etcd survives the crash of a minority of its members; it does not survive lying ones, and it lets its clients do harm:
//!
//! - Who may write under the prefix can overwrite and delete. That changes nothing for the members, as long as the history
//!   is there.
//! - **Whoever reaches its port can compact the history**, with no password at all. A member that starts after that reads
//!   what is left and says so; it waits and says so if an entry was overwritten before. Entries that were
//!   deleted before are missing for it, which its own copy or the members' signed prefix hashes find out. So keep the port
//!   for the members, give each its own user with the right to write under `<prefix>m<index>/` and to read the prefix, and
//!   leave automatic compaction off, or far behind.
//! - Members' names in TLS certificates do not count at the gateway: use passwords.
//!
//! A start reads the history from its beginning.

mod client;
mod follow;
mod left;
mod lines;
mod order;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha3::{Digest, Sha3_256};

use self::client::Client;
use self::follow::{Shared, Thread};
use self::order::Read;
use self::wire::Txn;
use crate::SecretBytes;
use crate::address::Endpoint;
use crate::chain::log::way::LogTls;
use crate::chain::log::{LogError, LogHost, MAX_ENTRY_BYTES, SignedEntry};
use crate::hex;

/// The most entries that are read at a time.
const MAX_ENTRIES_PER_READ: usize = 512;

/// As whom to log in to a cluster.
#[derive(Clone)]
pub struct EtcdLogin {
    /// The user.
    pub user: String,
    /// Where the password is: asked at every login, so that a new one counts without a start. What it says instead is told as
    /// the log's trouble.
    pub password: Arc<dyn Fn() -> Result<SecretBytes, String> + Send + Sync>,
}

/// How an etcd cluster is reached.
#[derive(Clone)]
pub struct EtcdLogConfig {
    /// Its members, the preferred one first.
    pub endpoints: Vec<Endpoint>,
    /// What all keys of this log begin with: ASCII characters.
    pub prefix: String,
    /// As whom to log in, where the cluster asks for it.
    pub login: Option<EtcdLogin>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// Whom it is taken from where it is reached over TLS.
    pub tls: LogTls,
}

impl EtcdLogConfig {
    /// With the usual time-outs: 3 seconds to connect, 8 for an answer, since a cluster that has lost its leader takes
    /// some.
    pub fn new(endpoints: Vec<Endpoint>, prefix: String) -> Self {
        let (connect_timeout, request_timeout) = (Duration::from_secs(3), Duration::from_secs(8));
        EtcdLogConfig { endpoints, prefix, login: None, connect_timeout, request_timeout, tls: LogTls::default() }
    }
}

/// What an etcd cluster says of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStatus {
    /// How many entries the log has.
    pub position: u64,
    /// The cluster's revision.
    pub revision: u64,
    /// Keys of the log that were seen to be overwritten or deleted. No honest member does that.
    pub tampered: u64,
}

/// One member's access to a log that an etcd cluster keeps. A thread of its own follows the log from the first call on, and ends
/// with a shutdown, or when this is dropped.
pub struct EtcdLog {
    shared: Arc<Shared>,
    thread: Thread,
}

impl EtcdLog {
    /// An access; nothing is asked of the cluster yet.
    pub fn new(config: EtcdLogConfig) -> Self {
        EtcdLog { shared: Arc::new(Shared::new(Client::new(config))), thread: Thread::new() }
    }

    /// Looks at the whole log, for a check before a ceremony.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn status(&self) -> Result<EtcdStatus, LogError> {
        self.thread.start(&self.shared)?;
        let state = self.shared.know_all()?;
        let (position, revision) = (state.tail.end(), state.tail.known().saturating_sub(1));
        Ok(EtcdStatus { position, revision, tampered: state.tail.tampered() })
    }

    /// Waits until all is known up to this revision, at which something happened to the log.
    fn know(&self, revision: u64) -> Result<(), LogError> {
        let mut state = self.shared.lock();
        let mut waiting = self.shared.wait_for_own(&state);
        while state.tail.known() <= revision {
            self.shared.wait(&mut state, &mut waiting, None)?;
        }
        Ok(())
    }

    fn key(&self, entry: &[u8]) -> String {
        let author = SignedEntry::decode(entry).map(|entry| entry.entry().author.byte().to_string());
        let (author, hash) = (author.unwrap_or_default(), Sha3_256::digest(entry));
        format!("{}m{author}/{}", self.shared.client.config.prefix, hex::encode(&hash))
    }
}

impl LogHost for EtcdLog {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(LogError::TooLong(entry.len()));
        }
        self.thread.start(&self.shared)?;
        let client = &self.shared.client;
        let key = self.key(entry);
        let body = wire::create(&key, entry);
        let done: Txn = client.ask(|endpoint| client.call(endpoint, "/v3/kv/txn", &body))?;
        let Some(revision) = done.created_at(entry) else {
            return Err(LogError::Refused(format!("something else stands in etcd under the entry's own key {key}")));
        };
        self.know(revision)?;
        let position = self.shared.lock().tail.position_of(revision);
        position
            .ok_or_else(|| LogError::Unavailable("the entry is in the log, at a position that is not known".to_owned()))
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.thread.start(&self.shared)?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut state = self.shared.lock();
        let mut waiting = self.shared.wait_for_news(&state);
        loop {
            match self.shared.read(&mut state, from, limit.min(MAX_ENTRIES_PER_READ)) {
                Read::Entries(entries) => return Ok(entries),
                Read::End if state.has_begun() && state.trouble.is_none() => match state.tail.missing() {
                    0 => return Ok(Vec::new()),
                    missing => {
                        let host_has = state.tail.end();
                        let we_have = host_has.saturating_add(missing);
                        return Err(LogError::Lost { host_has, we_have, tries: 0 });
                    }
                },
                Read::End | Read::Later => self.shared.wait(&mut state, &mut waiting, None)?,
            }
        }
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        self.thread.start(&self.shared)?;
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.lock();
        let mut waiting = self.shared.wait_for_news(&state);
        while state.tail.end() <= from {
            let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            self.shared.wait(&mut state, &mut waiting, Some(left))?;
        }
        Ok(())
    }

    fn distrust(&self) {
        self.shared.distrust();
    }

    fn shutdown(&self) {
        self.shared.shutdown();
    }
}

impl Drop for EtcdLog {
    fn drop(&mut self) {
        self.shared.shutdown();
        self.thread.join();
    }
}
