//! A small HTTP/1.1 server on plain threads, for what a node or a log server shows and takes.
//!
//! The protocol itself is [`ureq_proto`], a state machine that is fed and drained; here are the sockets, the threads and
//! the limits around it. A thread a connection; every request gets its answer from one function, the [`Service`].
//!
//! Whoever can reach the port can connect, and nothing that comes from there costs more than its limit ([`Limits`]):
//!
//! - **Connections**: in all, and from one peer. When there are too many, the one that has been idle longest makes room
//!   ([`Seats`]), first of the same peer, then of the peer that has most; one whose request is being served never does.
//!   So a thousand idle connections keep nobody out, and the number of threads stays bounded.
//! - **Time**: a request has to be there in full, and an answer to be taken, within a deadline each, however slowly the
//!   bytes trickle in.
//! - **Size**: of the head and of the body; what is longer is answered and cut off, not read.
//! - **Rate**: requests of one peer, by a token bucket ([`Rates`]).
//!
//! A peer is an address: an IPv4 address or an IPv6 /64 network. Behind a reverse proxy everybody is one peer.
//!
//! It speaks no TLS: put a reverse proxy in front where the content needs it.

mod connection;
mod hosts;
mod rates;
mod seats;
mod server;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ureq_proto::http::{HeaderMap, Method, StatusCode};

pub(crate) use hosts::Hosts;
pub(crate) use rates::Rates;
pub(crate) use seats::{Seating, Seats};
pub(crate) use server::{HttpCounts, HttpServer};

/// The most bytes of a request's head: its first line and its headers.
pub(crate) const MAX_HEAD_BYTES: usize = 8 * 1024;

/// What a server lets be done to it.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most connections at once, and as many threads.
    pub(crate) connections: usize,
    /// The most connections of one peer at once.
    pub(crate) connections_per_peer: usize,
    /// The most bytes of a request's body.
    pub(crate) body_bytes: usize,
    /// How long a connection may wait between two requests.
    pub(crate) idle: Duration,
    /// How long a request may take to arrive, and an answer to be taken.
    pub(crate) transfer: Duration,
    /// How many requests a second one peer may make in the long run.
    pub(crate) requests_per_second: u32,
    /// How many requests one peer may make at once.
    pub(crate) burst: u32,
}

/// Who is at the other end, as far as limits are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Peer(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            // Who has one address of a /64 has all of them.
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        })
    }
}

/// A request that has arrived in full.
pub(crate) struct Request {
    pub(crate) peer: Peer,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// What stands behind the `?`, undecoded.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The text of a header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of a query parameter. No parameter of ours has characters that would be escaped.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    }
}

/// What is answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// More headers; values that could not stand in one are left out.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// An answer of this type of content.
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Answer { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// An answer in words.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Answer::new(status, "text/plain; charset=utf-8", text)
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers requests; called on many threads at once. While it waits for something, its connection is taken.
pub(crate) trait Service: Send + Sync + 'static {
    /// `counts` tells how the server fares.
    fn answer(&self, request: &Request, counts: &dyn Fn() -> HttpCounts) -> Answer;
}
