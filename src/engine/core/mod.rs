//! The core: everything a node decides. No thread, clock, socket, file or global random source in here.
//!
//! **One input, one [`Step`]; persist the step, then carry out its effects in order.** Read [`Core::step`] to learn what a
//! node does.

mod door;
mod entry;
mod keys;
mod past;

use self::entry::Entry;
use super::agenda::{Action, Agenda, Misplaced};
use super::controller::{Controller, ControllerFactory, StartError, Verdicts};
use super::event::EngineEvent;
use super::randomness::{Randomness, RandomnessError};
use super::step::{Effect, Input, ReadId, ReadRequest, Recalled, Step};
use super::task::{Task, TaskId, TaskResult};
use crate::bls::Effort;
use crate::committee::NodeId;
use crate::epoch::{EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, ProtocolEvent, Snapshot, View};
use crate::network::Delivery;
use crate::protocol::{self, Conclusion, Failure, Keys, Phase};
use crate::store::{EpochRecord, KeyStatus, TransitionError};

/// Views between two reads of the board within a phase, unless configured otherwise.
pub const DEFAULT_POLL_STEP: u64 = 10;

/// What leaves a run in doubt. The engine stops for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// The protocol was led into a step it does not have.
    #[error("run for epoch {epoch}: {error}")]
    Protocol {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
        /// What was asked for.
        error: protocol::Error,
    },
    /// The key state machine was led into a step it does not have.
    #[error("key of epoch {epoch}: {error}")]
    Key {
        /// The epoch.
        epoch: EpochCounter,
        /// What was asked for.
        error: TransitionError,
    },
    /// No Controller could be made for a run.
    #[error("run for epoch {epoch}: {error}")]
    Start {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
        /// Why.
        error: StartError,
    },
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// An event came without what the store knows of its epochs.
    #[error("an event about epoch {0} came without what is recorded of it; this is a fault of the engine")]
    NotRecalled(EpochCounter),
}

/// A run that is going on.
#[cfg_attr(feature = "simulator", derive(Clone))]
struct Run {
    /// As it was told.
    setup: EpochSetup,
    controller: Controller,
    agenda: Agenda,
    /// From this view on, a share that has not come is asked for.
    late_in_phase_1: View,
    record: EpochRecord,
    /// The read that is on, with what it was made for.
    reading: Option<(ReadId, Action)>,
    /// The computation that is on.
    computing: Option<TaskId>,
    /// What comes when everything that has been taken in is judged.
    then: Option<Then>,
    /// Phase 3 is over, and the keys are being computed.
    closing: Option<Verdicts>,
    /// The chain has already committed the epoch; our key is compared when the run ends.
    commit: Option<(EpochCommit, Vec<EpochRecord>)>,
}

/// What has to wait until everything that was read is judged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Then {
    /// What we would say is complete.
    CaughtUp,
    /// A phase ends with this block.
    EndPhase(Header),
}

/// Where the chain stands, as far as the node has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The epoch that the chain is in; an epoch without a run is noticed when the next one's begins.
    pub current: EpochCounter,
    /// The keys that are in force in it.
    pub in_force: Option<EpochCommit>,
    /// The keys that have been agreed on for the next.
    pub next: Option<EpochCommit>,
}

/// One node's decisions, from one input to the next.
pub struct Core {
    factory: ControllerFactory,
    poll_step: u64,
    randomness: Box<dyn Randomness>,
    run: Option<Run>,
    last_read: ReadId,
    last_task: TaskId,
    worked_off: View,
    finalized: View,
    standing: Option<Standing>,
    /// The run that made the keys in force at the start, if the chain could tell.
    in_force: Option<EpochCounter>,
}

impl Core {
    /// A node that has seen nothing yet.
    pub fn new(factory: ControllerFactory, poll_step: u64, randomness: Box<dyn Randomness>) -> Self {
        Core {
            factory,
            poll_step,
            randomness,
            run: None,
            last_read: ReadId(0),
            last_task: TaskId(0),
            worked_off: View(0),
            finalized: View(0),
            standing: None,
            in_force: None,
        }
    }

    /// What a run's curve work may cost, from the next run on; a new node's is done on one thread. No verdict depends on it.
    pub fn spending(self, effort: Effort) -> Self {
        Core { factory: self.factory.spending(effort), ..self }
    }

    /// The node.
    pub fn node_id(&self) -> &NodeId {
        self.factory.node_id()
    }

