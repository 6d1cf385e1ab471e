//! What a running node answers whoever asks it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::admin::Desk;
use super::diary::Diary;
use super::host::Trouble;
use super::probe::probe;
use super::results::Results;
use super::signing::{PublicResult, SignatureShare};
use super::status::{KeysStatus, LogStatus, SeenMember, Stage, Status};
use super::{Answer, Request};
use crate::chain::log::{ChainConfig, ChainNode, Clock, FileLog, LogHost, Overviews, RECENT_ENTRIES};
use crate::committee::{Index, NodeId};
use crate::epoch::EpochPhase;
use crate::hex;
use crate::network::tcp::TcpNetwork;
use crate::store::DkgState;

/// What the node's own thread and whoever asks for its status have in common.
pub(super) struct Shared {
    pub(super) config: Arc<ChainConfig>,
    pub(super) me: Index,
    pub(super) node_id: NodeId,
    pub(super) log_kind: &'static str,
    pub(super) endpoints: Vec<String>,
    pub(super) chain: ChainNode,
    pub(super) host: Arc<dyn LogHost>,
    pub(super) copy: FileLog,
    pub(super) network: Arc<TcpNetwork>,
    pub(super) state: DkgState,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) diary: Arc<Diary>,
    pub(super) results: Results,
    pub(super) trouble: Trouble,
    pub(super) overviews: Mutex<Overviews>,
    pub(super) stage: Mutex<Stage>,
}

impl Shared {
    pub(super) fn status(&self) -> Status {
        // A copy, so that the chain is not held up while the rest is put together.
        let chain = self.chain.replica().lock().clone();
        let now_ms = self.clock.now_ms();
        let from = chain.prefix().position.saturating_sub(RECENT_ENTRIES as u64);
        // For show: a copy that cannot be read stops the node elsewhere.
        let recent = self.copy.reader().read(from, RECENT_ENTRIES).unwrap_or_default();
        let recent: Vec<_> = (from..).zip(recent).collect();
        let overview = self.overviews.lock().of(&chain, &recent, now_ms);
        let epoch = chain.epoch().run_for;
        let notes = self.diary.run(epoch);
        let in_progress = notes.qualified.is_none() && chain.contract().is_running();
        let shares_from = in_progress.then(|| self.state.shares_kept(epoch).unwrap_or_default());
        let peers = self.network.peers();
        let seen = self.config.committee().iter().map(|(index, member)| {
            let link = peers.iter().find(|peer| peer.node_id == member.node_id).cloned();
            SeenMember::of(index, self.me, &notes, shares_from.as_deref(), link)
        });
        let next = match chain.phase() {
            EpochPhase::Committed(commit) => Some(commit),
            EpochPhase::Staking | EpochPhase::Setup(_) => None,
        };
        let results = chain.past_keys().chain(chain.keys()).chain(&next);
        let stage = *self.stage.lock();
        let health = || {
            let running = in_progress.then_some(epoch);
            let current = chain.epoch().epoch;
            let health = self.state.health(current, chain.keys(), next.as_ref(), &self.node_id, running);
            health.ok().map(|(current, next)| KeysStatus { current, next })
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stage,
            trouble: self.trouble.lock().clone(),
            index: self.me,
            node_id: self.node_id.to_string(),
            seen: seen.collect(),
            run_here: notes,
            // Before that, the chain at hand is an old one.
            keys: if stage == Stage::Running { health() } else { None },
            results: results.map(|commit| PublicResult::of(self.config.chain_id(), commit)).collect(),
            log: LogStatus { kind: self.log_kind.to_owned(), endpoints: self.endpoints.clone() },
            strangers_refused: self.network.strangers_refused(),
            events: self.diary.events(),
            chain: overview,
        }
    }
}

impl Desk for Shared {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Probe => Answer::Probed(probe(&self.network, &self.config, self.me, &*self.clock)),
            Request::Sign { epoch, message, tag } => {
                let Some(message) = hex::decode(&message) else {
                    return Answer::Refused("the message has to be hex digits, two a byte".to_owned());
                };
                // What an old chain says while the node reads what it has missed tells nothing.
                let running = *self.stage.lock() == Stage::Running;
                let current = running.then(|| self.chain.replica().lock().epoch().epoch);
                match SignatureShare::sign(&self.state, self.config.chain_id(), epoch, current, &message, &tag) {
                    Ok(share) => Answer::Signed(Box::new(share)),
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
        }
    }
}
