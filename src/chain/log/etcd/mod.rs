//! A log that an etcd cluster keeps (v3, through its JSON gateway).
//!
//! An entry is a key under the chain's prefix, `<prefix>m<author>/<hash of the entry>`, created by a transaction that never
//! overwrites: an append that is tried again finds its own entry. The order of the log is the order in which the keys were
//! created. It is read by watching the prefix's history from a revision on, so that a key that is overwritten or deleted
//! later still counts with what it was created with, for every member alike.
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

mod order;
mod wire;

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha3::{Digest, Sha3_256};

use self::order::{Order, is_entry};
use self::wire::{Class, Event, Problem, Range, Token, Txn, WatchLine};
use crate::SecretBytes;
use crate::address::Endpoint;
use crate::chain::log::endpoints::{Endpoints, Trouble, clean};
use crate::chain::log::way::{LogTls, Way};
use crate::chain::log::{LogError, LogHost, MAX_ENTRY_BYTES, SignedEntry};
use crate::hex;

/// The most bytes of an answer, or of one line of a watch; etcd sends at most some 1.5 MiB at a time.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// The most entries that are read at a time.
const MAX_ENTRIES_PER_READ: usize = 512;
/// No more are read at a time when they have so many bytes.
const MAX_READ_BYTES: usize = 8 << 20;
/// How many keys a range has where the history is gone; times the longest value that etcd takes (1.5 MiB, in base64) it stays
/// below the longest answer.
const PAGE: usize = 6;
/// The longest that a watch waits in one piece, so that a shutdown is seen soon.
const MAX_POLL: Duration = Duration::from_secs(1);
/// The pause after a watch that has ended before its time with nothing.
const POLL_PAUSE: Duration = Duration::from_millis(100);

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

/// One member's access to a log that an etcd cluster keeps.
pub struct EtcdLog {
    config: EtcdLogConfig,
    endpoints: Endpoints,
    way: Way,
    token: Mutex<Option<String>>,
    order: Mutex<Order>,
    shut_down: AtomicBool,
    /// Told of the shutdown, for who pauses.
    pausing: Mutex<()>,
    woken: Condvar,
}

/// How a piece of the history ended.
enum Piece {
    /// All that was asked for has come.
    Done,
    /// The history before this revision is gone.
    Compacted(u64),
}

/// What stands in the log for a value that is too long for an entry: it keeps its position, and every replica skips it alike.
const TOO_LONG: &[u8] = b"a value in etcd that is too long for an entry";

/// What a value in etcd is for the replicas. Whoever may write one key may write one that is no entry.
fn entry_of(value: &[u8]) -> &[u8] {
    if value.len() > MAX_ENTRY_BYTES { TOO_LONG } else { value }
}

/// Entries that are being gathered from a position on.
struct Gathering {
    /// The position of the next entry.
    position: u64,
    /// The revision from which on nothing has been looked at.
    next: u64,
    from: u64,
    limit: usize,
    entries: Vec<Vec<u8>>,
    bytes: usize,
}

