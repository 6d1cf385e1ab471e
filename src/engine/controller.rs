//! The Controller: one run's protocol, spoken through one run's Broker. Epoch-scoped and pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::broker::{Broker, Directly, Verify};
use super::event::{EngineEvent, PublicKeys, RunReport};
use super::held::{Held, Word};
use super::step::{Effect, Step};
use crate::bls::{Effort, Index, SecretKey};
use crate::chain::{BoardMessage, DkgResult};
use crate::committee::NodeId;
use crate::envelope::{PrivateKind, PrivateMessage};
use crate::epoch::{EpochCounter, EpochSetup, View};
use crate::protocol::{
    self, Broadcast, Conclusion, Disqualification, Failure, Findings, Keys, OurShare, Output, Parameters, Participant,
    Phase, Work,
};
use crate::store::{Dealing, Journal, KeyShare, ReceivedShare};

/// Makes the epoch-scoped Controller, with its Broker, for each run.
#[cfg_attr(feature = "simulator", derive(Clone))]
pub struct ControllerFactory {
    me: NodeId,
    staking_key: SecretKey,
    verifier: Arc<dyn Verify>,
    effort: Effort,
}

/// Why no Controller could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// We are not in the committee.
    #[error("this node is not in the committee")]
    NotAMember,
    /// The committee knows us by another staking key.
    #[error("the committee has another staking key for this node than the one it was started with")]
    OtherStakingKey,
    /// The protocol refuses.
    #[error(transparent)]
    Protocol(#[from] protocol::Error),
}

impl ControllerFactory {
    /// Makes Controllers for this node.
    pub fn new(me: NodeId, staking_key: SecretKey) -> Self {
        ControllerFactory { me, staking_key, verifier: Arc::new(Directly), effort: Effort::ONE_THREAD }
    }

    /// What a run's curve work may cost from here on.
    pub(super) fn spending(self, effort: Effort) -> Self {
        ControllerFactory { effort, ..self }
    }

    /// Leaves the verification of broadcasts to somebody else.
    #[cfg(feature = "simulator")]
    pub(crate) fn verifying_with(self, verifier: Arc<dyn Verify>) -> Self {
        ControllerFactory { verifier, ..self }
    }

    /// The node the factory works for.
    pub fn node_id(&self) -> &NodeId {
        &self.me
    }

    /// The Controller of a run, and what it deals. While it catches up with the run, what it would say is held back.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(super) fn create(
        &self,
        setup: &EpochSetup,
        dealing: &Dealing,
        catches_up: bool,
    ) -> Result<(Controller, Vec<Effect>), StartError> {
        let index = setup.committee.index_of(&self.me).ok_or(StartError::NotAMember)?;
        let member = setup.committee.member(index).ok_or(StartError::NotAMember)?;
        if *member.staking_key.key() != self.staking_key.public_key() {
            return Err(StartError::OtherStakingKey);
        }
        let parameters = Parameters {
            size: setup.committee.size(),
            threshold: setup.committee.threshold(),
            me: index,
            encoding: setup.vector_encoding,
        };
        let (participant, outputs) = match dealing.seed() {
            Some(seed) => Participant::start_spending(parameters, seed, self.effort)?,
            None => (Participant::receive(parameters)?.spending(self.effort), Vec::new()),
        };
        let vector = outputs.iter().find_map(|output| match output {
            Output::Broadcast(data) => Some(data.clone()),
            _ => None,
        });
        let mut controller = Controller {
            participant,
            broker: Broker::verifying(setup, self.staking_key.clone(), Arc::clone(&self.verifier)),
            setup: setup.clone(),
            vector,
            received: BTreeSet::new(),
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            held: catches_up.then(Held::default),
            reported: BTreeMap::new(),
            warned: BTreeMap::new(),
        };
        let effects = controller.effects(outputs);
        Ok((controller, effects))
    }
}

/// Remarks and dropped posts that a run reports of one node; of a flood, these are enough.
pub const REPORTS_PER_NODE: u32 = 40;

/// How often a run asks one dealer for its share, and answers one member that asks for ours.
pub const REQUESTS_PER_MEMBER: u32 = 4;

