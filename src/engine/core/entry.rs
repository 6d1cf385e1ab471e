//! How a node comes into a run: it begins one, goes on with one, or sits it out.

use super::{Core, CoreError, Run};
use crate::chain::DkgResult;
use crate::engine::agenda::{Agenda, CatchUp};
use crate::engine::event::EngineEvent;
use crate::engine::step::{Effect, Recalled, Step};
use crate::epoch::{EpochCounter, EpochSetup, Header, View};
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
        if self.runs(epoch) {
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
        if head.view >= last {
            let reason = format!("phase 1 ended with view {last}, and this node comes to it at view {}", head.view);
            sit_out(epoch, &reason, step);
            step.then(Effect::Submit { instance: setup.instance.clone(), result: DkgResult::Empty });
            return self.fail_key(record, &reason, step);
        }
        let late_in_phase_1 = middle_of_phase_1(&setup);
        let dealing = Dealing::new(&setup, self.randomness.dealing_seed(&setup.instance)?);
        // A node that starts in a run of which it knows nothing may have lost what it knew. Before it deals it has to see
        // that there is no other dealing in its name.
        let agenda = match entry {
            Entry::Live => Agenda::new(&setup, head, self.poll_step),
            Entry::Start { .. } => Agenda::resumed(&setup, &[], head, self.poll_step, CatchUp::NextBlock),
        };
        let catches_up = matches!(entry, Entry::Start { .. });
        let start_error = |error| CoreError::Start { epoch, error };
        let (controller, effects) = self.factory.create(&setup, &dealing, catches_up).map_err(start_error)?;
        let record = record.start().map_err(|error| CoreError::Key { epoch, error })?;
        step.record(record.clone());
        step.dealing(dealing);
        step.report(controller.started());
        step.extend(effects);
        self.run = Some(Run::new(controller, agenda, late_in_phase_1, record));
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
        let over = setup.phase_final_views.iter().filter(|last| head.view >= **last).count();
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
        let start_error = |error| CoreError::Start { epoch, error };
        let (mut controller, effects) = self.factory.create(&setup, &journal.dealing, true).map_err(start_error)?;
        step.report(controller.resumed(ends.len(), &journal));
        step.extend(effects);
        for share in &journal.shares {
            step.extend(controller.take_kept(share));
        }
        let late_in_phase_1 = middle_of_phase_1(&setup);
        let agenda = Agenda::resumed(&setup, &ends, head, self.poll_step, CatchUp::Now);
        self.run = Some(Run::new(controller, agenda, late_in_phase_1, record));
        self.work(step)
    }
}

/// Half of phase 1 is for shares to come by themselves.
fn middle_of_phase_1(setup: &EpochSetup) -> View {
    let [last, ..] = setup.phase_final_views;
    View(setup.first_view.0 + last.0.saturating_sub(setup.first_view.0) / 2)
}

fn sit_out(epoch: EpochCounter, reason: &str, step: &mut Step) {
    step.report(EngineEvent::SatOut { epoch, reason: reason.to_owned() });
}
