//! A member's way to a log server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::address::Endpoint;
use crate::chain::log::endpoints::{Endpoints, MAX_TEXT_BYTES, Trouble, clean};
use crate::chain::log::http::{
    CHAIN_HEADER, END_HEADER, MAX_ENTRIES_PER_READ, MAX_POLL, MAX_READ_BYTES, REASON_HEADER, frames, reason,
};
use crate::chain::log::way::{LogTls, Way};
use crate::chain::log::{LogError, LogHost, MAX_ENTRY_BYTES, Payload, SignedEntry};
use crate::hex;

/// How much is read of a status, in bytes.
const MAX_STATUS_BYTES: u64 = 256 * 1024;
/// The pause after a server has answered before it was asked to, with nothing.
const POLL_PAUSE: Duration = Duration::from_millis(100);
/// Idle connections are not used any more when they are so old: before the server closes them.
const MAX_IDLE: Duration = Duration::from_secs(15);

/// How a log server is reached.
#[derive(Clone, Debug)]
pub struct HttpLogConfig {
    /// Where, the preferred one first.
    pub endpoints: Vec<Endpoint>,
    /// The [identity](crate::chain::log::ChainConfig::identity) of the chain whose log it has to be.
    pub chain: [u8; 32],
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long an answer may take, besides the waiting that was asked for.
    pub request_timeout: Duration,
    /// Whom it is taken from where it is reached over TLS.
    pub tls: LogTls,
}

impl HttpLogConfig {
    /// With the usual time-outs: 3 seconds to connect, 10 for an answer.
    pub fn new(endpoints: Vec<Endpoint>, chain: [u8; 32]) -> Self {
        let (connect_timeout, request_timeout) = (Duration::from_secs(3), Duration::from_secs(10));
        HttpLogConfig { endpoints, chain, connect_timeout, request_timeout, tls: LogTls::default() }
    }
}

/// What a log server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLogStatus {
    /// The endpoint that answered.
    pub endpoint: String,
    /// The version of the server.
    pub version: String,
    /// How many entries the log has.
    pub position: u64,
    /// The server's clock: milliseconds of Unix time.
    pub now_ms: u64,
    /// Why nothing can be appended any more, if so.
    pub failure: Option<String>,
}

#[derive(Deserialize)]
struct StatusJson {
    version: String,
    entries: u64,
    now_ms: u64,
    failure: Option<String>,
}

/// One member's access to the log that a log server keeps.
///
/// With several endpoints, the one that worked last is asked first, and the others after it when it cannot be reached or
/// fails. They have to lead to the same log. An append may be asked of two of them: the server knows an entry that comes
/// twice.
pub struct HttpLog {
    config: HttpLogConfig,
    /// The chain's identity in hex.
    chain: String,
    way: Way,
    endpoints: Endpoints,
    /// How many entries the last wait was told of, until they have been asked for.
    announced: AtomicU64,
    shut_down: AtomicBool,
    /// Told of the shutdown, for who pauses.
    pausing: Mutex<()>,
    woken: Condvar,
}

