//! The world that nodes live in: time, chain, board, links and disks, and one queue of all that happens.
//!
//! Everything happens in one thread, in the order of simulated time. The world carries out what cores ask for, as the
//! engines' threads do, and decides nothing for them; what it decides (how long, whether at all, in which order) it draws
//! from the run's number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rand::RngExt;
use rand::rand_core::Rng;

use super::chain::{Access, ContractChain, HostedLog, SimulatedClock};
use super::chance::{Draw, dice};
use super::coalition::{self, Act, CHAIN_ID, Coalition, Planned};
use super::defect::{Defect, reference_poll_views};
use super::disk::NextCommit;
use super::fault::Fault;
use super::identity::identity;
use super::node::{LogSide, Mishap, Node, Process, Told, Waiting, instant};
use super::plan::{ChainKind, Plan, VIEW_MS};
use super::timeline::{Timeline, deed};
use super::verified::Verified;
use super::watch::{Queues, Rule, Watch};
use super::{Outcome, Simulated};
use crate::bls::VectorEncoding;
use crate::chain::log::{ChainConfig, ChainEvent, ChainNode, ChainSpec, Follow, LogChain, Next, Payload};
use crate::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use crate::committee::{Index, NodeId};
use crate::engine::{
    Effect, EngineEvent, Input, Job, Outbound, Publication, PublisherInput, READ_PAGE, ReadRequest, Recalled, Step,
    epochs_of,
};
use crate::envelope::{BroadcastMessage, PrivateMessage};
use crate::epoch::{Header, InstanceId, ProtocolEvent, View};
use crate::network::NetworkError;
use crate::protocol::Broadcast;

/// Whiteboard clients of each node on a chain with a contract.
const CLIENTS: usize = 2;
/// Simulated time does not go on for longer than this after the last epoch should be over.
const GRACE_MS: u64 = 6000;
/// Simulated Unix time at the beginning, in ms: far enough from zero for wrong clocks.
const GENESIS_MS: u64 = 1_000_000_000;
/// So much can happen in one run for each member and view; one that goes on for longer does not end.
const MAX_HAPPENINGS_PER_MEMBER_AND_VIEW: u64 = 400;

/// Somebody outside every committee.
const STRANGER: NodeId = NodeId::new([0xee; 32]);

/// Something that happens.
enum Happening {
    /// A block on a chain with a contract.
    Block(View),
    /// A node hears of something on the chain.
    Told { node: usize, life: u64, event: Box<ProtocolEvent> },
    /// A private message arrives. The sending node's job, if an honest one sent it, goes back with what came of it.
    Arrives { from: NodeId, to: usize, message: PrivateMessage, job: Option<(usize, u64, Box<Job>)> },
    /// A sender has done its work.
    Sent { node: usize, life: u64, job: Box<Job>, result: Result<(), NetworkError> },
    /// A node works on one thing that waits for it.
    Turn { node: usize, life: u64 },
    /// A part of a node has something due.
    Due { node: usize, life: u64, part: PartOfNode },
    /// A node that has crashed is started again.
    Restart(usize),
    /// A malicious member does something.
    Acts(Box<Planned>),
    /// The malicious members' clocks have reached a view.
    Tick(View),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartOfNode {
    Outbox,
    Poller,
    Publisher,
    Follower,
}

enum Chain {
    Contract(Box<ContractChain>),
    Log(Box<Log>),
}

struct Log {
    hosted: HostedLog,
    /// A replica that is never behind, for what the simulator wants to know.
    observer: LogChain,
    pens: coalition::log::Pens,
    posts: usize,
}

/// Where in a step a node is killed.
#[derive(Clone, Copy, Debug)]
enum CrashPoint {
    BeforeStep,
    CommitLost,
    CommitKept,
    AfterEffects(usize),
}

pub(super) struct World {
    plan: Plan,
    defect: Option<Defect>,
    config: Arc<ChainConfig>,
    base: Instant,
    now: u64,
    clock: Arc<AtomicU64>,
    queue: BTreeMap<(u64, u64), Happening>,
    /// Numbers what happens, and the calls and messages that chance is drawn for.
    counter: u64,
    nodes: BTreeMap<usize, Node>,
    coalition: Coalition,
    chain: Chain,
    watch: Watch,
    verified: Arc<Verified>,
    timeline: Timeline,
}

impl World {
    /// The world of a plan, or what is impossible about it.
    pub(super) fn new(plan: &Plan, simulated: &Simulated) -> Result<Self, String> {
        let spec = ChainSpec {
            chain_id: CHAIN_ID.to_owned(),
            genesis_ms: GENESIS_MS,
            view_ms: VIEW_MS,
            schedule: *plan.schedule(),
            members: (0..plan.size()).filter_map(|member| Some(identity(member)?.public.clone())).collect(),
            vector_encoding: if plan.uncompressed() {
                VectorEncoding::Uncompressed
            } else {
                VectorEncoding::Compressed
            },
        };
        let config = Arc::new(ChainConfig::new(spec).map_err(|error| error.to_string())?);
        let chain = match plan.chain() {
            ChainKind::Contract => Chain::Contract(Box::new(ContractChain::new(&config))),
            ChainKind::Log => Chain::Log(Box::new(Log {
                hosted: HostedLog::default(),
                observer: LogChain::new(Arc::clone(&config)),
                pens: coalition::log::Pens::new(plan, &config),
                posts: 0,
            })),
        };
        let mut world = World {
            plan: plan.clone(),
            defect: simulated.defect,
            config,
            base: Instant::now(),
            now: 0,
            clock: Arc::new(AtomicU64::new(GENESIS_MS)),
            queue: BTreeMap::new(),
            counter: 0,
            nodes: BTreeMap::new(),
            coalition: Coalition::new(plan),
            chain,
            watch: Watch::new(plan),
            verified: Arc::default(),
            timeline: Timeline::new(simulated.timeline),
        };
        for member in (0..plan.size()).filter(|member| !plan.malicious().contains(member)) {
            world.add_node(member)?;
        }
        for part in plan.parts() {
            world.watch.mark("fault", part.fault.name());
        }
        Ok(world)
    }

