//! What goes into the core and what comes out of it: plain data.

use super::event::EngineEvent;
use super::task::{Task, TaskId, TaskResult};
use crate::bls::PublicKey;
use crate::chain::{BoardMessage, DkgResult};
use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::epoch::{EpochCommit, EpochCounter, EpochPhase, Header, InstanceId, ProtocolEvent, Snapshot};
use crate::network::{Delivery, Receipt};
use crate::store::{Batch, Dealing, DkgState, EpochRecord, Journal, Prune, ReceivedShare, StoreError};

/// What the store knows of the epochs an event is about, read before the step.
pub struct Recalled {
    /// The epoch the chain is in.
    pub current: EpochRecord,
    /// The epoch after it, which the event is about.
    pub next: EpochRecord,
    /// What is remembered of the run for that epoch.
    pub journal: Option<Journal>,
    /// Earlier epochs' records with a share that the chain has named for one of these, if there are any.
    pub earlier: Vec<EpochRecord>,
    /// What is left of the run that made the keys in force, if no share has come out of it here: read at a start.
    pub unfinished: Option<(EpochRecord, Journal)>,
}

impl Recalled {
    /// What an event calls for.
    ///
    /// # Errors
    /// The store cannot be read, or holds something damaged.
    pub fn for_event(state: &DkgState, me: &NodeId, event: &ProtocolEvent) -> Result<Option<Box<Self>>, StoreError> {
        match event {
            ProtocolEvent::EpochSetupPhaseStarted { current, setup, .. } => {
                Recalled::of(state, me, *current, setup.epoch, &[])
            }
            ProtocolEvent::EpochCommittedPhaseStarted { current, commit, .. }
            | ProtocolEvent::EpochFallbackExited { current, commit, .. } => {
                Recalled::of(state, me, *current, commit.epoch, &[commit])
            }
            ProtocolEvent::BlockFinalized(_) => return Ok(None),
        }
        .map(Some)
    }

    /// What a start calls for.
    ///
    /// # Errors
    /// The store cannot be read, or holds something damaged.
    pub fn for_start(state: &DkgState, me: &NodeId, snapshot: &Snapshot) -> Result<Box<Self>, StoreError> {
        let committed = match &snapshot.phase {
            EpochPhase::Committed(commit) => Some(commit),
            EpochPhase::Staking | EpochPhase::Setup(_) => None,
        };
        let commits: Vec<&EpochCommit> = snapshot.keys.iter().chain(committed).collect();
        let mut recalled = Recalled::of(state, me, snapshot.current, snapshot.next_epoch(), &commits)?;
        if let Some(run) = &snapshot.made_keys {
            let (record, journal) = (state.record(run.setup.epoch)?, state.journal(run.setup.epoch)?);
            recalled.unfinished = journal.filter(|_| record.held().is_none()).map(|journal| (record, journal));
        }
        Ok(recalled)
    }

    fn of(
        state: &DkgState,
        me: &NodeId,
        current: EpochCounter,
        next: EpochCounter,
        commits: &[&EpochCommit],
    ) -> Result<Box<Self>, StoreError> {
        let mut earlier = Vec::new();
        for commit in commits {
            earlier.extend(state.earlier_holder(commit, me)?);
        }
        Ok(Box::new(Recalled {
            current: state.record(current)?,
            next: state.record(next)?,
            journal: state.journal(next)?,
            earlier,
            unfinished: None,
        }))
    }
}

/// One thing that has happened.
pub enum Input {
    /// The node starts, and the chain stands like this; with what the store knows of it ([`Recalled::for_start`]). The first
    /// input of a core.
    Start(Box<Snapshot>, Box<Recalled>),
    /// The chain has moved on; with what the event calls for ([`Recalled::for_event`]).
    Event(Box<ProtocolEvent>, Option<Box<Recalled>>),
    /// A private message has arrived.
    Private(Delivery),
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
    /// A computation is done.
    Computed {
        /// Which.
        id: TaskId,
        /// What came of it.
        result: TaskResult,
    },
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
    /// Confirm to its sender that a private message has been taken for good.
    Confirm(Receipt),
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
    /// Compute something, and hand the result back as [`Input::Computed`]. There is one computation on for a run at most; one
    /// that a crash cuts off is asked for again.
    Compute {
        /// Names the computation.
        id: TaskId,
        /// What to compute.
        task: Box<Task>,
    },
    /// A run has ended: stop reading for it, and let go of what still waits to be sent or posted (but not of its result).
    EndRun(InstanceId),
    /// A key has been committed: see that the share in the store signs for this public key share.
    SelfTest {
        /// The epoch it serves.
        epoch: EpochCounter,
        /// The chain's public key share of this node.
        public_key: PublicKey,
    },
    /// Tell the host.
    Report(EngineEvent),
}

/// The outcome of one step: what to write, and effects that may be carried out only when they are durable. The effects
/// cannot be had without [`persist`](Self::persist).
#[must_use]
#[derive(Default)]
pub struct Step {
    batch: Batch,
    effects: Vec<Effect>,
}

impl Step {
    pub(super) fn record(&mut self, record: EpochRecord) {
        // One record per epoch: a later one of the same step has the earlier in it.
        self.batch.keys.retain(|other| other.epoch() != record.epoch());
        self.batch.keys.push(record);
    }

    /// An epoch's record as this step leaves it, if it changes it.
    pub(super) fn changed(&self, epoch: EpochCounter) -> Option<&EpochRecord> {
        self.batch.keys.iter().find(|record| record.epoch() == epoch)
    }

    pub(super) fn dealing(&mut self, dealing: Dealing) {
        self.batch.dealing = Some(dealing);
    }

    pub(super) fn share(&mut self, share: ReceivedShare) {
        self.batch.shares.push(share);
    }

    /// The key of this epoch is committed.
    pub(super) fn close(&mut self, epoch: EpochCounter) {
        self.batch.closed.push(epoch);
    }

    /// The chain is in this epoch, with keys that were made in the run for that one.
    pub(super) fn prune(&mut self, current: EpochCounter, in_force: Option<EpochCounter>) {
        self.batch.prune_for = Some(Prune { current, in_force });
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

    /// This step and the one after it as one: what both write becomes durable together.
    pub(super) fn join(&mut self, next: Step) {
        let Step { batch: Batch { keys, dealing, shares, closed, prune_for }, effects } = next;
        keys.into_iter().for_each(|record| self.record(record));
        self.batch.shares.extend(shares);
        self.batch.dealing = dealing.or(self.batch.dealing.take());
        self.batch.closed.extend(closed);
        self.batch.prune_for = prune_for.or(self.batch.prune_for);
        self.effects.extend(effects);
    }

    /// Writes what has to be durable, and hands out the effects once that has succeeded.
    ///
    /// # Errors
    /// The store fails or refuses; the effects are lost, and the engine must stop.
    pub fn persist(self, state: &DkgState) -> Result<Vec<Effect>, StoreError> {
        if !self.batch.is_empty() {
            state.write(&self.batch)?;
        }
        Ok(self.effects)
    }
}
