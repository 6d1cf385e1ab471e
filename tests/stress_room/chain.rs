//! The chain that everybody follows, and the board of each run. It moves when the test says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dkg_engine::bls::{PublicKey, VectorEncoding};
use dkg_engine::chain::contract::{Contract, ContractError};
use dkg_engine::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use dkg_engine::committee::{Committee, NodeId};
use dkg_engine::engine::EventHandle;
use dkg_engine::envelope::BroadcastMessage;
use dkg_engine::epoch::{
    EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, InstanceId, ProtocolEvent, ProtocolEvents, RunHistory,
    Snapshot, View,
};
use parking_lot::Mutex;

use super::grave::Grave;
use crate::support::{Watched, header};

/// Views of an epoch before its setup phase.
pub const STAKING_VIEWS: u64 = 4;
/// Views of each phase of a run.
pub const PHASE_VIEWS: u64 = 6;
/// Views between two reads of the board.
pub const POLL_STEP: u64 = 2;
/// Views of an epoch after its third phase.
pub const CLOSING_VIEWS: u64 = 4;
pub const EPOCH_VIEWS: u64 = STAKING_VIEWS + 3 * PHASE_VIEWS + CLOSING_VIEWS;

/// What a member has said on the board: the tag of a protocol message, and its first byte.
pub type Said = (NodeId, u8, u8);

/// The board of one run.
#[derive(Default)]
pub struct Run {
    pub contract: Contract,
    /// What well-formed posts said.
    pub said: BTreeSet<Said>,
}

impl Run {
    pub fn has_vector_of(&self, dealer: NodeId) -> bool {
        self.said.range((dealer, 1, 0)..=(dealer, 1, u8::MAX)).next().is_some()
    }
}

pub struct Chain {
    committee: Arc<Committee>,
    /// Where the chain stands, and who listens. Locked before `runs`, never by an engine.
    state: Mutex<State>,
    /// The board of every epoch so far.
    pub runs: Watched<Vec<Run>>,
}

struct State {
    epoch: EpochCounter,
    head: Header,
    phase: EpochPhase,
    run: Option<RunHistory>,
    ears: Vec<EventHandle>,
}

impl State {
    fn tell(&self, event: &ProtocolEvent) {
        for engine in &self.ears {
            engine.on_event(event.clone());
        }
    }
}

impl Chain {
    pub fn new(committee: Arc<Committee>) -> Arc<Self> {
        let (epoch, head, phase) = (EpochCounter(0), header(0, 0), EpochPhase::Staking);
        let state = State { epoch, head, phase, run: None, ears: Vec::new() };
        Arc::new(Chain { committee, state: Mutex::new(state), runs: Watched::new(vec![Run::default()]) })
    }

    pub fn head(&self) -> View {
        self.state.lock().head.view
    }

    /// The run that is on.
    pub fn run(&self) -> Option<InstanceId> {
        match &self.state.lock().phase {
            EpochPhase::Setup(setup) => Some(setup.instance.clone()),
            EpochPhase::Staking | EpochPhase::Committed(_) => None,
        }
    }

    /// Starts an engine where the chain stands: it misses no event, and gets none twice. An engine that has been stopped is
    /// told everything as before.
    pub fn join<E>(&self, start: impl FnOnce(Snapshot) -> (E, EventHandle)) -> E {
        let mut state = self.state.lock();
        let (phase, run) = (state.phase.clone(), state.run.clone());
        let (engine, events) = start(Snapshot { run, ..Snapshot::new(state.epoch, state.head, phase) });
        state.ears.push(events);
        engine
    }

    /// Finalizes the next view.
    pub fn finalize(&self) -> View {
        let mut state = self.state.lock();
        let view = state.head.view.0 + 1;
        if view.is_multiple_of(EPOCH_VIEWS) {
            state.epoch = EpochCounter(view / EPOCH_VIEWS);
            (state.phase, state.run) = (EpochPhase::Staking, None);
            self.runs.update(|runs| runs.push(Run::default()));
        }
        let height = self.runs.wait("the board", |runs| runs.last().map(|run| run.contract.message_count()));
        state.head = header(view, u64::try_from(height).unwrap());
        let head = state.head;
        if let Some(RunHistory { setup, ends }) = &mut state.run {
            let ended = setup.phase_final_views.get(ends.len()).is_some_and(|last| head.view >= *last);
            ends.extend(ended.then_some(head));
        }
        state.tell(&ProtocolEvent::BlockFinalized(head));
        View(view)
    }

