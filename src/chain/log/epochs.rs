//! Epochs as the finalized views bring them about, and the whiteboard contract that runs inside them.
//!
//! Pure: fed with finalized blocks and accepted posts and results, it answers with events.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bls::PublicKey;
use crate::chain::contract::{Contract, ContractError};
use crate::chain::log::{ChainConfig, EpochViews};
use crate::chain::{BoardMessage, DkgResult};
use crate::committee::NodeId;
use crate::epoch::{
    EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, InstanceId, PastRun, ProtocolEvent, RunHistory,
    Snapshot, View,
};

/// Earlier epochs whose public keys are remembered: signatures under them may still be combined and verified.
pub const PAST_KEYS: usize = 16;

/// What one entry brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "events are few, and gone as soon as they are told")]
pub enum ChainEvent {
    /// Something the engine has to know.
    Protocol(ProtocolEvent),
    /// An epoch ended without new keys: its run failed, or was passed over. If an earlier run's keys are in force they stay so,
    /// and an [`EpochFallbackExited`](ProtocolEvent::EpochFallbackExited) follows.
    EpochFailed {
        /// The epoch in which the run failed.
        epoch: EpochCounter,
    },
    /// No view of these epochs was ever final: nobody ticked while they were due. The keys in force stay so, as above.
    EpochsPassedOver {
        /// The first.
        first: EpochCounter,
        /// The last.
        last: EpochCounter,
    },
}

/// Why the whiteboard could not be read as of a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The replica has not read that far.
    #[error("this replica stands at position {position} of the log, the block asked for at {asked}")]
    NotYet {
        /// Where the replica stands.
        position: u64,
        /// The block's height.
        asked: u64,
    },
    /// The block is older than the run that the board now belongs to.
    #[error("the whiteboard of block {asked} has been cleared: the run on it started at position {started}")]
    Cleared {
        /// Where the present run started.
        started: u64,
        /// The block's height.
        asked: u64,
    },
    /// The block is not one of this log.
    #[error("block {0} is not one of this log")]
    OtherLog(u64),
}

/// When a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunStart {
    /// With the first block at or after its first view, as on a chain whose blocks skip views.
    #[cfg(feature = "simulator")]
    AtOrAfter,
    /// With the block of exactly this view, or not at all: in a run that is come into late, a phase would be short.
    Exactly,
}

/// The present epoch.
#[derive(Clone, Debug)]
pub(crate) struct Epochs {
    config: Arc<ChainConfig>,
    run_start: RunStart,
    views: EpochViews,
    phase: EpochPhase,
    /// The keys that are in force in the present epoch.
    keys: Option<EpochCommit>,
    /// The run that made them. Of all that are over it is the only one whose keys can still come into force, by fallback.
    made_keys: Option<Arc<PastRun>>,
    /// The keys of earlier epochs, the latest at the back.
    past: VecDeque<Arc<EpochCommit>>,
    contract: Contract,
    /// The run that the contract carries, from its start to the end of the epoch.
    run: Option<EpochSetup>,
    /// How many entries the log had when it started.
    run_started: u64,
    /// For each message on the board, how many entries were before its own.
    posted_at: Vec<u64>,
    /// The first finalized block at or after each view at which something happens in this epoch.
    boundaries: Vec<(View, Header)>,
}

impl Epochs {
    pub(crate) fn new(config: Arc<ChainConfig>, run_start: RunStart) -> Self {
        Epochs {
            run_start,
            views: config.epoch_at(View(0)),
            config,
            phase: EpochPhase::Staking,
            keys: None,
            made_keys: None,
            past: VecDeque::new(),
            contract: Contract::new(),
            run: None,
            run_started: 0,
            posted_at: Vec::new(),
            boundaries: Vec::new(),
        }
    }

    pub(crate) fn views(&self) -> &EpochViews {
        &self.views
    }

    pub(crate) fn phase(&self) -> &EpochPhase {
        &self.phase
    }

