//! The log server: what is answered to which request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use ureq_proto::http::{Method, StatusCode};

use crate::chain::log::http::gate::{Gate, Refusal};
use crate::chain::log::http::polls::Polls;
use crate::chain::log::http::{
    CHAIN_HEADER, END_HEADER, LogServerStatus, MAX_ENTRIES_PER_READ, MAX_POLL, MAX_READ_BYTES, REASON_HEADER, frames,
    reason,
};
use crate::chain::log::{
    ChainConfig, Clock, FileLog, FileLogReader, LogChain, LogError, LogHost, MAX_ENTRY_BYTES, Overview, Overviews,
    RECENT_ENTRIES, SkipReason, SystemClock,
};
use crate::committee::Index;
use crate::hex;
use crate::http::{Answer, Hosts, HttpCounts, HttpServer, Limits, Request, Service};
use crate::page::page;

/// How many entries are read from the file at a time; with the longest they come to `MAX_READ_BYTES`.
const READ_BATCH: usize = 8;
const _: () = assert!(READ_BATCH * MAX_ENTRY_BYTES <= MAX_READ_BYTES + MAX_ENTRY_BYTES);

/// The limits of a log server. Where it says address, the addresses of an IPv6 /64 network count as one.
#[derive(Clone, Debug)]
pub struct LogServerConfig {
    /// The most connections at once, and as many threads. Every member needs two; idle ones make room for new ones.
    pub max_connections: usize,
    /// The most of them from one address.
    pub max_connections_per_address: usize,
    /// The most connections that may wait for an entry at once; who comes then is answered without waiting. Less than
    /// `max_connections`, so that there is room left for appends.
    pub max_polls: usize,
    /// The most of them from one address.
    pub max_polls_per_address: usize,
    /// How many requests a second are served from one address in the long run.
    pub requests_per_second: u32,
    /// How many requests are served from one address at once.
    pub burst: u32,
    /// How long a connection may wait between two requests.
    pub idle: Duration,
    /// How long a request may take to arrive, and an answer to be taken.
    pub transfer: Duration,
    /// Names under which its page, status and metrics may be asked for, beside addresses, `localhost` and the committee file's
    /// endpoints. Members, who name the chain, may ask under any.
    pub names: Vec<String>,
}

impl Default for LogServerConfig {
    /// Enough for the largest committee, a quarter of it behind one address.
    fn default() -> Self {
        LogServerConfig {
            max_connections: 640,
            max_connections_per_address: 320,
            max_polls: 512,
            max_polls_per_address: 256,
            requests_per_second: 2000,
            burst: 4000,
            idle: Duration::from_secs(60),
            transfer: Duration::from_secs(10),
            names: Vec::new(),
        }
    }
}

/// Why a log server does not start.
#[derive(Debug, thiserror::Error)]
pub enum LogServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; choose another address or port, or end who uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A running log server. Dropping it stops it.
pub struct LogServer {
    http: HttpServer,
    host: Arc<Host>,
}

impl LogServer {
    /// Reads the log to its end and serves it from now on. `log` is the log of this chain, and nobody else appends to it.
    ///
    /// # Errors
    /// See [`LogServerError`].
    pub fn start(
        listen: SocketAddr,
        log: FileLog,
        config: Arc<ChainConfig>,
        limits: LogServerConfig,
    ) -> Result<Self, LogServerError> {
        let gate = Gate::new(Arc::clone(&config), &log)?;
        let http_limits = Limits {
            connections: limits.max_connections,
            connections_per_peer: limits.max_connections_per_address,
            body_bytes: MAX_ENTRY_BYTES,
            idle: limits.idle,
            transfer: limits.transfer,
            requests_per_second: limits.requests_per_second,
            burst: limits.burst,
        };
        let endpoints = config.log().endpoints().iter().map(|endpoint| endpoint.address().as_str());
        let host = Arc::new(Host {
            hosts: Hosts::new(limits.names.iter().map(String::as_str).chain(endpoints)),
            chain: hex::encode(config.identity()),
            config,
            reader: log.reader(),
            log,
            gate,
            polls: Polls::new(limits.max_polls, limits.max_polls_per_address),
            refused: Mutex::new(BTreeMap::new()),
            appends: AtomicU64::new(0),
            append_micros: AtomicU64::new(0),
            overviews: Mutex::default(),
        });
        let service = Arc::clone(&host);
        let http = HttpServer::start("dkg-log", (listen, "--listen"), http_limits, service)
            .map_err(|error| LogServerError::Listen { address: listen, error })?;
        Ok(LogServer { http, host })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// What it knows of itself.
    pub fn status(&self) -> LogServerStatus {
        self.host.status(&self.http.counts())
    }

    /// Ends all waiting, closes all connections and joins all threads; what has been acknowledged is durable.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.host.reader.shutdown();
        self.http.stop();
    }
}

