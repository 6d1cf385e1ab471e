//! Key health: where an epoch's key stands, in words that an operator can act on.
//!
//! [`KeyHealth::of`] looks at one epoch's record beside what the chain expects; [`DkgState::health`] does that for the
//! current epoch and the next. With the feature `metrics`, `record_metrics` shows the same as gauges through the `metrics`
//! facade; the host installs the exporter.
//!
//! It does not look into the future (a key that is `pending` may still be lost) and never sees a secret.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DkgState, EpochRecord, KeyStatus, SafeKey, StoreError};
use crate::bls::{Index, PublicKey};
use crate::committee::NodeId;
use crate::epoch::{EpochCommit, EpochCounter};
use crate::hex;

/// Where an epoch's key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// The share is there, and the chain has confirmed it.
    Safe,
    /// It may still come, or come to be confirmed, without anybody's doing.
    Pending,
    /// There is none, and none will come by itself.
    Missing,
    /// There is one, and it is not the one that the chain expects.
    Mismatch,
    /// The chain expects none of this node.
    NotExpected,
}

impl HealthStatus {
    /// All of them, in the order of their names in the documentation.
    pub const ALL: [HealthStatus; 5] = [
        HealthStatus::Safe,
        HealthStatus::Pending,
        HealthStatus::Missing,
        HealthStatus::Mismatch,
        HealthStatus::NotExpected,
    ];

    /// The name in snake case, as JSON and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            HealthStatus::Safe => "safe",
            HealthStatus::Pending => "pending",
            HealthStatus::Missing => "missing",
            HealthStatus::Mismatch => "mismatch",
            HealthStatus::NotExpected => "not_expected",
        }
    }

    /// Whether somebody has to do something.
    pub fn is_bad(self) -> bool {
        matches!(self, HealthStatus::Missing | HealthStatus::Mismatch)
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One epoch's key, as an operator has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyHealth {
    /// The epoch.
    pub epoch: EpochCounter,
    /// Where its key stands.
    pub status: HealthStatus,
    /// Our index: the chain's, or where the chain has said nothing yet, that of the share.
    pub index: Option<Index>,
    /// The public key of the share that is held. In JSON 192 hex digits, in the order of Flow.
    #[serde(serialize_with = "in_hex", deserialize_with = "from_hex")]
    pub public_key: Option<PublicKey>,
    /// The one that the chain expects, if it has said so.
    #[serde(serialize_with = "in_hex", deserialize_with = "from_hex")]
    pub expected: Option<PublicKey>,
    /// Why, and what to do about it.
    pub reason: String,
}