    pub(crate) fn keys(&self) -> Option<&EpochCommit> {
        self.keys.as_ref()
    }

    /// The keys of earlier epochs, the latest last.
    pub(crate) fn past_keys(&self) -> impl Iterator<Item = &EpochCommit> {
        self.past.iter().map(Arc::as_ref)
    }

    /// What a node has to know that starts when `head` is the last finalized block.
    pub(crate) fn snapshot(&self, head: Header) -> Snapshot {
        let ends = |setup: &EpochSetup| {
            setup.phase_final_views.iter().map_while(|last| self.first_finalized_at(*last)).collect()
        };
        Snapshot {
            current: self.views.epoch,
            head,
            phase: self.phase.clone(),
            keys: self.keys.clone(),
            run: self.run.as_ref().map(|setup| RunHistory { setup: setup.clone(), ends: ends(setup) }),
            made_keys: self.made_keys.clone(),
        }
    }

    /// The present epoch's run with what was said in each of its phases, once all three have ended.
    fn past_run(&self) -> Option<PastRun> {
        let setup = self.run.clone()?;
        let mut read = 0;
        let mut said_until = |last: View| {
            let end = self.first_finalized_at(last)?;
            let said = self.messages(read, end.height, usize::MAX).ok()?.to_vec();
            read += said.len() as u64;
            Some(said)
        };
        let [first, second, third] = setup.phase_final_views;
        let phases = [said_until(first)?, said_until(second)?, said_until(third)?];
        Some(PastRun { setup, phases })
    }

    /// Whether at this view a run is on for which time has to pass: from its first view to the last of its results'.
    pub(crate) fn is_paced(&self, view: View) -> bool {
        self.run.is_some() && view < self.views.run_last()
    }

    pub(crate) fn contract(&self) -> &Contract {
        &self.contract
    }

    pub(crate) fn first_finalized_at(&self, view: View) -> Option<Header> {
        self.boundaries.iter().find(|(boundary, _)| *boundary == view).map(|(_, header)| *header)
    }

    pub(crate) fn messages(&self, from: u64, height: u64, limit: usize) -> Result<&[BoardMessage], ReadError> {
        if height < self.run_started {
            return Err(ReadError::Cleared { started: self.run_started, asked: height });
        }
        let count = self.posted_at.partition_point(|position| *position < height);
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(count);
        Ok(self.contract.messages(from, count.min(from.saturating_add(limit))))
    }

    /// Takes an accepted post that stands at `position` of the log.
    pub(crate) fn post(&mut self, node: NodeId, content: String, position: u64) -> Result<(), ContractError> {
        self.contract.post(node, content)?;
        self.posted_at.push(position);
        Ok(())
    }

    /// Takes an accepted result; `here` is the log up to its entry, as a block.
    pub(crate) fn submit(
        &mut self,
        node: NodeId,
        result: &DkgResult,
        here: Header,
    ) -> Result<Option<ChainEvent>, ContractError> {
        self.contract.submit(node, result)?;
        Ok(self.commit(here))
    }

    /// Takes a newly finalized block. What it means for the epoch is told before the block itself.
    pub(crate) fn finalize(&mut self, block: Header) -> Vec<ChainEvent> {
        let mut events = Vec::new();
        if block.view > self.views.last {
            self.end_epoch(block, &mut events);
        }
        events.extend(self.start_run(block));
        for boundary in [self.views.setup_first].iter().chain(&self.views.phase_finals) {
            if block.view >= *boundary && self.first_finalized_at(*boundary).is_none() {
                self.boundaries.push((*boundary, block));
            }
        }
        events.extend(self.commit(block));
        events.push(ChainEvent::Protocol(ProtocolEvent::BlockFinalized(block)));
        events
    }