    /// Where the chain stands; `None` before it has said so.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// The epoch whose keys are being made here.
    pub fn running(&self) -> Option<EpochCounter> {
        self.run.as_ref().map(|run| run.controller.epoch())
    }

    /// Takes one input and says what follows from it.
    ///
    /// # Errors
    /// The run is in doubt, and the engine must stop: see [`CoreError`]. Nothing that comes from other members leads here.
    pub fn step(&mut self, input: Input) -> Result<Step, CoreError> {
        let mut step = Step::default();
        if let (Input::Event(event, _), Some(standing)) = (&input, &self.standing)
            && let Some((epoch, what)) = door::contradiction(standing, event)
        {
            step.report(EngineEvent::Contradicted { epoch, what });
            return Ok(step);
        }
        self.note_standing(&input);
        match input {
            Input::Start(snapshot, recalled) => {
                self.finalized = snapshot.head.view;
                self.on_start(*snapshot, *recalled, &mut step)?;
            }
            Input::Event(event, recalled) => self.on_event(*event, recalled.map(|recalled| *recalled), &mut step)?,
            Input::Private(Delivery { from, message, receipt }) => {
                // Not confirmed, it is sent again later: its run may not have begun here.
                if let Some(run) = &mut self.run
                    && run.controller.take_private(&from, &message, &mut step)
                {
                    step.then(Effect::Confirm(receipt));
                }
            }
            Input::Page { read, messages, last } => {
                if let Some(run) = self.run.as_mut().filter(|run| run.awaits(read)) {
                    run.controller.take_board(&messages, &mut step);
                    // As soon as there is something to judge, so that the end of a phase has little left.
                    self.compute(&mut step)?;
                    if last {
                        self.read_done(&mut step)?;
                    }
                }
            }
            Input::Computed { id, result } => {
                if let Some(run) = self.run.as_mut().filter(|run| run.computing == Some(id)) {
                    run.computing = None;
                    match result {
                        TaskResult::Judged(findings) => {
                            step.extend(run.controller.apply(findings));
                            self.compute(&mut step)?;
                            self.work(&mut step)?;
                        }
                        TaskResult::Keys(keys) => {
                            if let Some(verdicts) = run.closing.take() {
                                self.finish_run(verdicts, *keys, &mut step)?;
                            }
                        }
                    }
                }
            }
            Input::ReadGivenUp(read) => {
                if self.run.as_ref().is_some_and(|run| run.awaits(read)) {
                    self.read_done(&mut step)?;
                }
            }
        }
        if self.run.as_ref().is_none_or(|run| run.reading.is_none() && run.computing.is_none()) {
            self.worked_off = self.finalized;
        }
        Ok(step)
    }

