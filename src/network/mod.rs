//! Private channels between members.
//!
//! [`Network`] is what the engine asks of a host's network: send these bytes to that node, confidentially, so that the
//! receiver knows for certain who sent them. What arrives is handed to
//! [`MessagingEngine::inbound`](crate::engine::MessagingEngine::inbound).

mod memory;
mod receipt;
#[cfg(feature = "tcp")]
pub mod tcp;

pub use memory::{CONFIRM_LIMIT, MemoryNetwork, MemoryPort};
pub use receipt::{Answer, Receipt};

use crate::committee::{MAX_MEMBERS, NodeId};
use crate::envelope::PrivateMessage;

/// Why a private message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The peer cannot be reached just now, or is too busy to take it.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(NodeId, String),
    /// The network is shut down.
    #[error("the network is shut down")]
    ShutDown,
}

/// Why a private message that has arrived was not taken; its sender may try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// The message is larger than any honest one.
    #[error("the message is too large")]
    TooLarge,
    /// The sender has filled its own share of the queue.
    #[error("too many messages of this sender wait already")]
    SenderFull,
    /// All senders together have filled the queue.
    #[error("too many messages wait already")]
    Full,
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// A private message that has arrived.
pub struct Delivery {
    /// Who sent it; the network has authenticated it.
    pub from: NodeId,
    /// What it is.
    pub message: PrivateMessage,
    /// The receiver's word for it, which the sender waits for.
    pub receipt: Receipt,
}

/// Where a network hands what it has received; a node's [`InboundHandle`](crate::engine::InboundHandle) is one.
pub trait Inbound: Send + Sync {
    /// Takes a private message; returns at once. Whether it has been taken for good is told by its receipt, later: when the
    /// run that it belongs to has begun here, and the share is durable.
    ///
    /// # Errors
    /// See [`InboundError`]; the network should tell the sender.
    fn deliver(&self, delivery: Delivery) -> Result<(), InboundError>;
}

/// A host's network, as the engine uses it.
///
/// The channel must be confidential and authenticated: shares travel on it as they are. Calls may block; there is one for each
/// peer at most, and it must not wait for those of others, or a member that takes messages and never answers would hold up
/// everybody's. After [`shutdown`](Self::shutdown) all of them, also those in flight, must return promptly.
pub trait Network: Send + Sync {
    /// Delivers one message; returns once the receiver has confirmed it, or after a while in which it has not.
    ///
    /// # Errors
    /// See [`NetworkError`]; the message is then sent again later.
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError>;

    /// How many calls of [`send`](Self::send) may be under way at once, asked when the engine starts; each has a thread to block. One for every peer, so that
    /// none holds up another, unless the network knows better.
    fn calls_at_once(&self) -> usize {
        MAX_MEMBERS
    }

    /// Ends calls in flight and makes all later ones fail at once. Called when the engine stops.
    fn shutdown(&self) {}
}