fn in_hex<S: Serializer>(key: &Option<PublicKey>, serializer: S) -> Result<S::Ok, S::Error> {
    key.map(|key| hex::encode(&key.to_flow_bytes())).serialize(serializer)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PublicKey>, D::Error> {
    let Some(digits) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let key = hex::decode(&digits).and_then(|bytes| PublicKey::from_flow_bytes(&bytes).ok());
    key.map(Some).ok_or_else(|| D::Error::custom("it is no public key"))
}

/// What to do without the right share.
const RESTORE: &str = "restore a backup of it with `dkg keys import`; without one, this node cannot sign in this epoch";

impl KeyHealth {
    /// The health of `record`'s epoch. `expected` is the epoch's commit, where the chain has made one; `running` says
    /// whether the run that makes the epoch's keys is going on in this process.
    pub fn of(record: &EpochRecord, expected: Option<&EpochCommit>, me: &NodeId, running: bool) -> Self {
        let epoch = record.epoch();
        let held = record.held();
        let commit = expected.filter(|commit| commit.epoch == epoch);
        let entry = commit.and_then(|commit| commit.expected_of(me));
        let (status, reason) = match (commit, entry) {
            (Some(_), None) => {
                (HealthStatus::NotExpected, "the chain has no key of this node in this epoch".to_owned())
            }
            (Some(_), Some((index, key))) => confirmed(record, index, key, running),
            (None, _) => unconfirmed(record, running),
        };
        KeyHealth {
            epoch,
            status,
            index: entry.map(|(index, _)| index).or(held.map(|share| share.index())),
            public_key: held.map(|share| share.public_key()),
            expected: entry.map(|(_, key)| *key),
            reason,
        }
    }
}

/// The chain has named our key for the epoch.
fn confirmed(record: &EpochRecord, index: Index, key: &PublicKey, running: bool) -> (HealthStatus, String) {
    use HealthStatus::{Mismatch, Missing, Pending, Safe};
    if let SafeKey::Key(safe) = record.safe_key() {
        return if (safe.index(), safe.public_key()) == (index, *key) {
            (Safe, "the share is stored, and the chain has confirmed it".into())
        } else {
            (Mismatch, "the committed share is not the one that the chain names, and is never replaced; restore a backup of the \
                        right one into a new store".into())
        };
    }
    match record.held() {
        Some(_) if record.holder_of(key).is_some() => {
            let reason = "the share that the chain names is stored, and not yet marked as confirmed; the node does that at \
                          its next start";
            (Pending, reason.into())
        }
        Some(_) => (Mismatch, format!("the share that is stored is not the one that the chain names; {RESTORE}")),
        None if running => (Pending, "the chain has the result, and this node's run is not over".into()),
        None => {
            let why = record.failure().map(|failure| format!(" ({failure})")).unwrap_or_default();
            (Missing, format!("the chain expects a share that is not stored{why}; {RESTORE}"))
        }
    }
}

/// The chain has not named any key for the epoch, as far as we have been told.
fn unconfirmed(record: &EpochRecord, running: bool) -> (HealthStatus, String) {
    use HealthStatus::{Missing, Pending, Safe};
    match (record.status(), record.held()) {
        (KeyStatus::KeyCommitted, _) => (Safe, "the share is stored, and the chain has confirmed it".into()),
        (KeyStatus::Completed, _) => (Pending, "the share is stored; the chain has still to confirm it".into()),
        (KeyStatus::Failed, Some(_)) => {
            let reason = "the epoch is marked as failed, but a share is stored; if it is the one that the chain names, the \
                          node's next start confirms it";
            (Pending, reason.into())
        }
        (KeyStatus::Failed, None) => {
            let why = record.failure().unwrap_or("no reason is recorded");
            (Missing, format!("this node came out of the run without a share ({why}); {RESTORE}"))
        }
        (KeyStatus::Erased, _) => {
            (HealthStatus::NotExpected, format!("erased: {}", record.failure().unwrap_or("no rule is recorded")))
        }
        (_, _) if running => (Pending, "the run that makes the key is going on".into()),
        (KeyStatus::Started, _) => {
            let reason = "the run was begun, and is not going on: start the node, which takes it up again while the setup \
                          phase lasts";
            (Missing, reason.into())
        }
        (KeyStatus::Uninitialized, _) => (Pending, "the run that makes the key has not begun".into()),
    }
}

impl DkgState {
    /// The health of the key of the epoch that the chain is in, and of the next one's (`None` if a counter cannot name it).
    /// `in_force` and `next` are the commits of the two epochs, as far as there are any; `running` is the epoch whose run is
    /// going on.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn health(
        &self,
        current: EpochCounter,
        in_force: Option<&EpochCommit>,
        next: Option<&EpochCommit>,
        me: &NodeId,
        running: Option<EpochCounter>,
    ) -> Result<(KeyHealth, Option<KeyHealth>), StoreError> {
        let of = |epoch, commit| {
            Ok::<_, StoreError>(KeyHealth::of(&self.record(epoch)?, commit, me, running == Some(epoch)))
        };
        let mut now = of(current, in_force)?;
        // The run for the present epoch was over when the epoch began.
        if in_force.is_none() && self.record(current)?.status() == KeyStatus::Uninitialized {
            now.status = HealthStatus::NotExpected;
            now.reason = "no keys are in force in this epoch, as far as this node has been told".to_owned();
        }
        Ok((now, current.next().map(|epoch| of(epoch, next)).transpose()?))
    }
}

/// The name of the gauge that [`record_metrics`] sets.
#[cfg(feature = "metrics")]
pub const HEALTH_GAUGE: &str = "dkg_key_health";

/// Shows both healths as gauges, through whatever recorder the host has installed:
///
/// `dkg_key_health{epoch="current"|"next", status="safe"|"pending"|"missing"|"mismatch"|"not_expected"}` is 1 for the status
/// that the epoch's key is in and 0 for the others. An alarm belongs on `missing` and `mismatch`. Without a next epoch, all
/// of its gauges are 0.
#[cfg(feature = "metrics")]
pub fn record_metrics(current: &KeyHealth, next: Option<&KeyHealth>) {
    for (epoch, health) in [("current", Some(current)), ("next", next)] {
        for status in HealthStatus::ALL {
            let is_it = health.is_some_and(|health| health.status == status);
            metrics::gauge!(HEALTH_GAUGE, "epoch" => epoch, "status" => status.name()).set(if is_it {
                1.0
            } else {
                0.0
            });
        }
    }
}
