//! Recovery: the chain names, for an epoch, the keys of an earlier run (spec section 6).
//!
//! That happens when the chain has fallen back: the keys of the last committed run stay in force. Our share of that run is
//! in the record of its own epoch, and becomes the committed key of the new epoch too. What decides is the chain's evidence
//! alone: a share whose public key is the one that the chain expects of us *is* the share that it expects, since a public
//! key has one secret. So it does not matter how that earlier epoch ended on this node; a node that was down when its run
//! was committed recovers as well as one that has signed with the key ever since.
//!
//! Recovery takes place when the chain tells of it and again at every start, in case the node was down. It changes nothing
//! in the earlier record.

use super::{DkgState, EpochRecord, KeyStatus, RecordKind, StoreError};
use crate::committee::NodeId;
use crate::epoch::{EpochCommit, EpochCounter};

/// An epoch's record with a committed key that comes from an earlier epoch's record.
#[derive(Clone)]
pub struct Recovered {
    /// The record of the epoch that the commit is about; its key is committed.
    pub record: EpochRecord,
    /// Which epoch's record the share was found in.
    pub from: EpochCounter,
}

/// Finds among `earlier` records the share that `commit` expects of `me`, and makes it the committed key of `record`.
///
/// `None` if there is none, if the chain expects no key of us, or if `record` has a committed key already. Records of the
/// commit's own epoch and later ones are passed over. Looks at `earlier` in its order, and no further than the first that
/// fits; give the newest first.
pub fn recover(
    record: &EpochRecord,
    earlier: impl IntoIterator<Item = EpochRecord>,
    commit: &EpochCommit,
    me: &NodeId,
) -> Option<Recovered> {
    if record.status() == KeyStatus::KeyCommitted {
        return None;
    }
    let before = earlier.into_iter().filter(|earlier| earlier.epoch() < commit.epoch);
    before.filter_map(|earlier| recover_from(record, &earlier, commit, me)).next()
}

fn recover_from(record: &EpochRecord, earlier: &EpochRecord, commit: &EpochCommit, me: &NodeId) -> Option<Recovered> {
    let (_, expected) = commit.expected_of(me)?;
    let record = record.recover_share(earlier.holder_of(expected)?, commit, me).ok()?;
    Some(Recovered { record, from: earlier.epoch() })
}

impl DkgState {
    /// The newest record of an epoch before the commit's that holds the share which `commit` expects of `me`: what
    /// [`recover`] needs.
    ///
    /// # Errors
    /// The store cannot be read, or there is no such record and one of those looked at is damaged: it might have been it.
    pub fn earlier_holder(&self, commit: &EpochCommit, me: &NodeId) -> Result<Option<EpochRecord>, StoreError> {
        let Some((_, expected)) = commit.expected_of(me) else { return Ok(None) };
        let mut unreadable = None;
        for epoch in self.epochs()?.into_iter().rev().filter(|epoch| *epoch < commit.epoch) {
            match self.record(epoch) {
                Ok(record) if record.holder_of(expected).is_some() => return Ok(Some(record)),
                Ok(_) => {}
                Err(error) => {
                    unreadable.get_or_insert(error);
                }
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    /// The epochs of which a key state is recorded, in order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn epochs(&self) -> Result<Vec<EpochCounter>, StoreError> {
        let keys = self.store.list()?.into_iter().filter(|id| id.kind == RecordKind::Key);
        Ok(keys.map(|id| id.epoch).collect())
    }
}
