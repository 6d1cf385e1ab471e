//! The malicious members: one coalition that knows all its members' secrets and sees every broadcast first.
//!
//! Each member follows the protocol except for the attacks that it plays; attacks combine. What members say is signed with
//! their own keys: this is what insiders can do. The coalition decides *what* is said *when*; the world carries it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chacha20::ChaCha20Rng;
use rand::RngExt;
use rand::rand_core::Rng;
use rand::seq::SliceRandom;

use super::chance::{Draw, dice};
use super::dealing::{self, Dealing};
use super::fault::Fault;
use super::identity::{Identity, identity};
use super::plan::{Part, Plan, VIEW_MS};
use crate::SecretBytes;
use crate::bls::{DKG_MESSAGE_TAG, Index, RANDOM_BEACON_TAG, Scalar};
use crate::chain::DkgResult;
use crate::committee::threshold;
use crate::envelope::{BroadcastMessage, MAX_POST_BYTES, PrivateMessage};
use crate::epoch::{EpochCounter, EpochSetup, Header, InstanceId, View};
use crate::protocol::{Broadcast, encode_answer, encode_complaint, encode_share, encode_vector};

/// What a coalition has its members do.
pub(super) enum Act {
    Post(String),
    /// Somebody outside the committee posts.
    StrangerPosts(String),
    /// Somebody outside the committee sends.
    StrangerSends(usize, PrivateMessage),
    Send(usize, PrivateMessage),
    Submit(InstanceId, DkgResult),
    /// Time for something that was put off.
    Due(Deed),
}

/// Something put off until the coalition knows more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Vector,
}

/// One act of one member, at a time in ms.
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) member: usize,
    pub(super) fault: Option<Fault>,
    pub(super) act: Act,
}

pub(super) struct Coalition {
    plan: Plan,
    members: BTreeMap<usize, Script>,
    run: Option<Run>,
}

/// The run that is on.
struct Run {
    setup: EpochSetup,
    /// When each phase's last view begins.
    finals: [u64; 3],
    /// Honest dealers' vectors, as soon as they are on their way.
    vectors: BTreeMap<usize, Vec<u8>>,
    honest_result: Option<DkgResult>,
    ended: usize,
}

/// What one member is up to in a run.
struct Script {
    me: usize,
    identity: &'static Identity,
    faults: Vec<Part>,
    dice: ChaCha20Rng,
    dealing: Dealing,
    vector_out: bool,
    /// Members whose share is withheld or spoiled.
    victims: BTreeMap<usize, Fault>,
    complained: BTreeSet<Index>,
    stolen: u32,
    submitted: bool,
}

/// Envelopes of others that one member posts as its own at most.
const MAX_STOLEN: u32 = 4;

impl Coalition {
    pub(super) fn new(plan: &Plan) -> Self {
        Coalition { plan: plan.clone(), members: BTreeMap::new(), run: None }
    }

    /// A run begins.
    pub(super) fn setup(&mut self, setup: &EpochSetup, now: u64) -> Vec<Planned> {
        let finals = setup.phase_final_views.map(|view| view.0 * VIEW_MS);
        let run = Run { setup: setup.clone(), finals, vectors: BTreeMap::new(), honest_result: None, ended: 0 };
        self.members.clear();
        for &me in self.plan.malicious() {
            let Some(identity) = identity(me) else { continue };
            let faults: Vec<Part> = self.plan.faults_of(me, setup.epoch.0).copied().collect();
            let mut dice = dice(self.plan.seed(), Draw::Script, setup.epoch.0, me as u64);
            let pattern = faults.iter().find_map(|part| dealing::pattern(part.fault));
            let first = self.members.values().next().map(|script| &script.dealing);
            let dealing = Dealing::new(pattern, self.plan.size(), &mut dice, first);
            let script = Script {
                me,
                identity,
                faults,
                dice,
                dealing,
                vector_out: false,
                victims: BTreeMap::new(),
                complained: BTreeSet::new(),
                stolen: 0,
                submitted: false,
            };
            self.members.insert(me, script);
        }
        let mut planned = Vec::new();
        for script in self.members.values_mut() {
            script.open(&self.plan, &run, now, &mut planned);
        }
        self.run = Some(run);
        planned
    }

