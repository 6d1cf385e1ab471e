//! What goes into the core and what comes out of it: plain data.

use super::event::EngineEvent;
use crate::chain::{BoardMessage, DkgResult};
use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::epoch::{EpochCounter, Header, InstanceId, ProtocolEvent};
use crate::store::{DkgState, EpochRecord, StoreError};

/// What the store knows of the epochs an event is about, read before the step.
pub struct Recalled {
    /// The epoch the chain is in.
    pub current: EpochRecord,
    /// The epoch after it, which the event is about.
    pub next: EpochRecord,
}

/// One thing that has happened.
pub enum Input {
    /// The chain has moved on, or stands like this at start-up; with what [`epochs_of`] the event calls for.
    Event(Box<ProtocolEvent>, Option<Box<Recalled>>),
    /// A private message has arrived from this (authenticated) node.
    Private(NodeId, PrivateMessage),
    /// Part of what was read from the board.
    Page {
        /// Which read.
        read: ReadId,
        /// The messages, from where the read began or the last page ended.
        messages: Vec<BoardMessage>,
        /// There are no more as of that block.
        last: bool,
    },
    /// A read that need not succeed has been given up.
    ReadGivenUp(ReadId),
}

/// Names one read of the board, so that an answer to an abandoned one is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// A request to read the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Names the read.
    pub id: ReadId,
    /// The first message wanted.
    pub from_index: u64,
    /// The block as of which to read.
    pub as_of: Header,
    /// Try until it succeeds: a phase ends here.
    pub must_succeed: bool,
}

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// Send a private message.
    SendPrivate {
        /// To whom.
        to: NodeId,
        /// What.
        message: PrivateMessage,
    },
    /// Post a broadcast.
    Post {
        /// The run it belongs to.
        instance: InstanceId,
        /// The signed envelope as JSON.
        content: String,
    },
    /// Submit the run's result.
    Submit {
        /// The run it belongs to.
        instance: InstanceId,
        /// The result.
        result: DkgResult,
    },
    /// Read the board. Any read before is abandoned.
    Read(ReadRequest),
    /// A run has ended: stop reading for it, and let go of what still waits to be sent or posted (but not of its result).
    EndRun(InstanceId),
    /// Tell the host.
    Report(EngineEvent),
}

/// The outcome of one step: records to write, and effects that may be carried out only when they are durable. The effects
/// cannot be had without [`persist`](Self::persist).
#[must_use]
#[derive(Default)]
pub struct Step {
    records: Vec<EpochRecord>,
    effects: Vec<Effect>,
}

impl Step {
    pub(super) fn record(&mut self, record: EpochRecord) {
        // One record per epoch: a later one of the same step has the earlier in it.
        self.records.retain(|other| other.epoch() != record.epoch());
        self.records.push(record);
    }

    pub(super) fn then(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn extend(&mut self, effects: impl IntoIterator<Item = Effect>) {
        self.effects.extend(effects);
    }

    pub(super) fn report(&mut self, event: EngineEvent) {
        self.then(Effect::Report(event));
    }

    /// Writes the records, and hands out the effects once that has succeeded.
    ///
    /// # Errors
    /// The store fails or refuses; the effects are lost, and the engine must stop.
    pub fn persist(self, state: &DkgState) -> Result<Vec<Effect>, StoreError> {
        state.commit(&self.records)?;
        Ok(self.effects)
    }
}

/// The epochs an event is about: the chain's, and the one after it. Their records have to be recalled for it.
pub fn epochs_of(event: &ProtocolEvent) -> Option<(EpochCounter, EpochCounter)> {
    match event {
        ProtocolEvent::EpochSetupPhaseStarted { current, setup, .. } => Some((*current, setup.epoch)),
        ProtocolEvent::EpochCommittedPhaseStarted { current, commit, .. }
        | ProtocolEvent::EpochFallbackExited { current, commit, .. } => Some((*current, commit.epoch)),
        ProtocolEvent::BlockFinalized(_) => None,
    }
}
