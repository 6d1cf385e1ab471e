//! A run that was over when the node came back: what it has kept of it and what the board held make its share all the same.

use super::{Core, CoreError, challenge};
use crate::engine::controller::Verdicts;
use crate::engine::step::Step;
use crate::epoch::{EpochCommit, PastRun};
use crate::protocol::Conclusion;
use crate::store::{EpochRecord, Journal, KeyShare};

impl Core {
    /// Goes through the run that made the keys in force, to its end, and says nothing in it, since its time is over. If the
    /// share that comes out is the one that the chain expects, it becomes the committed key of the run's epoch. If not, the
    /// journal stays, and this is why.
    ///
    /// All of it is computed here and now, about a second for the largest committees: a start waits for it.
    pub(super) fn finish_past(
        &mut self,
        past: &PastRun,
        in_force: &EpochCommit,
        (record, journal): (EpochRecord, Journal),
        step: &mut Step,
    ) -> Result<Result<EpochRecord, String>, CoreError> {
        let epoch = past.setup.epoch;
        // In fallback, they are in force under a later epoch's number.
        let commit = EpochCommit { epoch, ..in_force.clone() };
        if !journal.dealing.is_for(&past.setup) {
            return Ok(Err("what this node has kept of the run is of another committee".to_owned()));
        }
        let expected = commit.expected_of(self.factory.node_id()).map(|(_, key)| *key);
        let share = match self.share_of(past, &journal, step)? {
            Ok(share) if Some(share.public_key()) == expected => share,
            Ok(_) => {
                return Ok(Err("what this node has kept of the run makes another share than the chain's".to_owned()));
            }
            Err(reason) => return Ok(Err(reason)),
        };
        let steps = record.import(share, None).map_err(|error| CoreError::Key { epoch, error })?;
        let finished = steps.last().cloned().unwrap_or(record);
        self.check_key(&commit, finished.clone(), &[], step)?;
        Ok(Ok(step.changed(epoch).cloned().unwrap_or(finished)))
    }

    /// The share that comes out of a past run, or why there is none.
    fn share_of(
        &mut self,
        past: &PastRun,
        journal: &Journal,
        step: &mut Step,
    ) -> Result<Result<KeyShare, String>, CoreError> {
        let epoch = past.setup.epoch;
        let start_error = |error| CoreError::Start { epoch, error };
        let protocol_error = |error| CoreError::Protocol { epoch, error };
        // What it would say is held back, and never said.
        let (mut controller, _) = self.factory.create(&past.setup, &journal.dealing, true).map_err(start_error)?;
        step.report(controller.resumed(past.phases.len(), journal));
        for share in &journal.shares {
            let _ = controller.take_kept(share);
        }
        let mut unsaid = Step::default();
        for (said, last) in past.phases.iter().zip(past.setup.phase_final_views) {
            controller.take_board(said, &mut unsaid);
            let randomness = challenge(&mut *self.randomness)?;
            if last != past.setup.phase_final_views[2] {
                let _ = controller.end_phase(last, &randomness).map_err(protocol_error)?;
                continue;
            }
            let (Conclusion { qualified, disqualified, keys }, _) =
                controller.conclude(last, &randomness).map_err(protocol_error)?;
            let keys = keys.and_then(|work| work.run());
            let ending = controller.ending(Verdicts { qualified, disqualified }, keys);
            let reason = ending.report.share.err().unwrap_or_default();
            return Ok(ending.share.ok_or(reason));
        }
        Ok(Err("the run has no third phase".to_owned()))
    }
}
