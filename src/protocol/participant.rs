//! One member of a run: `n` dealers' instances side by side, and our own dealing.

use super::dealer::Dealer;
use super::exposure::Exposure;
use super::fault::{Disqualification, Remark};
use super::message::{self, Broadcast};
use super::outcome::{Failure, Outcome};
use super::work::{Case, Conclusion, Finding, Findings, KeyWork, WORK_POINTS, Work};
use crate::bls::{Effort, Index, Polynomial, Scalar, SeedError, VectorEncoding};
use crate::committee::{MAX_MEMBERS, MIN_MEMBERS};
use crate::secret::SecretBytes;

/// The shape of a run, the same for all members but for `me`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Members, `n`: `2..=254`.
    pub size: usize,
    /// The threshold `t`: at least 1, below `n`. [`crate::committee::threshold`] is the one that keeps a run safe.
    pub threshold: usize,
    /// Our index.
    pub me: Index,
    /// How our vector's points travel. Compressed points are always readable; uncompressed ones are where this says so.
    pub encoding: VectorEncoding,
}

/// Which phase a run is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Phase 1: shares and vectors.
    Sharing,
    /// Phase 2: complaints.
    Complaining,
    /// Phase 3: answers.
    Answering,
    /// The run has ended.
    Ended,
}

/// What a member has to do, or to tell, after a step. Each one counts, of every call: see the [module](super).
#[must_use]
pub enum Output {
    /// Send this over the private channel to `to`, and to nobody else.
    SendShare {
        /// The receiver.
        to: Index,
        /// The message.
        message: SecretBytes,
    },
    /// Post this on the board.
    Broadcast(Vec<u8>),
    /// A dealer is out, for every honest member.
    Disqualified {
        /// The dealer.
        dealer: Index,
        /// Why.
        reason: Disqualification,
    },
    /// Something to remember about a member; nobody is excluded.
    Flagged {
        /// The member.
        member: Index,
        /// What.
        remark: Remark,
    },
}

/// A call that makes no sense; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Impossible parameters.
    #[error("a run has {MIN_MEMBERS} to {MAX_MEMBERS} members, a threshold between 1 and n - 1, and ourselves among them; not n = {size}, t = {threshold}, index {me}", size = .0.size, threshold = .0.threshold, me = .0.me)]
    Parameters(Parameters),
    /// A seed the polynomial cannot be drawn from.
    #[error("the dealing seed is unusable: {0}")]
    Seed(#[from] SeedError),
    /// The seed gives some member a zero share, which nobody could accept (probability about n/2^255).
    #[error("the dealing seed gives member {0} a zero share; draw another")]
    ZeroShare(Index),
    /// A message from somebody outside the committee.
    #[error("there is no member {from} in a run of {size}")]
    NotAMember {
        /// Who it was said to be from.
        from: Index,
        /// Members in this run.
        size: usize,
    },
    /// Not in this phase.
    #[error("{what} is not possible in phase {phase:?}")]
    WrongPhase {
        /// What was asked for.
        what: &'static str,
        /// The phase the run is in.
        phase: Phase,
    },
}

/// One member's side of a run. See the [module](super) for how to drive it.
#[cfg_attr(feature = "simulator", derive(Clone))]
pub struct Participant {
    parameters: Parameters,
    phase: Phase,
    dealers: Vec<Dealer>,
    /// `None` for a member that receives and does not deal.
    polynomial: Option<Polynomial>,
    effort: Effort,
}

impl Participant {
    /// Begins a run: deals from `seed` (at least 32 secret, never reused bytes).
    ///
    /// Returns the member and what it deals: a [`Output::SendShare`] for every other member in order of index, then the
    /// vector as [`Output::Broadcast`].
    ///
    /// # Errors
    /// Impossible parameters, or a seed that is too short or, with negligible probability, unlucky.
    pub fn start(parameters: Parameters, seed: &SecretBytes) -> Result<(Self, Vec<Output>), Error> {
        Participant::start_spending(parameters, seed, Effort::ONE_THREAD)
    }

