//! What the chain does, and who hears of it when; a log chain with all that its members append.

use super::super::chance::{Draw, dice};
use super::super::coalition::Planned;
use super::super::fault::Fault;
use super::super::plan::VIEW_MS;
use super::super::watch::Rule;
use super::{Chain, Happening, PartOfNode, World};
use crate::bls::Index;
use crate::chain::log::{ChainEvent, Next, Payload};
use crate::chain::{BoardMessage, DkgResult};
use crate::committee::NodeId;
use crate::epoch::{ProtocolEvent, View};
use rand::RngExt;
use std::sync::atomic::Ordering;

impl World {
    pub(super) fn block(&mut self, view: View) {
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
    pub(super) fn chain_events(&mut self, events: Vec<ChainEvent>) {
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
    pub(super) fn observe(&mut self, event: &ChainEvent) {
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
                for run in self.watch.ended_by(block, epoch) {
                    self.note_the_absent(run);
                }
                self.watch.epoch_over(epoch);
                self.note_the_unwell();
                self.watch.finalized(block, now);
                self.timeline.note(now, "chain", || format!("view {}", block.view));
                planned = self.coalition.block(block, now);
            }
            ChainEvent::EpochFailed { epoch } => {
                self.timeline.note(now, "chain", || format!("epoch {epoch} ends without new keys"));
            }
            ChainEvent::EpochsPassedOver { first, last } => {
                self.timeline.note(now, "chain", || format!("epochs {first} to {last} are passed over"));
            }
        }
        self.schedule(planned);
    }

    pub(super) fn schedule(&mut self, planned: Vec<Planned>) {
        for planned in planned {
            self.at(planned.at, Happening::Acts(Box::new(planned)));
        }
    }

    /// What ticks of malicious members come in with the next view, as early as they are let: while a run is on, as soon as the
    /// last is final.
    fn hasty_ticks(&mut self) -> Vec<Vec<u8>> {
        let Chain::Log(log) = &mut self.chain else { return Vec::new() };
        let head = log.observer.header().view;
        let epoch = head.0 / self.plan.schedule().views_in_epoch + 1;
        if !log.observer.is_paced() {
            return Vec::new();
        }
        let hasty = self.plan.malicious().iter().filter(|member| {
            let ticked = Index::from_position(**member).map(|index| log.observer.last_tick(index));
            let tricks = self.plan.faults_of(**member, epoch).any(|part| part.fault == Fault::ClockTricks);
            tricks && ticked.is_some_and(|ticked| ticked <= head)
        });
        let next = Payload::Tick(View(head.0 + 1));
        hasty.filter_map(|member| log.pens.write(*member, next.clone())).collect()
    }

    pub(super) fn tick(&mut self, view: View) {
        let schedule = *self.plan.schedule();
        // The run of an epoch's setup phase makes the keys of the next.
        let epoch = view.0 / schedule.views_in_epoch + 1;
        // While a run is on only the next view can be ticked.
        let said = match &self.chain {
            Chain::Log(log) if log.observer.is_paced() => View(log.observer.header().view.0 + 1),
            _ => view,
        };
        for member in self.plan.malicious().iter().copied().collect::<Vec<_>>() {
            let faults: Vec<Fault> = self.plan.faults_of(member, epoch).map(|part| part.fault).collect();
            let entries = match &mut self.chain {
                Chain::Log(log) => log.pens.tick(member, said, &faults),
                Chain::Contract(_) => return,
            };
            for entry in entries {
                self.append(&entry);
            }
        }
        // A chain that began a run late, or was without ticks for a while, is behind its clocks: they go on until it is through.
        let is_behind = matches!(&self.chain, Chain::Log(log) if log.observer.header().view.0 < self.last_view());
        if view.0 < self.last_view() || is_behind {
            self.at((view.0 + 1) * VIEW_MS, Happening::Tick(View(view.0 + 1)));
        }
    }

    /// A malicious member's entry.
    pub(super) fn append(&mut self, entry: &[u8]) {
        if let Chain::Log(log) = &mut self.chain {
            log.hosted.append(entry);
        }
        self.read_log();
    }

    /// Brings what the simulator knows of the log up to date, and wakes the followers.
    pub(super) fn read_log(&mut self) {
        let mut hasted = None;
        loop {
            let Chain::Log(log) = &mut self.chain else { return };
            let Some(entry) = log.hosted.entry(log.pens.seen()) else {
                // Once for each view: what is skipped is not said again.
                let head = log.observer.header().view;
                let hasty = if hasted == Some(head) { Vec::new() } else { self.hasty_ticks() };
                let (Chain::Log(log), false) = (&mut self.chain, hasty.is_empty()) else { break };
                hasty.iter().for_each(|entry| log.hosted.append(entry));
                hasted = Some(head);
                continue;
            };
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

    pub(super) fn place(&self, node: &NodeId) -> Option<usize> {
        self.config.committee().index_of(node).map(usize::from)
    }

    pub(super) fn follow(&mut self, member: usize) {
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
}