    /// Something that was put off is due.
    pub(super) fn due(&mut self, member: usize, deed: Deed, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        if let (Some(run), Some(script)) = (&self.run, self.members.get_mut(&member)) {
            match deed {
                Deed::Vector => script.post_vector(run, now, &mut planned),
            }
        }
        planned
    }

    /// A broadcast is on its way to the board: the coalition sees it before it stands there. `poster` is the member's place.
    pub(super) fn overhear(&mut self, poster: usize, content: &str, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        let Some(run) = &mut self.run else { return planned };
        let Ok(message) = BroadcastMessage::from_json(content) else { return planned };
        if message.dkg_instance_id != run.setup.instance.as_str() {
            return planned;
        }
        let honest = !self.plan.malicious().contains(&poster);
        match Broadcast::parse(&message.data) {
            Broadcast::Vector(body) if honest => {
                run.vectors.entry(poster).or_insert_with(|| body.to_vec());
            }
            Broadcast::Complaint([accused]) => {
                let accused = self.members.get_mut(&usize::from(*accused));
                if let (Some(accused), Some(complainer)) = (accused, Index::from_position(poster)) {
                    accused.complained.insert(complainer);
                }
            }
            _ => {}
        }
        let expected = self.plan.size() - self.plan.malicious().len();
        for script in self.members.values_mut() {
            if honest {
                script.steal(content, now, &mut planned);
            }
            if script.is_watching(run, expected) {
                script.post_vector(run, now, &mut planned);
            }
        }
        planned
    }

    /// An honest member submits its result.
    pub(super) fn overhear_result(&mut self, result: &DkgResult, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        let Some(run) = self.run.as_mut().filter(|_| *result != DkgResult::Empty) else { return planned };
        run.honest_result.get_or_insert_with(|| result.clone());
        for script in self.members.values_mut() {
            script.submit(run, now, &mut planned);
        }
        planned
    }

    /// A block has been finalized.
    pub(super) fn block(&mut self, block: &Header, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        let Some(run) = &mut self.run else { return planned };
        while run.setup.phase_final_views.get(run.ended).is_some_and(|last| block.view >= *last) {
            run.ended += 1;
            if run.ended == 2 {
                for script in self.members.values_mut() {
                    script.answer(&self.plan, run, now, &mut planned);
                }
            }
        }
        planned
    }
}

impl Script {
    fn plays(&self, fault: Fault) -> bool {
        self.faults.iter().any(|part| part.fault == fault)
    }

    fn sign(&self, data: Vec<u8>, instance: &InstanceId) -> Act {
        Act::Post(BroadcastMessage::sign(data, instance, &self.identity.staking_key).to_json())
    }

    fn private(&self, to: usize, data: SecretBytes, instance: &InstanceId) -> Act {
        Act::Send(to, PrivateMessage { data, dkg_instance_id: instance.as_str().to_owned() })
    }

    /// A time between two others.
    fn between(&mut self, from: u64, to: u64) -> u64 {
        self.dice.random_range(from..=to.max(from))
    }

