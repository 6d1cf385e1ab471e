//! What the chain tells a node: finalized blocks, and the beginning and end of the epochs' phases.
//!
//! A run that makes the keys of epoch `e + 1` takes place in the setup phase of epoch `e`. Everything a node has to
//! know about it (who takes part, when the phases end) comes in one [`EpochSetup`]; what the chain then agreed on comes
//! in one [`EpochCommit`]. These are plain data: the host's chain makes them, the engine consumes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};

use crate::bls::{PublicKey, VectorEncoding};
use crate::chain::BoardMessage;
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

    /// A hash of which run this is, and of whom it is made up: its name, its members with their keys, and how points travel.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha3_256::new();
        let name = self.instance.as_str().as_bytes();
        // Each part has a length that is known or comes first.
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(self.epoch.0.to_be_bytes());
        hash.update((self.vector_encoding.point_bytes() as u64).to_be_bytes());
        for (_, member) in self.committee.iter() {
            hash.update(member.node_id.as_bytes());
            hash.update(member.staking_key.key().to_flow_bytes());
        }
        hash.finalize().into()
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

/// The current epoch's run as far as it has gone, for a node that has missed some of it (spec section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHistory {
    /// What the run is about.
    pub setup: EpochSetup,
    /// For each phase that has ended, in order, the block that ended it: the first finalized one with the phase's final
    /// view or a later one. The board is read as of these, so they must be those that every running node was told of.
    pub ends: Vec<Header>,
}

/// A run that is over and that the chain has agreed on, with all that was said in it on the board. A node that was down when it
/// ended can still compute its share from this and from what it has kept of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// What the run was about.
    pub setup: EpochSetup,
    /// For each phase what came onto the board in it: behind the block that ended the phase before (or from the board's
    /// beginning), up to the block that ended this one.
    pub phases: [Vec<BoardMessage>; 3],
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
    /// The keys that are in force in that epoch, whichever run made them; `None` before the first.
    pub keys: Option<EpochCommit>,
    /// That epoch's run, while its board can be read: in the setup phase, and still in the committed phase. `None` if the
    /// chain cannot tell; then a node that was down takes no part in what had begun.
    pub run: Option<RunHistory>,
    /// The run that made the keys that are in force, for a node that was down when it ended. `None` if the chain cannot tell
    /// of a run that is over; what a node has kept of it then stays in its store.
    pub made_keys: Option<Arc<PastRun>>,
}

impl Snapshot {
    /// A chain of whose past nothing is known: a node that starts here for the first time, before any run.
    pub fn new(current: EpochCounter, head: Header, phase: EpochPhase) -> Self {
        Snapshot { current, head, phase, keys: None, run: None, made_keys: None }
    }

    /// The epoch whose keys are made, or have been made, in the current one.
    pub(crate) fn next_epoch(&self) -> EpochCounter {
        match &self.phase {
            EpochPhase::Setup(setup) => setup.epoch,
            EpochPhase::Committed(commit) => commit.epoch,
            EpochPhase::Staking => self.current.next().unwrap_or(self.current),
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
