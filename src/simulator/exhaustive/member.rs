//! Everything one member can come to: its states, each kept once, and what leads from one to another. A step of the same
//! state is never computed twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use super::scene::{Chain, EPOCH, Kind, POLL_STEP, PostId, Posts, Private, Scene, Settled};
use super::{Flaw, MEMBER_STATE_LIMIT, Pages, SearchError};
use crate::bls::{Index, SecretKey};
use crate::chain::{BoardMessage, DkgResult};
use crate::committee::NodeId;
use crate::engine::{Core, Effect, EngineEvent, Input, ReadId, ReadRequest, Recalled, RunReport};
use crate::envelope::{BroadcastMessage, PrivateKind, PrivateMessage};
use crate::epoch::{EpochCommit, EpochCounter, EpochPhase, ProtocolEvent, RunHistory, Snapshot};
use crate::network::{Delivery, Receipt};
use crate::secret::SecretBytes;
use crate::store::{Change, DkgState, KeyStatus, MemoryStore, RecordId, RecordKind, SafeKey, Store};

/// A state by its number among one member's.
pub(super) type StateId = u32;

/// 128 bits that stand for a state. Two states with one digest would be taken for one, and what follows from the second
/// overlooked: with 2^27 states, the chance is about 2^-75. (Nobody who could look for such states has a hand in them.)
#[derive(Default)]
pub(super) struct Digest(Vec<u8>);

impl Digest {
    pub(super) fn of(value: &impl Hash) -> u128 {
        let mut digest = Digest::default();
        value.hash(&mut digest);
        digest.done()
    }

    fn done(&self) -> u128 {
        // Two halves, each of the same bytes after another beginning.
        let half = |beginning: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(beginning);
            hasher.write(&self.0);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.done() as u64
    }
}

/// The purpose a message serves. One message per purpose, whatever happens in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Purpose {
    Share(NodeId),
    Broadcast(Kind),
    Result,
}

/// A read of the board that is on.
#[derive(Clone, Copy)]
struct Reading {
    id: ReadId,
    block: u8,
    /// Posts on the board as of that block.
    cut: u16,
    must_succeed: bool,
}

/// What a run came to on one member.
pub(super) struct Ending {
    /// The same for two members if they agree on everything they must agree on.
    pub(super) outcome: u128,
    pub(super) report: RunReport,
    /// The share it holds, as it would sign with it.
    pub(super) share: Option<SecretKey>,
}

/// What a store holds.
type Stored = BTreeMap<RecordId, SecretBytes>;

/// One member, with all of the world that is its own.
#[derive(Clone)]
pub(super) struct State {
    /// `None` while the member is down.
    core: Option<Rc<Core>>,
    /// What its store holds.
    stored: Rc<Stored>,
    /// How often it has started.
    starts: u8,
    /// Blocks it has been told of.
    pub(super) blocks: u8,
    /// Posts it has taken in.
    pub(super) position: u16,
    reading: Option<Reading>,
    /// Whose private message it has taken in.
    private: u32,
    /// Posts it has made that have not landed, in their order.
    pub(super) outbox: Vec<PostId>,
    /// What it has said, with the start since which.
    said: BTreeMap<Purpose, (u128, u8)>,
    ended: usize,
    /// It takes no part in the run.
    out: bool,
    pub(super) ending: Option<Arc<Ending>>,
}

impl State {
    pub(super) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// Whether it may read the board again.
    pub(super) fn reads(&self) -> bool {
        self.is_up() && !self.out && self.ending.is_none()
    }

    /// The last block for which it has done everything.
    pub(super) fn done(&self) -> u8 {
        self.reading.map_or(self.blocks, |reading| reading.block.saturating_sub(1))
    }

    fn digest(&self) -> u128 {
        let State { core, stored, starts, blocks, position, reading, private, outbox, said, ended, out, ending } = self;
        let mut digest = Digest::default();
        core.is_some().hash(&mut digest);
        if let Some(core) = core {
            core.digest(&mut digest);
        }
        stored.iter().for_each(|(id, record)| (id, record.expose()).hash(&mut digest));
        (starts, blocks, position, private, outbox, said, ended, out).hash(&mut digest);
        // The read's name is left out here too.
        reading.map(|Reading { id: _, block, cut, must_succeed }| (block, cut, must_succeed)).hash(&mut digest);
        ending.as_ref().map(|ending| (ending.outcome, ending.share.is_some())).hash(&mut digest);
        digest.done()
    }
}

