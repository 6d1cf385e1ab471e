//! The whole committee: what stands on the board, and every state that each member can be in beside it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::member::{Broken, Digest, Found, Halt, Member, State, StateId};
use super::scene::{Chain, Kind, PostId, Posts, Private, Scene};
use super::{LAG, Search, SearchError};
use crate::bls::{Index, RANDOM_BEACON_TAG, SecretKey, combine};

/// What one state of a member takes, with the core in it.
const MEMBER_STATE_BYTES: usize = 6_000;
/// What one entry of a table takes, with what it is found by.
const ENTRY_BYTES: usize = 150;

/// A set of states of one member, by its number.
pub(super) type SetId = u32;

/// Where the search can stand: the chain, and with it, for each member, the set of states it can be in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    blocks: u8,
    cuts: Vec<u16>,
    base: u16,
    board: Vec<PostId>,
    /// By index; the faulty member's is never looked at.
    pub(super) sets: Vec<SetId>,
    /// Which of its offers the faulty member has posted.
    offered: u64,
    /// Shares on the board: (honest dealer, receiver), each one bit.
    public: u64,
}

impl World {
    /// Nothing has happened.
    pub(super) fn new(size: usize) -> World {
        let sets = vec![0; size];
        World { blocks: 0, cuts: Vec::new(), base: 0, board: Vec::new(), sets, offered: 0, public: 0 }
    }

    /// The chain after one more step; what members come to is left as it was.
    pub(super) fn after(&self, step: Step) -> World {
        let mut next = self.clone();
        match step {
            Step::Land { post, .. } => next.board.push(post),
            Step::Offer { offer, post } => {
                next.offered |= offered(offer);
                next.board.push(post);
            }
            Step::Block => {
                next.blocks += 1;
                // Members post a few times in a run, and the faulty one as often as the search lets it.
                next.cuts.push(next.base.saturating_add(u16::try_from(next.board.len()).unwrap_or(u16::MAX)));
            }
        }
        next
    }

    pub(super) fn chain(&self) -> Chain<'_> {
        Chain { blocks: self.blocks, cuts: &self.cuts, base: self.base, board: &self.board }
    }
}

/// One step of the world. What members do by themselves is no step of it: it follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A member's oldest post lands on the board.
    Land { member: Index, post: PostId },
    /// The faulty member posts this.
    Offer { offer: u8, post: PostId },
    /// The next block becomes final.
    Block,
}

/// What the search has to know of a set.
#[derive(Clone)]
struct Summary {
    outcomes: Vec<(u128, StateId)>,
    blocks: u8,
    position: u16,
}

/// Where a rule is broken.
pub(super) enum Violation {
    /// In a step of one member.
    Step(Broken),
    /// In these states, which members can be in at the same time.
    States { what: String, states: Vec<(Index, StateId)> },
}

/// Why the search does not go on.
pub(super) enum Stopped {
    Violation(Violation),
    Limit,
}

/// Everything that is kept for the whole search.
pub(super) struct Committee {
    pub(super) scene: Scene,
    pub(super) posts: Posts,
    members: Vec<Option<Member>>,
    /// Private messages: by sender, by receiver, what may be sent.
    pub(super) shares: Vec<Vec<Vec<Private>>>,
    sets: Vec<Rc<[StateId]>>,
    numbers: HashMap<Rc<[StateId]>, SetId>,
    /// How many states there are in all sets together.
    in_sets: usize,
    spreads: HashMap<(Index, SetId, u128), SetId>,
    landings: HashMap<(SetId, PostId), SetId>,
    summaries: HashMap<(Index, SetId), Summary>,
    /// Outcomes whose shares have been seen to sign.
    signed: HashSet<u128>,
}

impl Committee {
    pub(super) fn new(search: &Search) -> Result<Committee, SearchError> {
        let mut posts = Posts::default();
        let scene = Scene::new(search, &mut posts)?;
        let mut committee = Committee {
            members: Vec::new(),
            shares: Vec::new(),
            sets: Vec::new(),
            numbers: HashMap::new(),
            in_sets: 0,
            spreads: HashMap::new(),
            landings: HashMap::new(),
            summaries: HashMap::new(),
            signed: HashSet::new(),
            posts,
            scene,
        };
        let nodes: Vec<Index> = committee.scene.nodes().collect();
        for index in Index::all(search.size) {
            if nodes.contains(&index) {
                let (member, shares) = Member::new(index, &committee.scene, &mut committee.posts)?;
                committee.members.push(Some(member));
                committee.shares.push(shares.into_iter().map(|share| vec![share]).collect());
            } else {
                committee.members.push(None);
                let shares = std::mem::take(&mut committee.scene.faulty_shares);
                committee.shares.push(shares);
            }
        }
        Ok(committee)
    }

