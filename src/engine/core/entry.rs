//! How a node comes into a run: it begins one, goes on with one, or sits it out.

use super::{Core, CoreError, Run, door};
use crate::chain::DkgResult;
use crate::engine::agenda::{Agenda, CatchUp};
use crate::engine::controller::StartError;
use crate::engine::event::EngineEvent;
use crate::engine::step::{Effect, Recalled, Step};
use crate::epoch::{EpochCounter, EpochSetup, Header};
use crate::store::{Dealing, EpochRecord, Journal, KeyStatus};

/// How a node comes into a run.
pub(super) enum Entry {
    /// It is running, and the chain tells it that the run begins.
    Live,
    /// It starts, and the run has begun. These blocks have ended phases.
    Start { ends: Vec<Header> },
}

impl Core {
    /// A setup phase has begun, or we have come into it: deal, go on with what we have dealt before, or sit the run out.
    pub(super) fn enter_run(
        &mut self,
        setup: EpochSetup,
        head: &Header,
        entry: Entry,
        recalled: Recalled,
        step: &mut Step,
    ) -> Result<(), CoreError> {
        let epoch = setup.epoch;
        if let Some(run) = self.run.as_ref().filter(|run| run.controller.epoch() == epoch) {
            if run.setup != setup {
                let what = "the run for it was set up with other views, members or another name before".to_owned();
                step.report(EngineEvent::Contradicted { epoch, what });
            }
            return Ok(());
        }
        if let Some(fault) = door::fault_of_setup(recalled.current.epoch(), &setup) {
            sit_out(epoch, &fault, step);
            return Ok(());
        }
        let Recalled { current, next: record, journal, .. } = recalled;
        let unfinished =
            self.run.as_ref().is_some_and(|run| run.controller.epoch() == current.epoch() && run.commit.is_some());
        self.end_run(step);
        step.prune(current.epoch(), self.in_force);
        if matches!(current.status(), KeyStatus::Started | KeyStatus::Completed) {
            let reason = if unfinished {
                "the chain has committed this run, and this node had not finished it when the next one began; what it has kept \
                 of it stays in its store, and its next start goes through it"
            } else {
                "the epoch has begun, and the chain has never committed this run"
            };
            self.fail_key(current, reason, step)?;
        }
        if setup.committee.index_of(self.factory.node_id()).is_none() {
            sit_out(epoch, "this node is not in its committee", step);
            return Ok(());
        }
        match (record.status(), journal) {
            (KeyStatus::KeyCommitted, _) => {
                sit_out(epoch, "its key is already committed", step);
                Ok(())
            }
            (_, Some(journal)) => self.resume_run(setup, head, entry, record, journal, step),
            (KeyStatus::Uninitialized, None) => self.begin_run(setup, head, entry, record, step),
            (KeyStatus::Started, None) => {
                let reason = "this node has begun the run before, and what it dealt is not in its store; it does not deal a \
                              second time, since two dealings under one name give secrets away";
                sit_out(epoch, reason, step);
                self.fail_key(record, reason, step)
            }
            (status, None) => {
                sit_out(epoch, &format!("its key is already {status}"), step);
                Ok(())
            }
        }
    }

    /// Deals, if there is time.
    fn begin_run(
        &mut self,
        setup: EpochSetup,
        head: &Header,
        entry: Entry,
        record: EpochRecord,
        step: &mut Step,
    ) -> Result<(), CoreError> {
        let epoch = setup.epoch;
        let [last, ..] = setup.phase_final_views;
        let now = self.finalized.max(head.view);
        if now >= last {
            let reason = format!("phase 1 ended with view {last}, and this node comes to it at view {now}");
            sit_out(epoch, &reason, step);
            step.then(Effect::Submit { instance: setup.instance.clone(), result: DkgResult::Empty });
            return self.fail_key(record, &reason, step);
        }
        let dealing = Dealing::new(&setup, self.randomness.dealing_seed(&setup.instance)?);
        // A node that starts in a run of which it knows nothing may have lost what it knew. Before it deals it has to see
        // that there is no other dealing in its name.
        let agenda = match entry {
            Entry::Live => Agenda::new(&setup, head, self.poll_step),
            Entry::Start { .. } => Agenda::resumed(&setup, &[], head, self.poll_step, CatchUp::NextBlock),
        };
        let catches_up = matches!(entry, Entry::Start { .. });
        let (controller, effects) = match self.factory.create(&setup, &dealing, catches_up) {
            Ok(made) => made,
            Err(StartError::Protocol(error)) => return Err(CoreError::Protocol { epoch, error }),
            Err(reason) => {
                sit_out(epoch, &reason.to_string(), step);
                return Ok(());
            }
        };
        let record = record.start().map_err(|error| CoreError::Key { epoch, error })?;
        step.record(record.clone());
        step.dealing(dealing);
        step.report(controller.started());
        step.extend(effects);
        self.run = Some(Run::new(setup, controller, agenda, record));
        Ok(())
    }

    /// Goes on with a run from its journal: the same dealing, the shares that were kept, and the board as of each phase's end.
    fn resume_run(
        &mut self,
        setup: EpochSetup,
        head: &Header,
        entry: Entry,
        record: EpochRecord,
        journal: Journal,
        step: &mut Step,
    ) -> Result<(), CoreError> {
        let epoch = setup.epoch;
        let ends = match entry {
            Entry::Live => Vec::new(),
            Entry::Start { ends } => ends,
        };
        if let Some(fault) = door::fault_of_ends(&setup, &ends, head) {
            // As long as nobody has told the truth, what this node has kept may still be of use.
            sit_out(epoch, &fault, step);
            return Ok(());
        }
        let now = self.finalized.max(head.view);
        let over = setup.phase_final_views.iter().filter(|last| now >= **last).count();
        let problem = if !journal.dealing.is_for(&setup) {
            Some("what this node dealt in it was for another committee; it does not deal the same secret to two")
        } else if ends.len() < over {
            Some("the chain does not say at which blocks its phases ended while this node was down")
        } else {
            None
        };
        if let Some(reason) = problem {
            sit_out(epoch, reason, step);
            return match record.status() {
                KeyStatus::Started => self.fail_key(record, reason, step),
                _ => Ok(()),
            };
        }
        let (mut controller, effects) = match self.factory.create(&setup, &journal.dealing, true) {
            Ok(made) => made,
            Err(StartError::Protocol(error)) => return Err(CoreError::Protocol { epoch, error }),
            Err(reason) => {
                sit_out(epoch, &reason.to_string(), step);
                return Ok(());
            }
        };
        step.report(controller.resumed(ends.len(), &journal));
        step.extend(effects);
        for share in &journal.shares {
            step.extend(controller.take_kept(share));
        }
        let agenda = Agenda::resumed(&setup, &ends, head, self.poll_step, CatchUp::Now);
        self.run = Some(Run::new(setup, controller, agenda, record));
        self.work(step)
    }
}

fn sit_out(epoch: EpochCounter, reason: &str, step: &mut Step) {
    step.report(EngineEvent::SatOut { epoch, reason: reason.to_owned() });
}
