//! Which of our keys the chain has named: committed, recovered, or failed.

use super::{Core, CoreError};
use crate::bls::{Index, PublicKey};
use crate::engine::event::EngineEvent;
use crate::engine::step::{Effect, Recalled, Step};
use crate::epoch::EpochCommit;
use crate::store::{EpochRecord, KeyStatus, recover};

impl Core {
    /// The chain has agreed on an epoch's keys: compare ours.
    pub(super) fn on_commit(
        &mut self,
        commit: EpochCommit,
        recalled: Recalled,
        step: &mut Step,
    ) -> Result<(), CoreError> {
        if let Some(run) = self.run.as_mut().filter(|run| run.controller.epoch() == commit.epoch) {
            // The board is slow to answer us, but our share may still come out of it.
            run.commit = Some((commit, recalled.earlier));
            return Ok(());
        }
        self.check_key(&commit, recalled.next, &recalled.earlier, step)
    }

    /// Commits the key the chain expects of us if we hold it: the epoch's own, or else an earlier one.
    pub(super) fn check_key(
        &mut self,
        commit: &EpochCommit,
        record: EpochRecord,
        earlier: &[EpochRecord],
        step: &mut Step,
    ) -> Result<(), CoreError> {
        let me = *self.factory.node_id();
        let epoch = commit.epoch;
        let Some((index, expected)) = commit.expected_of(&me) else {
            return match record.status() {
                KeyStatus::Started | KeyStatus::Completed => {
                    self.fail_key(record, "the chain has committed no key of this node for the epoch", step)
                }
                _ => Ok(()),
            };
        };
        let own = record.commit(commit, &me);
        let recovered = || recover(&record, earlier.iter().cloned(), commit, &me).map(|found| found.record);
        match own {
            Ok(next) => self.commit_key(next, &record, (index, *expected), false, step),
            Err(error) if record.status() == KeyStatus::KeyCommitted => Err(CoreError::Key { epoch, error }),
            Err(error) => match recovered() {
                Some(next) => self.commit_key(next, &record, (index, *expected), true, step),
                None => {
                    let reason = match (record.status(), record.failure()) {
                        (KeyStatus::Completed, _) => error.to_string(),
                        (KeyStatus::Failed, Some(reason)) => reason.to_owned(),
                        (KeyStatus::Started, _) => {
                            "the run was not finished on this node; what it has kept of it stays in its store"
                                .to_owned()
                        }
                        _ => "this node took no part in the run".to_owned(),
                    };
                    self.fail_key(record, &reason, step)
                }
            },
        }
    }

    fn commit_key(
        &self,
        next: EpochRecord,
        before: &EpochRecord,
        (index, public_key): (Index, PublicKey),
        recovered: bool,
        step: &mut Step,
    ) -> Result<(), CoreError> {
        if before.status() != KeyStatus::KeyCommitted {
            step.close(next.epoch());
            step.then(Effect::SelfTest { epoch: next.epoch(), public_key });
            step.report(EngineEvent::KeyCommitted { epoch: next.epoch(), index, recovered });
            step.record(next);
        }
        Ok(())
    }

    pub(super) fn fail_key(&self, record: EpochRecord, reason: &str, step: &mut Step) -> Result<(), CoreError> {
        let epoch = record.epoch();
        // The run's journal stays: the chain may have committed what this node could still make of it.
        if record.status() != KeyStatus::Failed {
            step.record(record.fail(reason).map_err(|error| CoreError::Key { epoch, error })?);
        }
        step.report(EngineEvent::KeyFailed { epoch, reason: reason.to_owned() });
        Ok(())
    }
}
