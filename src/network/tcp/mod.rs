//! Private channels between machines: TCP with TLS 1.3, in which both ends prove their network keys (raw Ed25519 keys,
//! RFC 7250) and each compares the other's with the committee's. No certificates, no names, no dates.
//!
//! ```text
//!  engine -- send --> Peer: one kept connection ==Message==> guests: a thread a connection -- deliver --> Inbound
//!     ^                        (dialled by us)  <==Answer==  (dialled by the peer)        <-- Receipt --    |
//! ```
//!
//! - **One connection a direction.** Who has dialled sends messages and probes, the other side answers them one by one. A
//!   message is answered when its [`Receipt`](super::Receipt) is settled: when it is durable there, or not taken.
//! - **Kept.** Connections stay open; signs of life tell those that are half open, on both ends. A peer that cannot be
//!   reached is dialled again after a wait that grows, is forgotten when that peer comes in by itself, and in which
//!   messages to it fail at once.
//! - **Apart.** Each peer has its own connection, lock and threads; how long one takes for anything costs no other a moment.
//! - **Bounded.** Threads and sockets: one for each member (and while it is dialled, two more), and [`TcpLimits::strangers`] for whoever has not proven a key yet,
//!   for which there is a time limit; a newcomer is let in at the cost of the origin that holds most, and while those that
//!   are closed for it end, there are as many again. Memory: one frame of at most [`MAX_FRAME_BYTES`] and the TLS
//!   library's buffers for each of them. Every wait has a limit, in [`TcpLimits`] or beside its code.
//! - **One chain.** Both ends say first which protocol they speak and which chain they follow; who differs is told so.
//!
//! # What this does not promise
//!
//! Who can reach the port can make this machine compute handshakes, and with many addresses crowd out honest peers while
//! it lasts: that is a firewall's business. Who watches the network sees who talks to whom, when, and how much. The TLS
//! library does not wipe its copies of keys and plaintext. A name is looked up by the operating system, which cannot be
//! interrupted: the thread that waits for it, or for a connection, ends by itself some time after a shutdown.

mod door;
pub mod frame;
mod guests;
mod link;
mod pace;
mod peer;
mod plug;
mod status;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};
use parking_lot::Mutex;

pub use frame::{MAX_FRAME_BYTES, PROTOCOL_VERSION};
pub use status::{PeerStatus, ProbeAnswer, ProbeError, TcpError};

use self::frame::Hello;
use self::guests::Guests;
use self::peer::{Peer, Surroundings};
use super::{CONFIRM_LIMIT, Inbound, Network, NetworkError};
use crate::address::Address;
use crate::committee::NodeId;
use crate::dial::Stop;
use crate::envelope::PrivateMessage;

/// How often idle connections are looked after, and peers that are not connected dialled.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the last resort to wake the accepting thread may take.
const WAKE_LIMIT: Duration = Duration::from_millis(200);

/// What a network needs to know.
pub struct TcpConfig {
    /// Where to listen; port 0 for any.
    pub listen: SocketAddr,
    /// Who we are.
    pub me: NodeId,
    /// Our network key.
    pub key: SigningKey,
    /// The identity of the chain that we follow.
    pub chain: [u8; 32],
    /// The other members. We may be among them, and are passed over.
    pub peers: Vec<TcpPeer>,
    /// Added to the machine's clock in what probes are answered, in milliseconds.
    pub clock_offset_ms: i64,
    /// What is allowed.
    pub limits: TcpLimits,
}

/// Another member.
#[derive(Clone, Debug)]
pub struct TcpPeer {
    /// Its identity.
    pub node_id: NodeId,
    /// Its network key.
    pub key: VerifyingKey,
    /// Where it is reached. Names are looked up whenever it is dialled.
    pub address: Address,
}

