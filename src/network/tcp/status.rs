//! What is known about peers, and what can go wrong with them.

use std::io;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::frame::{Hello, PROTOCOL_VERSION};
use super::link::LinkError;
use crate::committee::NodeId;
use crate::hex;

/// What is known about another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Who it is.
    pub node_id: NodeId,
    /// Where it is dialled.
    pub address: String,
    /// Whether it is connected to us.
    pub inbound: bool,
    /// Whether we are connected to it.
    pub outbound: bool,
    /// What went wrong last, unless it went well since.
    pub last_error: Option<String>,
    /// Messages that it has confirmed.
    pub sent: u64,
    /// Messages of its that were confirmed.
    pub received: u64,
    /// Messages of its that the engine did not let in, and connections of its that were closed for what it said.
    pub refused: u64,
}

/// A peer's sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// The version of its program.
    pub version: String,
    /// The identity of the chain that it follows.
    pub chain: [u8; 32],
    /// Its clock, in milliseconds of Unix time.
    pub now_ms: u64,
    /// How long the answer took, in milliseconds.
    pub round_trip_ms: u64,
}

/// Why a peer gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It is not in the committee.
    #[error("it is not among the peers")]
    NotAPeer,
    /// There is no connection to it.
    #[error("{0}")]
    Unreachable(String),
    /// At its address is somebody else.
    #[error("whoever answers at its address has another network key than the committee file says")]
    WrongKey,
    /// It does not take us for a member.
    #[error("it does not know our network key: it follows another committee file")]
    KeyUnknown,
    /// It follows another chain.
    #[error("it follows another committee file, of identity {}", hex::encode(.0))]
    OtherChain([u8; 32]),
    /// It speaks another version of the protocol.
    #[error(
        "it speaks version {0} of the peer protocol, and we speak {PROTOCOL_VERSION}: another version of the program"
    )]
    OtherVersion(u32),
    /// Somebody else talks to it.
    #[error("another message to it is still under way")]
    Busy,
    /// The network is shut down.
    #[error("the network is shut down")]
    ShutDown,
}

impl ProbeError {
    /// What is wrong with a peer that says this.
    pub(super) fn of(ours: &Hello, theirs: &Hello) -> Self {
        if theirs.protocol != ours.protocol {
            ProbeError::OtherVersion(theirs.protocol)
        } else if theirs.chain != ours.chain {
            ProbeError::OtherChain(theirs.chain)
        } else {
            ProbeError::Unreachable("it will not talk, and does not say why".into())
        }
    }
}

impl From<LinkError> for ProbeError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::WrongKey => ProbeError::WrongKey,
            LinkError::KeyUnknown => ProbeError::KeyUnknown,
            other => ProbeError::Unreachable(other.to_string()),
        }
    }
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// The address cannot be listened at.
    #[error("cannot listen at {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// No more threads.
    #[error("the system gives no thread for the network: {0}")]
    Thread(#[source] io::Error),
    /// A peer is there twice.
    #[error("node {0} is among the peers twice")]
    DuplicatePeer(NodeId),
    /// Two members have one network key.
    #[error("nodes {0} and {1} have the same network key; every member needs its own")]
    DuplicateKey(NodeId, NodeId),
    /// A network key that many could sign for.
    #[error("the network key of node {0} has small order: anyone could sign for it")]
    WeakKey(NodeId),
    /// The TLS library does not take what it is given.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
}