    /// Distinct states of members that have come up.
    pub(super) fn member_states(&self) -> usize {
        self.members.iter().flatten().map(Member::len).sum()
    }

    /// Steps of members that have been computed.
    pub(super) fn member_steps(&self) -> usize {
        self.members.iter().flatten().map(Member::steps).sum()
    }

    /// The memory that all of this takes, by what one of each has been seen to take.
    pub(super) fn bytes(&self) -> usize {
        let (states, steps) = (self.member_states(), self.member_steps());
        let known = self.sets.len() + self.spreads.len() + self.landings.len() + self.summaries.len();
        states * MEMBER_STATE_BYTES + (steps + known) * ENTRY_BYTES + self.in_sets * size_of::<StateId>()
    }

    /// How many states of whole committees a world stands for.
    pub(super) fn committees(&self, world: &World) -> u128 {
        let size = |index: Index| world.sets.get(usize::from(index)).and_then(|set| self.sets.get(*set as usize));
        self.scene.nodes().filter_map(size).fold(1, |product, set| product.saturating_mul(set.len() as u128))
    }

    pub(super) fn is_end(&self, world: &World) -> bool {
        usize::from(world.blocks) == self.scene.blocks.len()
    }

    /// Where everything begins: members have been told of the setup phase, and nothing has landed.
    pub(super) fn start(&mut self) -> Result<World, Stopped> {
        let mut world = World::new(self.scene.size);
        for member in self.nodes() {
            let start = self.keep(vec![0]);
            let set = self.spread(member, start, &world)?;
            set_of(&mut world, member, set);
        }
        Ok(world)
    }