    /// [`start`](Self::start), spending this on the dealing and on all work after it. No verdict depends on it.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_spending(
        parameters: Parameters,
        seed: &SecretBytes,
        effort: Effort,
    ) -> Result<(Self, Vec<Output>), Error> {
        let mut participant = Participant::receive(parameters)?.spending(effort);
        let Parameters { size, threshold, me, encoding } = parameters;
        let polynomial = Polynomial::from_seed(seed.expose(), threshold)?;
        let mut outputs = Vec::with_capacity(size);
        for (to, dealer) in Index::all(size).zip(&mut participant.dealers) {
            let share = polynomial.share(to);
            if share.is_zero() {
                return Err(Error::ZeroShare(to));
            }
            if to == me {
                dealer.take_own_share(share);
            } else {
                outputs.push(Output::SendShare { to, message: message::encode_share(&share) });
            }
        }
        outputs.push(Output::Broadcast(message::encode_vector(&polynomial.commit_with(effort).encode(encoding))));
        participant.polynomial = Some(polynomial);
        Ok((participant, outputs))
    }

    /// Begins a run without dealing: takes what the others deal, and deals nothing.
    ///
    /// # Errors
    /// Impossible parameters.
    pub fn receive(parameters: Parameters) -> Result<Self, Error> {
        let Parameters { size, threshold, me, .. } = parameters;
        let possible =
            (MIN_MEMBERS..=MAX_MEMBERS).contains(&size) && (1..size).contains(&threshold) && usize::from(me) < size;
        if !possible {
            return Err(Error::Parameters(parameters));
        }
        let dealers = Index::all(size).map(|index| Dealer::new(index, &parameters)).collect();
        Ok(Participant { parameters, phase: Phase::Sharing, dealers, polynomial: None, effort: Effort::ONE_THREAD })
    }

    /// Spends this on its work from here on; a new member works on one thread. No verdict depends on it.
    pub fn spending(self, effort: Effort) -> Self {
        Participant { effort, ..self }
    }

    /// Lets go of what this member has dealt, its share for itself included, and answers no complaint from here on. For a
    /// member in whose name another dealing stands on the board than the one it holds.
    pub fn forget_dealing(&mut self) {
        self.polynomial = None;
        let me = self.parameters.me;
        if let Some(own) = self.dealer(me) {
            own.forget_share();
        }
    }

    /// The share message for `to` once more, byte for byte; `None` if this member has dealt nothing, or `to` is no member.
    pub fn share_for(&self, to: Index) -> Option<SecretBytes> {
        let member = usize::from(to) < self.parameters.size;
        self.polynomial.as_ref().filter(|_| member).map(|polynomial| message::encode_share(&polynomial.share(to)))
    }

    /// The dealers, other than ourselves, that are not out and whose share has not come, ascending.
    pub fn lacking(&self) -> Vec<Index> {
        let me = self.parameters.me;
        let lacks = |index: Index, dealer: &Dealer| index != me && !dealer.is_done_for() && !dealer.has_share();
        self.indexed().filter(|(index, dealer)| lacks(*index, dealer)).map(|(index, _)| index).collect()
    }

    /// The run's shape.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The phase the run is in.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The dealers disqualified so far, ascending.
    pub fn disqualified(&self) -> Vec<(Index, Disqualification)> {
        self.indexed().filter_map(|(index, dealer)| Some((index, dealer.verdict()?.clone()))).collect()
    }

    /// The dealers whose vector has been received, ascending.
    pub fn dealt(&self) -> Vec<Index> {
        self.indexed().filter(|(_, dealer)| dealer.has_vector()).map(|(index, _)| index).collect()
    }

    /// Whether this dealer's vector has been received.
    pub fn has_vector_of(&self, dealer: Index) -> bool {
        self.dealers.get(usize::from(dealer)).is_some_and(Dealer::has_vector)
    }

    /// The complaints on the board so far: (complainer, accused dealer). Of complaints about a dealer that is out, those
    /// that came before this member knew it.
    pub fn complaints(&self) -> Vec<(Index, Index)> {
        self.indexed().flat_map(|(accused, dealer)| dealer.complainers().map(move |from| (from, accused))).collect()
    }

    /// How much of each dealer's secret has got out, for those that are not out, ascending. Nothing before the end of phase 1:
    /// until then nobody can be called silent. Nor of a dealer with more than `t` complaints, none of which it will answer.
    pub fn exposures(&self) -> Vec<Exposure> {
        let Parameters { threshold, me, .. } = self.parameters;
        let is_silent = |index: Index, dealer: &Dealer| index != me && !dealer.has_vector() && !dealer.has_share();
        let silent: Vec<Index> =
            self.indexed().filter(|(index, dealer)| is_silent(*index, dealer)).map(|(index, _)| index).collect();
        let counted = self.indexed().filter(|(_, dealer)| {
            self.phase != Phase::Sharing && !dealer.is_done_for() && dealer.complaint_entries() <= threshold
        });
        let exposure = |(index, dealer): (Index, &Dealer)| {
            let hiding = silent.iter().filter(|member| !dealer.has_entry_of(**member)).count();
            Exposure::new(index, threshold, dealer.complaint_entries(), hiding)
        };
        counted.map(exposure).collect()
    }

    /// Takes a private message in. A message from ourselves is ignored.
    ///
    /// # Errors
    /// `from` is no member, or the run has ended.
    pub fn take_private(&mut self, from: Index, message: &[u8]) -> Result<Vec<Output>, Error> {
        self.check_open("taking a private message")?;
        self.check_member(from)?;
        if from == self.parameters.me {
            return Ok(Vec::new());
        }
        let phase = self.phase;
        let remark = self.dealer(from).and_then(|dealer| dealer.take_share(message, phase));
        Ok(flagged(from, remark).into_iter().collect())
    }

    /// Takes a broadcast in, where it stands on the board; our own come back this way too.
    ///
    /// # Errors
    /// `from` is no member, or the run has ended.
    pub fn take_broadcast(&mut self, from: Index, data: &[u8]) -> Result<Vec<Output>, Error> {
        self.check_open("taking a broadcast")?;
        self.check_member(from)?;
        let (phase, size) = (self.phase, self.parameters.size);
        let Some(sender) = self.dealer(from) else { return Ok(Vec::new()) };
        let judged = match Broadcast::parse(data) {
            Broadcast::Empty => Err(Disqualification::EmptyBroadcast),
            Broadcast::UnknownTag(tag) => Err(Disqualification::UnknownTag(tag)),
            Broadcast::Vector(body) => sender.take_vector(body, phase),
            Broadcast::Answer(body) => sender.take_answer(body),
            Broadcast::Complaint(_) if phase >= Phase::Answering => Ok(Some(Remark::LateComplaint)),
            Broadcast::Complaint(body) => match message::decode_complaint(body, size) {
                None => Err(Disqualification::ComplaintMalformed { bytes: body.len() }),
                Some(accused) => Ok(self.dealer(accused).and_then(|dealer| dealer.take_complaint(from))),
            },
        };
        Ok(match judged {
            Ok(remark) => flagged(from, remark).into_iter().collect(),
            Err(reason) => self.charge(from, reason).into_iter().collect(),
        })
    }

    /// The next part of what is pending: vectors to decode and check, shares and answers to hold against them; `None` if
    /// nothing is. Until its findings have been [applied](Self::apply), the same is handed out again.
    pub fn work(&self) -> Option<Work> {
        self.work_up_to(WORK_POINTS)
    }

    /// What is pending, up to so many points, but one dealer's at least.
    fn work_up_to(&self, most: usize) -> Option<Work> {
        let points = self.parameters.threshold + 1;
        let mut room = most;
        let mut cases: Vec<Case> = Vec::new();
        let open = self.dealers.iter().filter(|_| self.phase != Phase::Ended);
        for case in open.filter_map(Dealer::case) {
            let cost = case.points(points);
            if cost > room && !cases.is_empty() {
                break;
            }
            room = room.saturating_sub(cost);
            cases.push(case);
        }
        (!cases.is_empty()).then_some(Work { me: self.parameters.me, points, effort: self.effort, cases })
    }

    /// Judges by what has been found out, as far as it still stands, and complains where that is called for.
    #[must_use = "complaints come out of it"]
    pub fn apply(&mut self, findings: Findings) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.phase == Phase::Ended {
            return outputs;
        }
        let mut claims = Vec::new();
        for Finding { dealer: index, vector, claims: found } in findings.0 {
            let Some(dealer) = self.dealer(index) else { continue };
            match dealer.settle_vector(vector) {
                Ok(()) => claims.extend(found.into_iter().map(|(claim, holds)| (index, claim, holds))),
                Err(reason) => outputs.extend(self.disqualify(index, reason)),
            }
        }
        for (index, claim, holds) in claims {
            let Some(dealer) = self.dealer(index) else { continue };
            match dealer.settle_claim(claim, holds) {
                Ok(remark) => outputs.extend(flagged(index, remark)),
                Err(reason) => outputs.extend(self.disqualify(index, reason)),
            }
        }
        for (dealer, state) in Index::all(self.parameters.size).zip(&mut self.dealers) {
            outputs.extend(state.close().map(|reason| Output::Disqualified { dealer, reason }));
        }
        if self.phase < Phase::Answering {
            let complaints = self.dealers.iter_mut().filter(|dealer| dealer.deserves_complaint());
            outputs.extend(complaints.filter_map(Dealer::complain).map(Output::Broadcast));
        }
        outputs
    }

    /// Does all the work there is, here and now, with `randomness` (fresh, 32 bytes, unknown to the senders when they spoke).
    #[must_use = "complaints come out of it"]
    pub fn settle(&mut self, randomness: &[u8; 32]) -> Vec<Output> {
        let findings = self.work_up_to(usize::MAX).map(|work| work.run(randomness));
        self.apply(findings.unwrap_or_default())
    }

    /// Ends phase 1 or phase 2, after everything the board holds for that phase has been taken in. Complaints and answers come
    /// out of it, to be posted.
    ///
    /// # Errors
    /// The run is in phase 3 (see [`finish`](Self::finish)) or has ended.
    pub fn end_phase(&mut self, randomness: &[u8; 32]) -> Result<Vec<Output>, Error> {
        match self.phase {
            Phase::Sharing => Ok(self.end_sharing(randomness)),
            Phase::Complaining => Ok(self.end_complaining(randomness)),
            phase => Err(Error::WrongPhase { what: "ending phase 1 or 2", phase }),
        }
    }

    fn end_sharing(&mut self, randomness: &[u8; 32]) -> Vec<Output> {
        let mut outputs = self.settle(randomness);
        for index in Index::all(self.parameters.size) {
            let Some(dealer) = self.dealer(index) else { continue };
            if !dealer.has_vector() {
                outputs.extend(self.disqualify(index, Disqualification::VectorMissing));
            } else if !dealer.has_share()
                && let Some(complaint) = dealer.complain()
            {
                outputs.push(Output::Flagged { member: index, remark: Remark::MissingShare });
                outputs.push(Output::Broadcast(complaint));
            }
        }
        self.phase = Phase::Complaining;
        outputs
    }

    fn end_complaining(&mut self, randomness: &[u8; 32]) -> Vec<Output> {
        let mut outputs = self.settle(randomness);
        let threshold = self.parameters.threshold;
        for index in Index::all(self.parameters.size) {
            let complaints = self.dealer(index).map_or(0, |dealer| dealer.complaint_entries());
            if complaints > threshold {
                outputs.extend(self.disqualify(index, Disqualification::TooManyComplaints { complaints, threshold }));
            }
        }
        self.phase = Phase::Answering;
        // Held back until now: with more than `t` answers our secret would be public, and no answer could save us.
        if let (Some(own), Some(polynomial)) = (self.dealers.get(usize::from(self.parameters.me)), &self.polynomial)
            && own.verdict().is_none()
        {
            let answers = own.unanswered().map(|to| message::encode_answer(to, &polynomial.share(to)));
            outputs.extend(answers.map(Output::Broadcast));
        }
        outputs
    }

    /// Excludes a dealer by the host's decision, which all members must share. Of what is pending, anything that disqualifies
    /// the dealer comes first and is the reason.
    ///
    /// # Errors
    /// There is no such member, or the run has ended.
    pub fn force_disqualify(&mut self, dealer: Index) -> Result<Vec<Output>, Error> {
        self.check_open("excluding a dealer")?;
        self.check_member(dealer)?;
        Ok(self.charge(dealer, Disqualification::Forced).into_iter().collect())
    }

    /// Ends phase 3 and the run: the last verdicts, and the keys.
    ///
    /// # Errors
    /// Phases 1 and 2 have not both ended, or the run has ended before.
    pub fn finish(&mut self, randomness: &[u8; 32]) -> Result<(Outcome, Vec<Output>), Error> {
        let (Conclusion { qualified, disqualified, keys }, outputs) = self.conclude(randomness)?;
        Ok((Outcome { qualified, disqualified, result: keys.and_then(KeyWork::run) }, outputs))
    }

    /// [`finish`](Self::finish) without the keys, which are left as work.
    ///
    /// # Errors
    /// As `finish`.
    pub fn conclude(&mut self, randomness: &[u8; 32]) -> Result<(Conclusion, Vec<Output>), Error> {
        if self.phase != Phase::Answering {
            return Err(Error::WrongPhase { what: "ending the run", phase: self.phase });
        }
        let mut outputs = self.settle(randomness);
        for index in Index::all(self.parameters.size) {
            let unanswered = self.dealer(index).and_then(|dealer| dealer.unanswered().next());
            if let Some(complainer) = unanswered {
                outputs.extend(self.disqualify(index, Disqualification::ComplaintUnanswered { complainer }));
            }
        }
        self.phase = Phase::Ended;
        let disqualified = self.disqualified();
        let qualified: Vec<Index> =
            self.indexed().filter(|(_, dealer)| dealer.verdict().is_none()).map(|(index, _)| index).collect();
        let keys = self.keys(&qualified, disqualified.len());
        Ok((Conclusion { qualified, disqualified, keys }, outputs))
    }

    fn keys(&self, qualified: &[Index], disqualified: usize) -> Result<KeyWork, Failure> {
        let Parameters { size, threshold, me, .. } = self.parameters;
        if disqualified > threshold {
            return Err(Failure::TooManyDisqualified { disqualified, threshold, size });
        }
        let too_few = Failure::TooFewQualified { qualified: qualified.len(), threshold };
        if qualified.len() <= threshold {
            return Err(too_few);
        }
        let dealers = || self.indexed().filter(|(_, dealer)| dealer.verdict().is_none());
        let missing: Vec<Index> =
            dealers().filter(|(_, dealer)| dealer.valid_share().is_none()).map(|(index, _)| index).collect();
        let mut share = Scalar::zero();
        dealers().filter_map(|(_, dealer)| dealer.valid_share()).for_each(|part| share += part);
        Ok(KeyWork {
            size,
            me,
            effort: self.effort,
            // A dealer without a vector has been disqualified at the end of phase 1, so there is one for each.
            vectors: dealers().filter_map(|(_, dealer)| dealer.vector().cloned()).collect(),
            share: if missing.is_empty() { Ok(share) } else { Err(missing) },
            without: too_few,
            unheard: self.unheard(),
        })
    }

    /// Why we are out in our own eyes, if it is for want of a broadcast that we have made: nobody who deals is, where
    /// all that it says comes back.
    fn unheard(&self) -> Option<Disqualification> {
        let own = self.polynomial.as_ref().and_then(|_| self.dealers.get(usize::from(self.parameters.me)));
        own.and_then(Dealer::verdict).cloned().filter(|reason| {
            matches!(reason, Disqualification::VectorMissing | Disqualification::ComplaintUnanswered { .. })
        })
    }

    /// See [`Dealer::charge`].
    fn charge(&mut self, dealer: Index, reason: Disqualification) -> Option<Output> {
        let reason = self.dealer(dealer)?.charge(reason)?;
        Some(Output::Disqualified { dealer, reason })
    }

    fn disqualify(&mut self, dealer: Index, reason: Disqualification) -> Option<Output> {
        let reason = self.dealer(dealer)?.disqualify(reason)?;
        Some(Output::Disqualified { dealer, reason })
    }

    /// Writes down what tells one state of a member from another.
    #[cfg(feature = "simulator")]
    pub(crate) fn digest(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let Participant { parameters, phase, dealers, polynomial, effort: _ } = self;
        format!("{parameters:?}").hash(to);
        phase.hash(to);
        dealers.iter().for_each(|dealer| dealer.digest(to));
        for coefficient in polynomial.iter().flat_map(|polynomial| polynomial.coefficients()) {
            coefficient.to_be_bytes().hash(to);
        }
    }

    fn dealer(&mut self, index: Index) -> Option<&mut Dealer> {
        self.dealers.get_mut(usize::from(index))
    }

    fn indexed(&self) -> impl Iterator<Item = (Index, &Dealer)> {
        Index::all(self.parameters.size).zip(&self.dealers)
    }

    fn check_open(&self, what: &'static str) -> Result<(), Error> {
        match self.phase {
            Phase::Ended => Err(Error::WrongPhase { what, phase: Phase::Ended }),
            _ => Ok(()),
        }
    }

    fn check_member(&self, from: Index) -> Result<(), Error> {
        let size = self.parameters.size;
        if usize::from(from) < size { Ok(()) } else { Err(Error::NotAMember { from, size }) }
    }
}

fn flagged(member: Index, remark: Option<Remark>) -> Option<Output> {
    remark.map(|remark| Output::Flagged { member, remark })
}