/// One thing that can happen to a member.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// A private message comes: which of those its sender may send.
    Private { from: Index, variant: u8 },
    /// The next block, which covers `cut` posts.
    Block { number: u8, cut: u16 },
    /// A part of what it reads.
    Page { posts: Vec<PostId>, last: bool },
    /// The read is given up.
    GivenUp,
    /// It stops.
    Crash,
    /// This happens, and it stops when its store has the result and nothing else has been done.
    Interrupted(Box<Move>),
    /// It starts anew, at this block.
    Restart { number: u8, cuts: Vec<u16> },
}

/// How a state was come to.
pub(super) struct Found {
    pub(super) state: StateId,
    pub(super) from: Option<(StateId, Move)>,
}

/// A rule that a step has broken.
pub(super) struct Broken {
    pub(super) member: Index,
    pub(super) state: StateId,
    pub(super) by: Option<Move>,
    pub(super) what: String,
}

/// One member's states and steps.
pub(super) struct Member {
    me: Index,
    node_id: NodeId,
    states: Vec<State>,
    numbers: HashMap<u128, StateId>,
    steps: HashMap<(StateId, Move), Option<StateId>>,
}

/// Why there is no next state.
pub(super) enum Halt {
    Broken(Broken),
    Limit,
}

impl Member {
    /// A member that has just been told of the setup phase; and the shares it deals.
    pub(super) fn new(me: Index, scene: &Scene, posts: &mut Posts) -> Result<(Member, Vec<Private>), SearchError> {
        let failed = || SearchError::Committee(scene.size);
        let node_id = scene.node_id(me).ok_or_else(failed)?;
        let mut member = Member { me, node_id, states: Vec::new(), numbers: HashMap::new(), steps: HashMap::new() };
        let blank = State {
            core: None,
            stored: Rc::default(),
            starts: 0,
            blocks: 0,
            position: 0,
            reading: None,
            private: 0,
            outbox: Vec::new(),
            said: BTreeMap::new(),
            ended: 0,
            out: false,
            ending: None,
        };
        let mut dealt = BTreeMap::new();
        let state = member.start(&blank, scene, posts, &mut dealt).map_err(SearchError::Start)?;
        member.keep(state);
        let own = || Private {
            label: "its own",
            message: PrivateMessage::protocol(SecretBytes::new(Vec::new()), String::new()),
        };
        let shares =
            Index::all(scene.size).map(|to| scene.node_id(to).and_then(|to| dealt.remove(&to)).unwrap_or_else(own));
        Ok((member, shares.collect()))
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn state(&self, id: StateId) -> Option<&State> {
        self.states.get(id as usize)
    }

    fn keep(&mut self, state: State) -> StateId {
        // As many states as there may be (MEMBER_STATE_LIMIT) fit.
        let next = self.states.len() as StateId;
        let id = *self.numbers.entry(state.digest()).or_insert(next);
        if id == next {
            self.states.push(state);
        }
        id
    }

    /// The state in which the first post that waits has landed.
    pub(super) fn landed(&mut self, id: StateId) -> Option<StateId> {
        let mut state = self.state(id)?.clone();
        state.outbox.remove(0);
        Some(self.keep(state))
    }

    /// All that a member in one of these states can come to by itself, with the chain as it stands; as far as it goes.
    pub(super) fn spread(
        &mut self,
        start: &[StateId],
        chain: &Chain<'_>,
        shares: &[Vec<Vec<Private>>],
        scene: &Scene,
        posts: &mut Posts,
    ) -> (Vec<Found>, Option<Halt>) {
        let mut seen: HashSet<StateId> = start.iter().copied().collect();
        let mut found: Vec<Found> = start.iter().map(|state| Found { state: *state, from: None }).collect();
        let mut next = 0;
        while let Some(Found { state, .. }) = found.get(next) {
            let state = *state;
            for step in self.moves(state, chain, shares, scene, posts) {
                let to = match self.step(state, &step, shares, scene, posts) {
                    Ok(Some(to)) => to,
                    Ok(None) => continue,
                    Err(halt) => return (found, Some(halt)),
                };
                if seen.insert(to) {
                    found.push(Found { state: to, from: Some((state, step)) });
                }
            }
            next += 1;
        }
        (found, None)
    }

    /// What can happen to a member in this state.
    fn moves(
        &self,
        id: StateId,
        chain: &Chain<'_>,
        shares: &[Vec<Vec<Private>>],
        scene: &Scene,
        posts: &Posts,
    ) -> Vec<Move> {
        let Some(state) = self.state(id) else { return Vec::new() };
        let crashes = scene.faults.crash == Some(self.me) && state.starts == 1;
        let Some(core) = &state.core else {
            let (number, cuts) = (chain.blocks, chain.cuts.to_vec());
            return crashes.then_some(Move::Restart { number, cuts }).into_iter().collect();
        };
        let mut moves = Vec::new();
        if core.takes_shares() {
            for from in Index::all(scene.size).filter(|from| *from != self.me && state.private & bit(*from) == 0) {
                let variants = shares.get(usize::from(from)).and_then(|to| to.get(usize::from(self.me)));
                let count = variants.map_or(0, Vec::len);
                moves.extend(
                    (0..count).filter_map(|variant| Some(Move::Private { from, variant: u8::try_from(variant).ok()? })),
                );
            }
        }
        if let Some(cut) = chain.cut(state.blocks + 1) {
            moves.push(Move::Block { number: state.blocks + 1, cut });
        }
        if let Some(reading) = state.reading {
            self.pages(state, reading, chain, scene, posts, &mut moves);
            if !reading.must_succeed {
                moves.push(Move::GivenUp);
            }
        }
        if crashes {
            let interrupted: Vec<Move> = moves.iter().map(|step| Move::Interrupted(Box::new(step.clone()))).collect();
            moves.extend(interrupted);
            moves.push(Move::Crash);
        }
        moves
    }

    /// How the board's answer can come, of which the member has had a part.
    fn pages(
        &self,
        state: &State,
        reading: Reading,
        chain: &Chain<'_>,
        scene: &Scene,
        posts: &Posts,
        moves: &mut Vec<Move>,
    ) {
        let left: Vec<PostId> = chain
            .posts(state.position, reading.cut)
            .iter()
            .map(|post| if self.is_lost(state, *post, scene, posts) { scene.nothing } else { *post })
            .collect();
        // Nobody but a member at fault is without a share that it is owed when the sharing phase ends.
        let waits = reading.must_succeed
            && state.ended == 0
            && scene.nodes().any(|from| {
                from != self.me && state.private & bit(from) == 0 && !scene.exempt(from) && !scene.exempt(self.me)
            });
        let mut page = |count: usize, last: bool| {
            if !(last && waits) {
                moves.push(Move::Page { posts: left.iter().take(count).copied().collect(), last });
            }
        };
        match scene.pages {
            Pages::OneByOne => page(left.len().min(1), left.len() <= 1),
            Pages::Whole => page(left.len(), true),
            Pages::AnySplit => {
                (1..=left.len()).for_each(|count| page(count, false));
                page(left.len(), true);
            }
        }
        if scene.flaw == Some(Flaw::LatePages) && reading.must_succeed {
            page(0, true);
        }
    }

    /// Whether a flaw of the world takes this post away before the member sees it.
    fn is_lost(&self, state: &State, post: PostId, scene: &Scene, posts: &Posts) -> bool {
        let Some(post) = posts.get(post).filter(|_| scene.flaw == Some(Flaw::OwnComplaintFirst)) else { return false };
        let dealer = scene.setup.committee.index_of(&post.author);
        let complained = |dealer| state.said.contains_key(&Purpose::Broadcast(Kind::Complaint(dealer)));
        post.kind == Kind::Answer(self.me) && !dealer.is_some_and(complained)
    }

    /// The state that a step leads to; `None` if it is no other step than one without an interruption.
    fn step(
        &mut self,
        id: StateId,
        step: &Move,
        shares: &[Vec<Vec<Private>>],
        scene: &Scene,
        posts: &mut Posts,
    ) -> Result<Option<StateId>, Halt> {
        if let Some(known) = self.steps.get(&(id, step.clone())) {
            return Ok(*known);
        }
        if self.states.len() >= MEMBER_STATE_LIMIT {
            return Err(Halt::Limit);
        }
        if let Move::Interrupted(inner) = step {
            let after = self.step(id, inner, shares, scene, posts)?;
            let to = after.and_then(|after| self.interrupted(id, after, scene)).map(|state| self.keep(state));
            self.steps.insert((id, step.clone()), to);
            return Ok(to);
        }
        let Some(state) = self.state(id).cloned() else { return Ok(None) };
        let to = self
            .take(&state, step, shares, scene, posts)
            .map_err(|what| Halt::Broken(Broken { member: self.me, state: id, by: Some(step.clone()), what }))?;
        let to = to.map(|state| self.keep(state));
        self.steps.insert((id, step.clone()), to);
        Ok(to)
    }

    /// A member that stops when its store has what a step leads to, and nothing else of it has been done. `None` if the
    /// step changes nothing in the store: then it stops before the step.
    fn interrupted(&self, before: StateId, after: StateId, scene: &Scene) -> Option<State> {
        let (before, after) = (self.state(before)?, self.state(after)?);
        let [was, is] = [before, after]
            .map(|state| state.stored.iter().map(|(id, record)| (id, record.expose())).collect::<Vec<_>>());
        // The store knows how the run ended, and so do we; nobody else has heard of it.
        let (stored, ending) = (after.stored.clone(), after.ending.clone());
        (was != is).then(|| down(State { stored, ending, ..before.clone() }, scene))
    }

    fn take(
        &self,
        state: &State,
        step: &Move,
        shares: &[Vec<Vec<Private>>],
        scene: &Scene,
        posts: &mut Posts,
    ) -> Result<Option<State>, String> {
        let mut next = state.clone();
        match step {
            Move::Private { from, variant } => {
                next.private |= bit(*from);
                let variants = shares.get(usize::from(*from)).and_then(|to| to.get(usize::from(self.me)));
                let private = variants.and_then(|variants| variants.get(usize::from(*variant)));
                let (Some(private), Some(from)) = (private, scene.node_id(*from)) else { return Ok(None) };
                let (message, receipt) = (private.message.clone(), Receipt::none());
                let input = Input::Private(Delivery { from, message, receipt });
                self.feed(next, input, false, scene, posts, None).map(Some)
            }
            Move::Block { number, cut } => {
                next.blocks = *number;
                let event = ProtocolEvent::BlockFinalized(scene.header(*number, *cut));
                self.feed(next, Input::Event(Box::new(event), None), false, scene, posts, None).map(Some)
            }
            Move::Page { posts: page, last } => {
                let Some(reading) = next.reading else { return Ok(None) };
                let messages = page
                    .iter()
                    .filter_map(|post| posts.get(*post))
                    .map(|post| BoardMessage { node_id: post.author, content: post.content.clone() });
                let input = Input::Page { read: reading.id, messages: messages.collect(), last: *last };
                next.position = next.position.saturating_add(u16::try_from(page.len()).unwrap_or(u16::MAX));
                if *last {
                    next.reading = None;
                }
                self.feed(next, input, *last && reading.must_succeed, scene, posts, None).map(Some)
            }
            Move::GivenUp => {
                let Some(reading) = next.reading.take() else { return Ok(None) };
                self.feed(next, Input::ReadGivenUp(reading.id), false, scene, posts, None).map(Some)
            }
            Move::Crash => Ok(Some(down(next, scene))),
            // Is made of the state after the step it interrupts.
            Move::Interrupted(_) => Ok(None),
            Move::Restart { number, cuts } => self.restart(&next, *number, cuts, scene, posts).map(Some),
        }
    }

    /// Starts the member at this block; `cuts` are all blocks' up to it.
    fn restart(
        &self,
        state: &State,
        number: u8,
        cuts: &[u16],
        scene: &Scene,
        posts: &mut Posts,
    ) -> Result<State, String> {
        // What its store has it has acknowledged, and does not get again.
        let kept = |id: &RecordId| match id.kind {
            RecordKind::Share(from) => bit(from),
            RecordKind::Key | RecordKind::Dealing => 0,
        };
        let private = state.stored.keys().map(kept).fold(0, |all, one| all | one);
        let next = State { private, position: 0, ..self.fresh(state, number, scene)? };
        let header = |number: u8| {
            let cut = usize::from(number).checked_sub(1).and_then(|before| cuts.get(before)).copied();
            scene.header(number, cut.unwrap_or(0))
        };
        let ends = (1..=number).filter(|number| scene.block(*number).is_some_and(|block| block.last)).map(header);
        let run = RunHistory { setup: scene.setup.clone(), ends: ends.collect() };
        let phase = EpochPhase::Setup(scene.setup.clone());
        let snapshot = Snapshot { run: Some(run), ..Snapshot::new(EpochCounter(0), header(number), phase) };
        let recalled =
            Recalled::for_start(&disk(&next.stored)?.1, &self.node_id, &snapshot).map_err(|error| error.to_string())?;
        self.feed(next, Input::Start(Box::new(snapshot), recalled), false, scene, posts, None)
    }

    fn fresh(&self, state: &State, number: u8, scene: &Scene) -> Result<State, String> {
        let factory = scene.factory(self.me).ok_or("no such member")?;
        let starts = state.starts.saturating_add(1);
        let randomness = Box::new(Settled { member: self.me, start: starts });
        let core = Some(Rc::new(Core::new(factory, POLL_STEP, randomness)));
        Ok(State { core, starts, blocks: number, reading: None, private: 0, ended: 0, ..state.clone() })
    }

    /// Starts the member when the setup phase begins.
    fn start(
        &self,
        state: &State,
        scene: &Scene,
        posts: &mut Posts,
        dealt: &mut BTreeMap<NodeId, Private>,
    ) -> Result<State, String> {
        let next = self.fresh(state, 0, scene)?;
        let first = scene.header(0, 0);
        let event =
            ProtocolEvent::EpochSetupPhaseStarted { current: EpochCounter(0), first, setup: scene.setup.clone() };
        self.feed(next, Input::Event(Box::new(event), None), false, scene, posts, Some(dealt))
    }

    /// Gives the core one input, carries out what it decides, and holds it against the rules.
    fn feed(
        &self,
        mut state: State,
        input: Input,
        ends_final_read: bool,
        scene: &Scene,
        posts: &mut Posts,
        mut dealt: Option<&mut BTreeMap<NodeId, Private>>,
    ) -> Result<State, String> {
        let Some(core) = &state.core else { return Ok(state) };
        let (store, disk) = disk(&state.stored)?;
        let input = match input {
            Input::Event(event, None) => {
                let recalled = Recalled::for_event(&disk, &self.node_id, &event).map_err(|error| error.to_string())?;
                Input::Event(event, recalled)
            }
            other => other,
        };
        let mut core = core.fork(Box::new(Settled { member: self.me, start: state.starts }));
        let mut effects = Vec::new();
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let step = core.step(input).map_err(|error| format!("a step fails: {error}"))?;
            for effect in step.persist(&disk).map_err(|error| format!("the store refuses: {error}"))? {
                match effect {
                    // Computed at once: what may come in between is what may come before.
                    Effect::Compute { id, task } => next = Some(Input::Computed { id, result: task.run() }),
                    other => effects.push(other),
                }
            }
        }
        state.core = Some(Rc::new(core));
        state.stored = Rc::new(contents(&store)?);
        for effect in effects {
            match effect {
                // What is asked for is on its way all the time.
                Effect::SendPrivate { message, .. } if message.kind == PrivateKind::ShareRequest => {}
                Effect::SendPrivate { to, message } => {
                    say(&mut state, Purpose::Share(to), message.data.expose())?;
                    if let Some(dealt) = &mut dealt {
                        dealt.insert(to, Private { label: "its share", message });
                    }
                }
                Effect::Post { content, .. } => {
                    let said = BroadcastMessage::from_json(&content).map_err(|error| error.to_string())?;
                    let number = posts.number(self.node_id, content, None).ok_or("more posts than numbers")?;
                    let kind = posts.get(number).map_or(Kind::Other, |post| post.kind);
                    say(&mut state, Purpose::Broadcast(kind), &said.data)?;
                    state.outbox.push(number);
                }
                Effect::Submit { result, .. } => say(&mut state, Purpose::Result, format!("{result:?}").as_bytes())?,
                Effect::Confirm(receipt) => receipt.confirm(),
                Effect::Read(request) => read(&mut state, request, scene)?,
                Effect::EndRun(_) => {
                    state.reading = None;
                    state.outbox.clear();
                }
                Effect::Report(EngineEvent::PhaseEnded { phase, .. }) => {
                    if !ends_final_read {
                        return Err(format!("phase {phase:?} ends before its final read has been taken in"));
                    }
                    state.ended += 1;
                }
                Effect::Report(EngineEvent::Disqualified { dealer, reason, .. }) if scene.protected(dealer) => {
                    return Err(format!("honest dealer {dealer} is disqualified: {reason}"));
                }
                Effect::Report(EngineEvent::SatOut { .. }) => state.out = true,
                Effect::Report(EngineEvent::RunEnded(report)) => {
                    state.ending = Some(Arc::new(self.ending(*report, &disk, scene)?));
                }
                Effect::SelfTest { .. } | Effect::Compute { .. } | Effect::Report(_) => {}
            }
        }
        let due = scene.ended_with(state.done());
        if state.starts == 1 && state.ended != due {
            return Err(format!("{} phases have ended at the member, and {due} on the chain", state.ended));
        }
        Ok(state)
    }

