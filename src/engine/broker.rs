//! The Broker: what a run says and hears, checked and wrapped. Epoch-scoped and pure.

use std::sync::Arc;

use crate::bls::{Index, PublicKey, SecretKey};
use crate::chain::BoardMessage;
use crate::committee::{Committee, NodeId};
use crate::envelope::{BroadcastMessage, PostError, PrivateMessage};
use crate::epoch::{EpochSetup, InstanceId};
use crate::secret::SecretBytes;

/// How broadcasts are verified. A node does it itself; a simulation of many nodes need not do it once for each.
pub(crate) trait Verify: Send + Sync {
    /// Whether the owner of `key` has signed this.
    fn verify(&self, message: &BroadcastMessage, key: &PublicKey) -> bool;
}

/// By verifying the signature.
pub(super) struct Directly;

impl Verify for Directly {
    fn verify(&self, message: &BroadcastMessage, key: &PublicKey) -> bool {
        message.verify(key)
    }
}

/// Signs what we broadcast, verifies what others did, and keeps the place on the board up to which we have read.
#[cfg_attr(feature = "simulator", derive(Clone))]
pub struct Broker {
    instance: InstanceId,
    committee: Arc<Committee>,
    staking_key: SecretKey,
    verifier: Arc<dyn Verify>,
    offset: u64,
}

/// Why something on the board is no broadcast of this run. Each is attributable: the board says who posted it. All honest
/// members drop the same, since nothing but the post itself decides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostFault {
    /// The poster is not in the committee.
    #[error("{0} is not a member of the committee")]
    NotAMember(NodeId),
    /// Not an envelope.
    #[error("{0}")]
    Malformed(#[from] PostError),
    /// Of another run.
    #[error("it belongs to the run '{0:.80}'")]
    OtherInstance(String),
    /// Not signed by the poster.
    #[error("the poster's staking key has not signed it")]
    BadSignature,
}

/// A post by a member, opened: a protocol message, or what is wrong with it.
pub struct Opened {
    /// Who posted it.
    pub node_id: NodeId,
    /// Its index and the protocol message.
    pub message: Result<(Index, Vec<u8>), PostFault>,
}

impl Broker {
    /// The Broker of one run.
    pub fn new(setup: &EpochSetup, staking_key: SecretKey) -> Self {
        Broker::verifying(setup, staking_key, Arc::new(Directly))
    }

    pub(super) fn verifying(setup: &EpochSetup, staking_key: SecretKey, verifier: Arc<dyn Verify>) -> Self {
        let (instance, committee) = (setup.instance.clone(), setup.committee.clone());
        Broker { instance, committee, staking_key, verifier, offset: 0 }
    }

    /// The run's name.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The first message on the board that has not been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A broadcast of ours as it is posted.
    pub fn broadcast(&self, data: Vec<u8>) -> String {
        BroadcastMessage::sign(data, &self.instance, &self.staking_key).to_json()
    }

    /// A private message of ours.
    pub fn private(&self, data: SecretBytes) -> PrivateMessage {
        PrivateMessage::protocol(data, self.instance.as_str())
    }

    /// The sender's index, if it is a member and speaks of this run.
    pub fn open_private(&self, from: &NodeId, message: &PrivateMessage) -> Option<Index> {
        let ours = message.dkg_instance_id == self.instance.as_str();
        self.committee.index_of(from).filter(|_| ours)
    }

    /// Opens what was read from the board, one by one: no post keeps another from being read.
    pub fn open_board(&mut self, messages: &[BoardMessage]) -> Vec<Opened> {
        self.offset = self.offset.saturating_add(messages.len() as u64);
        messages.iter().map(|post| Opened { node_id: post.node_id, message: self.open(post) }).collect()
    }

    fn open(&self, post: &BoardMessage) -> Result<(Index, Vec<u8>), PostFault> {
        let not_a_member = || PostFault::NotAMember(post.node_id);
        let index = self.committee.index_of(&post.node_id).ok_or_else(not_a_member)?;
        let member = self.committee.member(index).ok_or_else(not_a_member)?;
        let message = BroadcastMessage::from_json(&post.content)?;
        if message.dkg_instance_id != self.instance.as_str() {
            return Err(PostFault::OtherInstance(message.dkg_instance_id));
        }
        if !self.verifier.verify(&message, member.staking_key.key()) {
            return Err(PostFault::BadSignature);
        }
        Ok((index, message.data))
    }
}
