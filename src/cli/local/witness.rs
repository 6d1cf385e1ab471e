//! What one copy of the chain tells of the runs: the same whether it happens now or is read in the log of an earlier life.

use std::sync::Arc;

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, SecretKey};
use dkg_engine::chain::BoardMessage;
use dkg_engine::chain::contract::Contract;
use dkg_engine::chain::log::{ChainConfig, ChainEvent, LogChain, LogHost};
use dkg_engine::engine::{Broker, EngineEvent, OsRandomness, PublicKeys, Randomness, RunReport};
use dkg_engine::epoch::{EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, ProtocolEvent};
use dkg_engine::protocol::{Keys, Parameters, Participant};

/// How many entries of an earlier life are read at a time.
const READ_BATCH: usize = 1024;

/// What reaches the one who watches.
pub(super) enum News {
    /// A member's engine has told something.
    Member(Index, EngineEvent),
    /// The witness's chain has begun a run.
    Setup(EpochSetup),
    /// The third phase of a run is over; this is all that counts on its board.
    Board(EpochCounter, Board),
    /// The witness's chain has finalized a block.
    Finalized(Header),
    /// The witness's chain has agreed on keys.
    Committed(EpochCommit),
    /// So many results are equal to the keys of the epoch.
    Matching(EpochCounter, usize),
}

/// The whiteboard of a run at its end.
pub(super) struct Board {
    messages: Vec<BoardMessage>,
    /// How many of them were there when each phase ended.
    cuts: [usize; 3],
}

/// What a run's board says about it.
pub(super) struct Observed {
    pub(super) report: RunReport,
    pub(super) dealt: Vec<Index>,
    pub(super) complaints: Vec<(Index, Index)>,
}

/// Tells of what the chain has just told, as its replica stands with that event.
pub(super) fn tell(replica: &LogChain, event: &ProtocolEvent, mut news: impl FnMut(News)) {
    match event {
        ProtocolEvent::EpochSetupPhaseStarted { setup, .. } => news(News::Setup(setup.clone())),
        ProtocolEvent::BlockFinalized(header) => {
            if replica.first_finalized_at(replica.epoch().phase_finals[2]) == Some(*header)
                && let Some(board) = Board::of(replica)
            {
                news(News::Board(replica.epoch().run_for, board));
            }
            if let EpochPhase::Committed(commit) = replica.phase() {
                news(News::Matching(commit.epoch, matching(replica.contract())));
            }
            news(News::Finalized(*header));
        }
        ProtocolEvent::EpochCommittedPhaseStarted { commit, .. } => news(News::Committed(commit.clone())),
        ProtocolEvent::EpochFallbackExited { .. } => {}
    }
}

/// Tells all that there is in a log; the replica that has read it.
pub(super) fn recall(
    config: &Arc<ChainConfig>,
    log: &dyn LogHost,
    mut news: impl FnMut(News),
) -> Result<LogChain, String> {
    let mut replica = LogChain::new(Arc::clone(config));
    loop {
        let entries = log.read(replica.prefix().position, READ_BATCH).map_err(|error| error.to_string())?;
        if entries.is_empty() {
            return Ok(replica);
        }
        for entry in entries {
            for event in replica.apply(&entry).map_err(|error| error.to_string())?.events {
                if let ChainEvent::Protocol(event) = event {
                    tell(&replica, &event, &mut news);
                }
            }
        }
    }
}

/// How many have submitted the result that counts.
fn matching(contract: &Contract) -> usize {
    let tallies = contract.tallies().iter();
    tallies.filter(|tally| Some(&tally.result) == contract.canonical()).map(|tally| tally.count).sum()
}

impl Board {
    fn of(replica: &LogChain) -> Option<Board> {
        let as_of = |view| {
            let block = replica.first_finalized_at(view)?;
            replica.messages(0, &block, usize::MAX).ok()
        };
        let [first, second, third] = replica.epoch().phase_finals;
        let messages = as_of(third)?;
        let cuts = [as_of(first)?.len(), as_of(second)?.len(), messages.len()];
        Some(Board { messages: messages.to_vec(), cuts })
    }

    /// What became of the run, which every honest member reads from the board alike: a member without a share of anybody's
    /// reads it here, and says nothing.
    pub(super) fn observe(&self, setup: &EpochSetup) -> Result<Observed, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (size, threshold) = (setup.committee.size(), setup.committee.threshold());
        let me = Index::all(size).next().ok_or("there is no member")?;
        // Nothing is ever said with these: they need not be secret.
        let unused = SecretBytes::new(vec![1; 32]);
        let voice = SecretKey::from_seed(unused.expose()).map_err(|error| text(&error))?;
        let parameters = Parameters { size, threshold, me, encoding: setup.vector_encoding };
        let (mut observer, _) = Participant::start(parameters, &unused).map_err(|error| text(&error))?;
        let mut broker = Broker::new(setup, voice);
        let fresh = || {
            let mut bytes = [0; 32];
            OsRandomness.fill(&mut bytes).map(|()| bytes).map_err(|error| text(&error))
        };
        let [first, second, third] = self.cuts;
        let mut outcome = None;
        for (phase, messages) in [0..first, first..second, second..third].into_iter().enumerate() {
            for opened in broker.open_board(self.messages.get(messages).unwrap_or_default()) {
                if let Ok((from, data)) = opened.message {
                    observer.take_broadcast(from, &data).map_err(|error| text(&error))?;
                }
            }
            if phase < 2 {
                observer.end_phase(&fresh()?).map_err(|error| text(&error))?;
            } else {
                outcome = Some(observer.finish(&fresh()?).map_err(|error| text(&error))?.0);
            }
        }
        let outcome = outcome.ok_or("a run has three phases")?;
        let public =
            |Keys { group_key, key_shares, identity_shares, .. }| PublicKeys { group_key, key_shares, identity_shares };
        let report = RunReport {
            epoch: setup.epoch,
            qualified: outcome.qualified,
            disqualified: outcome.disqualified,
            exposures: observer.exposures(),
            keys: outcome.result.map(public).map_err(|failure| failure.to_string()),
            share: Err("whoever only reads the board has none".to_owned()),
        };
        Ok(Observed { report, dealt: observer.dealt(), complaints: observer.complaints() })
    }
}