    /// Begins the setup phase, with the head as its first block.
    pub fn begin_run(&self) -> EpochSetup {
        let mut state = self.state.lock();
        let participants = self.committee.members().iter().map(|member| member.node_id).collect();
        self.runs.update(|runs| runs.last_mut().unwrap().contract.start(participants)).unwrap();
        let first = state.head;
        let finals = [1, 2, 3].map(|phases| View(first.view.0 + phases * PHASE_VIEWS));
        let epoch = state.epoch.next().unwrap();
        let mut setup = EpochSetup::new("stress", epoch, Arc::clone(&self.committee), first.view, finals);
        setup.vector_encoding = VectorEncoding::Uncompressed;
        state.phase = EpochPhase::Setup(setup.clone());
        state.run = Some(RunHistory { setup: setup.clone(), ends: Vec::new() });
        state.tell(&ProtocolEvent::EpochSetupPhaseStarted { current: state.epoch, first, setup: setup.clone() });
        setup
    }

    /// Ends the run and begins the committed phase with its result.
    pub fn commit(&self) -> EpochCommit {
        let mut state = self.state.lock();
        let result = self.runs.update(|runs| runs.last_mut().unwrap().contract.end()).unwrap();
        let DkgResult::Complete { group_key, key_shares, index_map } = result else { panic!("an empty result") };
        let key = |text: &String| PublicKey::from_flow_bytes(&dkg_engine::hex::decode(text).unwrap()).unwrap();
        let commit = EpochCommit {
            epoch: state.epoch.next().unwrap(),
            group_key: key(&group_key),
            key_shares: key_shares.iter().map(key).collect(),
            index_map,
        };
        state.phase = EpochPhase::Committed(commit.clone());
        let event = ProtocolEvent::EpochCommittedPhaseStarted {
            current: state.epoch,
            first: state.head,
            commit: commit.clone(),
        };
        state.tell(&event);
        commit
    }

    /// Posts as `node`, on the board of the run that is on.
    pub fn post(&self, node: NodeId, content: &str) -> Result<(), ContractError> {
        // Most posts of a flood are refused, and nobody waits for those.
        self.runs.wait("the board", |runs| Some(runs.last()?.contract.check_post(node, content)))?;
        let said = BroadcastMessage::from_json(content)
            .ok()
            .and_then(|message| Some((node, *message.data.first()?, message.data.get(1).copied().unwrap_or_default())));
        self.runs.update(|runs| {
            let run = runs.last_mut().unwrap();
            run.contract.post(node, content.to_owned())?;
            run.said.extend(said);
            Ok(())
        })
    }
}

/// The board as one life of a member has it.
pub struct Client {
    chain: Arc<Chain>,
    me: NodeId,
    shut_down: AtomicBool,
    grave: Arc<Grave>,
}

impl Client {
    pub fn new(chain: &Arc<Chain>, me: NodeId, grave: &Arc<Grave>) -> Arc<Self> {
        Arc::new(Client { chain: Arc::clone(chain), me, shut_down: AtomicBool::new(false), grave: Arc::clone(grave) })
    }

    fn check(&self) -> Result<(), ClientError> {
        self.grave.note("call to the board");
        match self.shut_down.load(Ordering::SeqCst) {
            true => Err(ClientError::Unavailable("shut down".into())),
            false => Ok(()),
        }
    }
}

fn refused(error: ContractError) -> ClientError {
    ClientError::Refused(error.to_string())
}

impl DkgContractClient for Client {
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        self.check()?;
        self.chain.post(self.me, content).map_err(refused)
    }

    fn read_broadcast(&self, from_index: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        self.check()?;
        let [from, count, epoch] =
            [from_index, as_of.height, as_of.view.0 / EPOCH_VIEWS].map(|number| usize::try_from(number).unwrap());
        Ok(self.chain.runs.wait("the board", |runs| {
            Some(runs.get(epoch)?.contract.messages(from, count).iter().take(limit).cloned().collect())
        }))
    }

    fn submit_result(&self, _: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        self.check()?;
        self.chain.runs.update(|runs| runs.last_mut().unwrap().contract.submit(self.me, result)).map_err(refused)
    }

    fn shutdown(&self) {
        self.shut_down.store(true, Ordering::SeqCst);
    }
}
