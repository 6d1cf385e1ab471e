//! What the members have told so far, in this life and in the log of earlier ones.

use std::collections::BTreeMap;
use std::time::Instant;

use dkg_engine::chain::log::LogChain;
use dkg_engine::committee::Index;
use dkg_engine::epoch::{EpochCounter, EpochSetup, View};
use dkg_engine::store::KeyStatus;

use super::home::Home;
use super::member::Member;
use super::show::Show;
use super::verdict::Evidence;
use super::witness::{self, News};

/// The listener's notes.
pub(super) struct Watch {
    size: usize,
    /// The member whose word counts where all say the same.
    witness: Option<Index>,
    evidence: BTreeMap<EpochCounter, Evidence>,
    /// The last view that is final.
    pub(super) head: View,
    /// When that was told.
    pub(super) moved: Instant,
}

impl Watch {
    pub(super) fn new(size: usize, witness: Option<Index>) -> Self {
        Watch { size, witness, evidence: BTreeMap::new(), head: View(0), moved: Instant::now() }
    }

    /// Takes down what the log tells of earlier lives, and returns the replica that has read it.
    pub(super) fn recall(&mut self, home: &Home) -> Result<LogChain, String> {
        let log = (home.log)();
        let replica = witness::recall(&home.config, log.as_ref(), |news| {
            let over = if let News::Board(epoch, _) = &news { Some(*epoch) } else { None };
            self.take(news, &mut Show::silent());
            // Boards are large, and there may be many epochs.
            if let Some(epoch) = over {
                self.about(epoch).read_board();
            }
        })?;
        // How long that took, nobody knows any more.
        self.evidence.values_mut().for_each(|told| told.begun = None);
        Ok(replica)
    }

    /// Takes down which of the runs that are known by now have come to their end in a member's store.
    pub(super) fn settle(&mut self, members: &[Member]) {
        for (epoch, told) in &mut self.evidence {
            for member in members {
                let status = member.state.record(*epoch).map(|record| record.status());
                if matches!(status, Ok(KeyStatus::KeyCommitted | KeyStatus::Failed)) {
                    told.settle(member.index);
                }
            }
        }
    }

    /// The run that is going on.
    pub(super) fn setup(&self) -> Option<&EpochSetup> {
        self.evidence.values().filter(|told| !told.is_over()).find_map(|told| told.setup.as_ref())
    }

    /// Takes down one thing.
    pub(super) fn take(&mut self, news: News, show: &mut Show) {
        match news {
            News::Member(index, event) => {
                let is_witness = Some(index) == self.witness;
                if is_witness {
                    show.event(&event);
                }
                self.about(event.epoch()).add(index, event, is_witness);
            }
            News::Setup(setup) => {
                show.setup(&setup);
                let told = self.about(setup.epoch);
                told.begun = Some(Instant::now());
                told.setup = Some(setup);
            }
            News::Board(epoch, board) => self.about(epoch).board = Some(board),
            News::Committed(commit) => {
                let told = self.about(commit.epoch);
                told.commit = Some(commit);
            }
            News::Matching(epoch, count) => self.about(epoch).matching = count,
            News::Finalized(header) => {
                (self.head, self.moved) = (header.view, Instant::now());
                show.view(self.head);
            }
        }
    }

    /// Gives away what is known of a run.
    pub(super) fn close(&mut self, epoch: EpochCounter) -> Evidence {
        self.evidence.remove(&epoch).unwrap_or_else(|| Evidence::new(self.size))
    }

    /// What is known of a run.
    pub(super) fn about(&mut self, epoch: EpochCounter) -> &mut Evidence {
        self.evidence.entry(epoch).or_insert_with(|| Evidence::new(self.size))
    }
}