/// Carries one run from phase to phase.
#[cfg_attr(feature = "simulator", derive(Clone))]
pub struct Controller {
    participant: Participant,
    broker: Broker,
    setup: EpochSetup,
    /// What we deal to everybody; `None` if we deal nothing.
    vector: Option<Vec<u8>>,
    /// The members whose first private message is in the journal.
    received: BTreeSet<Index>,
    /// How often we have asked each dealer for its share, and answered each member that asked for ours.
    asked: BTreeMap<Index, u32>,
    answered: BTreeMap<Index, u32>,
    /// While we catch up with the run: what we would say.
    held: Option<Held>,
    /// Remarks made so far, by member; those about strangers are counted together.
    reported: BTreeMap<Option<Index>, u32>,
    /// How many answers were left when a dealer was last warned about.
    warned: BTreeMap<Index, usize>,
}

/// What a run left behind.
pub(super) struct Ending {
    pub(super) report: RunReport,
    pub(super) share: Option<KeyShare>,
    pub(super) result: DkgResult,
}

/// Who is in and who is out at the end of phase 3, while the keys are computed.
#[cfg_attr(feature = "simulator", derive(Clone))]
pub(super) struct Verdicts {
    pub(super) qualified: Vec<Index>,
    pub(super) disqualified: Vec<(Index, Disqualification)>,
}

impl Controller {
    /// The epoch the run makes keys for.
    pub fn epoch(&self) -> EpochCounter {
        self.setup.epoch
    }

    /// The run's phase.
    pub fn phase(&self) -> Phase {
        self.participant.phase()
    }

    /// What is told when the run begins.
    pub(super) fn started(&self) -> EngineEvent {
        let Parameters { size, threshold, me: index, .. } = *self.participant.parameters();
        EngineEvent::RunStarted { epoch: self.epoch(), index, size, threshold }
    }

