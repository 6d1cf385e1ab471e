//! What one malicious member is up to in a run: the protocol, but for the attacks that it plays.

use super::super::chance::{Draw, dice};
use super::super::dealing::{self, Dealing};
use super::super::fault::Fault;
use super::super::identity::Identity;
use super::super::plan::{Part, Plan, VIEW_MS};
use super::{Act, CHAIN_ID, Deed, Planned, Run};
use crate::SecretBytes;
use crate::bls::{DKG_MESSAGE_TAG, Index, RANDOM_BEACON_TAG, Scalar};
use crate::chain::DkgResult;
use crate::committee::threshold;
use crate::engine::REQUESTS_PER_MEMBER;
use crate::envelope::{BroadcastMessage, MAX_POST_BYTES, PrivateMessage};
use crate::epoch::{EpochCounter, InstanceId};
use crate::protocol::{encode_answer, encode_complaint, encode_share, encode_vector};
use chacha20::ChaCha20Rng;
use rand::RngExt;
use rand::rand_core::Rng;
use rand::seq::SliceRandom;
use std::collections::{BTreeMap, BTreeSet};

/// What one member is up to in a run.
pub(super) struct Script {
    pub(super) me: usize,
    pub(super) identity: &'static Identity,
    pub(super) faults: Vec<Part>,
    pub(super) dice: ChaCha20Rng,
    pub(super) dealing: Dealing,
    pub(super) vector_out: bool,
    /// Members whose share is withheld or spoiled.
    pub(super) victims: BTreeMap<usize, Fault>,
    pub(super) complained: BTreeSet<Index>,
    pub(super) stolen: u32,
    pub(super) submitted: bool,
}

/// Envelopes of others that one member posts as its own at most.
const MAX_STOLEN: u32 = 4;

impl Script {
    pub(super) fn plays(&self, fault: Fault) -> bool {
        self.faults.iter().any(|part| part.fault == fault)
    }

    pub(super) fn sign(&self, data: Vec<u8>, instance: &InstanceId) -> Act {
        Act::Post(BroadcastMessage::sign(data, instance, &self.identity.staking_key).to_json())
    }

    pub(super) fn private(&self, to: usize, data: SecretBytes, instance: &InstanceId) -> Act {
        Act::Send(to, PrivateMessage::protocol(data, instance.as_str()))
    }