/// How much, and how long. The defaults are for committees on the open internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// The most connections at once whose other end has not proven a key.
    pub strangers: usize,
    /// The most of them from one IPv4 address, or one IPv6 network of 64 bits.
    pub strangers_per_origin: usize,
    /// How long a connection may take until both ends know each other.
    pub handshake: Duration,
    /// How long a frame may take once it has begun.
    pub frame: Duration,
    /// How long the receiver's engine has to make a message durable.
    pub confirm: Duration,
    /// How long a sender waits for an answer; longer than `confirm` by what the way takes.
    pub answer: Duration,
    /// How long a message may take in all, dialling included. So long the way to one peer may be blocked, and no other: the phases
    /// of a run should be several times as long.
    pub send: Duration,
    /// How long a connection that we have dialled may be silent before a sign of life is asked for.
    pub ping: Duration,
    /// How long a connection that a peer has dialled may be silent before it is closed; longer than the others' `ping`.
    pub idle: Duration,
    /// How long a peer that could not be reached is not dialled again, at first; the wait doubles with every failure.
    pub redial: Duration,
    /// How long that wait becomes at most.
    pub max_redial: Duration,
    /// Whether peers are dialled before there is a message for them, so that it shows who is missing.
    pub keep_connected: bool,
}

impl Default for TcpLimits {
    fn default() -> Self {
        TcpLimits {
            strangers: 64,
            strangers_per_origin: 32,
            handshake: Duration::from_secs(5),
            frame: Duration::from_secs(5),
            confirm: CONFIRM_LIMIT,
            answer: CONFIRM_LIMIT + Duration::from_secs(3),
            send: Duration::from_secs(12),
            ping: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            redial: Duration::from_millis(250),
            max_redial: Duration::from_secs(10),
            keep_connected: true,
        }
    }
}

/// What all threads of a network share.
struct Shared {
    me: NodeId,
    clock_offset_ms: i64,
    around: Surroundings,
    server: Arc<rustls::ServerConfig>,
    peers: BTreeMap<NodeId, Peer>,
    /// Whose key is whose.
    keys: BTreeMap<[u8; 32], NodeId>,
    guests: Guests,
    inbound: Mutex<Option<Arc<dyn Inbound>>>,
    strangers_refused: AtomicU64,
}

/// A member's private channels to the others. Dropping it shuts it down.
pub struct TcpNetwork {
    shared: Arc<Shared>,
    local: SocketAddr,
    /// The listening socket under another name, by which `accept` is ended.
    listening: TcpStream,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl TcpNetwork {
    /// Listens, and begins to dial the peers. Messages are refused until an engine is [attached](Self::attach); probes are
    /// answered.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn bind(config: TcpConfig) -> Result<TcpNetwork, TcpError> {
        let TcpConfig { listen, me, key, chain, mut peers, clock_offset_ms, limits } = config;
        peers.retain(|peer| peer.node_id != me);
        let keys = owners(me, &key, &peers)?;
        let credentials = tls::Credentials::new(&key).map_err(TcpError::Tls)?;
        let pinned: Vec<VerifyingKey> = peers.iter().map(|peer| peer.key).collect();
        let server = credentials.server(&pinned).map_err(TcpError::Tls)?;
        let peers = peers.into_iter().map(|peer| {
            let tls = credentials.client(&peer.key).map_err(TcpError::Tls)?;
            Ok((peer.node_id, Peer::new(peer, tls, &limits)))
        });
        let hello = Hello { protocol: PROTOCOL_VERSION, chain };
        let shared = Arc::new(Shared {
            me,
            clock_offset_ms,
            around: Surroundings { hello, limits, sockets: Arc::default(), stop: Stop::new() },
            server,
            peers: peers.collect::<Result<_, TcpError>>()?,
            keys,
            guests: Guests::new(&limits),
            inbound: Mutex::new(None),
            strangers_refused: AtomicU64::new(0),
        });
        let bound = |error: io::Error| TcpError::Listen(listen, error);
        let listener = crate::listen::listen(listen, "listen").map_err(bound)?;
        let local = listener.local_addr().map_err(bound)?;
        let listening = TcpStream::from(OwnedFd::from(listener.try_clone().map_err(bound)?));
        let network = TcpNetwork { shared, local, listening, threads: Mutex::default() };
        network.run("dkg-tcp-accept", move |shared| guests::accept(shared, &listener))?;
        network.run("dkg-tcp-keep", look_after_all)?;
        if limits.keep_connected {
            network.run("dkg-tcp-call", call_all)?;
        }
        Ok(network)
    }

