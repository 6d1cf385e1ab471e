//! What the chain tells a node: finalized blocks, and the beginning and end of the epochs' phases.
//!
//! A run that makes the keys of epoch `e + 1` takes place in the setup phase of epoch `e`. Everything a node has to
//! know about it (who takes part, when the phases end) comes in one [`EpochSetup`]; what the chain then agreed on comes
//! in one [`EpochCommit`]. These are plain data: the host's chain makes them, the engine consumes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bls::{PublicKey, VectorEncoding};
use crate::committee::{Committee, Index, NodeId};

/// A view: the chain's own clock. Views grow, and some may be skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct View(pub u64);

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpochCounter(pub u64);

impl EpochCounter {
    /// The epoch after this one; `None` after the last that a counter can name.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(EpochCounter)
    }
}

impl fmt::Display for EpochCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one run on one chain: `dkg-<chain id>-<epoch counter>`, the counter being the epoch the keys are for
/// (spec section 2). It stands in every envelope, so that nothing said in one run can be repeated in another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId(String);

impl InstanceId {
    /// The run on `chain_id` that makes the keys of `epoch`.
    pub fn new(chain_id: &str, epoch: EpochCounter) -> Self {
        InstanceId(format!("dkg-{chain_id}-{epoch}"))
    }

    /// The name as it stands in envelopes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A finalized block, as far as the engine has to know it. "As of a block" always means one of these.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// Its view.
    pub view: View,
    /// Its height; on the log chain the position in the log (how many entries the block covers).
    pub height: u64,
    /// Its id; on the log chain the hash of that prefix.
    pub id: [u8; 32],
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header(view {}, height {}, id {}…)", self.view, self.height, crate::hex::encode(&self.id[..4]))
    }
}

/// An epoch's setup phase has begun: everything a run needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSetup {
    /// The epoch the run makes keys for.
    pub epoch: EpochCounter,
    /// The run's name.
    pub instance: InstanceId,
    /// Who takes part.
    pub committee: Arc<Committee>,
    /// The first view of the setup phase.
    pub first_view: View,
    /// The last views of phase 1 (sharing), 2 (complaints) and 3 (answers); strictly increasing.
    pub phase_final_views: [View; 3],
    /// How the points of a commitment vector travel; on Flow, compressed.
    pub vector_encoding: VectorEncoding,
}

impl EpochSetup {
    /// The run on `chain_id` for `epoch`, with points compressed as on Flow.
    pub fn new(
        chain_id: &str,
        epoch: EpochCounter,
        committee: Arc<Committee>,
        first_view: View,
        phase_final_views: [View; 3],
    ) -> Self {
        let instance = InstanceId::new(chain_id, epoch);
        let vector_encoding = VectorEncoding::Compressed;
        EpochSetup { epoch, instance, committee, first_view, phase_final_views, vector_encoding }
    }
}

/// An epoch has been committed: the keys that are in force in it, whichever run made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochCommit {
    /// The epoch these keys serve.
    pub epoch: EpochCounter,
    /// The group public key.
    pub group_key: PublicKey,
    /// The public key shares, in order of DKG index.
    pub key_shares: Vec<PublicKey>,
    /// Every participant's DKG index.
    pub index_map: BTreeMap<NodeId, Index>,
}

impl EpochCommit {
    /// The key the chain expects of this node, with its index; `None` if it has none in this epoch.
    pub fn expected_of(&self, node: &NodeId) -> Option<(Index, &PublicKey)> {
        let index = *self.index_map.get(node)?;
        Some((index, self.key_shares.get(usize::from(index))?))
    }
}

/// Where the current epoch stands when a node starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EpochPhase {
    /// Before the setup phase: nothing to do yet.
    Staking,
    /// Inside the setup phase: a run is going on.
    Setup(EpochSetup),
    /// The next epoch's keys are agreed on.
    Committed(EpochCommit),
}

/// Where the chain stands when a node starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The epoch the chain is in.
    pub current: EpochCounter,
    /// The latest finalized block.
    pub head: Header,
    /// The phase of that epoch.
    pub phase: EpochPhase,
}

impl Snapshot {
    /// The event that would have told a running node what this tells a starting one.
    pub fn into_event(self) -> Option<ProtocolEvent> {
        let Snapshot { current, head: first, phase } = self;
        match phase {
            EpochPhase::Staking => None,
            EpochPhase::Setup(setup) => Some(ProtocolEvent::EpochSetupPhaseStarted { current, first, setup }),
            EpochPhase::Committed(commit) => Some(ProtocolEvent::EpochCommittedPhaseStarted { current, first, commit }),
        }
    }
}

/// What the chain is telling the node, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolEvent {
    /// The setup phase of epoch `current` has begun with this block.
    EpochSetupPhaseStarted {
        /// The epoch the chain is in.
        current: EpochCounter,
        /// The first block of the phase.
        first: Header,
        /// The run to take part in.
        setup: EpochSetup,
    },
    /// The committed phase of epoch `current` has begun with this block.
    EpochCommittedPhaseStarted {
        /// The epoch the chain is in.
        current: EpochCounter,
        /// The first block of the phase.
        first: Header,
        /// The next epoch's keys.
        commit: EpochCommit,
    },
    /// The chain has left fallback mode with this block; the next epoch may be served by the keys of an earlier run.
    EpochFallbackExited {
        /// The epoch the chain is in.
        current: EpochCounter,
        /// The block.
        first: Header,
        /// The next epoch's keys.
        commit: EpochCommit,
    },
    /// A block was finalized.
    BlockFinalized(Header),
}

/// Something that follows the chain's events; a node's engine is one.
pub trait ProtocolEvents: Send + Sync {
    /// Takes one event. Called in the order of the chain; may block for a moment when events pile up.
    fn on_event(&self, event: ProtocolEvent);
}
