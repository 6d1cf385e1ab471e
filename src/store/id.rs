//! What records there are, and what they are called.

use std::fmt;

use crate::bls::Index;
use crate::epoch::EpochCounter;

/// Names one record of a node's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The epoch whose keys it is about.
    pub epoch: EpochCounter,
    /// What it holds.
    pub kind: RecordKind,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// The epoch's key: its state and, from `Completed` on, the private share.
    Key,
    /// What this node's dealing in the epoch's run is made from.
    Dealing,
    /// The share that the dealer with this index has sent.
    Share(Index),
}

impl RecordId {
    /// Bytes of an encoded id.
    pub const BYTES: usize = 10;

    /// The epoch's key.
    pub const fn key(epoch: EpochCounter) -> Self {
        RecordId { epoch, kind: RecordKind::Key }
    }

    /// The epoch's dealing.
    pub const fn dealing(epoch: EpochCounter) -> Self {
        RecordId { epoch, kind: RecordKind::Dealing }
    }

    /// A dealer's share in the epoch's run.
    pub const fn share(epoch: EpochCounter, dealer: Index) -> Self {
        RecordId { epoch, kind: RecordKind::Share(dealer) }
    }

    /// The id as bytes: the epoch (8, big-endian), the kind (1), the dealer (1; 0 where there is none). Ids and their bytes
    /// are in the same order.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let (kind, dealer) = match self.kind {
            RecordKind::Key => (0, 0),
            RecordKind::Dealing => (1, 0),
            RecordKind::Share(dealer) => (2, dealer.byte()),
        };
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[8..].copy_from_slice(&[kind, dealer]);
        bytes
    }

    /// The id with these bytes; `None` if there is none.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk::<8>()?;
        let epoch = EpochCounter(u64::from_be_bytes(*epoch));
        match rest {
            [0, 0] => Some(RecordId::key(epoch)),
            [1, 0] => Some(RecordId::dealing(epoch)),
            [2, dealer] => Some(RecordId::share(epoch, Index::from_byte(*dealer)?)),
            _ => None,
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RecordKind::Key => write!(f, "the key of epoch {}", self.epoch),
            RecordKind::Dealing => write!(f, "this node's dealing for epoch {}", self.epoch),
            RecordKind::Share(dealer) => write!(f, "dealer {dealer}'s share for epoch {}", self.epoch),
        }
    }
}