    /// What a run came to, if the store and the report are of one mind and the share is the one that belongs to its key.
    fn ending(&self, report: RunReport, disk: &DkgState, scene: &Scene) -> Result<Ending, String> {
        let record = disk.record(EPOCH).map_err(|error| error.to_string())?;
        let index_map: BTreeMap<NodeId, Index> =
            scene.setup.committee.iter().map(|(index, member)| (member.node_id, index)).collect();
        let public = match &report.keys {
            Ok(keys) => DkgResult::complete(&keys.group_key, &keys.key_shares, index_map.clone()),
            Err(_) => DkgResult::Empty,
        };
        let share = match (&report.keys, &report.share) {
            (Ok(keys), Ok(())) => {
                let (group_key, key_shares) = (keys.group_key, keys.key_shares.clone());
                let commit = EpochCommit { epoch: EPOCH, group_key, key_shares, index_map };
                let committed = record.commit(&commit, &self.node_id).map_err(|error| {
                    format!("the member's stored share is not the one that its own result calls for: {error}")
                })?;
                match committed.safe_key() {
                    SafeKey::Key(key) => Some(key.secret_key().clone()),
                    _ => return Err("a committed key is not safe to sign with".into()),
                }
            }
            _ if record.status() == KeyStatus::Failed => None,
            _ => return Err(format!("a run without a share leaves a key that is {}", record.status())),
        };
        let verdicts = format!("{:?} {:?} {:?}", report.qualified, report.disqualified, report.keys.as_ref().err());
        let outcome = Digest::of(&(verdicts, format!("{public:?}")));
        Ok(Ending { outcome, report, share })
    }
}

