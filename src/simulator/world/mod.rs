//! The world that nodes live in: time, chain, board, links and disks, and one queue of all that happens.
//!
//! Everything happens in one thread, in the order of simulated time. The world carries out what cores ask for, as the
//! engines' threads do, and decides nothing for them; what it decides (how long, whether at all, in which order) it draws
//! from the run's number.

mod acts;
mod board;
mod chains;
mod links;
mod lives;
mod threads;

use super::chain::{ContractChain, HostedLog};
use super::chance::{Draw, dice};
use super::coalition::{CHAIN_ID, Coalition, Pens, Planned};
use super::defect::Defect;
use super::identity::identity;
use super::node::{Node, Process, Waiting, instant};
use super::plan::{ChainKind, Plan, VIEW_MS};
use super::timeline::Timeline;
use super::verified::Verified;
use super::watch::{Rule, Watch};
use super::{Outcome, Simulated};
use crate::bls::VectorEncoding;
use crate::chain::log::{ChainConfig, ChainSpec, LogChain, LogPlace};
use crate::committee::NodeId;
use crate::engine::Job;
use crate::envelope::PrivateMessage;
use crate::epoch::{ProtocolEvent, View};
use crate::network::NetworkError;
use parking_lot::Mutex;
use rand::rand_core::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

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
    /// A private message arrives. If an honest node waits for an answer, the call has a number.
    Arrives { from: NodeId, to: usize, message: PrivateMessage, call: Option<u64> },
    /// A call has waited long enough for its answer.
    Unanswered(u64),
    /// Who has taken a message confirms it at last.
    Confirms(u64),
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
    pens: Pens,
    posts: usize,
}

/// A private message on its way, for the answer to which a sender waits.
struct Call {
    node: usize,
    life: u64,
    job: Box<Job>,
    /// When it is given up.
    until: u64,
}

/// Calls that have been answered, with whether the message was taken.
type Answers = Arc<Mutex<Vec<(u64, bool)>>>;

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
    calls: BTreeMap<u64, Call>,
    answers: Answers,
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
            log: LogPlace::Local,
        };
        let config = Arc::new(ChainConfig::new(spec).map_err(|error| error.to_string())?);
        let chain = match plan.chain() {
            ChainKind::Contract => Chain::Contract(Box::new(ContractChain::new(&config))),
            ChainKind::Log => Chain::Log(Box::new(Log {
                hosted: HostedLog::default(),
                observer: LogChain::new(Arc::clone(&config)),
                pens: Pens::new(plan, &config),
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
            calls: BTreeMap::new(),
            answers: Answers::default(),
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
            self.take_answers();
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
            Happening::Arrives { from, to, message, call } => self.arrives(from, to, message, call),
            Happening::Unanswered(call) => self.answered(call, Err("it has not confirmed the message".to_owned())),
            Happening::Confirms(call) => self.answered(call, Ok(())),
            Happening::Sent { node, life, job, result } => {
                let random = self.dice(Draw::Turn).next_u64();
                let now = instant(self.base, self.now);
                if let Some(process) = self.process(node, life) {
                    process.outbox.returned(*job, result, now, random);
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
}