    /// Whether private messages can be of use now. While they cannot, they are left where they wait: a peer may be quicker
    /// than we are and send its share before our run has begun.
    pub fn wants_private(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.controller.phase() != Phase::Sharing || run.takes_shares())
    }

    /// Whether a share would count now.
    #[cfg(feature = "simulator")]
    pub(crate) fn takes_shares(&self) -> bool {
        self.run.as_ref().is_some_and(Run::takes_shares)
    }

    /// The latest finalized view whose work is done.
    pub fn worked_off(&self) -> View {
        self.worked_off
    }

    fn note_standing(&mut self, input: &Input) {
        let (current, commit) = match input {
            Input::Start(snapshot, _) => {
                let next = match &snapshot.phase {
                    EpochPhase::Committed(commit) => Some(commit.clone()),
                    EpochPhase::Staking | EpochPhase::Setup(_) => None,
                };
                self.standing = Some(Standing { current: snapshot.current, in_force: snapshot.keys.clone(), next });
                return;
            }
            Input::Event(event, _) => match &**event {
                ProtocolEvent::EpochSetupPhaseStarted { current, .. } => (*current, None),
                ProtocolEvent::EpochCommittedPhaseStarted { current, commit, .. }
                | ProtocolEvent::EpochFallbackExited { current, commit, .. } => (*current, Some(commit.clone())),
                ProtocolEvent::BlockFinalized(_) => return,
            },
            Input::Private(_) | Input::Page { .. } | Input::ReadGivenUp(_) | Input::Computed { .. } => return,
        };
        let before = self.standing.take();
        let known = |of: EpochCounter| {
            let before = before.iter().flat_map(|standing| [&standing.in_force, &standing.next]);
            before.flatten().find(|commit| commit.epoch == of).cloned()
        };
        let next = commit.or_else(|| known(current.next()?));
        self.standing = Some(Standing { current, in_force: known(current), next });
    }

    fn on_event(&mut self, event: ProtocolEvent, recalled: Option<Recalled>, step: &mut Step) -> Result<(), CoreError> {
        match event {
            ProtocolEvent::BlockFinalized(header) => {
                self.finalized = self.finalized.max(header.view);
                if let Some(run) = &mut self.run
                    && let Err(misplaced) = run.agenda.finalized(header)
                {
                    return self.leave_run(&misplaced, step);
                }
                self.work(step)
            }
            ProtocolEvent::EpochSetupPhaseStarted { first, setup, .. } => {
                let recalled = recalled.ok_or(CoreError::NotRecalled(setup.epoch))?;
                self.enter_run(setup, &first, Entry::Live, recalled, step)
            }
            ProtocolEvent::EpochCommittedPhaseStarted { commit, .. } => {
                let recalled = recalled.ok_or(CoreError::NotRecalled(commit.epoch))?;
                self.on_commit(commit, recalled, step)
            }
            ProtocolEvent::EpochFallbackExited { commit, .. } => {
                let recalled = recalled.ok_or(CoreError::NotRecalled(commit.epoch))?;
                if self.runs(commit.epoch) {
                    self.end_run(step);
                }
                self.check_key(&commit, recalled.next, &recalled.earlier, step)
            }
        }
    }

    /// The node starts: see to the keys that are in force, and go on where the chain stands.
    fn on_start(&mut self, snapshot: Snapshot, mut recalled: Recalled, step: &mut Step) -> Result<(), CoreError> {
        let Snapshot { current, head, phase, keys, run, made_keys } = snapshot;
        self.in_force = made_keys.as_ref().map(|past| past.setup.epoch);
        step.prune(current, self.in_force);
        if let Some(keys) = keys {
            // What was agreed on while we were down; first what we can still make of it.
            if let (Some(past), Some(unfinished)) = (&made_keys, recalled.unfinished.take()) {
                let epoch = past.setup.epoch;
                match self.finish_past(past, &keys, unfinished, step)? {
                    Ok(record) if epoch == current => recalled.current = record,
                    Ok(record) => recalled.earlier.push(record),
                    Err(_) if recalled.current.status() == KeyStatus::KeyCommitted => {}
                    Err(reason) => {
                        let reason = format!(
                            "the run for epoch {epoch}, which made the keys in force, did not come out here: {reason}; what \
                             this node has kept of it stays in its store"
                        );
                        let failed = recalled.current.fail(&reason);
                        recalled.current = failed.map_err(|error| CoreError::Key { epoch: current, error })?;
                        step.record(recalled.current.clone());
                    }
                }
            }
            self.check_key(&keys, recalled.current.clone(), &recalled.earlier, step)?;
            if let Some(record) = step.changed(current) {
                recalled.current = record.clone();
            }
        }
        match (phase, run) {
            (EpochPhase::Staking, _) => Ok(()),
            (EpochPhase::Setup(setup), run) => {
                let ends = run.filter(|run| run.setup == setup).map_or_else(Vec::new, |run| run.ends);
                self.enter_run(setup, &head, Entry::Start { ends }, recalled, step)
            }
            (EpochPhase::Committed(commit), Some(run))
                if recalled.journal.is_some() && recalled.next.status() == KeyStatus::Started =>
            {
                // The run has ended without us, but our share may still come out of what we kept and of the board.
                let earlier = recalled.earlier.clone();
                self.enter_run(run.setup, &head, Entry::Start { ends: run.ends }, recalled, step)?;
                if let Some(run) = &mut self.run {
                    run.commit = Some((commit, earlier));
                }
                Ok(())
            }
            (EpochPhase::Committed(commit), _) => self.on_commit(commit, recalled, step),
        }
    }

    /// Asks for the next computation, unless one is on. Whether one is on now.
    fn compute(&mut self, step: &mut Step) -> Result<bool, CoreError> {
        let Some(run) = &mut self.run else { return Ok(false) };
        if run.computing.is_none()
            && let Some(work) = run.controller.work()
        {
            // Not before the work is fixed: whose messages it is about must not know it when they speak.
            let randomness = challenge(&mut *self.randomness)?;
            self.begin(Task::Judge { work, randomness }, step);
        }
        Ok(self.run.as_ref().is_some_and(|run| run.computing.is_some()))
    }

    fn begin(&mut self, task: Task, step: &mut Step) {
        let Some(run) = &mut self.run else { return };
        self.last_task = TaskId(self.last_task.0.wrapping_add(1));
        run.computing = Some(self.last_task);
        step.then(Effect::Compute { id: self.last_task, task: Box::new(task) });
    }

    /// Does what is due, up to the next read of the board or the next computation that has to be waited for.
    fn work(&mut self, step: &mut Step) -> Result<(), CoreError> {
        loop {
            let Some(run) = &self.run else { return Ok(()) };
            if run.reading.is_some() || run.closing.is_some() {
                return Ok(());
            }
            if run.then.is_some() && self.compute(step)? {
                return Ok(());
            }
            let Some(run) = &mut self.run else { return Ok(()) };
            match run.then.take() {
                Some(Then::CaughtUp) => {
                    step.extend(run.controller.caught_up());
                    step.extend(run.controller.requests());
                    continue;
                }
                Some(Then::EndPhase(block)) => {
                    self.end_phase(block, step)?;
                    continue;
                }
                None => {}
            }
            match run.agenda.take_next() {
                None => return Ok(()),
                Some(action @ (Action::Poll(as_of) | Action::CatchUp(as_of) | Action::FinalPoll(as_of))) => {
                    self.last_read = ReadId(self.last_read.0.wrapping_add(1));
                    run.reading = Some((self.last_read, action));
                    step.then(Effect::Read(ReadRequest {
                        id: self.last_read,
                        from_index: run.controller.broker().offset(),
                        as_of,
                        must_succeed: !matches!(action, Action::Poll(_)),
                    }));
                }
                Some(Action::EndPhase(block)) => run.then = Some(Then::EndPhase(block)),
            }
        }
    }

    /// Ends the phase that is on; everything that counts in it has been judged.
    fn end_phase(&mut self, block: Header, step: &mut Step) -> Result<(), CoreError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let epoch = run.controller.epoch();
        let error = |error| CoreError::Protocol { epoch, error };
        let randomness = challenge(&mut *self.randomness)?;
        if run.controller.phase() != Phase::Answering {
            step.extend(run.controller.end_phase(block.view, &randomness).map_err(error)?);
            return Ok(());
        }
        let (conclusion, effects) = run.controller.conclude(block.view, &randomness).map_err(error)?;
        let Conclusion { qualified, disqualified, keys } = conclusion;
        let verdicts = Verdicts { qualified, disqualified };
        step.extend(effects);
        match keys {
            Err(failure) => self.finish_run(verdicts, Err(failure), step),
            Ok(work) => {
                run.closing = Some(verdicts);
                self.begin(Task::Keys(work), step);
                Ok(())
            }
        }
    }

    fn read_done(&mut self, step: &mut Step) -> Result<(), CoreError> {
        if let Some(run) = &mut self.run
            && let Some((_, action)) = run.reading.take()
        {
            match action {
                Action::CatchUp(_) => run.then = Some(Then::CaughtUp),
                Action::Poll(block) if block.view >= run.late_in_phase_1 => step.extend(run.controller.requests()),
                Action::Poll(_) | Action::FinalPoll(_) | Action::EndPhase(_) => {}
            }
        }
        self.work(step)
    }

    /// The run is over and its keys are there, or are not: store the share, then submit the result; and let go of the run.
    fn finish_run(
        &mut self,
        verdicts: Verdicts,
        keys: Result<Keys, Failure>,
        step: &mut Step,
    ) -> Result<(), CoreError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let epoch = run.controller.epoch();
        let ending = run.controller.ending(verdicts, keys);
        let key_error = |error| CoreError::Key { epoch, error };
        let reason = ending.report.keys.as_ref().err().or(ending.report.share.as_ref().err()).cloned();
        let record = match (ending.share, run.record.status()) {
            // It had ended here before the node was stopped; what is stored stands, and the result is submitted once more.
            (_, KeyStatus::Failed) | (None, KeyStatus::Completed) => run.record,
            (Some(share), KeyStatus::Completed) => {
                // A backup may have been imported in between. What is stored stays; the chain will say whether it is right.
                if !run.record.completed_with(&share) {
                    log::error!("epoch {epoch}: the run came out with another share than the one that is stored");
                }
                run.record
            }
            (Some(share), _) => run.record.complete(share).map_err(key_error)?,
            (None, _) => run.record.fail(reason.as_deref().unwrap_or("no share")).map_err(key_error)?,
        };
        step.record(record.clone());
        let instance = run.controller.broker().instance().clone();
        step.then(Effect::EndRun(instance.clone()));
        step.then(Effect::Submit { instance, result: ending.result });
        step.report(EngineEvent::RunEnded(Box::new(ending.report)));
        if let Some(reason) = reason {
            step.report(EngineEvent::KeyFailed { epoch, reason });
        }
        match run.commit {
            Some((commit, earlier)) => self.check_key(&commit, record, &earlier, step),
            None => Ok(()),
        }
    }

    /// The same node once more, with another source of randomness.
    #[cfg(feature = "simulator")]
    pub(crate) fn fork(&self, randomness: Box<dyn Randomness>) -> Core {
        Core {
            factory: self.factory.clone(),
            randomness,
            run: self.run.clone(),
            standing: self.standing.clone(),
            ..*self
        }
    }

    /// Writes down what tells one state of a node from another. Left out are what a node is made with, randomness among
    /// it, and the names of reads and computations: all that counts is whether an answer bears the name of the one that is on.
    #[cfg(feature = "simulator")]
    pub(crate) fn digest(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let Core {
            factory: _,
            poll_step: _,
            randomness: _,
            run,
            last_read: _,
            last_task: _,
            worked_off,
            finalized,
            standing: _,
            in_force: _,
        } = self;
        (worked_off, finalized, run.is_some()).hash(to);
        if let Some(Run {
            setup: _,
            controller,
            agenda,
            late_in_phase_1: _,
            record,
            reading,
            computing,
            then,
            closing,
            commit,
        }) = run
        {
            (computing.is_some(), then, closing.is_some()).hash(to);
            controller.digest(to);
            agenda.hash(to);
            record.digest(to);
            (reading.map(|(_, action)| action), format!("{:?}", commit.as_ref().map(|(commit, _)| commit))).hash(to);
        }
    }

    fn runs(&self, epoch: EpochCounter) -> bool {
        self.run.as_ref().is_some_and(|run| run.controller.epoch() == epoch)
    }

    /// The run goes on without us. What we have kept of it stays: a start that is told the right blocks goes on with it.
    fn leave_run(&mut self, misplaced: &Misplaced, step: &mut Step) -> Result<(), CoreError> {
        let Some(Run { controller, record, commit, .. }) = self.run.take() else { return Ok(()) };
        step.then(Effect::EndRun(controller.broker().instance().clone()));
        let reason = format!(
            "{misplaced}; the node has left the run, since it could end with another key than everybody's. Hand the events over \
             in the chain's order, from one thread, and start the node anew: it goes through the run as its snapshot tells it"
        );
        step.report(EngineEvent::SatOut { epoch: controller.epoch(), reason });
        match commit {
            Some((commit, earlier)) => self.check_key(&commit, record, &earlier, step),
            None => Ok(()),
        }
    }

    fn end_run(&mut self, step: &mut Step) {
        if let Some(run) = self.run.take() {
            step.then(Effect::EndRun(run.controller.broker().instance().clone()));
        }
    }
}