impl Gathering {
    fn take(&mut self, event: &Event) {
        if event.kv.mod_revision < self.next {
            return;
        }
        self.next = event.kv.mod_revision.saturating_add(1);
        if is_entry(event) {
            if self.position >= self.from && !self.is_full() {
                let entry = entry_of(&event.kv.value);
                self.bytes = self.bytes.saturating_add(entry.len());
                self.entries.push(entry.to_vec());
            }
            self.position = self.position.saturating_add(1);
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit || self.bytes >= MAX_READ_BYTES
    }
}

impl EtcdLog {
    /// An access; nothing is asked of the cluster yet.
    pub fn new(config: EtcdLogConfig) -> Self {
        let way = Way::new(config.connect_timeout, None, &config.tls);
        EtcdLog {
            endpoints: Endpoints::new(config.endpoints.clone()),
            config,
            way,
            token: Mutex::new(None),
            order: Mutex::new(Order::new()),
            shut_down: AtomicBool::new(false),
            pausing: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    /// Looks at the whole log, for a check before a ceremony.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn status(&self) -> Result<EtcdStatus, LogError> {
        let mut order = self.order.lock();
        while self.advance(&mut order, None)? {}
        Ok(EtcdStatus { position: order.end(), revision: order.next().saturating_sub(1), tampered: order.tampered() })
    }

    fn check_open(&self) -> Result<(), LogError> {
        if self.shut_down.load(Ordering::SeqCst) { Err(LogError::ShutDown) } else { Ok(()) }
    }

    /// Asks one endpoint for one thing.
    fn call<T: DeserializeOwned>(&self, endpoint: &str, path: &str, body: &Value) -> Result<T, Trouble> {
        let mut response = self.post(endpoint, path, body, self.config.request_timeout)?;
        let bytes = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        serde_json::from_slice(&bytes).map_err(|error| Trouble::Endpoint(format!("its answer makes no sense: {error}")))
    }

    /// Sends a request, logged in where that is needed; once more with a new token if the old one is not taken any more.
    fn post(
        &self,
        endpoint: &str,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, Trouble> {
        for last in [false, true] {
            let token = self.token(endpoint)?;
            let mut request = self.way.agent().post(format!("{endpoint}{path}"));
            if let Some(token) = token {
                request = request.header("Authorization", token);
            }
            let request = request.config().timeout_global(Some(timeout)).build();
            let mut response = request.content_type("application/json").send(body.to_string())?;
            let status = response.status().as_u16();
            if status == 200 {
                return Ok(response);
            }
            let text = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).lossy_utf8(true).read_to_string()?;
            let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
            let said = clean(if problem.message.is_empty() { &problem.error } else { &problem.message });
            if wire::class(status, &said) == Class::LoginIsOld {
                *self.token.lock() = None;
                if !last {
                    continue;
                }
            }
            return Err(self.trouble(status, &said));
        }
        Err(Trouble::Endpoint("it takes none of its own tokens".to_owned()))
    }

    /// Users, rights and passwords are changed while members run, and changed back: nothing of that is the end of a log.
    fn trouble(&self, status: u16, said: &str) -> Trouble {
        let user = self.config.login.as_ref().map_or("nobody", |login| login.user.as_str());
        match wire::class(status, said) {
            Class::LoginIsWrong => Trouble::Endpoint(format!(
                "it does not let {user} in: {said}; give the user and the password that the cluster knows"
            )),
            Class::NoRight => Trouble::Endpoint(format!(
                "{said}: {user} needs the right to write under its own part of {} and to read all of it",
                self.config.prefix
            )),
            Class::TooLarge => Trouble::Refusal(said.to_owned()),
            Class::LoginIsOld | Class::Other => Trouble::Endpoint(format!("{status}: {said}")),
        }
    }

    fn token(&self, endpoint: &str) -> Result<Option<String>, Trouble> {
        let Some(EtcdLogin { user, password }) = &self.config.login else { return Ok(None) };
        if let Some(token) = self.token.lock().clone() {
            return Ok(Some(token));
        }
        let password = password().map_err(|reason| Trouble::Log(LogError::Unavailable(reason)))?;
        let password = std::str::from_utf8(password.expose())
            .map_err(|_| Trouble::Log(LogError::Unavailable(format!("the password of {user} is not text"))))?;
        let body = wire::login(user, password);
        let request = self.way.agent().post(format!("{endpoint}/v3/auth/authenticate"));
        let request = request.config().timeout_global(Some(self.config.request_timeout)).build();
        let mut response = request.content_type("application/json").send(&body[..])?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string()?;
        if status != 200 {
            let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
            let said = clean(if problem.message.is_empty() { &problem.error } else { &problem.message });
            if said.contains("authentication is not enabled") {
                return Ok(None);
            }
            return Err(self.trouble(status, &said));
        }
        let Token { token } = serde_json::from_str(&text)
            .map_err(|error| Trouble::Endpoint(format!("its token makes no sense: {error}")))?;
        *self.token.lock() = Some(token.clone());
        Ok(Some(token))
    }

    /// Reads on in the history where `order` was left, and gathers on the way. `false` if there was nothing more.
    fn advance(&self, order: &mut Order, mut gathering: Option<&mut Gathering>) -> Result<bool, LogError> {
        let from = gathering.as_ref().map_or(order.next(), |gathering| gathering.next);
        let prefix = &self.config.prefix;
        let latest: Range =
            self.ask(|endpoint| self.call(endpoint, "/v3/kv/range", &wire::changed_since(prefix, from)))?;
        let now = latest.header.revision;
        if now.saturating_add(1) < from {
            return Err(LogError::Unavailable(format!(
                "the etcd cluster has gone back from revision {} to {now}: it was restored from an older copy, and has lost \
                 entries",
                from - 1
            )));
        }
        let Some(last) = latest.kvs.first().map(|kv| kv.mod_revision) else {
            if from >= order.next() {
                order.seen(now);
            }
            return Ok(false);
        };
        // Each endpoint goes on where the one before has failed: what has been taken is passed over.
        let state = Mutex::new((order, gathering.take()));
        let piece = self.ask(|endpoint| {
            self.watch_up_to(endpoint, from, last, &mut |event| {
                let (order, gathering) = &mut *state.lock();
                order.take(event);
                gathering.as_mut().is_some_and(|gathering| {
                    gathering.take(event);
                    gathering.is_full()
                })
            })
        })?;
        let (order, gathering) = state.into_inner();
        match piece {
            Piece::Done => Ok(true),
            Piece::Compacted(revision) => self.read_what_is_left(revision, from, order, gathering).map(|()| true),
        }
    }

    /// Watches from one revision to another, until `take` has enough.
    fn watch_up_to(
        &self,
        endpoint: &str,
        from: u64,
        last: u64,
        take: &mut dyn FnMut(&Event) -> bool,
    ) -> Result<Piece, Trouble> {
        let body = wire::watch(&self.config.prefix, from);
        let mut response = self.post(endpoint, "/v3/watch", &body, self.config.request_timeout)?;
        let mut lines = BufReader::new(response.body_mut().as_reader());
        loop {
            let line = next_line(&mut lines)?;
            if line.result.canceled {
                return match line.result.compact_revision {
                    0 => Err(Trouble::Endpoint(format!(
                        "the watch was cancelled: {}",
                        clean(&line.result.cancel_reason)
                    ))),
                    revision => Ok(Piece::Compacted(revision)),
                };
            }
            for event in &line.result.events {
                if take(event) || event.kv.mod_revision >= last {
                    return Ok(Piece::Done);
                }
            }
        }
    }

    /// Reads the keys that are there, where the history is gone.
    fn read_what_is_left(
        &self,
        compacted: u64,
        from: u64,
        order: &mut Order,
        mut gathering: Option<&mut Gathering>,
    ) -> Result<(), LogError> {
        log::warn!(
            "the history of the etcd cluster has been compacted up to revision {compacted}: entries that were deleted \
             before are missing here; keep its port for the members, and automatic compaction off"
        );
        let mut next = from;
        loop {
            let body = wire::created_since(&self.config.prefix, next, PAGE);
            let page: Range = self.ask(|endpoint| self.call(endpoint, "/v3/kv/range", &body))?;
            for kv in &page.kvs {
                if kv.version != 1 {
                    let key = clean(&String::from_utf8_lossy(&kv.key));
                    return Err(LogError::Unavailable(format!(
                        "the entry at position {} was overwritten in etcd (key {key}), and the history that would tell what \
                         it was has been compacted; whoever may write that key did it",
                        order.end()
                    )));
                }
                let event = Event { kind: String::new(), kv: kv.clone() };
                order.take(&event);
                if let Some(gathering) = &mut gathering {
                    gathering.take(&event);
                }
                next = kv.create_revision.saturating_add(1);
            }
            let full = gathering.as_ref().is_some_and(|gathering| gathering.is_full());
            if page.kvs.len() < PAGE || full {
                return Ok(());
            }
        }
    }

    fn ask<T>(&self, ask: impl Fn(&str) -> Result<T, Trouble>) -> Result<T, LogError> {
        self.endpoints.ask(|| self.check_open(), ask)
    }

    fn key(&self, entry: &[u8]) -> String {
        let author = SignedEntry::decode(entry).map(|entry| entry.entry().author.byte().to_string());
        let (author, hash) = (author.unwrap_or_default(), Sha3_256::digest(entry));
        format!("{}m{author}/{}", self.config.prefix, hex::encode(&hash))
    }

    fn pause(&self, limit: Duration) {
        let mut pausing = self.pausing.lock();
        if !self.shut_down.load(Ordering::SeqCst) {
            self.woken.wait_for(&mut pausing, limit);
        }
    }
}

/// The next line of a watch.
fn next_line(lines: &mut impl BufRead) -> Result<WatchLine, Trouble> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(MAX_ANSWER_BYTES).read_until(b'\n', &mut line);
    read.map_err(|error| Trouble::Endpoint(error.to_string()))?;
    if line.last() != Some(&b'\n') {
        return Err(Trouble::Endpoint("a watch was cut off".to_owned()));
    }
    let parsed: Result<WatchLine, _> = serde_json::from_slice(&line);
    match parsed {
        Ok(WatchLine { error: Some(error), .. }) => {
            Err(Trouble::Endpoint(format!("a watch failed: {}", clean(&error.to_string()))))
        }
        Ok(line) => Ok(line),
        Err(error) => Err(Trouble::Endpoint(format!("its watch makes no sense: {error}"))),
    }
}

impl LogHost for EtcdLog {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(LogError::TooLong(entry.len()));
        }
        let key = self.key(entry);
        let body = wire::create(&key, entry);
        let done: Txn = self.ask(|endpoint| self.call(endpoint, "/v3/kv/txn", &body))?;
        let Some(revision) = done.created_at(entry) else {
            return Err(LogError::Refused(format!("something else stands in etcd under the entry's own key {key}")));
        };
        let mut order = self.order.lock();
        while order.next() <= revision && self.advance(&mut order, None)? {}
        order
            .position_of(revision)
            .ok_or_else(|| LogError::Unavailable("the entry is in the log, at a position that is not known".to_owned()))
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.check_open()?;
        let limit = limit.min(MAX_ENTRIES_PER_READ);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut order = self.order.lock();
        let (position, next) = match order.revision_of(from) {
            Some(revision) => (from, revision),
            None if from > order.end() => (order.end(), order.next()),
            // Further back than is remembered: through the whole history.
            None => (0, 1),
        };
        let mut gathering = Gathering { position, next, from, limit, entries: Vec::new(), bytes: 0 };
        while !gathering.is_full() && self.advance(&mut order, Some(&mut gathering))? {}
        Ok(gathering.entries)
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            self.check_open()?;
            let revision = {
                let order = self.order.lock();
                if from < order.end() {
                    return Ok(());
                }
                order.next()
            };
            let left = deadline.map_or(MAX_POLL, |deadline| deadline.saturating_duration_since(Instant::now()));
            let slice = left.min(MAX_POLL);
            if slice < Duration::from_millis(1) {
                return Ok(());
            }
            let asked = Instant::now();
            if self.ask(|endpoint| self.watch_for(endpoint, revision, slice))? {
                return Ok(());
            }
            if asked.elapsed() < slice.min(POLL_PAUSE) {
                self.pause(POLL_PAUSE.min(left));
            }
        }
    }

    fn distrust(&self) {
        self.endpoints.distrust();
    }

    fn shutdown(&self) {
        let pausing = self.pausing.lock();
        self.shut_down.store(true, Ordering::SeqCst);
        drop(pausing);
        self.woken.notify_all();
        // Ends calls that are under way on other threads.
        self.way.shutdown();
    }
}

impl EtcdLog {
    /// Whether anything happens from this revision on, within so long.
    fn watch_for(&self, endpoint: &str, revision: u64, slice: Duration) -> Result<bool, Trouble> {
        let started = Instant::now();
        let body = wire::watch(&self.config.prefix, revision);
        let watch = || {
            let mut response = self.post(endpoint, "/v3/watch", &body, slice)?;
            let mut lines = BufReader::new(response.body_mut().as_reader());
            loop {
                let line = next_line(&mut lines)?;
                if line.result.canceled || !line.result.events.is_empty() {
                    return Ok(true);
                }
            }
        };
        match watch() {
            // The slice is over, and nothing has happened.
            Err(Trouble::Endpoint(_)) if started.elapsed() >= slice => Ok(false),
            outcome => outcome,
        }
    }
}
