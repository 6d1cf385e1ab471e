//! What a node's threads do: waiting, the reactor's loop with one input at a time, and carrying out what the core asks for.

use super::super::chance::Draw;
use super::super::defect::{Defect, reference_poll_views};
use super::super::disk::NextCommit;
use super::super::fault::Fault;
use super::super::node::{Process, Waiting, instant};
use super::super::plan::VIEW_MS;
use super::super::timeline::deed;
use super::super::watch::{Queues, Rule};
use super::{CrashPoint, Happening, PartOfNode, World};
use crate::chain::DkgResult;
use crate::engine::{Effect, EngineEvent, Input, Outbound, PublisherInput, Recalled, Step};
use crate::epoch::ProtocolEvent;
use crate::store::{SafeKey, StoreError};
use rand::RngExt;
use std::sync::atomic::Ordering;

impl World {
    pub(super) fn due(&mut self, member: usize, part: PartOfNode, at: u64) {
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

    pub(super) fn due_soon(&mut self, member: usize, part: PartOfNode) {
        self.due(member, part, self.now);
    }

    pub(super) fn turn_soon(&mut self, member: usize) {
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
    pub(super) fn turn(&mut self, member: usize) {
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        let private = if process.core.wants_private() { process.private.pop() } else { None };
        let input = match private {
            Some(delivery) => Some(Input::Private(delivery)),
            None => process.inbox.pop_front().and_then(|waiting| self.recall(member, waiting)),
        };
        if let Some(input) = input {
            self.step(member, input);
        }
        self.turn_soon(member);
    }

    /// A start or an event, with what the store knows of it.
    fn recall(&mut self, member: usize, waiting: Waiting) -> Option<Input> {
        let node = self.nodes.get_mut(&member)?;
        let event = match waiting {
            Waiting::Board(input) => return Some(input),
            Waiting::Start(snapshot) => {
                return match Recalled::for_start(&node.state, &node.identity.node_id, &snapshot) {
                    Ok(recalled) => Some(Input::Start(snapshot, recalled)),
                    Err(error) => self.unreadable(member, &error),
                };
            }
            Waiting::Event(event) => event,
        };
        if let (Some(Defect::PollViewsUnderflow), ProtocolEvent::EpochSetupPhaseStarted { setup, first, .. }) =
            (self.defect, &*event)
        {
            let [last, ..] = setup.phase_final_views;
            if reference_poll_views(first.view.0, last.0, self.plan.schedule().poll_step).is_none() {
                node.process.as_mut()?.hangs = true;
                return None;
            }
        }
        match Recalled::for_event(&node.state, &node.identity.node_id, &event) {
            Ok(recalled) => Some(Input::Event(event, recalled)),
            Err(error) => self.unreadable(member, &error),
        }
    }

    fn unreadable(&mut self, member: usize, error: &StoreError) -> Option<Input> {
        self.watch.break_rule(Rule::Resilience, || format!("member {member} cannot read its store: {error}"));
        None
    }

    pub(super) fn step(&mut self, member: usize, input: Input) {
        let crash = self.next_crash(member);
        if let Some(crash @ (CrashPoint::BeforeStep, _)) = &crash {
            return self.crash(member, crash);
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
            if matches!(crash, Some((CrashPoint::AfterEffects(at), _)) if at % (all + 1) == done) {
                break;
            }
            self.carry_out(member, effect);
        }
        if let Some(crash) = &crash {
            self.crash(member, crash);
        }
    }

    /// Writes what has to be durable first; the effects, unless the node is dead by then.
    pub(super) fn persist(
        &mut self,
        member: usize,
        step: Step,
        crash: Option<&(CrashPoint, u64)>,
    ) -> Option<Vec<Effect>> {
        let now = self.now;
        let node = self.nodes.get_mut(&member)?;
        let broken = node
            .mishaps
            .iter_mut()
            .find(|mishap| mishap.part.fault == Fault::StoreFailure && (mishap.from..mishap.to).contains(&now));
        let fails = broken.is_some();
        node.disk.arm(match crash {
            Some((CrashPoint::CommitLost, _)) => NextCommit::Lost,
            Some((CrashPoint::CommitKept, _)) => NextCommit::KeptUnseen,
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
            (_, Some(crash @ (CrashPoint::CommitLost | CrashPoint::CommitKept, _))) => {
                self.crash(member, crash);
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
    pub(super) fn next_crash(&mut self, member: usize) -> Option<(CrashPoint, u64)> {
        let now = self.now;
        let node = self.nodes.get_mut(&member)?;
        let mishap = node
            .mishaps
            .iter_mut()
            .find(|mishap| mishap.part.fault == Fault::Crash && !mishap.done && mishap.from <= now)?;
        mishap.done = true;
        let point = match mishap.much % 4 {
            0 => CrashPoint::BeforeStep,
            1 => CrashPoint::CommitLost,
            2 => CrashPoint::CommitKept,
            _ => CrashPoint::AfterEffects((mishap.much >> 8) as usize),
        };
        Some((point, mishap.much))
    }

    pub(super) fn carry_out(&mut self, member: usize, effect: Effect) {
        let now = instant(self.base, self.now);
        match effect {
            Effect::SendPrivate { to, message } => {
                let Some(place) = self.place(&to) else { return };
                self.watch.sends(member, place, &message);
                self.on_process(member, |process| process.outbox.add(Outbound { to, message }, now));
                self.due_soon(member, PartOfNode::Outbox);
            }
            Effect::Confirm(receipt) => receipt.confirm(),
            // Done at once, and told behind what waits already.
            Effect::Compute { id, task } => {
                let result = task.run();
                self.on_process(member, |process| {
                    process.inbox.push_back(Waiting::Board(Input::Computed { id, result }))
                });
                self.turn_soon(member);
            }
            Effect::SelfTest { epoch, public_key } => {
                let signs = self.nodes.get(&member).and_then(|node| match node.state.safe_key(epoch) {
                    Ok(SafeKey::Key(key)) => Some(key.self_test(&public_key).is_ok()),
                    _ => None,
                });
                if signs != Some(true) {
                    let what = format!("the key of member {member} for epoch {epoch} does not sign after its commit");
                    self.watch.break_rule(Rule::Correctness, || what);
                }
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

    pub(super) fn on_process(&mut self, member: usize, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) {
            change(process);
        }
    }

    pub(super) fn call_soon(&mut self, member: usize, part: PartOfNode) {
        let latency = self.dice(Draw::Calls).random_range(0..=self.plan.weather().call_ms);
        self.due(member, part, self.now + latency);
    }
}