fn bit(member: Index) -> u32 {
    1u32.checked_shl(u32::from(member.byte())).unwrap_or(0)
}

/// A store with these contents.
fn disk(stored: &Stored) -> Result<(Arc<MemoryStore>, DkgState), String> {
    let store = Arc::new(MemoryStore::new());
    let puts = stored.iter().map(|(id, record)| Change::Put(*id, record.clone())).collect();
    store.commit(puts).map_err(|error| error.to_string())?;
    Ok((store.clone(), DkgState::new(store)))
}

fn contents(store: &MemoryStore) -> Result<Stored, String> {
    let ids = store.list().map_err(|error| error.to_string())?;
    let record = |id: RecordId| Ok(store.read(id).map_err(|error| error.to_string())?.map(|record| (id, record)));
    ids.into_iter().filter_map(|id| record(id).transpose()).collect()
}

/// What a member leaves when it stops: its store, and what has landed.
fn down(state: State, scene: &Scene) -> State {
    let stored = if scene.flaw == Some(Flaw::ForgetfulStore) { Rc::default() } else { state.stored };
    State { core: None, stored, reading: None, outbox: Vec::new(), ..state }
}

/// Notes what a member says, and that it says nothing else for the same purpose, and nothing twice unless it has been
/// started anew.
fn say(state: &mut State, purpose: Purpose, data: &[u8]) -> Result<(), String> {
    let digest = Digest::of(&data);
    match state.said.insert(purpose, (digest, state.starts)) {
        None => Ok(()),
        Some((before, _)) if before != digest => {
            Err(format!("it says two different things for one purpose: {purpose:?}"))
        }
        Some((_, start)) if start == state.starts => Err(format!("it says one thing twice: {purpose:?}")),
        Some(_) => Ok(()),
    }
}

fn read(state: &mut State, request: ReadRequest, scene: &Scene) -> Result<(), String> {
    let ReadRequest { id, from_index, as_of, must_succeed } = request;
    if state.reading.is_some() {
        return Err("it reads the board while it reads the board".into());
    }
    if from_index != u64::from(state.position) {
        return Err(format!("it reads from post {from_index}, and has taken in {}", state.position));
    }
    let (Some(block), Ok(cut)) = (scene.numbered(as_of.view), u16::try_from(as_of.height)) else {
        return Err("it reads as of a block that there is not".into());
    };
    // One who has been started anew also has to read up to where that was.
    let may_be_catching_up = state.starts > 1 && block == state.blocks;
    if must_succeed != scene.block(block).is_some_and(|block| block.last) && !may_be_catching_up {
        return Err("it takes the end of a phase for another block".into());
    }
    state.reading = Some(Reading { id, block, cut, must_succeed });
    Ok(())
}