    /// Lives through the plan.
    pub(super) fn run(mut self) -> Outcome {
        let views = self.last_view();
        match &self.chain {
            Chain::Contract(_) => self.at(VIEW_MS, Happening::Block(View(1))),
            Chain::Log(_) => self.at(VIEW_MS, Happening::Tick(View(1))),
        }
        for member in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.boot(member);
        }
        let end = views * VIEW_MS + GRACE_MS;
        let limit = MAX_HAPPENINGS_PER_MEMBER_AND_VIEW * self.plan.size() as u64 * views;
        let mut happened = 0;
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            happened += 1;
            if at > end || self.watch.violation().is_some() {
                break;
            }
            if happened > limit {
                self.watch.break_rule(Rule::Limits, || format!("{limit} things have happened, and there is no end"));
            }
            self.now = at;
            self.clock.store(GENESIS_MS + at, Ordering::Relaxed);
            self.happen(happening);
        }
        let states = self
            .nodes
            .iter()
            .map(|(member, node)| (*member, (node.state.clone(), node.process.is_some() && !node.stopped)))
            .collect();
        let leaks = self.watch.finish(&states, &*self.verified);
        let violation = self.watch.violation().cloned();
        if let Some(violation) = &violation {
            self.timeline.note(self.now, "VIOLATION", || violation.to_string());
        }
        Outcome {
            endings: self.watch.endings(),
            violation,
            marks: std::mem::take(&mut self.watch.marks),
            leaks,
            timeline: self.timeline,
        }
    }

    /// The first view after the last epoch of the plan: there all is over.
    fn last_view(&self) -> u64 {
        self.plan.epochs() * self.plan.schedule().views_in_epoch
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.counter += 1;
        self.queue.insert((time.max(self.now), self.counter), happening);
    }

    /// A generator for one occasion.
    fn dice(&mut self, what: Draw) -> chacha20::ChaCha20Rng {
        self.counter += 1;
        dice(self.plan.seed(), what, self.counter, self.now)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Block(view) => self.block(view),
            Happening::Tick(view) => self.tick(view),
            Happening::Told { node, life, event } => {
                if let Some(process) = self.process(node, life) {
                    process.inbox.push_back(Waiting::Event(event));
                    self.turn_soon(node);
                }
            }
            Happening::Arrives { from, to, message, job } => self.arrives(from, to, message, job),
            Happening::Sent { node, life, job, result } => {
                let random = self.dice(Draw::Turn).next_u64();
                let now = instant(self.base, self.now);
                if let Some(process) = self.process(node, life) {
                    process.idle_senders += 1;
                    if let Err(error) = result {
                        process.outbox.failed(*job, &error, now, random);
                    }
                    self.due_soon(node, PartOfNode::Outbox);
                }
            }
            Happening::Turn { node, life } => {
                if let Some(process) = self.process(node, life) {
                    process.turn_due = false;
                    self.turn(node);
                }
            }
            Happening::Due { node, life, part } => {
                if self.process(node, life).is_some() {
                    match part {
                        PartOfNode::Outbox => self.send(node),
                        PartOfNode::Poller => self.poll(node),
                        PartOfNode::Publisher => self.publish(node),
                        PartOfNode::Follower => self.follow(node),
                    }
                }
            }
            Happening::Restart(node) => self.boot(node),
            Happening::Acts(planned) => self.act(*planned),
        }
    }

    fn process(&mut self, node: usize, life: u64) -> Option<&mut Process> {
        let node = self.nodes.get_mut(&node).filter(|node| node.life == life && !node.stopped)?;
        node.process.as_mut().filter(|process| !process.hangs)
    }

    // Nodes come and go.

    fn add_node(&mut self, member: usize) -> Result<(), String> {
        let identity = identity(member).ok_or_else(|| format!("there is no member {member}"))?;
        let mut node = Node::new(member, identity, self.defect);
        let schedule = *self.plan.schedule();
        for part in self.plan.parts().iter().filter(|part| part.member == member) {
            let mut dice = dice(self.plan.seed(), Draw::Part, part.number, 0);
            let epoch_first = (part.epoch - 1) * schedule.views_in_epoch;
            let from = (epoch_first + schedule.setup_first_view) * VIEW_MS;
            let to = (epoch_first + schedule.views_in_epoch) * VIEW_MS;
            let (from, to) = match part.fault {
                // All of phase 1: what it deals comes too late.
                Fault::CutOff | Fault::BoardOutage if dice.random_bool(0.5) => {
                    (from, from + (schedule.views_per_phase + dice.random_range(0..4)) * VIEW_MS)
                }
                Fault::CutOff | Fault::BoardOutage => {
                    let start = dice.random_range(from..to);
                    (start, (start + dice.random_range(1..=12 * VIEW_MS)).min(to))
                }
                Fault::Crash | Fault::StoreFailure => (dice.random_range(from..to), u64::MAX),
                _ => (from, to),
            };
            node.mishaps.push(Mishap { part: *part, from, to, much: dice.next_u64(), done: false });
        }
        if let Chain::Log(log) = &self.chain {
            let access = Arc::new(Access { log: log.hosted.clone(), stalled: AtomicBool::new(false) });
            let replica = LogChain::new(Arc::clone(&self.config));
            let key = identity.network_key.clone();
            let chain = ChainNode::new(replica, access.clone(), key, 1).map_err(|error| error.to_string())?;
            let told = Arc::new(Told::default());
            // A right clock is a little off as well.
            let off_by = match node.mishaps.iter().find(|mishap| mishap.part.fault == Fault::WrongClock) {
                Some(mishap) => (mishap.much % 600_000) as i64 - 300_000,
                None => dice(self.plan.seed(), Draw::Node, member as u64, u64::MAX).random_range(-20..=20),
            };
            let clock = Arc::new(SimulatedClock { now: Arc::clone(&self.clock), off_by });
            let worked_off = Arc::clone(&node.worked_off);
            let pace = Arc::new(move || View(worked_off.load(Ordering::Relaxed)));
            let follow = Follow::new(&chain, clock.clone(), pace, told.clone(), member as u64);
            node.log = Some(LogSide { chain, follow, access, told });
        }
        self.nodes.insert(member, node);
        Ok(())
    }

    /// Starts a node where the chain stands.
    fn boot(&mut self, member: usize) {
        let clients = if self.plan.chain() == ChainKind::Log { 1 } else { CLIENTS };
        let (seed, poll_step) = (self.plan.seed(), self.plan.schedule().poll_step);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&member) else { return };
        if node.log.as_ref().is_some_and(|log| log.chain.catch_up().is_err()) {
            // The host does not answer: the operator tries again.
            return self.at(now + VIEW_MS, Happening::Restart(member));
        }
        node.life += 1;
        let life = node.life;
        let snapshot = match (&self.chain, &node.log) {
            (Chain::Contract(chain), _) => chain.snapshot(),
            (Chain::Log(_), Some(log)) => {
                let replica = log.chain.replica().lock();
                crate::epoch::Snapshot {
                    current: replica.epoch().epoch,
                    head: replica.header(),
                    phase: replica.phase(),
                }
            }
            (Chain::Log(_), None) => return,
        };
        let mut process = Process::new(node, seed, poll_step, clients, Arc::clone(&self.verified));
        let head = snapshot.head;
        process.inbox.extend(snapshot.into_event().map(Box::new).map(Waiting::Event));
        node.worked_off.store(head.view.0, Ordering::Relaxed);
        node.process = Some(process);
        node.told_until = now;
        if let Some(log) = &node.log {
            log.told.0.lock().clear();
        }
        self.timeline.note(now, &member.to_string(), || {
            if life == 1 { "starts".to_owned() } else { format!("is started again, at view {}", head.view) }
        });
        self.turn_soon(member);
        if self.plan.chain() == ChainKind::Log {
            self.due_soon(member, PartOfNode::Follower);
        }
    }

    fn crash(&mut self, member: usize, point: &CrashPoint) {
        let Some(node) = self.nodes.get_mut(&member) else { return };
        node.process = None;
        node.disk.crash();
        let much = node.mishaps.iter().find(|m| m.part.fault == Fault::Crash).map_or(0, |mishap| mishap.much);
        let back = self.now + 1 + (much >> 16) % (14 * VIEW_MS);
        self.timeline.note(self.now, &member.to_string(), || format!("is killed ({point:?})"));
        self.watch.mark("crash", format!("{point:?}").chars().take_while(|c| c.is_alphanumeric()).collect::<String>());
        self.at(back, Happening::Restart(member));
        self.note_the_unwell();
    }

    /// Who is down, or suffers from something, counts as faulty in the run that is on; whichever run that is: with wrong
    /// clocks views need not come when they should.
    fn note_the_unwell(&mut self) {
        let Some(epoch) = self.watch.current_run() else { return };
        for node in self.nodes.values().filter(|node| node.is_unwell(self.now)) {
            self.watch.unwell(node.member, epoch);
        }
    }

    // The chain.

    fn block(&mut self, view: View) {
        let events = match &mut self.chain {
            Chain::Contract(chain) => chain.finalize(view),
            Chain::Log(_) => return,
        };
        self.chain_events(events);
        let last = self.last_view();
        if view.0 < last {
            let skipping = self.plan.weather().skipping;
            let mut dice = dice(self.plan.seed(), Draw::Blocks, view.0, 0);
            let ahead = if dice.random_range(0..100) < skipping { dice.random_range(2..=3) } else { 1 };
            let next = View((view.0 + ahead).min(last));
            let at = (next.0 * VIEW_MS + dice.random_range(0..VIEW_MS / 4)).max(self.now + 1);
            self.at(at, Happening::Block(next));
        }
    }

    /// What the chain tells, to everybody in good time.
    fn chain_events(&mut self, events: Vec<ChainEvent>) {
        for event in events {
            self.observe(&event);
            let ChainEvent::Protocol(event) = event else { continue };
            for member in self.nodes.keys().copied().collect::<Vec<_>>() {
                let lag = self.dice(Draw::Turn).random_range(0..=self.plan.weather().block_ms);
                let now = self.now;
                let Some(node) = self.nodes.get_mut(&member).filter(|node| node.process.is_some()) else { continue };
                let heard = node.suffers(Fault::CutOff, now).map_or(now, |mishap| mishap.to) + lag;
                let at = heard.max(node.told_until);
                node.told_until = at;
                let life = node.life;
                self.at(at, Happening::Told { node: member, life, event: Box::new(event.clone()) });
            }
        }
    }

    /// What the simulator itself and the coalition make of an event.
    fn observe(&mut self, event: &ChainEvent) {
        let now = self.now;
        let mut planned = Vec::new();
        match event {
            // A log chain does not know that the simulation is over.
            ChainEvent::Protocol(ProtocolEvent::EpochSetupPhaseStarted { setup, .. })
                if setup.epoch.0 > self.plan.epochs() => {}
            ChainEvent::Protocol(ProtocolEvent::EpochSetupPhaseStarted { setup, .. }) => {
                self.watch.setup(setup);
                self.note_the_unwell();
                self.timeline.note(now, "chain", || format!("the run for epoch {} begins", setup.epoch));
                planned = self.coalition.setup(setup, now);
            }
            ChainEvent::Protocol(ProtocolEvent::EpochCommittedPhaseStarted { commit, .. }) => {
                self.watch.committed(commit);
                self.timeline.note(now, "chain", || format!("the keys of epoch {} are agreed on", commit.epoch));
            }
            ChainEvent::Protocol(ProtocolEvent::EpochFallbackExited { commit, .. }) => {
                self.timeline.note(now, "chain", || format!("earlier keys go on to serve in epoch {}", commit.epoch));
            }
            ChainEvent::Protocol(ProtocolEvent::BlockFinalized(block)) => {
                let views = self.plan.schedule().views_in_epoch;
                let epoch = crate::epoch::EpochCounter(block.view.0 / views);
                self.watch.epoch_over(epoch);
                self.note_the_unwell();
                self.watch.finalized(block);
                self.timeline.note(now, "chain", || format!("view {}", block.view));
                planned = self.coalition.block(block, now);
            }
            ChainEvent::EpochFailed { epoch } => {
                self.timeline.note(now, "chain", || format!("epoch {epoch} ends without new keys"));
            }
        }
        self.schedule(planned);
    }

    fn schedule(&mut self, planned: Vec<Planned>) {
        for planned in planned {
            self.at(planned.at, Happening::Acts(Box::new(planned)));
        }
    }

    // A log chain.

    fn tick(&mut self, view: View) {
        let schedule = *self.plan.schedule();
        // The run of an epoch's setup phase makes the keys of the next.
        let epoch = view.0 / schedule.views_in_epoch + 1;
        for member in self.plan.malicious().iter().copied().collect::<Vec<_>>() {
            let faults: Vec<Fault> = self.plan.faults_of(member, epoch).map(|part| part.fault).collect();
            let entries = match &mut self.chain {
                Chain::Log(log) => log.pens.tick(member, view, &faults),
                Chain::Contract(_) => return,
            };
            for entry in entries {
                self.append(&entry);
            }
        }
        if view.0 < self.last_view() {
            self.at((view.0 + 1) * VIEW_MS, Happening::Tick(View(view.0 + 1)));
        }
    }

    /// A malicious member's entry.
    fn append(&mut self, entry: &[u8]) {
        if let Chain::Log(log) = &mut self.chain {
            log.hosted.append(entry);
        }
        self.read_log();
    }

    /// Brings what the simulator knows of the log up to date, and wakes the followers.
    fn read_log(&mut self) {
        loop {
            let Chain::Log(log) = &mut self.chain else { return };
            let Some(entry) = log.hosted.entry(log.pens.seen()) else { break };
            log.pens.read(&entry);
            let position = log.observer.prefix().position;
            let applied = match log.observer.apply(&entry) {
                Ok(applied) => applied,
                // More than `t` liars can stop a log chain; fewer cannot.
                Err(_) if self.plan.malicious().len() > self.config.committee().threshold() => return,
                Err(error) => {
                    return self.watch.break_rule(Rule::Resilience, || format!("an honest host's log: {error}"));
                }
            };
            if let Some(skip) = applied.skipped {
                self.watch.mark("skipped entry", format!("{:?}", skip.reason));
            }
            let (count, posts) = (log.observer.contract().message_count(), log.posts);
            let fresh: Vec<BoardMessage> = log.observer.contract().messages(posts.min(count), count).to_vec();
            log.posts = count;
            for post in fresh {
                if let Some(member) = self.place(&post.node_id) {
                    let honest = !self.plan.malicious().contains(&member);
                    self.watch.posted(member, &post.content, position, honest);
                }
            }
            let results: Vec<(NodeId, DkgResult)> = match &self.chain {
                Chain::Log(log) => {
                    log.observer.contract().submissions().map(|(node, result)| (*node, result.clone())).collect()
                }
                Chain::Contract(_) => Vec::new(),
            };
            for (node, result) in results {
                if let Some(member) = self.place(&node) {
                    self.watch.submitted(member, &result);
                }
            }
            for event in applied.events {
                self.observe(&event);
            }
        }
        for member in self.nodes.keys().copied().collect::<Vec<_>>() {
            let lag = self.dice(Draw::Turn).random_range(0..=self.plan.weather().block_ms);
            self.due(member, PartOfNode::Follower, self.now + lag);
        }
    }

    fn place(&self, node: &NodeId) -> Option<usize> {
        self.config.committee().index_of(node).map(usize::from)
    }

    fn follow(&mut self, member: usize) {
        let (now, last_view, stalls) = (self.now, self.last_view(), self.host_stalls());
        let Some(node) = self.nodes.get_mut(&member) else { return };
        let stalled = node.is_cut_off(now) || stalls;
        let life = node.life;
        let Some(log) = &mut node.log else { return };
        if log.chain.replica().lock().header().view.0 >= last_view {
            return;
        }
        log.access.stalled.store(stalled, Ordering::Relaxed);
        let before = log.access.log.len();
        let next = log.follow.turn(&|| false);
        let told = std::mem::take(&mut *log.told.0.lock());
        let grown = log.access.log.len() > before;
        for event in told {
            self.at(now, Happening::Told { node: member, life, event: Box::new(event) });
        }
        if grown {
            self.read_log();
        }
        let wait = match next {
            Ok(Next::Turn) => 1,
            Ok(Next::Wait { timeout, .. }) => u64::try_from(timeout.as_millis()).unwrap_or(VIEW_MS).max(1),
            Err(_) => VIEW_MS / 2,
        };
        self.due(member, PartOfNode::Follower, now + wait);
    }

    // What a node's threads do.

    fn due(&mut self, member: usize, part: PartOfNode, at: u64) {
        let Some(node) = self.nodes.get_mut(&member).filter(|node| node.process.is_some()) else { return };
        if part == PartOfNode::Follower {
            // One wake-up at a time is enough, the earliest.
            if node.follow_at > self.now && node.follow_at <= at {
                return;
            }
            node.follow_at = at;
        }
        let life = node.life;
        self.at(at, Happening::Due { node: member, life, part });
    }

    fn due_soon(&mut self, member: usize, part: PartOfNode) {
        self.due(member, part, self.now);
    }

    fn turn_soon(&mut self, member: usize) {
        let mut dice = self.dice(Draw::Turn);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&member) else { return };
        let slow = node.suffers(Fault::SlowNode, now).map_or(0, |mishap| mishap.much % (VIEW_MS * 2 / 3));
        let life = node.life;
        let Some(process) = node.process.as_mut().filter(|process| !process.turn_due && process.has_work()) else {
            return;
        };
        process.turn_due = true;
        let at = now + slow + dice.random_range(0..=2);
        self.at(at, Happening::Turn { node: member, life });
    }

    /// One round of the reactor's loop, with one input.
    fn turn(&mut self, member: usize) {
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        let private = if process.core.wants_private() { process.private.pop() } else { None };
        let input = match private {
            Some((from, message)) => Some(Input::Private(from, message)),
            None => match process.inbox.pop_front() {
                Some(Waiting::Board(input)) => Some(input),
                Some(Waiting::Event(event)) => self.recall(member, event),
                None => None,
            },
        };
        if let Some(input) = input {
            self.step(member, input);
        }
        self.turn_soon(member);
    }

    fn recall(&mut self, member: usize, event: Box<ProtocolEvent>) -> Option<Input> {
        let node = self.nodes.get_mut(&member)?;
        if let (Some(Defect::PollViewsUnderflow), ProtocolEvent::EpochSetupPhaseStarted { setup, first, .. }) =
            (self.defect, &*event)
        {
            let [last, ..] = setup.phase_final_views;
            if reference_poll_views(first.view.0, last.0, self.plan.schedule().poll_step).is_none() {
                node.process.as_mut()?.hangs = true;
                return None;
            }
        }
        let recalled = match epochs_of(&event) {
            None => None,
            Some((current, next)) => match (node.state.record(current), node.state.record(next)) {
                (Ok(current), Ok(next)) => Some(Box::new(Recalled { current, next })),
                (Err(error), _) | (_, Err(error)) => {
                    self.watch
                        .break_rule(Rule::Resilience, || format!("member {member} cannot read its store: {error}"));
                    return None;
                }
            },
        };
        Some(Input::Event(event, recalled))
    }

    fn step(&mut self, member: usize, input: Input) {
        let crash = self.next_crash(member);
        if let Some(point @ CrashPoint::BeforeStep) = &crash {
            return self.crash(member, point);
        }
        let Some(node) = self.nodes.get_mut(&member) else { return };
        let Some(process) = node.process.as_mut() else { return };
        let step = match process.core.step(input) {
            Ok(step) => step,
            Err(error) => {
                let what = format!("member {member} has stopped for good: {error}");
                node.stopped = true;
                return self.watch.break_rule(Rule::Resilience, || what);
            }
        };
        let queues = Queues {
            inbound: process.private.len(),
            outbound: process.outbox.len(),
            posts: process.publisher.len(),
            inbox: process.inbox.len(),
        };
        node.worked_off.store(process.core.worked_off().0, Ordering::Relaxed);
        let Some(effects) = self.persist(member, step, crash.as_ref()) else { return };
        self.watch.stepped(member, &queues);
        let all = effects.len();
        for (done, effect) in effects.into_iter().enumerate() {
            if matches!(crash, Some(CrashPoint::AfterEffects(at)) if at % (all + 1) == done) {
                break;
            }
            self.carry_out(member, effect);
        }
        if let Some(point) = &crash {
            self.crash(member, point);
        }
    }

    /// Writes what has to be durable first; the effects, unless the node is dead by then.
    fn persist(&mut self, member: usize, step: Step, crash: Option<&CrashPoint>) -> Option<Vec<Effect>> {
        let now = self.now;
        let node = self.nodes.get_mut(&member)?;
        let broken = node
            .mishaps
            .iter_mut()
            .find(|mishap| mishap.part.fault == Fault::StoreFailure && (mishap.from..mishap.to).contains(&now));
        let fails = broken.is_some();
        node.disk.arm(match crash {
            Some(CrashPoint::CommitLost) => NextCommit::Lost,
            Some(CrashPoint::CommitKept) => NextCommit::KeptUnseen,
            _ if fails => NextCommit::Lost,
            _ => NextCommit::Kept,
        });
        let before = node.disk.statuses();
        let persisted = step.persist(&node.state);
        let after = node.disk.statuses();
        for (epoch, status) in &after {
            let earlier = before.get(epoch).copied().unwrap_or("uninitialized");
            if earlier != *status {
                self.watch.mark("key", format!("{earlier} -> {status}"));
            }
        }
        match (persisted, crash) {
            (_, Some(point @ (CrashPoint::CommitLost | CrashPoint::CommitKept))) => {
                self.crash(member, point);
                None
            }
            (Ok(effects), _) => Some(effects),
            (Err(error), _) => {
                // The engine must stop, and does.
                let node = self.nodes.get_mut(&member)?;
                node.stopped = true;
                self.timeline.note(now, &member.to_string(), || format!("stops for good: {error}"));
                self.note_the_unwell();
                None
            }
        }
    }

    /// Whether the node is killed in its next step, and where.
    fn next_crash(&mut self, member: usize) -> Option<CrashPoint> {
        let now = self.now;
        let node = self.nodes.get_mut(&member)?;
        let mishap = node
            .mishaps
            .iter_mut()
            .find(|mishap| mishap.part.fault == Fault::Crash && !mishap.done && mishap.from <= now)?;
        mishap.done = true;
        Some(match mishap.much % 4 {
            0 => CrashPoint::BeforeStep,
            1 => CrashPoint::CommitLost,
            2 => CrashPoint::CommitKept,
            _ => CrashPoint::AfterEffects((mishap.much >> 8) as usize),
        })
    }

    fn carry_out(&mut self, member: usize, effect: Effect) {
        let now = instant(self.base, self.now);
        match effect {
            Effect::SendPrivate { to, message } => {
                let Some(place) = self.place(&to) else { return };
                self.watch.sends(member, place, &message);
                self.on_process(member, |process| process.outbox.add(Outbound { to, message }, now));
                self.due_soon(member, PartOfNode::Outbox);
            }
            Effect::Read(request) => self.begin_read(member, request),
            Effect::Post { instance, content } => {
                self.watch.posts(member, &content);
                self.timeline.note(self.now, &member.to_string(), || deed(&content));
                self.on_process(member, |process| process.publisher.take(PublisherInput::Post { instance, content }));
                self.call_soon(member, PartOfNode::Publisher);
            }
            Effect::Submit { instance, result } => {
                self.watch.submits(member, instance.as_str(), &result);
                if self.defect == Some(Defect::FailureIsSilent) && result == DkgResult::Empty {
                    return;
                }
                self.on_process(member, |process| process.publisher.take(PublisherInput::Submit { instance, result }));
                self.call_soon(member, PartOfNode::Publisher);
            }
            Effect::EndRun(instance) => self.on_process(member, |process| {
                process.outbox.end_run(instance.clone());
                process.poller.abandon();
                process.publisher.take(PublisherInput::EndRun(instance));
            }),
            Effect::Report(event) => {
                log::debug!("{event}");
                self.watch.told(member, &event);
                self.timeline.note(self.now, &member.to_string(), || event.to_string());
                if let EngineEvent::RunEnded(report) = &event
                    && report.keys.is_err()
                {
                    self.on_process(member, |process| process.listens_on = true);
                }
            }
        }
    }

    fn on_process(&mut self, member: usize, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) {
            change(process);
        }
    }

    fn call_soon(&mut self, member: usize, part: PartOfNode) {
        let latency = self.dice(Draw::Calls).random_range(0..=self.plan.weather().call_ms);
        self.due(member, part, self.now + latency);
    }

    // Links.

    /// The dispatcher: hands what is due to idle senders.
    fn send(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        loop {
            let Some(node) = self.nodes.get_mut(&member) else { return };
            let (from, life) = (node.id(), node.life);
            let Some(process) = node.process.as_mut() else { return };
            if process.idle_senders == 0 {
                return;
            }
            let Some(job) = process.outbox.take_due(now) else {
                let next = process.outbox.next_due().map(|due| due.saturating_duration_since(self.base));
                if let Some(due) = next.and_then(|due| u64::try_from(due.as_millis()).ok()) {
                    // Waits are cut to whole milliseconds.
                    self.due(member, PartOfNode::Outbox, (due + 1).max(self.now + 1));
                }
                return;
            };
            process.idle_senders -= 1;
            self.dispatch(member, life, from, job);
        }
    }

    /// One try to deliver a private message.
    fn dispatch(&mut self, member: usize, life: u64, from: NodeId, job: Job) {
        let weather = *self.plan.weather();
        let mut dice = self.dice(Draw::Link);
        let Some(to) = self.place(&job.outbound.to) else { return };
        let travel = dice.random_range(1..=weather.link_ms);
        let at = self.now + travel;
        let unlucky = dice.random_range(0..100) < weather.failing;
        let reachable = !self.is_severed(member, to) && !self.is_severed(to, member);
        let bad_luck = unlucky && self.nodes.get_mut(&member).is_some_and(|node| node.has_bad_luck(self.now));
        if !reachable || bad_luck {
            // Sometimes it does arrive, and only the acknowledgement is lost.
            let message = job.outbound.message.clone();
            if reachable && dice.random_bool(0.3) {
                self.at(at, Happening::Arrives { from, to, message, job: None });
            }
            let result = Err(NetworkError::Unreachable(job.outbound.to, "no answer".into()));
            return self.at(at, Happening::Sent { node: member, life, job: Box::new(job), result });
        }
        let message = job.outbound.message.clone();
        if dice.random_range(0..100) < weather.doubled {
            let again = self.now + dice.random_range(1..=weather.link_ms + VIEW_MS);
            self.at(again, Happening::Arrives { from, to, message: message.clone(), job: None });
        }
        self.at(at, Happening::Arrives { from, to, message, job: Some((member, life, Box::new(job))) });
    }

    /// Whether nothing gets through between two members, because of the first one's mishaps.
    fn is_severed(&self, member: usize, other: usize) -> bool {
        let Some(node) = self.nodes.get(&member) else { return false };
        let lost = node.suffers(Fault::LostShares, self.now);
        node.is_cut_off(self.now) || lost.is_some_and(|mishap| mishap.much >> (other % 32) & 1 == 1)
    }

    fn arrives(&mut self, from: NodeId, to: usize, message: PrivateMessage, job: Option<(usize, u64, Box<Job>)>) {
        let defect = self.defect;
        let result = match self.nodes.get_mut(&to) {
            // The coalition takes everything.
            None => Ok(()),
            Some(node) => match node.process.as_mut().filter(|_| !node.stopped) {
                None => Err("it is not running".to_owned()),
                Some(process) => {
                    if defect == Some(Defect::SharesInTheLog) && !process.core.wants_private() {
                        log::warn!("not wanted: {}", crate::hex::encode(message.data.expose()));
                    }
                    process.arrivals += 1;
                    let stolen =
                        defect == Some(Defect::FailedRunListensOn) && process.listens_on && process.arrivals % 2 == 0;
                    if stolen { Ok(()) } else { process.private.push(from, message).map_err(|error| error.to_string()) }
                }
            },
        };
        if let Err(error) = &result {
            self.watch.mark("refused private message", error.clone());
        }
        self.turn_soon(to);
        if let Some((node, life, job)) = job {
            let result = result.map_err(|why| NetworkError::Unreachable(job.outbound.to, why));
            self.at(self.now + 1, Happening::Sent { node, life, job, result });
        }
    }

    // The whiteboard.

    fn begin_read(&mut self, member: usize, request: ReadRequest) {
        let early = self.defect == Some(Defect::TransitionBeforePoll)
            && request.must_succeed
            && self.dice(Draw::Turn).random_bool(0.5);
        let now = instant(self.base, self.now);
        if early {
            let nothing = Input::Page { read: request.id, messages: Vec::new(), last: true };
            self.on_process(member, |process| process.inbox.push_back(Waiting::Board(nothing)));
            return self.turn_soon(member);
        }
        self.on_process(member, |process| {
            process.read_failures = 0;
            process.poller.read(request, now);
        });
        self.call_soon(member, PartOfNode::Poller);
    }

    fn poll(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        let Some(call) = process.poller.due(now) else { return self.poll_again(member) };
        let mut result = self.read(member, call.client, call.from_index, &call.as_of);
        if let Ok(messages) = &mut result {
            self.misread(member, call.from_index, messages);
        }
        let random = self.dice(Draw::Turn).next_u64();
        let skips = self.defect == Some(Defect::FailedReadIsSkipped);
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        if result.is_err() {
            process.read_failures += 1;
            if skips && process.read_failures > 3 {
                result = Ok(Vec::new());
            }
        }
        if let Some(input) = process.poller.tried(result, now, random) {
            process.inbox.push_back(Waiting::Board(input));
            self.turn_soon(member);
        }
        self.poll_again(member);
    }

    fn poll_again(&mut self, member: usize) {
        let next = self.nodes.get(&member).and_then(|node| node.process.as_ref()?.poller.next_due());
        self.again(member, PartOfNode::Poller, next);
    }

    fn again(&mut self, member: usize, part: PartOfNode, due: Option<Instant>) {
        let Some(due) = due else { return };
        let latency = self.dice(Draw::Calls).random_range(1..=self.plan.weather().call_ms.max(1));
        let due = u64::try_from(due.saturating_duration_since(self.base).as_millis()).unwrap_or(self.now);
        self.due(member, part, (due + 1).max(self.now + latency));
    }

    /// The defects of the reference that change what a node makes of the board.
    fn misread(&self, member: usize, from: u64, messages: &mut Vec<BoardMessage>) {
        match self.defect {
            Some(Defect::GarbageBlinds)
                if messages.iter().any(|post| BroadcastMessage::from_json(&post.content).is_err()) =>
            {
                messages.clear();
            }
            Some(Defect::OwnComplaintFirst) => self.forget_early_answers(member, from, messages),
            _ => {}
        }
    }

    /// Answers to a member that stand before its complaint are lost to it: it writes its complaint over them.
    fn forget_early_answers(&self, member: usize, from: u64, messages: &mut [BoardMessage]) {
        let Some(me) = Index::from_position(member) else { return };
        let own = self.nodes.get(&member).map(Node::id);
        let earlier = self.board_before(from);
        let mut complained: Vec<u8> = Vec::new();
        let data = |post: &BoardMessage| BroadcastMessage::from_json(&post.content).map(|message| message.data);
        for post in &earlier {
            if Some(post.node_id) == own
                && let Ok(data) = data(post)
                && let Broadcast::Complaint([accused]) = Broadcast::parse(&data)
            {
                complained.push(*accused);
            }
        }
        for post in messages.iter_mut() {
            let Ok(data) = data(post) else { continue };
            let dealer = self.place(&post.node_id).and_then(Index::from_position);
            match Broadcast::parse(&data) {
                Broadcast::Complaint([accused]) if Some(post.node_id) == own => complained.push(*accused),
                Broadcast::Answer([to, ..])
                    if *to == me.byte() && dealer.is_some_and(|dealer| !complained.contains(&dealer.byte())) =>
                {
                    post.content = "an answer that is forgotten".to_owned();
                }
                _ => {}
            }
        }
    }

    fn board_before(&self, index: u64) -> Vec<BoardMessage> {
        let count = usize::try_from(index).unwrap_or(usize::MAX);
        match &self.chain {
            Chain::Contract(chain) => chain.messages(0, &chain.head(), count).unwrap_or_default().to_vec(),
            Chain::Log(log) => log.observer.contract().messages(0, count).to_vec(),
        }
    }

    /// Whether the host of a log chain answers nobody, for the first part of a view.
    fn host_stalls(&self) -> bool {
        let mut dice = dice(self.plan.seed(), Draw::Blocks, self.now / VIEW_MS, u64::MAX);
        self.plan.chain() == ChainKind::Log
            && dice.random_range(0..100) < self.plan.weather().stalling
            && self.now % VIEW_MS < dice.random_range(0..VIEW_MS / 2)
    }

    /// Why a call to the board fails before it gets there; the call may have been heard all the same.
    fn call_fails(&mut self, member: usize, client: usize) -> Option<(ClientError, bool)> {
        let failing = self.plan.weather().failing;
        let dead = self.plan.chain() == ChainKind::Contract && self.plan.weather().dead_client == Some(client);
        let stalls = dead || self.host_stalls();
        let mut dice = self.dice(Draw::Calls);
        let node = self.nodes.get_mut(&member)?;
        let unavailable = |why: &str| ClientError::Unavailable(why.to_owned());
        if stalls {
            return Some((unavailable("no answer"), false));
        }
        if node.is_cut_off(self.now) || node.suffers(Fault::BoardOutage, self.now).is_some() {
            return Some((unavailable("no connection"), false));
        }
        let unlucky = dice.random_range(0..100) < failing && node.has_bad_luck(self.now);
        unlucky.then(|| (unavailable("timed out"), dice.random_bool(0.3)))
    }

    fn read(
        &mut self,
        member: usize,
        client: usize,
        from: u64,
        as_of: &Header,
    ) -> Result<Vec<BoardMessage>, ClientError> {
        if let Some((error, _)) = self.call_fails(member, client) {
            return Err(error);
        }
        let node = self.nodes.get(&member).ok_or_else(|| ClientError::Refused("no such node".into()))?;
        match &self.chain {
            Chain::Contract(chain) => {
                // A client sees a block later than others; the second one later than the first.
                let lagging = node.suffers(Fault::LaggingBoard, self.now).map_or(0, |m| m.much % (10 * VIEW_MS));
                let mut dice = dice(self.plan.seed(), Draw::Blocks, as_of.view.0, member as u64);
                let lag = dice.random_range(0..=self.plan.weather().block_ms) + lagging + 5 * client as u64;
                if as_of.view.0 * VIEW_MS + lag > self.now {
                    return Err(ClientError::Unavailable(format!("view {} has not been seen here", as_of.view)));
                }
                chain
                    .messages(from, as_of, READ_PAGE)
                    .map(<[BoardMessage]>::to_vec)
                    .map_err(|error| ClientError::Refused(error.to_string()))
            }
            Chain::Log(_) => match &node.log {
                Some(log) => log.chain.board().read_broadcast(from, as_of, READ_PAGE),
                None => Err(ClientError::Refused("no such node".into())),
            },
        }
    }

    fn publish(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        let Some((client, instance, publication)) = process.publisher.due(now) else {
            return self.publish_again(member);
        };
        let (post, result) = match publication {
            Publication::Post(content) => (Some(content.clone()), None),
            Publication::Submission(result) => (None, Some(result.clone())),
        };
        let instance = instance.clone();
        let outcome = match (post, result) {
            (Some(content), _) => self.post(member, client, &content),
            (_, Some(result)) => self.submit(member, client, &instance, &result),
            _ => Ok(()),
        };
        let random = self.dice(Draw::Turn).next_u64();
        self.on_process(member, |process| process.publisher.tried(outcome, now, random));
        self.publish_again(member);
    }

    fn publish_again(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        let next = self.nodes.get(&member).and_then(|node| node.process.as_ref()?.publisher.next_due(now));
        self.again(member, PartOfNode::Publisher, next);
    }

    fn post(&mut self, member: usize, client: usize, content: &str) -> Result<(), ClientError> {
        let planned = self.coalition.overhear(member, content, self.now);
        self.rush(planned);
        match self.call_fails(member, client) {
            Some((error, false)) => return Err(error),
            Some((error, true)) => {
                let _ = self.put_on_board(member, content);
                return Err(error);
            }
            None => {}
        }
        self.put_on_board(member, content)
    }

    /// The coalition is quicker: what it has to say at once comes first.
    fn rush(&mut self, planned: Vec<Planned>) {
        for planned in planned {
            if planned.at <= self.now {
                self.act(planned);
            } else {
                self.schedule(vec![planned]);
            }
        }
    }

    fn put_on_board(&mut self, member: usize, content: &str) -> Result<(), ClientError> {
        let id = self.config.committee().members().get(member).map(|member| member.node_id);
        let (Some(id), honest) = (id, !self.plan.malicious().contains(&member)) else {
            return Err(ClientError::Refused("no such member".into()));
        };
        match &mut self.chain {
            Chain::Contract(chain) => {
                let position = chain.calls();
                chain.post(id, content).map_err(|error| ClientError::Refused(error.to_string()))?;
                self.watch.posted(member, content, position, honest);
                Ok(())
            }
            Chain::Log(_) => {
                let board = self.nodes.get(&member).and_then(|node| node.log.as_ref()).map(|log| log.chain.board());
                let result = match board {
                    Some(board) => board.broadcast(content),
                    None => {
                        self.append_payload(member, Payload::Post(content.to_owned()));
                        Ok(())
                    }
                };
                self.read_log();
                result
            }
        }
    }

    fn append_payload(&mut self, member: usize, payload: Payload) {
        if let Chain::Log(log) = &mut self.chain
            && let Some(entry) = log.pens.write(member, payload)
        {
            self.append(&entry);
        }
    }

    fn submit(
        &mut self,
        member: usize,
        client: usize,
        instance: &InstanceId,
        result: &DkgResult,
    ) -> Result<(), ClientError> {
        let planned = self.coalition.overhear_result(result, self.now);
        self.schedule(planned);
        match self.call_fails(member, client) {
            Some((error, false)) => return Err(error),
            Some((error, true)) => {
                let _ = self.put_result(member, instance, result);
                return Err(error);
            }
            None => {}
        }
        self.put_result(member, instance, result)
    }

    fn put_result(&mut self, member: usize, instance: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        let id = self.config.committee().members().get(member).map(|member| member.node_id);
        let Some(id) = id else { return Err(ClientError::Refused("no such member".into())) };
        match &mut self.chain {
            Chain::Contract(chain) => {
                let event =
                    chain.submit(id, instance, result).map_err(|error| ClientError::Refused(error.to_string()))?;
                self.watch.submitted(member, result);
                self.chain_events(event.into_iter().collect());
                Ok(())
            }
            Chain::Log(_) => {
                let board = self.nodes.get(&member).and_then(|node| node.log.as_ref()).map(|log| log.chain.board());
                let outcome = match board {
                    Some(board) => board.submit_result(instance, result),
                    None => {
                        let (instance, result) = (instance.clone(), result.clone());
                        self.append_payload(member, Payload::Submit { instance, result });
                        Ok(())
                    }
                };
                self.read_log();
                outcome
            }
        }
    }

    // The coalition.

    fn act(&mut self, planned: Planned) {
        let Planned { member, fault, act, .. } = planned;
        let who = format!("{member}*");
        let as_played = |text: String| match fault {
            Some(fault) => format!("{text} [{fault}]"),
            None => text,
        };
        match act {
            Act::Due(deed) => {
                let planned = self.coalition.due(member, deed, self.now);
                self.rush(planned);
            }
            Act::Post(content) => {
                self.timeline.note(self.now, &who, || as_played(deed(&content)));
                let planned = self.coalition.overhear(member, &content, self.now);
                let refused = self.put_on_board(member, &content).is_err();
                if refused {
                    self.watch.mark("dropped post", "refused by the board");
                }
                self.schedule(planned);
            }
            Act::StrangerPosts(content) => {
                self.timeline.note(self.now, "stranger", || as_played(deed(&content)));
                let taken = match &mut self.chain {
                    Chain::Contract(chain) => chain.post(STRANGER, &content).is_ok(),
                    Chain::Log(_) => false,
                };
                if taken {
                    self.watch.break_rule(Rule::Resilience, || "the board takes a stranger's post".to_owned());
                }
            }
            Act::StrangerSends(to, message) => {
                self.at(self.now + 1, Happening::Arrives { from: STRANGER, to, message, job: None });
            }
            Act::Send(to, message) => {
                self.timeline.note(self.now, &who, || as_played(format!("sends member {to} a private message")));
                let weather = *self.plan.weather();
                let mut dice = self.dice(Draw::Link);
                let at = self.now + dice.random_range(1..=weather.link_ms.min(VIEW_MS - 1));
                let from = self.config.committee().members().get(member).map(|member| member.node_id);
                if let Some(from) = from.filter(|_| !self.is_severed(to, member)) {
                    self.at(at, Happening::Arrives { from, to, message, job: None });
                }
            }
            Act::Submit(instance, result) => {
                self.timeline.note(self.now, &who, || as_played("submits a result".to_owned()));
                let _ = self.put_result(member, &instance, &result);
            }
        }
    }
}
