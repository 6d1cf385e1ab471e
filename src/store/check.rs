//! The start-up check: does this node hold the key that the current epoch expects of it (spec section 6)?
//!
//! It comes after the engine's own work at a start, that is after what is stored has been compared with the chain and after
//! [recovery](super::recover). It looks and does not repair. Whether a node without its key starts is its operator's choice:
//! the network can do without up to `t` members' signatures, and each one that is missing without anybody's knowledge
//! brings it nearer to standing still.

use serde::{Deserialize, Serialize};

use super::{EpochRecord, KeyStatus, SafeKey};
use crate::bls::{Index, PublicKey};
use crate::committee::NodeId;
use crate::epoch::{EpochCommit, EpochCounter};
use crate::hex;

/// How strict the check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyCheck {
    /// A node without the key that is expected of it does not start.
    Strict,
    /// In this epoch it starts all the same. In any other, a later one above all, the check is strict: leave the setting
    /// where it is, and it cannot hide the next loss.
    Lenient {
        /// The epoch that it was granted for.
        epoch: EpochCounter,
    },
}

/// What the check found where the node may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyVerdict {
    /// The chain expects no key of this node in this epoch.
    NotExpected,
    /// The key is there, and safe.
    Held {
        /// The epoch that it serves.
        epoch: EpochCounter,
        /// Our index in it.
        index: Index,
    },
    /// It is not, and that was granted for this epoch. Show it to the operator.
    Granted(Box<KeyCheckError>),
}

/// The node does not hold the key that the chain expects of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "epoch {epoch}: the chain expects of this node, index {index}, the key share with public key {expected}; {held}. \
     Restore a backup of it with `dkg keys import`, wait for the next epoch, or start with the lenient check for epoch \
     {epoch}, without signing in it{expired}",
    expected = hex::encode(&expected.to_flow_bytes()),
    held = self.held_in_words(),
    expired = self.expired_in_words(),
)]
pub struct KeyCheckError {
    /// The epoch that the chain is in.
    pub epoch: EpochCounter,
    /// Our index in its map.
    pub index: Index,
    /// The public key share the chain has for us.
    pub expected: PublicKey,
    /// The one that belongs to what is stored for the epoch, if anything is.
    pub held: Option<PublicKey>,
    /// Where the stored key stands.
    pub status: KeyStatus,
    /// The leniency that was given was for this epoch, which is another.
    pub expired: Option<EpochCounter>,
}

impl KeyCheckError {
    fn held_in_words(&self) -> String {
        match &self.held {
            None => format!("its store holds no key share for the epoch (state {})", self.status),
            Some(held) if *held == self.expected => {
                format!("its store holds that share, but not as confirmed by the chain (state {})", self.status)
            }
            Some(held) => {
                let held = hex::encode(&held.to_flow_bytes());
                format!("its store holds the one with public key {held} (state {})", self.status)
            }
        }
    }

    fn expired_in_words(&self) -> String {
        let expired = self.expired.map(|granted| format!(" (the one that is set was granted for epoch {granted})"));
        expired.unwrap_or_default()
    }
}

impl KeyCheck {
    /// Compares what the chain expects of `me` with `record`, which is that of the same epoch. `in_force` is the commit of
    /// the epoch that the chain is in; `None` before there was any.
    ///
    /// # Errors
    /// The key is not there, and that was not granted for this epoch.
    pub fn check(
        self,
        in_force: Option<&EpochCommit>,
        me: &NodeId,
        record: &EpochRecord,
    ) -> Result<KeyVerdict, Box<KeyCheckError>> {
        let Some(commit) = in_force else { return Ok(KeyVerdict::NotExpected) };
        let Some((index, expected)) = commit.expected_of(me) else { return Ok(KeyVerdict::NotExpected) };
        let epoch = commit.epoch;
        // A record of another epoch shows nothing for this one.
        let record = if record.epoch() == epoch { record.clone() } else { EpochRecord::new(epoch) };
        if let SafeKey::Key(key) = record.safe_key()
            && (key.index(), key.public_key()) == (index, *expected)
        {
            return Ok(KeyVerdict::Held { epoch, index });
        }
        let missing = |expired| {
            Box::new(KeyCheckError {
                epoch,
                index,
                expected: *expected,
                held: record.held().map(|share| share.public_key()),
                status: record.status(),
                expired,
            })
        };
        match self {
            KeyCheck::Strict => Err(missing(None)),
            KeyCheck::Lenient { epoch: granted } if granted == epoch => Ok(KeyVerdict::Granted(missing(None))),
            KeyCheck::Lenient { epoch: granted } => Err(missing(Some(granted))),
        }
    }
}
