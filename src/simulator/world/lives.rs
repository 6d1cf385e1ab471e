//! How nodes come and go: what happens to them in a plan, starts, crashes, and who counts as unwell.

use super::super::chain::{Access, SimulatedClock};
use super::super::chance::{Draw, dice};
use super::super::fault::Fault;
use super::super::identity::identity;
use super::super::node::{LogSide, Mishap, Node, Process, Told, Waiting};
use super::super::plan::{ChainKind, VIEW_MS};
use super::{CLIENTS, Chain, CrashPoint, Happening, PartOfNode, World};
use crate::chain::log::{ChainNode, Follow, LogChain};
use crate::epoch::View;
use rand::RngExt;
use rand::rand_core::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So long before the end of a phase a node has to be back for all it has to say to be heard in it.
const BACK_MS: u64 = 4 * VIEW_MS;

impl World {
    pub(super) fn add_node(&mut self, member: usize) -> Result<(), String> {
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
                Fault::StoreFailure => (dice.random_range(from..to), u64::MAX),
                Fault::Crash => {
                    // In every second epoch, many at once.
                    let mut common = self::dice(self.plan.seed(), Draw::Plan, 4, part.epoch);
                    let together = common.random_bool(0.5).then(|| common.random_range(from..to));
                    let alone = dice.random_range(from..to);
                    (together.filter(|_| dice.random_bool(0.7)).unwrap_or(alone), u64::MAX)
                }
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
    pub(super) fn boot(&mut self, member: usize) {
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
            (Chain::Log(_), Some(log)) => log.chain.replica().lock().snapshot(),
            (Chain::Log(_), None) => return,
        };
        let mut process = Process::new(node, now, seed, poll_step, clients, Arc::clone(&self.verified));
        let head = snapshot.head;
        process.inbox.push_back(Waiting::Start(Box::new(snapshot)));
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

    pub(super) fn crash(&mut self, member: usize, (point, much): &(CrashPoint, u64)) {
        let Some(node) = self.nodes.get_mut(&member) else { return };
        node.process = None;
        node.disk.crash();
        // Most are back soon; some only when the next epoch has begun, and what the run has made is in force.
        let views = match much >> 8 & 15 {
            0 => self.plan.schedule().views_in_epoch,
            1..=3 => 14,
            _ => 2,
        };
        let back = self.now + 1 + (much >> 16) % (views * VIEW_MS);
        self.timeline.note(self.now, &member.to_string(), || format!("is killed ({point:?})"));
        self.watch.killed(member);
        self.watch.mark("crash", format!("{point:?}").chars().take_while(|c| c.is_alphanumeric()).collect::<String>());
        self.at(back, Happening::Restart(member));
    }

    /// A phase of this run or its epoch is over. Who is down then, or has only just come back, had no time to do its part.
    pub(super) fn note_the_absent(&mut self, run: u64) {
        let absent = |node: &&Node| match (&node.process, node.life) {
            (None, _) => true,
            (Some(_), 1) => false,
            (Some(process), _) => process.since + BACK_MS > self.now,
        };
        for node in self.nodes.values().filter(absent) {
            self.watch.unwell(node.member, run);
        }
    }

    /// Who suffers from something, counts as faulty in the run that is on; whichever run that is: with wrong
    /// clocks views need not come when they should.
    pub(super) fn note_the_unwell(&mut self) {
        let Some(epoch) = self.watch.current_run() else { return };
        for node in self.nodes.values().filter(|node| node.is_unwell(self.now)) {
            self.watch.unwell(node.member, epoch);
        }
    }
}