    /// What can happen next; `trying` is told of each step before it is taken.
    pub(super) fn next(&mut self, world: &World, trying: &mut dyn FnMut(Step)) -> Result<Vec<(Step, World)>, Stopped> {
        if self.is_end(world) {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        for member in self.nodes() {
            steps.extend(self.heads(member, world).into_iter().map(|post| Step::Land { member, post }));
        }
        let budget = self.scene.faults.faulty.as_ref().map_or(0, |faulty| faulty.posts);
        if (world.offered.count_ones() as usize) < budget {
            let offers = (0u8..).zip(self.scene.offers.iter().copied());
            let left = offers.filter(|(offer, _)| world.offered & offered(*offer) == 0);
            steps.extend(left.map(|(offer, post)| Step::Offer { offer, post }));
        }
        steps.push(Step::Block);
        let mut next = Vec::new();
        for step in steps {
            trying(step);
            next.extend(self.take(world, step)?.map(|world| (step, world)));
        }
        Ok(next)
    }

    /// Takes one step; `None` if no state of some member goes with it.
    fn take(&mut self, world: &World, step: Step) -> Result<Option<World>, Stopped> {
        let mut next = world.after(step);
        match step {
            Step::Land { member, post } => {
                let set = set_in(world, member);
                let landed = match self.landings.get(&(set, post)) {
                    Some(known) => *known,
                    None => {
                        let states = self.landed(member, &self.states(set), post).into_iter().map(|(_, to)| to);
                        let landed = self.keep(states.collect());
                        self.landings.insert((set, post), landed);
                        landed
                    }
                };
                set_of(&mut next, member, landed);
                let kind = self.posts.get(post).map(|post| post.kind);
                if let Some(Kind::Answer(to)) = kind {
                    next.public |= share_bit(member, to, self.scene.size);
                    self.check_secrecy(&next, member)?;
                }
            }
            Step::Offer { .. } => {}
            Step::Block => {
                // No member goes on before all can: what they owe each other is on the board.
                for member in self.nodes() {
                    let ready = self.ready(member, &self.states(set_in(world, member)), next.blocks);
                    if ready.is_empty() {
                        return Ok(None);
                    }
                    let ready = self.keep(ready);
                    set_of(&mut next, member, ready);
                }
                for member in self.nodes() {
                    let set = self.spread(member, set_in(&next, member), &next)?;
                    set_of(&mut next, member, set);
                }
                self.trim(&mut next);
                self.check(&next)?;
            }
        }
        Ok(Some(next))
    }

    /// The states in which the post lands next, with what they become.
    pub(super) fn landed(&mut self, member: Index, states: &[StateId], post: PostId) -> Vec<(StateId, StateId)> {
        let Some(Some(member)) = self.members.get_mut(usize::from(member)) else { return Vec::new() };
        let waits = |member: &Member, id| member.state(id).is_some_and(|state| state.outbox.first() == Some(&post));
        let waiting: Vec<StateId> = states.iter().copied().filter(|id| waits(member, *id)).collect();
        waiting.into_iter().filter_map(|id| Some((id, member.landed(id)?))).collect()
    }

    /// The states in which a member can be when a block becomes final: nobody lags behind, and what honest members have
    /// to say in a phase is said in it.
    pub(super) fn ready(&self, member: Index, states: &[StateId], block: u8) -> Vec<StateId> {
        let ends = self.scene.block(block).filter(|block| block.last).map(|block| block.phase);
        let exempt = self.scene.exempt(member);
        let phase_began =
            (0..block).rev().find(|before| *before == 0 || self.scene.block(*before).is_some_and(|b| b.last));
        let ready = |state: &State| {
            let in_time = ends.is_none_or(|phase| {
                let late = |post: &PostId| self.posts.get(*post).is_some_and(|post| post.kind.due() <= phase);
                state.done() >= phase_began.unwrap_or(0) && !state.outbox.iter().any(late)
            });
            !state.is_up() || (state.done().saturating_add(LAG) >= block - 1 && (exempt || in_time))
        };
        states.iter().copied().filter(|id| self.state(member, *id).is_some_and(ready)).collect()
    }

    /// How a member can come from these states to others, with this chain.
    pub(super) fn found(&mut self, index: Index, states: &[StateId], world: &World) -> (Vec<Found>, Option<Halt>) {
        let Committee { members, shares, scene, posts, .. } = self;
        let Some(Some(member)) = members.get_mut(usize::from(index)) else { return (Vec::new(), None) };
        member.spread(states, &world.chain(), shares, scene, posts)
    }

    fn spread(&mut self, member: Index, set: SetId, world: &World) -> Result<SetId, Stopped> {
        let key = (member, set, Digest::of(&(world.blocks, &world.cuts, world.base, &world.board)));
        if let Some(known) = self.spreads.get(&key) {
            return Ok(*known);
        }
        let (found, halt) = self.found(member, &self.states(set), world);
        match halt {
            Some(Halt::Broken(broken)) => return Err(Stopped::Violation(Violation::Step(broken))),
            Some(Halt::Limit) => return Err(Stopped::Limit),
            None => {}
        }
        let all = self.keep(found.into_iter().map(|found| found.state).collect());
        self.spreads.insert(key, all);
        Ok(all)
    }

    /// Lets go of what no member will look at again.
    fn trim(&mut self, world: &mut World) {
        if self.scene.faults.crash.is_some() {
            // Who starts anew reads the board from its beginning, as of every block that has ended a phase.
            return;
        }
        let (mut blocks, mut position) = (world.blocks, u16::MAX);
        for member in self.nodes() {
            let summary = self.summary(member, set_in(world, member));
            blocks = blocks.min(summary.blocks);
            position = position.min(summary.position);
        }
        let cuts = usize::from(world.blocks - blocks);
        world.cuts.drain(..world.cuts.len().saturating_sub(cuts));
        let posts = usize::from(position.saturating_sub(world.base)).min(world.board.len());
        world.board.drain(..posts);
        world.base += posts as u16;
    }

    /// Checks the states that members can be in at the same time against each other.
    fn check(&mut self, world: &World) -> Result<(), Stopped> {
        let mut ended: Vec<(Index, u128, StateId)> = Vec::new();
        for member in self.nodes() {
            let outcomes = self.summary(member, set_in(world, member)).outcomes;
            ended.extend(outcomes.into_iter().map(|(outcome, state)| (member, outcome, state)));
        }
        let differ = |one: &(Index, u128, StateId)| {
            ended.iter().find(|other| other.0 != one.0 && other.1 != one.1).map(|other| (*one, *other))
        };
        if let Some(((one, _, here), (other, _, there))) = ended.iter().find_map(differ) {
            let what = format!("members {one} and {other} come to different results");
            return broken(what, vec![(one, here), (other, there)]);
        }
        if !self.is_end(world) {
            return Ok(());
        }
        for member in self.nodes().into_iter().filter(|member| self.scene.protected(*member)) {
            for id in self.states(set_in(world, member)).iter() {
                let Some(state) = self.state(member, *id) else { continue };
                let complete = state.ending.as_ref().is_some_and(|ending| {
                    let qualified = &ending.report.qualified;
                    ending.share.is_some()
                        && self.scene.nodes().all(|node| !self.scene.protected(node) || qualified.contains(&node))
                });
                if usize::from(state.done()) == self.scene.blocks.len() && !complete {
                    return broken(format!("honest member {member} ends without a key"), vec![(member, *id)]);
                }
            }
        }
        self.check_shares(world)
    }

    /// Any t + 1 of the shares that go with one result sign for its group key.
    fn check_shares(&mut self, world: &World) -> Result<(), Stopped> {
        let mut shares: Vec<(Index, StateId, SecretKey)> = Vec::new();
        let mut result = None;
        for member in self.nodes() {
            for id in self.states(set_in(world, member)).iter() {
                let ending = self.state(member, *id).and_then(|state| state.ending.clone());
                let Some(ending) = ending else { continue };
                let (Some(share), Ok(keys)) = (&ending.share, &ending.report.keys) else { continue };
                shares.push((member, *id, share.clone()));
                result = Some((ending.outcome, keys.group_key));
                break;
            }
        }
        let Some((outcome, group_key)) = result else { return Ok(()) };
        if !self.signed.insert(outcome) {
            return Ok(());
        }
        let needed = self.scene.threshold + 1;
        for start in 0..shares.len().saturating_sub(needed - 1) {
            let some: Vec<_> = shares.iter().skip(start).take(needed).collect();
            let message = b"any t + 1 sign";
            let signed: Vec<_> =
                some.iter().map(|(member, _, key)| (*member, key.sign(message, &RANDOM_BEACON_TAG))).collect();
            let verifies = combine(self.scene.size, self.scene.threshold, &signed)
                .is_ok_and(|signature| group_key.verify(message, &RANDOM_BEACON_TAG, &signature));
            if !verifies {
                let states = some.iter().map(|(member, id, _)| (*member, *id)).collect();
                return broken("these members' shares do not sign for their group key".into(), states);
            }
        }
        Ok(())
    }

    /// No more than t of an honest dealer's shares are public or the faulty member's.
    fn check_secrecy(&self, world: &World, dealer: Index) -> Result<(), Stopped> {
        let faulty = self.scene.faults.faulty.as_ref().map(|faulty| faulty.member);
        let known = Index::all(self.scene.size)
            .filter(|to| Some(*to) == faulty || world.public & share_bit(dealer, *to, self.scene.size) != 0);
        if self.scene.protected(dealer) && known.count() > self.scene.threshold {
            let what = format!("more than {} shares of honest dealer {dealer} are known", self.scene.threshold);
            return broken(what, Vec::new());
        }
        Ok(())
    }

    /// The posts one of which the member will see land next.
    fn heads(&self, member: Index, world: &World) -> BTreeSet<PostId> {
        let states = self.states(set_in(world, member));
        states.iter().filter_map(|id| self.state(member, *id)?.outbox.first().copied()).collect()
    }

    fn summary(&mut self, member: Index, set: SetId) -> Summary {
        if let Some(known) = self.summaries.get(&(member, set)) {
            return known.clone();
        }
        let mut summary = Summary { outcomes: Vec::new(), blocks: u8::MAX, position: u16::MAX };
        for id in self.states(set).iter() {
            let Some(state) = self.state(member, *id) else { continue };
            if state.is_up() {
                summary.blocks = summary.blocks.min(state.blocks);
            }
            if state.reads() {
                summary.position = summary.position.min(state.position);
            }
            if let Some(ending) = &state.ending
                && summary.outcomes.iter().all(|(outcome, _)| *outcome != ending.outcome)
            {
                summary.outcomes.push((ending.outcome, *id));
            }
        }
        self.summaries.insert((member, set), summary.clone());
        summary
    }

    pub(super) fn nodes(&self) -> Vec<Index> {
        self.scene.nodes().collect()
    }

    pub(super) fn state(&self, member: Index, id: StateId) -> Option<&State> {
        self.members.get(usize::from(member))?.as_ref()?.state(id)
    }

    pub(super) fn states(&self, set: SetId) -> Rc<[StateId]> {
        self.sets.get(set as usize).cloned().unwrap_or_default()
    }

    fn keep(&mut self, mut states: Vec<StateId>) -> SetId {
        states.sort_unstable();
        states.dedup();
        let states: Rc<[StateId]> = states.into();
        if let Some(known) = self.numbers.get(&states) {
            return *known;
        }
        // There are no more sets than steps, which are fewer than u32 goes.
        let id = self.sets.len() as SetId;
        self.in_sets += states.len();
        self.sets.push(states.clone());
        self.numbers.insert(states, id);
        id
    }
}

fn broken<T>(what: String, states: Vec<(Index, StateId)>) -> Result<T, Stopped> {
    Err(Stopped::Violation(Violation::States { what, states }))
}

fn set_in(world: &World, member: Index) -> SetId {
    world.sets.get(usize::from(member)).copied().unwrap_or(SetId::MAX)
}

fn set_of(world: &mut World, member: Index, set: SetId) {
    if let Some(place) = world.sets.get_mut(usize::from(member)) {
        *place = set;
    }
}

fn offered(offer: u8) -> u64 {
    1u64.checked_shl(u32::from(offer)).unwrap_or(0)
}

fn share_bit(dealer: Index, to: Index, size: usize) -> u64 {
    let position = usize::from(dealer) * size + usize::from(to);
    u32::try_from(position).ok().and_then(|position| 1u64.checked_shl(position)).unwrap_or(0)
}