    /// A time between two others.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        self.dice.random_range(from..=to.max(from))
    }

    /// Everything that can be planned when the run begins.
    pub(super) fn open(&mut self, plan: &Plan, run: &Run, now: u64, planned: &mut Vec<Planned>) {
        if self.plays(Fault::Silent) {
            return;
        }
        let honest: Vec<usize> = (0..plan.size()).filter(|other| !plan.malicious().contains(other)).collect();
        self.choose_victims(&honest);
        self.deal(&honest, run, now, planned);
        for fault in self.faults.iter().map(|part| part.fault).collect::<Vec<_>>() {
            self.complain(fault, plan, &honest, run, now, planned);
            self.make_noise(fault, &honest, run, now, planned);
        }
    }

    pub(super) fn choose_victims(&mut self, honest: &[usize]) {
        let t = threshold(self.dealing.shares.len());
        for fault in self.faults.iter().map(|part| part.fault).collect::<Vec<_>>() {
            let count = match fault {
                Fault::WithholdShares | Fault::WrongShares | Fault::MalformedShares | Fault::SecondShare => {
                    self.dice.random_range(1..=t)
                }
                Fault::WithholdMany => self.dice.random_range(t + 1..=self.dealing.shares.len()),
                Fault::NoAnswers
                | Fault::WrongAnswers
                | Fault::MalformedAnswers
                | Fault::EarlyAnswers
                | Fault::SecondAnswers
                | Fault::LateAnswers => 1,
                _ => 0,
            };
            let mut order = honest.to_vec();
            order.shuffle(&mut self.dice);
            for victim in order.into_iter().take(count) {
                self.victims.entry(victim).or_insert(fault);
            }
        }
    }

    pub(super) fn deal(&mut self, honest: &[usize], run: &Run, now: u64, planned: &mut Vec<Planned>) {
        let [end, ..] = run.finals;
        let (late, in_time) = (end + 1 + VIEW_MS, end.saturating_sub(3 * VIEW_MS));
        let instance = &run.setup.instance;
        for &to in honest {
            let Some(share) = self.dealing.shares.get(to) else { continue };
            let right = encode_share(share);
            let wrong = encode_share(&dealing::other_than(share));
            let messages = match self.victims.get(&to) {
                None if self.plays(Fault::RepeatedShares) => vec![right.clone(), right.clone(), right],
                None => vec![right],
                Some(Fault::WrongShares) => vec![wrong],
                Some(Fault::MalformedShares) => vec![dealing::malformed_share(&mut self.dice, share)],
                Some(Fault::SecondShare) if self.dice.random_bool(0.5) => vec![wrong, right],
                Some(Fault::SecondShare) => vec![right, wrong],
                Some(_) => Vec::new(),
            };
            let fault = self.victims.get(&to).copied();
            let late_shares = self.plays(Fault::LateShares);
            let mut at = if late_shares { late } else { self.between(now, in_time) };
            for message in messages {
                planned.push(Planned { at, member: self.me, fault, act: self.private(to, message, instance) });
                // The links do not reorder what is a view apart.
                at += VIEW_MS;
            }
        }
        if !self.plays(Fault::NoVector) {
            let (at, fault) = if self.plays(Fault::LateVector) {
                (late, Some(Fault::LateVector))
            } else if self.plays(Fault::LastMomentVector) {
                (end.saturating_sub(self.dice.random_range(0..2)), Some(Fault::LastMomentVector))
            } else if [Fault::LastToSpeak, Fault::CopiedVector, Fault::NegatedVector].iter().any(|f| self.plays(*f)) {
                (end.saturating_sub(VIEW_MS), None)
            } else {
                (self.between(now, in_time), None)
            };
            planned.push(Planned { at, member: self.me, fault, act: Act::Due(Deed::Vector) });
        }
    }

    /// Whether it has seen what it has been waiting for before it posts its vector.
    pub(super) fn is_watching(&self, run: &Run, honest: usize) -> bool {
        let copies = self.plays(Fault::CopiedVector) || self.plays(Fault::NegatedVector);
        !self.vector_out
            && !self.plays(Fault::Silent)
            && !self.plays(Fault::NoVector)
            && !self.plays(Fault::LateVector)
            && (copies && !run.vectors.is_empty() || self.plays(Fault::LastToSpeak) && run.vectors.len() == honest)
    }

    pub(super) fn post_vector(&mut self, run: &Run, now: u64, planned: &mut Vec<Planned>) {
        if std::mem::replace(&mut self.vector_out, true) {
            return;
        }
        let instance = &run.setup.instance;
        let mut body = self.dealing.points.clone();
        let mut fault = None;
        for part in self.faults.clone() {
            let spoiled = dealing::spoil(part.fault, &body, run.vectors.values().next(), &mut self.dice);
            if let Some(spoiled) = spoiled {
                (body, fault) = (spoiled, Some(part.fault));
            }
        }
        let act = self.sign(encode_vector(&body), instance);
        let early = self.answers_before_the_vector();
        if early {
            self.answer_early(run, now, planned);
        }
        planned.push(Planned { at: now, member: self.me, fault, act });
        if !early {
            self.answer_early(run, now, planned);
        }
        if self.plays(Fault::SecondVector) {
            let other = Dealing::new(None, self.dealing.shares.len(), &mut self.dice, None);
            let fault = Some(Fault::SecondVector);
            let act = self.sign(encode_vector(&other.points), instance);
            planned.push(Planned { at: now + 1, member: self.me, fault, act });
            for to in self.victims.keys().copied().chain([0]).collect::<Vec<_>>() {
                let act = self.private(to, SecretBytes::new(encode_vector(&other.points)), instance);
                planned.push(Planned { at: now + 1, member: self.me, fault, act });
            }
        }
    }

    pub(super) fn answers_before_the_vector(&mut self) -> bool {
        self.plays(Fault::EarlyAnswers) && self.dice.random_bool(0.5)
    }

    /// Answers before there is a complaint, or without one.
    pub(super) fn answer_early(&mut self, run: &Run, now: u64, planned: &mut Vec<Planned>) {
        let t = threshold(self.dealing.shares.len());
        for fault in [Fault::EarlyAnswers, Fault::UnsolicitedAnswers] {
            if !self.plays(fault) {
                continue;
            }
            let mut to: Vec<usize> = if fault == Fault::EarlyAnswers {
                self.victims.iter().filter(|(_, why)| **why == fault).map(|(victim, _)| *victim).collect()
            } else {
                (0..self.dealing.shares.len()).collect()
            };
            to.shuffle(&mut self.dice);
            let count = if fault == Fault::EarlyAnswers { to.len() } else { self.dice.random_range(1..=t + 1) };
            for to in to.into_iter().take(count) {
                if let (Some(index), Some(share)) = (Index::from_position(to), self.dealing.shares.get(to)) {
                    let act = self.sign(encode_answer(index, share), &run.setup.instance);
                    planned.push(Planned { at: now, member: self.me, fault: Some(fault), act });
                }
            }
        }
    }

    pub(super) fn complain(
        &mut self,
        fault: Fault,
        plan: &Plan,
        honest: &[usize],
        run: &Run,
        now: u64,
        planned: &mut Vec<Planned>,
    ) {
        let [end_1, end_2, end_3] = run.finals;
        let mut order = honest.to_vec();
        order.shuffle(&mut self.dice);
        let (accused, at): (Vec<usize>, u64) = match fault {
            Fault::FalseComplaints => {
                let count = self.dice.random_range(1..=honest.len().max(1));
                let at = self.between(now, end_2 - 1);
                (order.into_iter().take(count).collect(), at)
            }
            Fault::ConcertedComplaints => {
                let mut shared = dice(plan.seed(), Draw::Script, run.setup.epoch.0, u64::MAX);
                let target = honest.get(shared.random_range(0..honest.len().max(1))).copied();
                (target.into_iter().collect(), self.between(end_1 + 1, end_2 - 1))
            }
            Fault::RepeatedComplaints => {
                let at = self.between(now, end_2 - 1);
                (vec![order.first().copied().unwrap_or_default(); 4], at)
            }
            Fault::LateComplaints => (order.into_iter().take(1).collect(), self.between(end_2 + VIEW_MS, end_3)),
            Fault::SelfComplaint => (vec![self.me], self.between(now, end_2 - 1)),
            Fault::MalformedComplaints => {
                let n = self.dealing.shares.len() as u8;
                let body = match self.dice.random_range(0..3) {
                    0 => Vec::new(),
                    1 => vec![0, 0],
                    _ => vec![self.dice.random_range(n..=255)],
                };
                let act = self.sign([&[2][..], &body].concat(), &run.setup.instance);
                let at = self.between(now, end_3);
                planned.push(Planned { at, member: self.me, fault: Some(fault), act });
                return;
            }
            _ => return,
        };
        for accused in accused.into_iter().filter_map(Index::from_position) {
            let act = self.sign(encode_complaint(accused), &run.setup.instance);
            planned.push(Planned { at, member: self.me, fault: Some(fault), act });
        }
    }

    pub(super) fn make_noise(
        &mut self,
        fault: Fault,
        honest: &[usize],
        run: &Run,
        now: u64,
        planned: &mut Vec<Planned>,
    ) {
        let instance = run.setup.instance.clone();
        let [end_1, _, end_3] = run.finals;
        let end = end_3 + VIEW_MS;
        let Some(me) = Index::from_position(self.me) else { return };
        let mut acts: Vec<Act> = Vec::new();
        match fault {
            Fault::GarbagePosts => {
                let all = [
                    String::new(),
                    "not JSON".to_owned(),
                    "[]".to_owned(),
                    "{}".to_owned(),
                    r#"{"Data":"%","DKGInstanceID":"%","Signature":"%"}"#.to_owned(),
                    "{".repeat(200),
                    "x".repeat(MAX_POST_BYTES),
                    "x".repeat(MAX_POST_BYTES + 1),
                ];
                let count = self.dice.random_range(1..=all.len());
                acts.extend(all.into_iter().take(count).map(Act::Post));
            }
            Fault::UnknownBroadcast => {
                let tag = self.dice.random_range(4..=255);
                let all = [Vec::new(), vec![tag], vec![0; 33]];
                acts.extend(all.get(self.dice.random_range(0..3)).cloned().map(|data| self.sign(data, &instance)));
            }
            Fault::ForeignRun => {
                let before = EpochCounter(run.setup.epoch.0.saturating_sub(1));
                for other in [InstanceId::new(CHAIN_ID, before), InstanceId::new("other", run.setup.epoch)] {
                    acts.push(self.sign(encode_complaint(me), &other));
                    for &to in honest {
                        acts.push(self.private(to, SecretBytes::new(vec![0; 33]), &other));
                    }
                }
            }
            Fault::Stranger => {
                if let Act::Post(content) = self.sign(encode_vector(&self.dealing.points), &instance) {
                    acts.push(Act::StrangerPosts(content));
                }
                for &to in honest {
                    let share = self.dealing.shares.get(to).map_or_else(|| SecretBytes::new(Vec::new()), encode_share);
                    let message = PrivateMessage::protocol(share, instance.as_str());
                    acts.push(Act::StrangerSends(to, message));
                }
            }
            Fault::BadSignatures => {
                let data = encode_complaint(me);
                let good = BroadcastMessage::sign(data.clone(), &instance, &self.identity.staking_key);
                let changed = BroadcastMessage { data: [&data[..], &[0]].concat(), ..good.clone() };
                let other_tag = self.identity.staking_key.sign(&data, &RANDOM_BEACON_TAG).to_bytes().to_vec();
                let unenveloped = self.identity.staking_key.sign(&data, &DKG_MESSAGE_TAG).to_bytes().to_vec();
                let infinity = [&[0xc0][..], &[0; 47]].concat();
                let signatures = [other_tag, unenveloped, infinity, Vec::new(), vec![0xff; 48]];
                let forged = signatures.map(|signature| BroadcastMessage { signature, ..good.clone() });
                acts.extend(forged.into_iter().chain([changed]).map(|message| Act::Post(message.to_json())));
            }
            Fault::RandomBytes => {
                for _ in 0..self.dice.random_range(1..4) {
                    let data = self.arbitrary();
                    acts.push(self.sign(data, &instance));
                }
                for &to in honest {
                    let data = SecretBytes::new(self.arbitrary());
                    acts.push(self.private(to, data, &instance));
                }
            }
            Fault::WrongMoments => {
                let mut say = |at: u64, data: Vec<u8>| {
                    let act = self.sign(data, &instance);
                    planned.push(Planned { at, member: self.me, fault: Some(fault), act });
                };
                let share = self.dealing.shares.get(self.me).cloned().unwrap_or_else(Scalar::zero);
                say(now, encode_answer(me, &share));
                say(end_1 + VIEW_MS, encode_vector(&self.dealing.points));
                if let Some(dealer) = honest.first().copied().and_then(Index::from_position) {
                    say(now, encode_complaint(dealer));
                    say(end_3 - 1, encode_complaint(dealer));
                }
            }
            Fault::StalledReceipts => {
                // What is asked for again waits with the rest.
                for &to in honest {
                    for _ in 0..self.dice.random_range(1..=REQUESTS_PER_MEMBER) {
                        let act = Act::Send(to, PrivateMessage::share_request(instance.as_str()));
                        let at = self.between(now, end_1);
                        planned.push(Planned { at, member: self.me, fault: Some(fault), act });
                    }
                }
            }
            Fault::PrivateFlood => {
                for &to in honest {
                    for _ in 0..40 {
                        let data = SecretBytes::new(self.arbitrary());
                        acts.push(self.private(to, data, &instance));
                    }
                }
                let at = self.between(now, end_1);
                let flood = acts.drain(..).map(|act| Planned { at, member: self.me, fault: Some(fault), act });
                planned.extend(flood);
            }
            _ => {}
        }
        for act in acts {
            let at = self.between(now, end);
            planned.push(Planned { at, member: self.me, fault: Some(fault), act });
        }
    }

    pub(super) fn arbitrary(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.dice.random_range(0..70)];
        self.dice.fill_bytes(&mut bytes);
        if let Some(tag) = bytes.first_mut() {
            *tag %= 6;
        }
        bytes
    }

    pub(super) fn steal(&mut self, content: &str, now: u64, planned: &mut Vec<Planned>) {
        if self.plays(Fault::StolenPosts) && self.stolen < MAX_STOLEN {
            self.stolen += 1;
            let (fault, act) = (Some(Fault::StolenPosts), Act::Post(content.to_owned()));
            planned.push(Planned { at: now, member: self.me, fault, act });
        }
    }

    /// Phase 2 has ended: answer the complaints there are.
    pub(super) fn answer(&mut self, plan: &Plan, run: &Run, now: u64, planned: &mut Vec<Planned>) {
        if self.plays(Fault::Silent) {
            return;
        }
        let [_, _, end] = run.finals;
        let complainers: Vec<Index> = self.complained.iter().copied().collect();
        for complainer in complainers {
            let to = usize::from(complainer);
            let Some(share) = self.dealing.shares.get(to).cloned() else { continue };
            let fault = self.victims.get(&to).copied();
            let right = encode_answer(complainer, &share);
            let wrong = encode_answer(complainer, &dealing::other_than(&share));
            let mut at = self.between(now, end.saturating_sub(VIEW_MS));
            let answers = match fault {
                Some(Fault::NoAnswers | Fault::EarlyAnswers) => Vec::new(),
                Some(Fault::WrongAnswers) => vec![wrong],
                Some(Fault::MalformedAnswers) => {
                    vec![dealing::malformed_answer(&mut self.dice, complainer, &share, plan.size())]
                }
                Some(Fault::SecondAnswers) if self.dice.random_bool(0.5) => vec![right, wrong],
                Some(Fault::SecondAnswers) => vec![wrong, right],
                Some(Fault::LateAnswers) => {
                    at = end + 1 + VIEW_MS;
                    vec![right]
                }
                _ => vec![right],
            };
            for data in answers {
                let act = self.sign(data, &run.setup.instance);
                planned.push(Planned { at, member: self.me, fault, act });
                at += 1;
            }
        }
    }

    /// The run is over for an honest member.
    pub(super) fn submit(&mut self, run: &Run, now: u64, planned: &mut Vec<Planned>) {
        let Some(result) = run.honest_result.clone().filter(|_| !self.submitted && !self.plays(Fault::Silent)) else {
            return;
        };
        self.submitted = true;
        let instance = run.setup.instance.clone();
        let at = now + self.dice.random_range(0..VIEW_MS);
        let mut say = |fault, result| {
            planned.push(Planned { at, member: self.me, fault, act: Act::Submit(instance.clone(), result) })
        };
        if self.faults.iter().any(|part| part.fault == Fault::ResultTricks) {
            let fault = Some(Fault::ResultTricks);
            match self.dice.random_range(0..3) {
                0 => {}
                1 => say(fault, DkgResult::Empty),
                _ => {
                    say(fault, DkgResult::Empty);
                    say(fault, result);
                }
            }
        } else if self.faults.iter().any(|part| part.fault == Fault::WrongResult) {
            say(Some(Fault::WrongResult), wrong(result));
        } else {
            say(None, result);
        }
    }
}

/// The same wrong result from whoever makes it.
fn wrong(result: DkgResult) -> DkgResult {
    match result {
        DkgResult::Empty => DkgResult::Empty,
        DkgResult::Complete { group_key, mut key_shares, index_map } => {
            key_shares.reverse();
            DkgResult::Complete { group_key, key_shares, index_map }
        }
    }
}
