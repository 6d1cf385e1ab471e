//! Who takes part: node ids, members, their canonical order, and the threshold.
//!
//! A committee is a set of members in ascending order of node id; a member's place in that order is its DKG index
//! (spec section 2). Nothing here knows about epochs or messages.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use crate::bls::Index;
use crate::bls::ProvenPublicKey;

/// The fewest members a committee can have.
pub const MIN_MEMBERS: usize = 2;
/// The most members a committee can have: indices and Shamir abscissas travel as one byte.
pub const MAX_MEMBERS: usize = 254;

/// A node's identity on the chain: 32 bytes, ordered as bytes, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The node id with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        NodeId(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = CommitteeError;

    fn from_str(text: &str) -> Result<Self, CommitteeError> {
        crate::hex::decode_array(text)
            .map(NodeId)
            .ok_or_else(|| CommitteeError::NotANodeId(text.chars().take(80).collect()))
    }
}

/// One participant: who it is, and the key that its broadcasts are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity on the chain.
    pub node_id: NodeId,
    /// Its staking key, whose possession has been proven.
    pub staking_key: ProvenPublicKey,
}

/// What is wrong with a committee, or with a name in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// Too few or too many members.
    #[error("a committee has {MIN_MEMBERS} to {MAX_MEMBERS} members, not {0}")]
    Size(usize),
    /// One node id is there twice.
    #[error("node {0} is in the committee twice")]
    DuplicateNode(NodeId),
    /// Two members have one staking key.
    #[error("nodes {0} and {1} have the same staking key; every member needs its own")]
    DuplicateKey(NodeId, NodeId),
    /// A staking key that verifies nothing.
    #[error("the staking key of node {0} is the identity point, which anyone could sign for")]
    IdentityKey(NodeId),
    /// Not 64 hex digits.
    #[error("'{0}' is not a node id (64 hex digits)")]
    NotANodeId(String),
}

/// The members of one run, in canonical order. Cheap to share behind an `Arc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    members: Vec<Member>,
}

impl Committee {
    /// Puts `members` into canonical order: ascending node id.
    ///
    /// # Errors
    /// Fewer than [`MIN_MEMBERS`] or more than [`MAX_MEMBERS`] members, a node id or a key that is there twice, or a
    /// key that is the identity point.
    pub fn new(mut members: Vec<Member>) -> Result<Self, CommitteeError> {
        if !(MIN_MEMBERS..=MAX_MEMBERS).contains(&members.len()) {
            return Err(CommitteeError::Size(members.len()));
        }
        members.sort_by_key(|m| m.node_id);
        for pair in members.windows(2) {
            if pair[0].node_id == pair[1].node_id {
                return Err(CommitteeError::DuplicateNode(pair[0].node_id));
            }
        }
        let mut keys = std::collections::BTreeMap::new();
        for member in &members {
            if member.staking_key.key().is_identity() {
                return Err(CommitteeError::IdentityKey(member.node_id));
            }
            if let Some(other) = keys.insert(member.staking_key.key().to_flow_bytes(), member.node_id) {
                return Err(CommitteeError::DuplicateKey(other, member.node_id));
            }
        }
        Ok(Committee { members })
    }

    /// How many members there are: `2..=254`.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// The threshold `t`: see [`threshold`].
    pub fn threshold(&self) -> usize {
        threshold(self.size())
    }

    /// The members in canonical order; the position is the DKG index.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this index, if the committee is that large.
    pub fn member(&self, index: Index) -> Option<&Member> {
        self.members.get(usize::from(index))
    }

    /// The index of a node, if it is a member.
    pub fn index_of(&self, node: &NodeId) -> Option<Index> {
        let position = self.members.binary_search_by_key(node, |m| m.node_id).ok()?;
        Index::from_position(position)
    }

    /// All indices with their members.
    pub fn iter(&self) -> impl Iterator<Item = (Index, &Member)> {
        Index::all(self.size()).zip(&self.members)
    }
}

/// The threshold `t` of a committee of `n`: at most `t` members may be malicious, and `t + 1` shares sign.
///
/// `floor((n - 1) / 2)`, except that it is 1 for `n = 2` (spec section 2). The contract uses the same function.
pub fn threshold(n: usize) -> usize {
    if n == 2 { 1 } else { n.saturating_sub(1) / 2 }
}