    /// Everything that can be planned when the run begins.
    fn open(&mut self, plan: &Plan, run: &Run, now: u64, planned: &mut Vec<Planned>) {
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

    fn choose_victims(&mut self, honest: &[usize]) {
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

    fn deal(&mut self, honest: &[usize], run: &Run, now: u64, planned: &mut Vec<Planned>) {
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
    fn is_watching(&self, run: &Run, honest: usize) -> bool {
        let copies = self.plays(Fault::CopiedVector) || self.plays(Fault::NegatedVector);
        !self.vector_out
            && !self.plays(Fault::Silent)
            && !self.plays(Fault::NoVector)
            && !self.plays(Fault::LateVector)
            && (copies && !run.vectors.is_empty() || self.plays(Fault::LastToSpeak) && run.vectors.len() == honest)
    }

    fn post_vector(&mut self, run: &Run, now: u64, planned: &mut Vec<Planned>) {
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

    fn answers_before_the_vector(&mut self) -> bool {
        self.plays(Fault::EarlyAnswers) && self.dice.random_bool(0.5)
    }

    /// Answers before there is a complaint, or without one.
    fn answer_early(&mut self, run: &Run, now: u64, planned: &mut Vec<Planned>) {
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

    fn complain(
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

    fn make_noise(&mut self, fault: Fault, honest: &[usize], run: &Run, now: u64, planned: &mut Vec<Planned>) {
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
                    let message = PrivateMessage { data: share, dkg_instance_id: instance.as_str().to_owned() };
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

    fn arbitrary(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.dice.random_range(0..70)];
        self.dice.fill_bytes(&mut bytes);
        if let Some(tag) = bytes.first_mut() {
            *tag %= 6;
        }
        bytes
    }

    fn steal(&mut self, content: &str, now: u64, planned: &mut Vec<Planned>) {
        if self.plays(Fault::StolenPosts) && self.stolen < MAX_STOLEN {
            self.stolen += 1;
            let (fault, act) = (Some(Fault::StolenPosts), Act::Post(content.to_owned()));
            planned.push(Planned { at: now, member: self.me, fault, act });
        }
    }

    /// Phase 2 has ended: answer the complaints there are.
    fn answer(&mut self, plan: &Plan, run: &Run, now: u64, planned: &mut Vec<Planned>) {
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
    fn submit(&mut self, run: &Run, now: u64, planned: &mut Vec<Planned>) {
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

/// The name of every simulated chain.
pub(super) const CHAIN_ID: &str = "simulated";

/// What the coalition does on a log chain beside the protocol.
pub(super) mod log {
    use super::*;
    use crate::chain::log::{ChainConfig, Entry, Payload, Prefix};

    /// The coalition's pens, and the log as it has seen it.
    pub(in super::super) struct Pens {
        config: Arc<ChainConfig>,
        prefix: Prefix,
        seen: usize,
        sequences: BTreeMap<usize, u64>,
        dice: ChaCha20Rng,
    }

    impl Pens {
        pub(in super::super) fn new(plan: &Plan, config: &Arc<ChainConfig>) -> Self {
            Pens {
                config: Arc::clone(config),
                prefix: Prefix::genesis(config.identity()),
                seen: 0,
                sequences: BTreeMap::new(),
                dice: dice(plan.seed(), Draw::Script, u64::MAX, 0),
            }
        }

        /// Reads one more entry.
        pub(in super::super) fn read(&mut self, entry: &[u8]) {
            self.prefix = self.prefix.extended(entry);
            self.seen += 1;
        }

        /// How many entries have been read.
        pub(in super::super) fn seen(&self) -> usize {
            self.seen
        }

        /// An entry of a member.
        pub(in super::super) fn write(&mut self, member: usize, payload: Payload) -> Option<Vec<u8>> {
            self.write_seen(member, payload, self.prefix)
        }

        fn write_seen(&mut self, member: usize, payload: Payload, seen: Prefix) -> Option<Vec<u8>> {
            let sequence = self.sequences.entry(member).or_default();
            *sequence += 1;
            let entry = Entry { author: Index::from_position(member)?, sequence: *sequence, payload, seen };
            entry.sign(self.config.identity(), &identity(member)?.network_key).ok()
        }

        /// What a member appends when its clock has reached a view.
        pub(in super::super) fn tick(&mut self, member: usize, view: View, faults: &[Fault]) -> Vec<Vec<u8>> {
            let mut entries = Vec::new();
            let mut reached = view.0;
            if faults.contains(&Fault::ClockTricks) {
                match self.dice.random_range(0..3) {
                    0 => return entries,
                    1 => reached += self.dice.random_range(1..2 * self.config.schedule().views_in_epoch),
                    _ => reached = reached.saturating_sub(self.dice.random_range(1..10)),
                }
            }
            entries.extend(self.write(member, Payload::Tick(View(reached))));
            if faults.contains(&Fault::LogTricks) && self.dice.random_ratio(1, 4) {
                let lie = Prefix { position: self.prefix.position, hash: [7; 32] };
                let forged = self.write((member + 1) % self.config.committee().size(), Payload::Tick(view));
                let tricks = [
                    self.write_seen(member, Payload::Tick(View(view.0 + 1)), lie),
                    entries.first().cloned(),
                    Some(vec![0xff; 90]),
                    forged.map(|mut entry| {
                        if let Some(byte) = entry.last_mut() {
                            *byte ^= 1;
                        }
                        entry
                    }),
                ];
                entries.extend(tricks.into_iter().flatten());
            }
            entries
        }
    }
}
