//! How long keys are kept, and what is said of one that is not there.

use super::{DkgState, EpochRecord, KeyStatus, SafeKey, StoreError};
use crate::epoch::EpochCounter;
use crate::store::CommittedKey;

/// Epochs whose keys are kept behind the one the chain is in, unless a host sets another number
/// ([`DkgState::keeping`]).
pub const KEPT_EPOCHS: u64 = 16;
/// The most epochs that keys can be kept for: seven years of hours.
pub const MAX_KEPT_EPOCHS: u64 = 1 << 16;
/// Epochs for which it is remembered that a key was erased, behind those whose keys are kept.
pub const REMEMBERED_EPOCHS: u64 = 4096;

/// Why there is no key to sign with in an epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// It was there, and a rule has erased it.
    #[error(
        "this node has erased its key of epoch {epoch}: {rule}; let a member sign that keeps keys for longer. What was signed \
         can still be verified with the epoch's public keys"
    )]
    Erased {
        /// The epoch.
        epoch: EpochCounter,
        /// Which rule, and when.
        rule: String,
    },
    /// The share is there, and the chain has not confirmed it.
    #[error(
        "the key of epoch {0} is stored, and the chain has not confirmed it yet; try again when the epoch is committed"
    )]
    Unconfirmed(EpochCounter),
    /// The run goes on.
    #[error("the run that makes the key of epoch {0} is not over on this node; try again when the epoch is committed")]
    Running(EpochCounter),
    /// The run made none here.
    #[error("this node has no key of epoch {epoch}: {reason}; let another member sign")]
    Failed {
        /// The epoch.
        epoch: EpochCounter,
        /// Why.
        reason: String,
    },
    /// There never was a run.
    #[error("there are no keys of epoch {0}: a run makes those of the epoch after it, and this is the first")]
    First(EpochCounter),
    /// Nothing is recorded.
    #[error(
        "nothing is recorded of a key of epoch {0}: this node took no part in the run that was to make it, or that is longer ago \
         than it remembers; let another member sign"
    )]
    Unknown(EpochCounter),
    /// It is not time yet.
    #[error("the key of epoch {epoch} is still to come: {}", come(.epoch, .current))]
    ToCome {
        /// The epoch.
        epoch: EpochCounter,
        /// The one that the chain is in, if that is known.
        current: Option<EpochCounter>,
    },
}

fn come(epoch: &EpochCounter, current: &Option<EpochCounter>) -> String {
    let before = epoch.0.saturating_sub(1);
    let made = format!("it is made in epoch {before}");
    current.map_or(made.clone(), |current| format!("{made}, and the chain is in epoch {current}"))
}

impl DkgState {
    /// The same states, keeping keys for so many epochs behind the one the chain is in (1 to [`MAX_KEPT_EPOCHS`]); older
    /// ones are erased when an epoch's setup phase begins, and when an engine starts.
    pub fn keeping(self, epochs: u64) -> Self {
        DkgState { kept_epochs: epochs.clamp(1, MAX_KEPT_EPOCHS), ..self }
    }

    /// For how many epochs behind the one the chain is in keys are kept.
    pub fn kept_epochs(&self) -> u64 {
        self.kept_epochs
    }

    /// The key to sign with in `epoch`, or why there is none; `current` is the epoch that the chain is in, where that is known.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn key_of(
        &self,
        epoch: EpochCounter,
        current: Option<EpochCounter>,
    ) -> Result<Result<CommittedKey, NoKey>, StoreError> {
        let record = self.record(epoch)?;
        if let SafeKey::Key(key) = record.safe_key() {
            return Ok(Ok(key));
        }
        let reason = || record.failure().unwrap_or("no reason is recorded").to_owned();
        Ok(Err(match record.status() {
            KeyStatus::Erased => NoKey::Erased { epoch, rule: reason() },
            KeyStatus::Failed => NoKey::Failed { epoch, reason: reason() },
            KeyStatus::Completed | KeyStatus::KeyCommitted => NoKey::Unconfirmed(epoch),
            KeyStatus::Started => NoKey::Running(epoch),
            KeyStatus::Uninitialized if epoch == EpochCounter(0) => NoKey::First(epoch),
            KeyStatus::Uninitialized => {
                let over = match current {
                    Some(current) => epoch <= current,
                    None => self.epochs()?.last().is_some_and(|newest| epoch < *newest),
                };
                if over { NoKey::Unknown(epoch) } else { NoKey::ToCome { epoch, current } }
            }
        }))
    }
}

impl EpochRecord {
    /// The record without its share, which a rule takes; `None` if there is none in it.
    pub(super) fn erased(&self, kept: u64, current: EpochCounter) -> Option<Self> {
        let share = self.held()?;
        let public_key = crate::hex::encode(&share.public_key().to_flow_bytes());
        let rule = format!(
            "keys are kept for {kept} epochs, and the chain was in epoch {current} (it was share {}, public key {public_key})",
            share.index()
        );
        Some(self.without_shares(rule))
    }
}