    /// From now on what arrives is delivered here.
    pub fn attach(&self, inbound: impl Inbound + 'static) {
        let stop = &self.shared.around.stop;
        let mut attached = self.shared.inbound.lock();
        if !stop.is_stopped() {
            *attached = Some(Arc::new(inbound));
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What is known about the other members, in order of node id.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.shared.peers.iter().map(|(id, peer)| peer.status(self.shared.guests.has(id))).collect()
    }

    /// How many connections have ended before their other end had proven to be a member.
    pub fn strangers_refused(&self) -> u64 {
        self.shared.strangers_refused.load(Ordering::Relaxed)
    }

    /// Asks a peer for a sign of life, also if it could not be reached a moment ago.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn probe(&self, to: &NodeId, limit: Duration) -> Result<ProbeAnswer, ProbeError> {
        self.peer(to)?.probe(&self.shared.around, limit)
    }

    fn peer(&self, node: &NodeId) -> Result<&Peer, ProbeError> {
        self.shared.peers.get(node).ok_or(ProbeError::NotAPeer)
    }

    fn run(&self, name: &str, body: impl FnOnce(&Shared) + Send + 'static) -> Result<(), TcpError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.into()).spawn(move || body(&shared)).map_err(TcpError::Thread)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Makes `accept` return. On Linux a listening socket that is shut down does; elsewhere a connection to it helps.
    fn wake(&self) {
        let _ = self.listening.shutdown(std::net::Shutdown::Both);
        let mut address = self.local;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let _ = TcpStream::connect_timeout(&address, WAKE_LIMIT);
    }
}

impl Network for TcpNetwork {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        if self.shared.around.stop.is_stopped() {
            return Err(NetworkError::ShutDown);
        }
        let sent = self.peer(to).and_then(|peer| peer.send(&self.shared.around, message));
        sent.map_err(|error| match error {
            _ if self.shared.around.stop.is_stopped() => NetworkError::ShutDown,
            error => NetworkError::Unreachable(*to, error.to_string()),
        })
    }

    /// Closes all connections and ends all threads. Not to be called from an [`Inbound`], whose threads these are.
    fn shutdown(&self) {
        self.shared.around.stop.stop();
        self.shared.around.sockets.shut_down();
        // An engine that is attached has a way back to its own end.
        drop(self.shared.inbound.lock().take());
        let threads = std::mem::take(&mut *self.threads.lock());
        if !threads.is_empty() {
            self.wake();
        }
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a thread of the network of {} has panicked", self.shared.me);
            }
        }
    }
}

impl Drop for TcpNetwork {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// The whole life of the thread that looks after idle connections. It waits for no peer.
fn look_after_all(shared: &Shared) {
    while !shared.around.stop.is_stopped() {
        shared.peers.values().for_each(|peer| peer.look_after(&shared.around));
        guests::rest(shared.around.stop.stopped(), LOOK_EVERY);
    }
}

/// The whole life of the thread that has peers dialled before there is a message for them: each by a thread of its own, since
/// one may take as long as it likes.
fn call_all(shared: &Shared) {
    thread::scope(|scope| {
        while !shared.around.stop.is_stopped() {
            for peer in shared.peers.values().filter(|peer| peer.wants_a_call()) {
                let call = || peer.call(&shared.around);
                if let Err(error) = thread::Builder::new().name("dkg-tcp-call".into()).spawn_scoped(scope, call) {
                    log::debug!("there is no thread to dial {} with just now: {error}", peer.node_id());
                }
            }
            guests::rest(shared.around.stop.stopped(), LOOK_EVERY);
        }
    });
}

/// Whose key is whose, our own included.
fn owners(me: NodeId, key: &SigningKey, peers: &[TcpPeer]) -> Result<BTreeMap<[u8; 32], NodeId>, TcpError> {
    let mut keys = BTreeMap::from([(key.verifying_key().to_bytes(), me)]);
    let mut nodes = BTreeSet::new();
    for peer in peers {
        if peer.key.is_weak() {
            return Err(TcpError::WeakKey(peer.node_id));
        }
        if !nodes.insert(peer.node_id) {
            return Err(TcpError::DuplicatePeer(peer.node_id));
        }
        if let Some(other) = keys.insert(peer.key.to_bytes(), peer.node_id) {
            return Err(TcpError::DuplicateKey(other, peer.node_id));
        }
    }
    Ok(keys)
}