    /// What is told when the run goes on after `phases_over` of its phases.
    pub(super) fn resumed(&self, phases_over: usize, journal: &Journal) -> EngineEvent {
        let shares_from = journal.shares.iter().map(|share| share.dealer).collect();
        let index = self.participant.parameters().me;
        EngineEvent::RunResumed { epoch: self.epoch(), index, phases_over, shares_from }
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Takes a private message in, if a member of this run has sent it for this run.
    ///
    /// Whether it has: then it need not be sent again.
    pub(super) fn take_private(&mut self, from: &NodeId, message: &PrivateMessage, step: &mut Step) -> bool {
        let Some(index) = self.broker.open_private(from, message) else {
            log::debug!("{}: dropped a private message of {from}: not a member's, or of another run", self.name());
            return false;
        };
        if message.kind == PrivateKind::ShareRequest {
            step.extend(self.answer_request(index));
            return true;
        }
        // What counts in the run is what is there again after a crash: the first of each dealer.
        let counts = self.phase() == Phase::Sharing && index != self.participant.parameters().me;
        if counts && self.received.insert(index) {
            step.share(ReceivedShare { epoch: self.epoch(), dealer: index, message: message.data.clone() });
        }
        let outputs = self.participant.take_private(index, message.data.expose());
        step.extend(self.taken(outputs));
        true
    }

    /// A member lacks our share: it gets the same bytes again, while they can count (spec section 7).
    fn answer_request(&mut self, from: Index) -> Option<Effect> {
        // While we catch up, all shares are about to be sent anyway.
        let answered = self.answered.entry(from).or_default();
        if self.participant.phase() != Phase::Sharing || self.held.is_some() || *answered >= REQUESTS_PER_MEMBER {
            return None;
        }
        *answered += 1;
        let share = self.participant.share_for(from)?;
        self.say(Word::Share(from, share))
    }

    /// Asks the dealers whose shares we lack for them: a complaint would make the share public.
    pub(super) fn requests(&mut self) -> Vec<Effect> {
        if self.participant.phase() != Phase::Sharing {
            return Vec::new();
        }
        let lacking = self.participant.lacking().into_iter().filter(|dealer| {
            let asked = self.asked.entry(*dealer).or_default();
            *asked += 1;
            *asked <= REQUESTS_PER_MEMBER
        });
        let instance = self.broker.instance().as_str();
        let request = |dealer| {
            let to = self.setup.committee.member(dealer)?.node_id;
            Some(Effect::SendPrivate { to, message: PrivateMessage::share_request(instance) })
        };
        lacking.collect::<Vec<_>>().into_iter().filter_map(request).collect()
    }

    /// Takes a share in that was received in an earlier life.
    pub(super) fn take_kept(&mut self, share: &ReceivedShare) -> Vec<Effect> {
        self.received.insert(share.dealer);
        let outputs = self.participant.take_private(share.dealer, share.message.expose());
        self.taken(outputs)
    }

    /// Takes what was read from the board in, in the board's order.
    pub(super) fn take_board(&mut self, messages: &[BoardMessage], step: &mut Step) {
        for opened in self.broker.open_board(messages) {
            match opened.message {
                Ok((index, data)) => {
                    if index == self.participant.parameters().me {
                        self.take_own(&data, step);
                    }
                    let outputs = self.participant.take_broadcast(index, &data);
                    step.extend(self.taken(outputs));
                }
                Err(fault) => {
                    let (epoch, poster) = (self.epoch(), opened.node_id);
                    if self.worth_reporting(self.setup.committee.index_of(&poster)) {
                        step.report(EngineEvent::PostDropped { epoch, poster, fault });
                    }
                }
            }
        }
        step.extend(self.warnings());
    }

    /// Which dealers' secrets have come closer to being public than was told before.
    fn warnings(&mut self) -> Vec<Effect> {
        let (epoch, warned) = (self.epoch(), &mut self.warned);
        let mut close = self.participant.exposures();
        close.retain(|exposure| {
            exposure.is_close() && warned.get(&exposure.dealer).is_none_or(|left| exposure.left < *left)
        });
        warned.extend(close.iter().map(|exposure| (exposure.dealer, exposure.left)));
        close.into_iter().map(|exposure| Effect::Report(EngineEvent::Exposed { epoch, exposure })).collect()
    }

    /// Looks at a broadcast in our own name before it is taken in like any other.
    fn take_own(&mut self, data: &[u8], step: &mut Step) {
        if let Some(held) = &mut self.held {
            held.said(data);
        }
        let first_vector = matches!(Broadcast::parse(data), Broadcast::Vector(_))
            && self.phase() == Phase::Sharing
            && !self.participant.has_vector_of(self.participant.parameters().me);
        if first_vector && self.vector.as_ref().is_some_and(|ours| ours != data) {
            self.vector = None;
            self.participant.forget_dealing();
            if let Some(held) = &mut self.held {
                held.forget_dealing();
            }
            step.dealing(Dealing::none(&self.setup));
            step.report(EngineEvent::DealtElsewhere { epoch: self.epoch() });
        }
    }

    /// Whether what we would say is held back.
    pub(super) fn catches_up(&self) -> bool {
        self.held.is_some()
    }

    /// The board has been read up to where we came in: what is still to be said.
    pub(super) fn caught_up(&mut self) -> Vec<Effect> {
        let words = self.held.take().into_iter().flat_map(Held::release).collect::<Vec<_>>();
        words.into_iter().filter_map(|word| self.say(word)).collect()
    }

    /// What there is to find out about the dealers.
    pub(super) fn work(&self) -> Option<Work> {
        self.participant.work()
    }

    /// Judges by what has been found out.
    pub(super) fn apply(&mut self, findings: Findings) -> Vec<Effect> {
        let outputs = self.participant.apply(findings);
        self.effects(outputs)
    }

    /// Ends phase 1 or 2.
    pub(super) fn end_phase(&mut self, view: View, randomness: &[u8; 32]) -> Result<Vec<Effect>, protocol::Error> {
        let phase = self.participant.phase();
        let outputs = self.participant.end_phase(randomness)?;
        if let Some(held) = &mut self.held {
            held.phase_ended(phase);
        }
        let mut effects = vec![self.phase_ended(phase, view)];
        effects.extend(self.effects(outputs));
        effects.extend(self.warnings());
        Ok(effects)
    }

    /// Ends phase 3; the keys are left to compute.
    pub(super) fn conclude(
        &mut self,
        view: View,
        randomness: &[u8; 32],
    ) -> Result<(Conclusion, Vec<Effect>), protocol::Error> {
        let (conclusion, outputs) = self.participant.conclude(randomness)?;
        let mut effects = vec![self.phase_ended(Phase::Answering, view)];
        effects.extend(self.effects(outputs));
        Ok((conclusion, effects))
    }

    /// Ends the run with what came of its keys.
    pub(super) fn ending(&self, verdicts: Verdicts, keys: Result<Keys, Failure>) -> Ending {
        let me = self.participant.parameters().me;
        let (keys, result, share) = match keys {
            Err(failure) => (Err(failure.to_string()), DkgResult::Empty, Err(failure.to_string())),
            Ok(Keys { group_key, key_shares, identity_shares, share }) => {
                let index_map = self.setup.committee.iter().map(|(index, member)| (member.node_id, index)).collect();
                let result = DkgResult::complete(&group_key, &key_shares, index_map);
                // All that the board holds was taken in, in its order, our own broadcasts among it.
                let share = match share.handed_all() {
                    OurShare::Held(secret) => Ok(KeyShare::new(me, secret)),
                    OurShare::Missing(dealers) => Err(missing(&dealers)),
                    OurShare::Inconsistent | OurShare::Unheard { .. } => {
                        Err("the sum of our valid shares does not match our public key share; check this machine"
                            .into())
                    }
                };
                (Ok(PublicKeys { group_key, key_shares, identity_shares }), result, share)
            }
        };
        let report = RunReport {
            epoch: self.epoch(),
            qualified: verdicts.qualified,
            disqualified: verdicts.disqualified,
            exposures: self.participant.exposures(),
            keys,
            share: share.as_ref().map(|_| ()).map_err(String::clone),
        };
        Ending { report, share: share.ok(), result }
    }

    /// Writes down what tells one state of a run from another. What the run was made for is left out: the caller's runs
    /// have all been made for the same. And what dealers have been warned about, on which nothing but further warnings depends.
    #[cfg(feature = "simulator")]
    pub(super) fn digest(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let Controller { participant, broker, setup: _, vector, received, asked, answered, held, reported, warned: _ } =
            self;
        participant.digest(to);
        (broker.offset(), vector.is_some(), received, asked, answered, reported, held.is_some()).hash(to);
        if let Some(held) = held {
            held.digest(to);
        }
    }

    fn phase_ended(&self, phase: Phase, view: View) -> Effect {
        Effect::Report(EngineEvent::PhaseEnded {
            epoch: self.epoch(),
            phase,
            view,
            dealt: self.participant.dealt(),
            complaints: self.participant.complaints(),
        })
    }

    fn worth_reporting(&mut self, about: Option<Index>) -> bool {
        let count = self.reported.entry(about).or_default();
        *count = count.saturating_add(1);
        *count <= REPORTS_PER_NODE
    }

    fn taken(&mut self, outputs: Result<Vec<Output>, protocol::Error>) -> Vec<Effect> {
        match outputs {
            Ok(outputs) => self.effects(outputs),
            Err(error) => {
                log::debug!("{}: passed over a message: {error}", self.name());
                Vec::new()
            }
        }
    }

    /// What the protocol wants done, wrapped for the road.
    fn effects(&mut self, outputs: Vec<Output>) -> Vec<Effect> {
        let epoch = self.epoch();
        let wrap = |output| match output {
            Output::SendShare { to, message } => self.say_or_hold(Word::Share(to, message)),
            Output::Broadcast(data) => self.say_or_hold(Word::Broadcast(data)),
            Output::Disqualified { dealer, reason } => {
                Some(Effect::Report(EngineEvent::Disqualified { epoch, dealer, reason }))
            }
            Output::Flagged { member, remark } => Some(Effect::Report(EngineEvent::Flagged { epoch, member, remark })),
        };
        outputs.into_iter().filter_map(wrap).collect()
    }

    fn say_or_hold(&mut self, word: Word) -> Option<Effect> {
        match &mut self.held {
            Some(held) => {
                held.hold(word);
                None
            }
            None => self.say(word),
        }
    }

    fn say(&self, word: Word) -> Option<Effect> {
        match word {
            Word::Share(to, message) => {
                let member = self.setup.committee.member(to)?;
                Some(Effect::SendPrivate { to: member.node_id, message: self.broker.private(message) })
            }
            Word::Broadcast(data) => {
                let content = self.broker.broadcast(data);
                Some(Effect::Post { instance: self.broker.instance().clone(), content })
            }
        }
    }

    fn name(&self) -> &str {
        self.broker.instance().as_str()
    }
}

fn missing(dealers: &[Index]) -> String {
    let names: Vec<String> = dealers.iter().map(Index::to_string).collect();
    format!(
        "no valid share of dealer {} reached us, and our complaint did not reach the board before the end of phase 2; \
         the public result stands, but this node holds no share of it",
        names.join(", ")
    )
}
