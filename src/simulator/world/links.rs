//! Private messages between members, and what may become of them.

use super::super::chance::Draw;
use super::super::defect::Defect;
use super::super::fault::Fault;
use super::super::node::instant;
use super::super::plan::VIEW_MS;
use super::{Call, Happening, PartOfNode, World};
use crate::committee::NodeId;
use crate::engine::Job;
use crate::envelope::PrivateMessage;
use crate::network::{Delivery, NetworkError, Receipt};
use rand::RngExt;
use std::sync::Arc;

impl World {
    /// The dispatcher: sends what is due.
    pub(super) fn send(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        loop {
            let Some(node) = self.nodes.get_mut(&member) else { return };
            let (from, life) = (node.id(), node.life);
            let Some(process) = node.process.as_mut() else { return };
            let Some(job) = process.outbox.take_due(now) else {
                let next = process.outbox.next_due().map(|due| due.saturating_duration_since(self.base));
                if let Some(due) = next.and_then(|due| u64::try_from(due.as_millis()).ok()) {
                    // Waits are cut to whole milliseconds.
                    self.due(member, PartOfNode::Outbox, (due + 1).max(self.now + 1));
                }
                return;
            };
            self.dispatch(member, life, from, job);
        }
    }

    /// One try to deliver a private message.
    pub(super) fn dispatch(&mut self, member: usize, life: u64, from: NodeId, job: Job) {
        let weather = *self.plan.weather();
        let mut dice = self.dice(Draw::Link);
        let Some(to) = self.place(&job.outbound.to) else { return };
        let travel = dice.random_range(1..=weather.link_ms);
        let at = self.now + travel;
        let unlucky = dice.random_range(0..100) < weather.failing;
        let severed_until = self.severed_until(member, to).max(self.severed_until(to, member));
        let reachable = severed_until.is_none();
        let until = self.now + weather.patience_ms;
        let bad_luck = unlucky && self.nodes.get_mut(&member).is_some_and(|node| node.has_bad_luck(self.now));
        if !reachable || bad_luck {
            // Sometimes it does arrive, and only the acknowledgement is lost.
            let message = job.outbound.message.clone();
            if reachable && dice.random_bool(0.3) {
                self.at(at, Happening::Arrives { from, to, message, call: None });
            }
            let result = Err(NetworkError::Unreachable(job.outbound.to, "no answer".into()));
            // A try is over soon. One that is lost on the way is when its sender has waited long enough, or there is a way again.
            let over = severed_until.map_or(at, |ends| until.min(ends).max(at));
            return self.at(over, Happening::Sent { node: member, life, job: Box::new(job), result });
        }
        let message = job.outbound.message.clone();
        if dice.random_range(0..100) < weather.doubled {
            let again = self.now + dice.random_range(1..=weather.link_ms + VIEW_MS);
            self.at(again, Happening::Arrives { from, to, message: message.clone(), call: None });
        }
        self.counter += 1;
        let call = self.counter;
        self.calls.insert(call, Call { node: member, life, job: Box::new(job), until });
        self.at(at, Happening::Arrives { from, to, message, call: Some(call) });
        self.at(until, Happening::Unanswered(call));
    }

    /// Whether nothing gets through between two members, because of the first one's mishaps.
    pub(super) fn is_severed(&self, member: usize, other: usize) -> bool {
        self.severed_until(member, other).is_some()
    }

    /// Until when that is so.
    fn severed_until(&self, member: usize, other: usize) -> Option<u64> {
        let node = self.nodes.get(&member)?;
        let lost = node.suffers(Fault::LostShares, self.now).filter(|mishap| mishap.much >> (other % 32) & 1 == 1);
        node.suffers(Fault::CutOff, self.now).into_iter().chain(lost).map(|mishap| mishap.to).max()
    }

    pub(super) fn arrives(&mut self, from: NodeId, to: usize, message: PrivateMessage, call: Option<u64>) {
        if self.stalls(to, call) {
            return;
        }
        let defect = self.defect;
        let answers = Arc::clone(&self.answers);
        let receipt = match call {
            Some(call) => Receipt::new(move |taken| answers.lock().push((call, taken))),
            None => Receipt::none(),
        };
        let refused = match self.nodes.get_mut(&to) {
            // The coalition takes everything.
            None => {
                receipt.confirm();
                None
            }
            Some(node) => match node.process.as_mut().filter(|_| !node.stopped) {
                None => Some("it is not running".to_owned()),
                Some(process) => {
                    if defect == Some(Defect::SharesInTheLog) && !process.core.takes_shares() {
                        log::warn!("not wanted: {}", crate::hex::encode(message.data.expose()));
                    }
                    process.arrivals += 1;
                    let stolen =
                        defect == Some(Defect::FailedRunListensOn) && process.listens_on && process.arrivals % 2 == 0;
                    if stolen {
                        receipt.confirm();
                        None
                    } else {
                        process
                            .private
                            .push(Delivery { from, message, receipt })
                            .err()
                            .map(|(error, _)| error.to_string())
                    }
                }
            },
        };
        self.turn_soon(to);
        if let Some(error) = refused {
            self.watch.mark("refused private message", error.clone());
            if let Some(call) = call {
                self.answered(call, Err(error));
            }
        }
    }

    /// Whether a malicious member takes a message without a word. Some confirm it at the last moment.
    fn stalls(&mut self, to: usize, call: Option<u64>) -> bool {
        let epoch = self.watch.current_run();
        let plays = |epoch| self.plan.faults_of(to, epoch).any(|part| part.fault == Fault::StalledReceipts);
        if !epoch.is_some_and(plays) {
            return false;
        }
        let confirms = self.dice(Draw::Link).random_bool(0.3);
        if let Some((call, known)) = call.and_then(|call| Some((call, self.calls.get(&call)?)))
            && confirms
        {
            self.at(known.until.saturating_sub(1), Happening::Confirms(call));
        }
        true
    }

    /// Brings back to their senders what receivers have said.
    pub(super) fn take_answers(&mut self) {
        let answers = std::mem::take(&mut *self.answers.lock());
        for (call, taken) in answers {
            let result = if taken { Ok(()) } else { Err("it has not confirmed the message".to_owned()) };
            self.answered(call, result);
        }
    }

    pub(super) fn answered(&mut self, call: u64, result: Result<(), String>) {
        if let Some(Call { node, life, job, .. }) = self.calls.remove(&call) {
            let result = result.map_err(|why| NetworkError::Unreachable(job.outbound.to, why));
            self.at(self.now + 1, Happening::Sent { node, life, job, result });
        }
    }
}
