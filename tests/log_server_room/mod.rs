//! A log server in this process, members' pens, and raw HTTP for who is no member.

#![allow(dead_code, reason = "no one test file uses all of it")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dkg_engine::chain::log::{
    ChainConfig, Entry, FileLog, HttpLog, HttpLogConfig, LogServer, LogServerConfig, Payload, Prefix,
};
use dkg_engine::epoch::View;
use dkg_engine::hex;
use ed25519_dalek::SigningKey;

use crate::folder::Folder;
use crate::log_support::{config, index, network_key};

/// How long anything here may take before it is given up for lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::yield_now();
    }
}

/// A server of a new log.
pub(crate) struct Room {
    pub(crate) config: Arc<ChainConfig>,
    pub(crate) limits: LogServerConfig,
    pub(crate) log: FileLog,
    server: Option<LogServer>,
    folder: Folder,
}

impl Room {
    pub(crate) fn new() -> Self {
        Room::with(config(), LogServerConfig::default())
    }

    pub(crate) fn limited(change: impl FnOnce(&mut LogServerConfig)) -> Self {
        let mut limits = LogServerConfig::default();
        change(&mut limits);
        Room::with(config(), limits)
    }

    pub(crate) fn with(config: Arc<ChainConfig>, limits: LogServerConfig) -> Self {
        let folder = Folder::new();
        let log = FileLog::create(&folder.path().join("log"), config.identity()).unwrap();
        let server = LogServer::start(ANY_PORT, log.clone(), Arc::clone(&config), limits.clone()).unwrap();
        Room { config, limits, log, server: Some(server), folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn server(&self) -> &LogServer {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn stop(&mut self) {
        self.server.take().unwrap().stop();
    }

    /// The same log, served anew.
    pub(crate) fn restart(&mut self) {
        drop(self.server.take());
        let (log, config) = (self.log.clone(), Arc::clone(&self.config));
        self.server = Some(LogServer::start(ANY_PORT, log, config, self.limits.clone()).unwrap());
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.server().local_addr())
    }

    pub(crate) fn access(&self) -> HttpLog {
        access(&self.config, vec![self.endpoint()])
    }

    /// How often something was refused for this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.server().status().refused.get(reason).copied().unwrap_or(0)
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw(TcpStream::connect(self.server().local_addr()).unwrap())
    }

    /// The answer to a request that stands in these bytes, as text.
    pub(crate) fn ask(&self, request: &str) -> String {
        let mut raw = self.connect();
        raw.send(request.as_bytes());
        raw.answer()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }
}

pub(crate) fn access(config: &ChainConfig, endpoints: Vec<String>) -> HttpLog {
    let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    HttpLog::new(HttpLogConfig::new(endpoints, *config.identity()))
}

/// An endpoint where nobody listens.
pub(crate) fn nobody() -> String {
    format!("http://{}", TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap())
}

/// A connection, as somebody has it who does not care for our client.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Sends as much as the other side takes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// One answer, as text.
    pub(crate) fn answer(&mut self) -> String {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(end) = whole(&bytes) {
                return String::from_utf8_lossy(&bytes[..end]).into_owned();
            }
            match self.0.read(&mut piece) {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&bytes).into_owned(),
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
            }
        }
    }

    /// Whether the other side has closed; waits for it, or for an answer.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        !matches!(self.0.read(&mut [0; 64]), Ok(1..))
    }
}

/// Where an answer ends, if it is there in full.
fn whole(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let end = head.len() + 4 + length.parse::<usize>().unwrap();
    (bytes.len() >= end).then_some(end)
}

/// One member's pen.
pub(crate) struct Pen {
    pub(crate) author: usize,
    pub(crate) chain: [u8; 32],
    pub(crate) key: SigningKey,
    pub(crate) seen: Prefix,
    sequence: u64,
}

impl Pen {
    pub(crate) fn of(config: &ChainConfig, author: usize) -> Self {
        let chain = *config.identity();
        Pen { author, chain, key: network_key(author), seen: Prefix::genesis(&chain), sequence: 0 }
    }

    pub(crate) fn write(&mut self, payload: Payload) -> Vec<u8> {
        self.sequence += 1;
        let entry = Entry { author: index(self.author), sequence: self.sequence, payload, seen: self.seen };
        entry.sign(&self.chain, &self.key).unwrap()
    }

    pub(crate) fn post(&mut self, content: &str) -> Vec<u8> {
        self.write(Payload::Post(content.into()))
    }

    pub(crate) fn tick(&mut self, view: u64) -> Vec<u8> {
        self.write(Payload::Tick(View(view)))
    }
}

/// A request that appends an entry.
pub(crate) fn append_request(chain: &[u8; 32], entry: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/entries HTTP/1.1\r\nhost: localhost\r\ndkg-chain: {}\r\ncontent-length: {}\r\n\r\n",
        hex::encode(chain),
        entry.len()
    );
    [head.as_bytes(), entry].concat()
}
