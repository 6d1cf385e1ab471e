//! What a running node answers whoever asks it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::admin::Desk;
use super::copies::{PIECE_ENTRIES, digest};
use super::diary::Diary;
use super::ground::{CommitteeOnDisk, free_bytes};
use super::host::Trouble;
use super::probe::probe;
use super::pulse::{Pulse, Sign};
use super::results::Results;
use super::signing::{PublicResult, SignatureShare};
use super::status::{KeysStatus, LogStatus, SeenMember, Stage, Status};
use super::verdict::{Facts, Verdict};
use super::{Answer, Request};
use crate::address::{Address, Endpoint};
use crate::chain::log::{ChainConfig, ChainNode, Clock, FileLog, LogHost, Overviews, RECENT_ENTRIES};
use crate::committee::{Index, NodeId};
use crate::epoch::EpochCounter;
use crate::epoch::{EpochPhase, View};
use crate::hex;
use crate::network::tcp::{PeerStatus, TcpNetwork};
use crate::store::{BackupError, DkgState, FileStore};

/// What the node's own thread and whoever asks for its status have in common.
pub(super) struct Shared {
    pub(super) config: Arc<ChainConfig>,
    pub(super) me: Index,
    pub(super) node_id: NodeId,
    pub(super) log_kind: &'static str,
    pub(super) endpoints: Vec<Endpoint>,
    /// In order of index.
    pub(super) addresses: Vec<Option<Address>>,
    /// Replaced where the log has to be read anew.
    pub(super) access: Mutex<Arc<Access>>,
    pub(super) copy: FileLog,
    pub(super) network: Arc<TcpNetwork>,
    pub(super) state: DkgState,
    pub(super) store: Arc<FileStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) diary: Arc<Diary>,
    pub(super) results: Results,
    pub(super) trouble: Trouble,
    pub(super) overviews: Mutex<Overviews>,
    pub(super) stage: Mutex<Stage>,
    pub(super) committee_file: CommitteeOnDisk,
    /// The folder of what the node must not lose.
    pub(super) data: PathBuf,
    /// What has stopped the node by itself, or holds it.
    pub(super) ended: Mutex<Option<String>>,
    pub(super) pulse: Mutex<Pulse>,
    /// Where the pulse's time begins.
    pub(super) since: Instant,
}

/// This member's access to its log, and what it has read there.
pub(super) struct Access {
    pub(super) host: Arc<dyn LogHost>,
    pub(super) chain: ChainNode,
}