impl Run {
    fn new(setup: EpochSetup, controller: Controller, agenda: Agenda, record: EpochRecord) -> Run {
        let late_in_phase_1 = middle_of_phase_1(&setup);
        Run {
            setup,
            controller,
            agenda,
            late_in_phase_1,
            record,
            reading: None,
            computing: None,
            then: None,
            closing: None,
            commit: None,
        }
    }

    /// Whether it is in phase 1, and not only because it goes through phases that were over when the node was started: what
    /// comes now is too late for those.
    fn takes_shares(&self) -> bool {
        let makes_up = self.controller.catches_up() && self.agenda.phases_over() > 0;
        self.controller.phase() == Phase::Sharing && !makes_up
    }

    fn awaits(&self, read: ReadId) -> bool {
        self.reading.is_some_and(|(id, _)| id == read)
    }
}

/// Half of phase 1 is for shares to come by themselves.
fn middle_of_phase_1(setup: &EpochSetup) -> View {
    let [last, ..] = setup.phase_final_views;
    View(setup.first_view.0 + last.0.saturating_sub(setup.first_view.0) / 2)
}

fn challenge(randomness: &mut dyn Randomness) -> Result<[u8; 32], RandomnessError> {
    let mut bytes = [0; 32];
    randomness.fill(&mut bytes)?;
    Ok(bytes)
}