impl HttpLog {
    /// An access; nothing is asked of the server yet.
    pub fn new(config: HttpLogConfig) -> Self {
        let way = Way::new(config.connect_timeout, Some(MAX_IDLE), &config.tls);
        HttpLog {
            chain: hex::encode(&config.chain),
            endpoints: Endpoints::new(config.endpoints.clone()),
            config,
            way,
            announced: AtomicU64::new(0),
            shut_down: AtomicBool::new(false),
            pausing: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    /// Asks the server about itself.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn status(&self) -> Result<HttpLogStatus, LogError> {
        self.ask(|endpoint| {
            let mut response = self.get(endpoint, "/v1/status", Duration::ZERO)?;
            self.check_ok(&mut response, false)?;
            let bytes = response.body_mut().with_config().limit(MAX_STATUS_BYTES).read_to_vec()?;
            let StatusJson { version, entries, now_ms, failure } = serde_json::from_slice(&bytes)
                .map_err(|error| Trouble::Endpoint(format!("its status makes no sense: {error}")))?;
            let (version, failure) = (clean(&version), failure.map(|text| clean(&text)));
            Ok(HttpLogStatus { endpoint: endpoint.to_owned(), version, position: entries, now_ms, failure })
        })
    }

    fn check_open(&self) -> Result<(), LogError> {
        if self.shut_down.load(Ordering::SeqCst) { Err(LogError::ShutDown) } else { Ok(()) }
    }

    fn ask<T>(&self, ask: impl Fn(&str) -> Result<T, Trouble>) -> Result<T, LogError> {
        self.endpoints.ask(|| self.check_open(), ask)
    }

    fn get(&self, endpoint: &str, path: &str, wait: Duration) -> Result<Response<Body>, Trouble> {
        let timeout = self.config.request_timeout.saturating_add(wait);
        let request = self.way.agent().get(format!("{endpoint}{path}")).header(CHAIN_HEADER, self.chain.as_str());
        Ok(request.config().timeout_global(Some(timeout)).build().call()?)
    }

    fn get_entries(&self, endpoint: &str, from: u64, limit: usize, wait: Duration) -> Result<Response<Body>, Trouble> {
        let path = format!("/v1/entries?from={from}&limit={limit}&wait_ms={}", wait.as_millis());
        let mut response = self.get(endpoint, &path, wait)?;
        self.check_ok(&mut response, false)?;
        Ok(response)
    }

    /// Whether the log server of our chain has done what was asked; if not, what it says about that. None of it is signed:
    /// it is what this endpoint claims. Only of a tick it makes sense to say that it is an old one.
    fn check_ok(&self, response: &mut Response<Body>, is_tick: bool) -> Result<(), Trouble> {
        let status = response.status();
        match header(response, CHAIN_HEADER) {
            Some(chain) if chain != self.chain => {
                return Err(Trouble::Endpoint(format!("it keeps the log of another chain, {}", clean(chain))));
            }
            Some(_) if status == StatusCode::OK => return Ok(()),
            None if !is_busy(status) => {
                return Err(Trouble::Endpoint(format!("what answers there ({status}) is no log server")));
            }
            _ => {}
        }
        let reason = header(response, REASON_HEADER).unwrap_or_default().to_owned();
        let text = response.body_mut().with_config().limit(MAX_TEXT_BYTES as u64).lossy_utf8(true).read_to_string();
        let text = text.map_or_else(|_| status.to_string(), |text| clean(text.trim_end()));
        Err(match (reason.as_str(), status) {
            (reason::OLD_TICK, _) if is_tick => Trouble::Log(LogError::NothingNew),
            // To be said again by who has read on.
            (reason::STALE_PREFIX, _) => Trouble::Endpoint(text),
            (_, status) if status.is_client_error() && !is_busy(status) => Trouble::Refusal(text),
            _ => Trouble::Endpoint(text),
        })
    }
}

impl LogHost for HttpLog {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(LogError::TooLong(entry.len()));
        }
        let is_tick = SignedEntry::decode(entry).is_ok_and(|entry| matches!(entry.entry().payload, Payload::Tick(_)));
        self.ask(|endpoint| {
            let request =
                self.way.agent().post(format!("{endpoint}/v1/entries")).header(CHAIN_HEADER, self.chain.as_str());
            let request = request.config().timeout_global(Some(self.config.request_timeout)).build();
            let mut response = request.send(entry)?;
            self.check_ok(&mut response, is_tick)?;
            let text = response.body_mut().with_config().limit(MAX_TEXT_BYTES as u64).read_to_string()?;
            text.trim_end().parse().map_err(|_| Trouble::Endpoint(format!("'{}' is no position", clean(&text))))
        })
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.check_open()?;
        let limit = limit.min(MAX_ENTRIES_PER_READ);
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.ask(|endpoint| {
            let mut response = self.get_entries(endpoint, from, limit, Duration::ZERO)?;
            let most = frames::most_bytes(limit, MAX_READ_BYTES) as u64;
            let end = end(&response);
            let bytes = response.body_mut().with_config().limit(most).read_to_vec()?;
            let entries = frames::split(&bytes, limit);
            let entries = entries.map_err(|what| Trouble::Endpoint(format!("it answers with {what}")))?;
            // What it announced to who waited counts too: otherwise the two could go on for ever without a pause.
            let announced = self.announced.swap(0, Ordering::Relaxed).max(end.unwrap_or(0));
            if entries.is_empty() && announced > from {
                let text = format!("it says that there are {announced} entries, and gives none from {from} on");
                return Err(Trouble::Endpoint(text));
            }
            Ok(entries)
        })
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            self.check_open()?;
            let left = deadline.map_or(MAX_POLL, |deadline| deadline.saturating_duration_since(Instant::now()));
            // The server counts in milliseconds.
            let slice = left.min(MAX_POLL);
            if slice < Duration::from_millis(1) {
                return Ok(());
            }
            let asked = Instant::now();
            let end = self.ask(|endpoint| {
                let response = self.get_entries(endpoint, from, 0, slice)?;
                end(&response).ok_or_else(|| Trouble::Endpoint("it does not say how long the log is".to_owned()))
            })?;
            if end > from {
                self.announced.store(end, Ordering::Relaxed);
                return Ok(());
            }
            if asked.elapsed() < slice.min(POLL_PAUSE) {
                let mut pausing = self.pausing.lock();
                if !self.shut_down.load(Ordering::SeqCst) {
                    self.woken.wait_for(&mut pausing, POLL_PAUSE.min(left));
                }
            }
        }
    }

    fn distrust(&self) {
        self.endpoints.distrust();
    }

    /// A log server takes nothing that all replicas would skip.
    fn sifts(&self) -> bool {
        true
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

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// How many entries the log has, as the answer says.
fn end(response: &Response<Body>) -> Option<u64> {
    header(response, END_HEADER)?.parse().ok()
}

/// Whether this says nothing about what was asked, and comes from anybody: a proxy, or a server that has not looked yet.
fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}