impl Shared {
    /// The access to the log that is in use.
    pub(super) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.lock())
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// From now on the node follows the chain.
    pub(super) fn running(&self) {
        self.pulse.lock().begin(self.elapsed_ms());
        *self.stage.lock() = Stage::Running;
    }

    /// Takes note of who is heard of, and whether views become final. To be called often.
    pub(super) fn look(&self) {
        let links = self.links();
        let (head, sequences) = {
            let access = self.access();
            let chain = access.chain.replica().lock();
            let others = links.iter().map(|(member, _)| chain.last_sequence(*member));
            (chain.header().view, others.collect::<Vec<_>>())
        };
        let signs = links.iter().zip(sequences).map(|((member, link), sequence)| Sign {
            member: *member,
            sequence,
            linked: link.as_ref().is_some_and(|link| link.inbound || link.outbound),
        });
        self.pulse.lock().look(self.elapsed_ms(), head, signs);
    }

    /// For how long views have stood still, and each other member has been silent; nothing of it before the node runs.
    fn silence(&self, stage: Stage) -> (u64, Vec<(Index, u64)>) {
        if stage != Stage::Running {
            return (0, Vec::new());
        }
        let (pulse, now_ms) = (self.pulse.lock(), self.elapsed_ms());
        let others = Index::all(self.config.committee().size()).filter(|index| *index != self.me);
        (pulse.still_ms(now_ms), others.map(|member| (member, pulse.silent_ms(member, now_ms))).collect())
    }

    /// The other members, and how this node is joined to them.
    fn links(&self) -> Vec<(Index, Option<PeerStatus>)> {
        let mut peers = self.network.peers();
        let others = self.config.committee().iter().filter(|(index, _)| *index != self.me);
        let mut link = |node_id| Some(peers.swap_remove(peers.iter().position(|peer| peer.node_id == node_id)?));
        others.map(|(index, member)| (index, link(member.node_id))).collect()
    }

    pub(super) fn status(&self) -> Status {
        self.look();
        // A copy, so that the chain is not held up while the rest is put together.
        let chain = self.access().chain.replica().lock().clone();
        let now_ms = self.clock.now_ms();
        let from = chain.prefix().position.saturating_sub(RECENT_ENTRIES as u64);
        // For show: a copy that cannot be read stops the node elsewhere.
        let recent = self.copy.reader().read(from, RECENT_ENTRIES).unwrap_or_default();
        let recent: Vec<_> = (from..).zip(recent).collect();
        let mut overview = self.overviews.lock().of(&chain, &recent, now_ms);
        // Where they are reached here, which may be another place than the committee file says.
        for (member, address) in overview.members.iter_mut().zip(&self.addresses) {
            member.address = address.as_ref().map(ToString::to_string).unwrap_or_default();
        }
        let epoch = chain.epoch().run_for;
        let notes = self.diary.run(epoch);
        let in_progress = notes.qualified.is_none() && chain.contract().is_running();
        let shares_from = in_progress.then(|| self.state.shares_kept(epoch).unwrap_or_default());
        let stage = *self.stage.lock();
        let (mut still_ms, silence_ms) = self.silence(stage);
        if overview.head.view == 0 {
            // Nothing stood still before the first view was due.
            still_ms = still_ms.min(now_ms.saturating_sub(self.config.begins_at(View(1))));
        }
        let links: BTreeMap<Index, PeerStatus> =
            self.links().into_iter().filter_map(|(index, link)| Some((index, link?))).collect();
        let seen = Index::all(self.config.committee().size()).map(|index| {
            let silent_ms = silence_ms.iter().find(|(member, _)| *member == index).map(|(_, silent)| *silent);
            let link = links.get(&index).cloned();
            SeenMember::of(index, self.me, &notes, shares_from.as_deref(), link, silent_ms, self.config.view_ms())
        });
        let seen = seen.collect();
        let next = match chain.phase() {
            EpochPhase::Committed(commit) => Some(commit),
            EpochPhase::Staking | EpochPhase::Setup(_) => None,
        };
        let results = chain.past_keys().chain(chain.keys()).chain(&next);
        let health = || {
            let running = in_progress.then_some(epoch);
            let current = chain.epoch().epoch;
            let health = self.state.health(current, chain.keys(), next.as_ref(), &self.node_id, running);
            health.ok().map(|(current, next)| KeysStatus { current, next })
        };
        // Before that, the chain at hand is an old one.
        let keys = if stage == Stage::Running { health() } else { None };
        let trouble = self.trouble.lock().clone();
        let verdict = Verdict::of(&Facts {
            stage,
            ended: self.ended.lock().clone(),
            threshold: self.config.committee().threshold(),
            size: self.config.committee().size(),
            view_ms: self.config.view_ms(),
            until_genesis_ms: overview.clock.genesis_ms.saturating_sub(now_ms),
            lag_views: overview.clock.lag,
            still_ms,
            silence_ms,
            reading: trouble.reading.clone(),
            appending: trouble.appending.clone(),
            has_keys: overview.epoch.has_keys || overview.epoch.counter == 0,
            keys: keys.iter().flat_map(|keys| [Some(keys.current.clone()), keys.next.clone()]).flatten().collect(),
            exposures: notes.exposed.values().copied().collect(),
            committee_file: self.committee_file.trouble(),
            free_bytes: free_bytes(&self.data),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stage,
            verdict,
            index: self.me,
            node_id: self.node_id.to_string(),
            seen,
            run_here: notes,
            keys,
            results: results.map(|commit| PublicResult::of(self.config.chain_id(), commit)).collect(),
            log: LogStatus {
                kind: self.log_kind.to_owned(),
                endpoints: shown(&self.endpoints),
                reading: trouble.reading,
                appending: trouble.appending,
            },
            strangers_refused: self.network.strangers_refused(),
            events: self.diary.events(),
            chain: overview,
        }
    }
}

fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(Endpoint::to_string).collect()
}

impl Desk for Shared {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Probe => {
                Answer::Probed(probe(&self.network, &self.config, &self.addresses, self.me, &*self.clock))
            }
            Request::Export { epoch } => {
                let record = self.state.record(EpochCounter(epoch)).map_err(BackupError::from);
                match record.and_then(|record| self.store.back_up(&record)) {
                    Ok(backup) => {
                        self.diary
                            .note(&format!("the share of epoch {epoch} was exported by a command on this machine"));
                        Answer::Exported(Box::new(backup))
                    }
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Request::Copy { from } => match self.copy.reader().read(from, PIECE_ENTRIES) {
                Ok(entries) => {
                    let access = self.access();
                    let once = access.host.own_copy().map_or(0, |copy| copy.vouched());
                    let vouched = access.chain.replica().lock().vouched().max(once);
                    let digests = entries.iter().map(|entry| digest(entry)).collect();
                    Answer::Copied { end: self.copy.len(), vouched, digests }
                }
                Err(error) => Answer::Refused(error.to_string()),
            },
            Request::Sign { epoch, message, tag } => {
                let Some(message) = hex::decode(&message) else {
                    return Answer::Refused("the message has to be hex digits, two a byte".to_owned());
                };
                // What an old chain says while the node reads what it has missed tells nothing.
                let stage = *self.stage.lock();
                if stage == Stage::Held {
                    return Answer::Refused(self.status().verdict.to_string());
                }
                let running = stage == Stage::Running;
                let current = running.then(|| self.access().chain.replica().lock().epoch().epoch);
                match SignatureShare::sign(&self.state, self.config.chain_id(), epoch, current, &message, &tag) {
                    Ok(share) => Answer::Signed(Box::new(share)),
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
        }
    }
}