impl Drop for LogServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// What all threads share.
struct Host {
    config: Arc<ChainConfig>,
    /// The chain's identity in hex.
    chain: String,
    hosts: Hosts,
    log: FileLog,
    /// Reads and waits for everybody; shut down when the server stops.
    reader: FileLogReader,
    gate: Gate,
    polls: Polls,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    appends: AtomicU64,
    append_micros: AtomicU64,
    overviews: Mutex<Overviews>,
}

/// The chain as everybody sees it, and the server.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    chain: Overview,
    server: LogServerStatus,
}

impl Service for Host {
    fn answer(&self, request: &Request, counts: &dyn Fn() -> HttpCounts) -> Answer {
        if request.header(CHAIN_HEADER) != Some(&self.chain)
            && let Some(refused) = self.hosts.refuse(request, "the committee file or --name")
        {
            return refused;
        }
        let reading = matches!(request.method, Method::GET | Method::HEAD);
        let answer = match (request.path.as_str(), reading) {
            ("/v1/entries", _) if request.method == Method::POST => self.append(request),
            ("/v1/entries", true) => self.read(request),
            ("/v1/status", true) => {
                let json = serde_json::to_vec(&self.status(&counts())).unwrap_or_default();
                Answer::new(StatusCode::OK, "application/json", json)
            }
            ("/metrics", true) => {
                let text = self.status(&counts()).prometheus();
                Answer::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            ("/status.json", true) => self.shown(&counts()),
            ("/", true) => page(),
            ("/v1/entries", _) => not_allowed("GET, HEAD, POST"),
            ("/v1/status" | "/status.json" | "/metrics" | "/", _) => not_allowed("GET, HEAD"),
            _ => Answer::text(StatusCode::NOT_FOUND, "there is nothing here; the log is at /v1/entries"),
        };
        answer.with(CHAIN_HEADER, self.chain.as_str()).with(END_HEADER, self.log.len().to_string())
    }
}

impl Host {
    fn append(&self, request: &Request) -> Answer {
        match request.header(CHAIN_HEADER) {
            None => {
                let text = format!("say in the header {CHAIN_HEADER} which chain the entry is for");
                return Answer::text(StatusCode::BAD_REQUEST, text);
            }
            Some(chain) if chain != self.chain => return self.other_chain(chain),
            Some(_) => {}
        }
        let started = Instant::now();
        match self.gate.append(&request.body) {
            Ok(position) => {
                let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.appends.fetch_add(1, Ordering::Relaxed);
                self.append_micros.fetch_add(micros, Ordering::Relaxed);
                Answer::text(StatusCode::OK, position.to_string())
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        let (status, reason, text) = match refusal {
            Refusal::Skip(reason) => (StatusCode::CONFLICT, word(*reason), reason.to_string()),
            Refusal::Forked(forked) => (StatusCode::CONFLICT, reason::FORKED, forked.to_string()),
            Refusal::Log(error @ LogError::TooLong(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, reason::TOO_LONG, error.to_string())
            }
            Refusal::Log(error) => (StatusCode::SERVICE_UNAVAILABLE, reason::LOG_FAILED, error.to_string()),
        };
        self.count(reason);
        Answer::text(status, format!("the entry was not taken: {text}")).with(REASON_HEADER, reason)
    }

    fn other_chain(&self, asked: &str) -> Answer {
        self.count(reason::OTHER_CHAIN);
        let asked: String = asked.chars().take(2 * self.config.identity().len()).collect();
        let text = format!("this is the log of the chain {}, not of {asked}", self.chain);
        Answer::text(StatusCode::CONFLICT, text).with(REASON_HEADER, reason::OTHER_CHAIN)
    }

    fn count(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    fn read(&self, request: &Request) -> Answer {
        match request.header(CHAIN_HEADER) {
            Some(chain) if chain != self.chain => return self.other_chain(chain),
            _ => {}
        }
        let number = |name, default: u64| match request.parameter(name) {
            None => Ok(default),
            Some(digits) => digits.parse().map_err(|_| {
                Answer::text(
                    StatusCode::BAD_REQUEST,
                    format!("'{name}' has to be a whole number from 0 to {}", u64::MAX),
                )
            }),
        };
        let numbers = (|| Ok((number("from", 0)?, number("limit", u64::MAX)?, number("wait_ms", 0)?)))();
        let (from, limit, wait_ms) = match numbers {
            Ok(numbers) => numbers,
            Err(answer) => return answer,
        };
        let wait = Duration::from_millis(wait_ms).min(MAX_POLL);
        // Who finds too many waiting is answered at once.
        let poll = if wait.is_zero() || self.log.len() > from { None } else { self.polls.start(request.peer) };
        if poll.is_some()
            && let Err(error) = self.reader.wait(from, wait)
        {
            return unavailable(&error);
        }
        drop(poll);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_ENTRIES_PER_READ);
        match self.frames(from, limit) {
            Ok(frames) => Answer::new(StatusCode::OK, "application/octet-stream", frames),
            Err(error) => unavailable(&error),
        }
    }

    fn frames(&self, from: u64, limit: usize) -> Result<Vec<u8>, LogError> {
        let (mut frames, mut count) = (Vec::new(), 0);
        while count < limit {
            // `limit` is small, and positions come nowhere near the end of their type.
            let next = from.saturating_add(count as u64);
            let entries = self.reader.read(next, READ_BATCH.min(limit - count))?;
            if entries.is_empty() {
                break;
            }
            count += entries.len();
            for entry in entries {
                frames::push(&mut frames, &entry);
                if frames.len() >= MAX_READ_BYTES {
                    return Ok(frames);
                }
            }
        }
        Ok(frames)
    }

    /// What the page draws.
    fn shown(&self, http: &HttpCounts) -> Answer {
        let chain = self.gate.look(LogChain::clone);
        let from = chain.prefix().position.saturating_sub(RECENT_ENTRIES as u64);
        let recent = match self.reader.read(from, RECENT_ENTRIES) {
            Ok(recent) => (from..).zip(recent).collect::<Vec<_>>(),
            Err(error) => return unavailable(&error),
        };
        let chain = self.overviews.lock().of(&chain, &recent, SystemClock.now_ms());
        let json = serde_json::to_vec(&Shown { chain, server: self.status(http) }).unwrap_or_default();
        Answer::new(StatusCode::OK, "application/json", json).with("cache-control", "no-store")
    }

    fn status(&self, http: &HttpCounts) -> LogServerStatus {
        let mut refused = self.refused.lock().clone();
        refused.insert("not-http", http.malformed);
        refused.insert("over-rate", http.over_rate);
        let (view, epoch, ticks) = self.gate.look(|chain| {
            let members = Index::all(self.config.committee().size());
            let ticks = members.map(|member| chain.last_tick(member).0).collect();
            (chain.header().view.0, chain.epoch().epoch.0, ticks)
        });
        LogServerStatus {
            version: env!("CARGO_PKG_VERSION"),
            chain_id: self.config.chain_id().to_owned(),
            chain: self.chain.clone(),
            entries: self.log.len(),
            bytes: self.log.bytes(),
            now_ms: SystemClock.now_ms(),
            view,
            epoch,
            ticks,
            connections: http.connections,
            polls: self.polls.count(),
            connections_accepted: http.accepted,
            connections_displaced: http.displaced,
            connections_turned_away: http.turned_away,
            appends: self.appends.load(Ordering::Relaxed),
            append_micros: self.append_micros.load(Ordering::Relaxed),
            refused,
            failure: self.log.failure().map(|error| error.to_string()),
        }
    }
}

fn unavailable(error: &LogError) -> Answer {
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).with(REASON_HEADER, reason::LOG_FAILED)
}

fn not_allowed(allowed: &'static str) -> Answer {
    let text = format!("this can be asked with {allowed} only");
    Answer::text(StatusCode::METHOD_NOT_ALLOWED, text).with("allow", allowed)
}

/// The reason as one word, for counters and programs.
fn word(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Malformed => "malformed",
        SkipReason::UnknownAuthor => "unknown-author",
        SkipReason::OldTick => reason::OLD_TICK,
        SkipReason::TickTooFar => "tick-too-far",
        SkipReason::OverQuota => "over-quota",
        SkipReason::OutOfSequence => "out-of-sequence",
        SkipReason::StalePrefix => reason::STALE_PREFIX,
        SkipReason::BadSignature => "bad-signature",
        SkipReason::WrongPrefix => "wrong-prefix",
        SkipReason::Refused => "contract",
    }
}