    fn start_run(&mut self, block: Header) -> Option<ChainEvent> {
        let begins = match self.run_start {
            #[cfg(feature = "simulator")]
            RunStart::AtOrAfter => block.view >= self.views.setup_first,
            RunStart::Exactly => block.view == self.views.setup_first,
        };
        if self.phase != EpochPhase::Staking || !begins {
            return None;
        }
        let committee = self.config.committee();
        // A committee has the size of a run, and the previous epoch's end ended the previous run.
        self.contract.start(committee.members().iter().map(|member| member.node_id).collect()).ok()?;
        self.run_started = block.height;
        self.posted_at.clear();
        let setup = EpochSetup {
            epoch: self.views.run_for,
            instance: InstanceId::new(self.config.chain_id(), self.views.run_for),
            committee: Arc::clone(committee),
            first_view: self.views.setup_first,
            phase_final_views: self.views.phase_finals,
            vector_encoding: self.config.vector_encoding(),
        };
        self.phase = EpochPhase::Setup(setup.clone());
        self.run = Some(setup.clone());
        Some(ChainEvent::Protocol(ProtocolEvent::EpochSetupPhaseStarted {
            current: self.views.epoch,
            first: block,
            setup,
        }))
    }

    /// Commits the epoch if its run is complete and the third phase is over. Results are taken until the epoch ends: they
    /// no longer change anything, but show who came out with what.
    fn commit(&mut self, here: Header) -> Option<ChainEvent> {
        let [_, _, third] = self.views.phase_finals;
        if !matches!(self.phase, EpochPhase::Setup(_)) || here.view < third {
            return None;
        }
        let result = self.contract.canonical().cloned()?;
        // The contract counts digits; whether they are keys is seen here. Keys that are none can only be the result of
        // more than `t` members who lie, and the epoch then ends without any.
        let commit = decode_commit(self.views.run_for, result)?;
        self.phase = EpochPhase::Committed(commit.clone());
        Some(ChainEvent::Protocol(ProtocolEvent::EpochCommittedPhaseStarted {
            current: self.views.epoch,
            first: here,
            commit,
        }))
    }

    /// Ends the present epoch, and in one go all those that this block passes over.
    fn end_epoch(&mut self, block: Header, events: &mut Vec<ChainEvent>) {
        let ended = self.views;
        if let Some(keys) = &self.keys {
            if self.past.len() == PAST_KEYS {
                self.past.pop_front();
            }
            self.past.push_back(Arc::new(keys.clone()));
        }
        let over = self.past_run();
        self.views = self.config.epoch_at(block.view);
        self.boundaries.clear();
        self.run = None;
        self.contract.force_end();
        match std::mem::replace(&mut self.phase, EpochPhase::Staking) {
            EpochPhase::Committed(commit) => {
                self.keys = Some(commit);
                self.made_keys = over.map(Arc::new);
            }
            EpochPhase::Staking | EpochPhase::Setup(_) => events.push(ChainEvent::EpochFailed { epoch: ended.epoch }),
        }
        let now = self.views.epoch;
        let before = EpochCounter(now.0 - 1);
        if ended.run_for < now {
            events.push(ChainEvent::EpochsPassedOver { first: ended.run_for, last: before });
        }
        if let Some(keys) = self.keys.as_mut().filter(|keys| keys.epoch != now) {
            keys.epoch = now;
            let commit = keys.clone();
            events.push(ChainEvent::Protocol(ProtocolEvent::EpochFallbackExited {
                current: before,
                first: block,
                commit,
            }));
        }
    }
}

fn decode_commit(epoch: EpochCounter, result: DkgResult) -> Option<EpochCommit> {
    let DkgResult::Complete { group_key, key_shares, index_map } = result else {
        return None;
    };
    let key = |digits: &String| PublicKey::from_flow_bytes(&crate::hex::decode(digits)?).ok();
    Some(EpochCommit {
        epoch,
        group_key: key(&group_key)?,
        key_shares: key_shares.iter().map(key).collect::<Option<_>>()?,
        index_map,
    })
}
