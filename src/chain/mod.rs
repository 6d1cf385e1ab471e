//! Where epochs, views and the whiteboard come from.
//!
//! [`DkgContractClient`] is what a node asks of a whiteboard, whoever hosts it. [`contract`] is the whiteboard itself as
//! a deterministic state machine (spec section 5). [`log`] is a chain for members that have none: they run the contract
//! over an ordered log of what they signed (spec section 9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bls::PublicKey;
use crate::committee::{Index, NodeId};
use crate::epoch::{Header, InstanceId};

pub mod contract;
#[cfg(feature = "log-chain")]
pub mod log;

/// One thing posted on the whiteboard: the board vouches for who posted it, and for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardMessage {
    /// Who posted it.
    pub node_id: NodeId,
    /// What was posted: JSON if the poster is honest, anything otherwise.
    pub content: String,
}

/// What a node submits at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DkgResult {
    /// The run failed here: no keys.
    Empty,
    /// The keys the node came out with.
    Complete {
        /// The group public key: 192 lower-case hex digits, reference byte order.
        group_key: String,
        /// One public key share per participant, in order of DKG index, written like the group key.
        key_shares: Vec<String>,
        /// Every participant's DKG index.
        index_map: BTreeMap<NodeId, Index>,
    },
}

impl DkgResult {
    /// The result that carries these keys.
    pub fn complete(group_key: &PublicKey, key_shares: &[PublicKey], index_map: BTreeMap<NodeId, Index>) -> Self {
        let hex = |key: &PublicKey| crate::hex::encode(&key.to_flow_bytes());
        DkgResult::Complete { group_key: hex(group_key), key_shares: key_shares.iter().map(hex).collect(), index_map }
    }
}

/// Why a whiteboard did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It could not be reached, or not just now: worth trying again.
    #[error("the whiteboard is unavailable: {0}")]
    Unavailable(String),
    /// It was reached and said no: trying again changes nothing.
    #[error("the whiteboard refused: {0}")]
    Refused(String),
}

/// A node's access to the whiteboard (the DKG contract).
///
/// A node may be given several, in order of preference. Calls may block; after [`shutdown`](Self::shutdown) all of them,
/// also those in flight, must return promptly.
pub trait DkgContractClient: Send + Sync {
    /// Posts one broadcast; `content` is the JSON of a signed envelope. Returns once the board has it.
    ///
    /// # Errors
    /// See [`ClientError`]. After an error the message may or may not be on the board: it is posted again, and readers
    /// tolerate it twice.
    fn broadcast(&self, content: &str) -> Result<(), ClientError>;

    /// The messages from `from_index` on, oldest first, as the board stood at block `as_of`: at most `limit` of them.
    /// Fewer than `limit` means that there are no more as of that block.
    ///
    /// # Errors
    /// See [`ClientError`]; also when the client has not yet seen block `as_of`.
    fn read_broadcast(&self, from_index: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError>;

    /// Submits this node's result of the run `instance`. It must never count in another run, however late it arrives: a
    /// client that cannot be sure refuses.
    ///
    /// # Errors
    /// See [`ClientError`].
    fn submit_result(&self, instance: &InstanceId, result: &DkgResult) -> Result<(), ClientError>;

    /// Ends calls in flight and makes all later ones fail at once. Called when the engine stops.
    fn shutdown(&self) {}
}
