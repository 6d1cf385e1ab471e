//! Private channels between members.
//!
//! [`Network`] is what the engine asks of a host's network: send these bytes to that node, confidentially, so that the
//! receiver knows for certain who sent them. What arrives is handed to
//! [`MessagingEngine::process`](crate::engine::MessagingEngine::process).

mod memory;

pub use memory::{MemoryNetwork, MemoryPort};

use crate::committee::NodeId;
use crate::engine::PrivateMessage;

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

/// A host's network, as the engine uses it.
///
/// The channel must be confidential and authenticated: shares travel on it as they are. Calls may block; after
/// [`shutdown`](Self::shutdown) all of them, also those in flight, must return promptly.
pub trait Network: Send + Sync {
    /// Delivers one message; returns once the receiver has taken it.
    ///
    /// # Errors
    /// See [`NetworkError`]; the message is then sent again later.
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError>;

    /// Ends calls in flight and makes all later ones fail at once. Called when the engine stops.
    fn shutdown(&self) {}
}
