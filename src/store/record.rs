//! One epoch's key, from nothing to committed, as a pure state machine.

use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};
use zeroize::Zeroize;

use super::{MAX_RECORD_BYTES, RecordId, StoreError};
use crate::bls::{Index, PublicKey, Scalar, SecretKey, Tag};
use crate::committee::NodeId;
use crate::epoch::{EpochCommit, EpochCounter};
use crate::secret::SecretBytes;
use crate::wire;

/// Written first in every record; a record of another version is refused.
const RECORD_VERSION: u16 = 1;
/// A failure's text is cut to this many bytes.
const MAX_FAILURE_BYTES: usize = 1024;
/// The hash that ends every record. A store may hand back what it was not given; a share or a state that is off by a bit
/// would read as another one.
const CHECKSUM_BYTES: usize = 32;

/// Where an epoch's key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// Nothing has happened.
    Uninitialized,
    /// The run has begun; what this node dealt may be out.
    Started,
    /// The run has ended and our share is stored; the chain has not confirmed it.
    Completed,
    /// The chain has confirmed our share: it is safe to sign with.
    KeyCommitted,
    /// There will be no key from this epoch's run.
    Failed,
    /// There was a share, and it was erased since it had been kept for as long as keys are kept.
    Erased,
}

impl KeyStatus {
    /// The name in snake case, as JSON shows it.
    pub fn name(self) -> &'static str {
        match self {
            KeyStatus::Uninitialized => "uninitialized",
            KeyStatus::Started => "started",
            KeyStatus::Completed => "completed",
            KeyStatus::KeyCommitted => "key_committed",
            KeyStatus::Failed => "failed",
            KeyStatus::Erased => "erased",
        }
    }
}

impl std::fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A private share with the index it belongs to. Stored, and not safe to sign with: see [`CommittedKey`].
#[derive(Clone)]
pub struct KeyShare {
    index: Index,
    secret: SecretKey,
}

impl KeyShare {
    /// The share of the member with this index.
    pub fn new(index: Index, secret: SecretKey) -> Self {
        KeyShare { index, secret }
    }

    /// The member's index.
    pub fn index(&self) -> Index {
        self.index
    }

    /// The public key share that belongs to it.
    pub fn public_key(&self) -> PublicKey {
        self.secret.public_key()
    }

    /// For what takes a share to another place under seal, and signs nothing.
    #[cfg(any(feature = "eip2335", feature = "file-store"))]
    pub(super) fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

/// What a self-test signs. Nothing that is signed under this tag serves any purpose elsewhere.
const SELF_TEST_TAG: &str = "DKG-Key_Self_Test-V00-CS00-with-";
const SELF_TEST_MESSAGE: &[u8] = b"this share is whole";

/// A share does not do what it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "epoch {epoch}: what the stored key share (index {index}) signs does not verify with the public key share {public_key}; \
     do not sign with it, and restore a backup with `dkg keys import` into a new store",
    public_key = crate::hex::encode(&public_key.to_flow_bytes())
)]
pub struct SelfTestError {
    /// The epoch.
    pub epoch: EpochCounter,
    /// Our index.
    pub index: Index,
    /// The public key share that was to verify the signature.
    pub public_key: PublicKey,
}

/// A private share that the chain has confirmed for an epoch. The only kind that signs.
#[derive(Clone)]
pub struct CommittedKey {
    epoch: EpochCounter,
    share: KeyShare,
}

impl CommittedKey {
    /// The epoch it serves.
    pub fn epoch(&self) -> EpochCounter {
        self.epoch
    }

    /// Our index in that epoch's map.
    pub fn index(&self) -> Index {
        self.share.index
    }

    /// Our public key share.
    pub fn public_key(&self) -> PublicKey {
        self.share.public_key()
    }

    /// The secret to sign with.
    pub fn secret_key(&self) -> &SecretKey {
        &self.share.secret
    }

    /// Signs a fixed message, under a tag that nothing else is signed under, and verifies the signature with `public_key`:
    /// the public key share that the chain names. Call it on a key that was read back from the store
    /// ([`DkgState::safe_key`](super::DkgState::safe_key)), since it is the stored bytes that are in question.
    ///
    /// # Errors
    /// The signature does not verify.
    pub fn self_test(&self, public_key: &PublicKey) -> Result<(), Box<SelfTestError>> {
        let tag = Tag::new(SELF_TEST_TAG);
        let signature = self.share.secret.sign(SELF_TEST_MESSAGE, &tag);
        if public_key.verify(SELF_TEST_MESSAGE, &tag, &signature) {
            Ok(())
        } else {
            Err(Box::new(SelfTestError { epoch: self.epoch, index: self.share.index, public_key: *public_key }))
        }
    }
}

/// The answer to "which key do I sign with in this epoch?".
pub enum SafeKey {
    /// This one.
    Key(CommittedKey),
    /// None yet: the run goes on, or the chain has not confirmed its result.
    NotYet,
    /// None, unless a recovery names an earlier key.
    Never,
}

/// A step that the state machine does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// Not from this state.
    #[error("a key that is {from} cannot become {to}")]
    Forbidden {
        /// The state it is in.
        from: KeyStatus,
        /// The state asked for.
        to: KeyStatus,
    },
    /// A key is stored, and another was to take its place.
    #[error("a key share is stored, and another may not take its place")]
    Overwrite,
    /// The chain's key for us is not ours.
    #[error("the chain's public key share for this node is not the one that belongs to its private share")]
    EvidenceMismatch,
    /// The chain has no key for us.
    #[error("the chain has no public key share for this node")]
    NoEvidence,
    /// The evidence is about another epoch.
    #[error("the chain's commit is for epoch {0}")]
    OtherEpoch(EpochCounter),
}

/// Everything recorded of one epoch.
#[derive(Clone)]
pub struct EpochRecord {
    epoch: EpochCounter,
    status: KeyStatus,
    /// What the epoch's own run came out with. Kept for good, also when the run fails later.
    own: Option<KeyShare>,
    committed: Option<KeyShare>,
    failure: Option<String>,
}

impl EpochRecord {
    /// An epoch nothing is known of.
    pub fn new(epoch: EpochCounter) -> Self {
        EpochRecord { epoch, status: KeyStatus::Uninitialized, own: None, committed: None, failure: None }
    }

    /// Which epoch.
    pub fn epoch(&self) -> EpochCounter {
        self.epoch
    }

    /// Where its key stands.
    pub fn status(&self) -> KeyStatus {
        self.status
    }

    /// Why it failed, or by which rule it was erased, if it was.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The key to sign with.
    pub fn safe_key(&self) -> SafeKey {
        match (self.status, &self.committed) {
            (KeyStatus::KeyCommitted, Some(share)) => {
                SafeKey::Key(CommittedKey { epoch: self.epoch, share: share.clone() })
            }
            (KeyStatus::Failed | KeyStatus::Erased, _) => SafeKey::Never,
            _ => SafeKey::NotYet,
        }
    }

    /// The share that is stored, whether it is safe to sign with or not: the committed one, or else what the epoch's own run
    /// came out with.
    pub fn held(&self) -> Option<&KeyShare> {
        self.committed.as_ref().or(self.own.as_ref())
    }

    /// The stored share that belongs to this public key, safe to sign with or not.
    pub(super) fn holder_of(&self, key: &PublicKey) -> Option<&KeyShare> {
        [&self.committed, &self.own].into_iter().flatten().find(|share| share.public_key() == *key)
    }

    /// The run begins.
    ///
    /// # Errors
    /// It has begun before, or ended.
    pub fn start(&self) -> Result<Self, TransitionError> {
        self.to(KeyStatus::Started)
    }

    /// The run ends with our share.
    ///
    /// # Errors
    /// No run is going on, or a key is stored.
    pub fn complete(&self, share: KeyShare) -> Result<Self, TransitionError> {
        let mut next = self.to(KeyStatus::Completed)?;
        next.own = Some(share);
        Ok(next)
    }

    /// Whether the run has ended with this share.
    pub fn completed_with(&self, share: &KeyShare) -> bool {
        self.own.as_ref().is_some_and(|own| own.same_as(share))
    }

    /// There will be no key from this run.
    ///
    /// # Errors
    /// The key is committed.
    pub fn fail(&self, reason: &str) -> Result<Self, TransitionError> {
        let mut next = self.to(KeyStatus::Failed)?;
        let end = (0..=MAX_FAILURE_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        next.failure = reason.get(..end.unwrap_or(0)).map(str::to_owned);
        Ok(next)
    }

    /// The chain confirms the share that is stored.
    ///
    /// # Errors
    /// The evidence is about another epoch or another key, or there is no stored share.
    pub fn commit(&self, evidence: &EpochCommit, me: &NodeId) -> Result<Self, TransitionError> {
        let share = match (&self.committed, &self.own) {
            (Some(share), _) | (None, Some(share)) => share.clone(),
            (None, None) => {
                return Err(TransitionError::Forbidden { from: self.status, to: KeyStatus::KeyCommitted });
            }
        };
        self.commit_share(share, evidence, me)
    }

    /// The chain confirms an earlier epoch's key for this epoch.
    ///
    /// # Errors
    /// The evidence is about another epoch or another key.
    pub fn recover(&self, key: &CommittedKey, evidence: &EpochCommit, me: &NodeId) -> Result<Self, TransitionError> {
        self.recover_share(&key.share, evidence, me)
    }

    /// The chain confirms a share that is stored elsewhere for this epoch.
    pub(super) fn recover_share(
        &self,
        share: &KeyShare,
        evidence: &EpochCommit,
        me: &NodeId,
    ) -> Result<Self, TransitionError> {
        self.commit_share(share.clone(), evidence, me)
    }

    /// A share of this epoch's run comes back from a backup: the records to write, in one batch and in their order.
    ///
    /// An epoch nothing has come of, or whose run was not finished, becomes `Completed`; one that is `Failed` stays so, with
    /// the share. Either way the share is not safe before the chain's evidence has confirmed it, which the node's next start
    /// does, or `evidence` right away.
    ///
    /// # Errors
    /// A share is stored, even if it is the same; or the evidence is about another epoch or another key.
    pub fn import(
        &self,
        share: KeyShare,
        evidence: Option<(&EpochCommit, &NodeId)>,
    ) -> Result<Vec<Self>, TransitionError> {
        if self.held().is_some() {
            return Err(TransitionError::Overwrite);
        }
        let mut steps = match self.status {
            KeyStatus::Failed => vec![EpochRecord { own: Some(share), ..self.clone() }],
            KeyStatus::Uninitialized => {
                let started = self.start()?;
                let completed = started.complete(share)?;
                vec![started, completed]
            }
            _ => vec![self.complete(share)?],
        };
        if let (Some(last), Some((evidence, me))) = (steps.last(), evidence) {
            steps.push(last.commit(evidence, me)?);
        }
        Ok(steps)
    }

    fn commit_share(&self, share: KeyShare, evidence: &EpochCommit, me: &NodeId) -> Result<Self, TransitionError> {
        if evidence.epoch != self.epoch {
            return Err(TransitionError::OtherEpoch(evidence.epoch));
        }
        let (index, key) = evidence.expected_of(me).ok_or(TransitionError::NoEvidence)?;
        if *key != share.public_key() {
            return Err(TransitionError::EvidenceMismatch);
        }
        let committed = KeyShare { index, secret: share.secret };
        if let Some(before) = &self.committed {
            // The same evidence again is harmless.
            return if before.same_as(&committed) { Ok(self.clone()) } else { Err(TransitionError::EvidenceMismatch) };
        }
        Ok(EpochRecord { status: KeyStatus::KeyCommitted, committed: Some(committed), ..self.clone() })
    }

    /// The record of a share that is erased. No transition leads there: it is made by the rule that erases, and by nobody else.
    pub(super) fn without_shares(&self, rule: String) -> Self {
        EpochRecord { epoch: self.epoch, status: KeyStatus::Erased, own: None, committed: None, failure: Some(rule) }
    }

    /// Writes down what tells one record from another.
    #[cfg(feature = "simulator")]
    pub(crate) fn digest(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let EpochRecord { epoch, status, own, committed, failure } = self;
        (epoch, status, failure).hash(to);
        for share in [own, committed] {
            share.as_ref().map(|share| (share.index, *share.secret.scalar().to_be_bytes())).hash(to);
        }
    }

    fn to(&self, to: KeyStatus) -> Result<Self, TransitionError> {
        if !allowed(self.status, to) {
            return Err(TransitionError::Forbidden { from: self.status, to });
        }
        Ok(EpochRecord { status: to, ..self.clone() })
    }

    /// Whether `next` may take the place of this record: the last guard before anything is written.
    pub(super) fn check_successor(&self, next: &EpochRecord) -> Result<(), TransitionError> {
        if self.status != next.status && !allowed(self.status, next.status) {
            return Err(TransitionError::Forbidden { from: self.status, to: next.status });
        }
        let kept = |before: &Option<KeyShare>, after: &Option<KeyShare>| match (before, after) {
            (None, _) => true,
            (Some(before), Some(after)) => before.same_as(after),
            (Some(_), None) => false,
        };
        if !kept(&self.own, &next.own) || !kept(&self.committed, &next.committed) {
            return Err(TransitionError::Overwrite);
        }
        let complete = match next.status {
            KeyStatus::Completed => next.own.is_some(),
            KeyStatus::KeyCommitted => next.committed.is_some(),
            KeyStatus::Erased => next.own.is_none() && next.committed.is_none(),
            _ => next.committed.is_none(),
        };
        if complete { Ok(()) } else { Err(TransitionError::Forbidden { from: self.status, to: next.status }) }
    }

    pub(super) fn encode(&self) -> Result<SecretBytes, StoreError> {
        let damaged = |error: wire::WireError| StoreError::Damaged {
            record: RecordId::key(self.epoch),
            reason: error.to_string(),
        };
        let encoded = Encoded {
            version: RECORD_VERSION,
            epoch: self.epoch,
            status: self.status,
            own: self.own.as_ref().map(EncodedShare::from),
            committed: self.committed.as_ref().map(EncodedShare::from),
            failure: self.failure.clone(),
        };
        let body = wire::encode(&encoded, MAX_RECORD_BYTES - CHECKSUM_BYTES).map(SecretBytes::new).map_err(damaged)?;
        let mut bytes = Vec::with_capacity(body.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(body.expose());
        bytes.extend_from_slice(&Sha3_256::digest(body.expose()));
        Ok(SecretBytes::new(bytes))
    }

    pub(crate) fn decode(epoch: EpochCounter, bytes: &SecretBytes) -> Result<Self, StoreError> {
        let damaged = |reason: String| StoreError::Damaged { record: RecordId::key(epoch), reason };
        let (body, checksum) = bytes
            .expose()
            .split_last_chunk::<CHECKSUM_BYTES>()
            .filter(|(body, _)| body.len() <= MAX_RECORD_BYTES - CHECKSUM_BYTES)
            .ok_or_else(|| damaged(format!("it has {} bytes, which no record has", bytes.len())))?;
        if Sha3_256::digest(body)[..] != checksum[..] {
            return Err(damaged("its checksum is not that of its bytes".into()));
        }
        let encoded: Encoded =
            // The decoder's own words could quote a byte of what is secret.
            wire::decode(body, MAX_RECORD_BYTES).map_err(|_| damaged("its bytes do not decode".into()))?;
        if encoded.version != RECORD_VERSION {
            return Err(damaged(format!(
                "it has version {}, and this program knows {RECORD_VERSION}",
                encoded.version
            )));
        }
        if encoded.epoch != epoch {
            return Err(damaged(format!("it is about epoch {}", encoded.epoch)));
        }
        let share = |share: &Option<EncodedShare>| match share {
            None => Ok(None),
            Some(share) => share.decode().map(Some).ok_or_else(|| damaged("its key share is no private key".into())),
        };
        let record = EpochRecord {
            epoch,
            status: encoded.status,
            own: share(&encoded.own)?,
            committed: share(&encoded.committed)?,
            failure: encoded.failure.clone(),
        };
        record
            .check_successor(&record)
            .map_err(|_| damaged(format!("it says {} and has no key share to show for it", record.status)))?;
        Ok(record)
    }
}

/// The transitions of spec section 6.
fn allowed(from: KeyStatus, to: KeyStatus) -> bool {
    use KeyStatus::{Completed, Failed, KeyCommitted, Started, Uninitialized};
    matches!(
        (from, to),
        (Uninitialized, Started | Failed | KeyCommitted)
            | (Started, Completed | Failed | KeyCommitted)
            | (Completed, KeyCommitted | Failed)
            | (Failed, Failed | KeyCommitted)
    )
}

impl KeyShare {
    fn same_as(&self, other: &KeyShare) -> bool {
        self.index == other.index && self.secret.scalar().ct_eq(other.secret.scalar())
    }
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    version: u16,
    epoch: EpochCounter,
    status: KeyStatus,
    own: Option<EncodedShare>,
    committed: Option<EncodedShare>,
    failure: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct EncodedShare {
    index: Index,
    secret: [u8; 32],
}

impl From<&KeyShare> for EncodedShare {
    fn from(share: &KeyShare) -> Self {
        EncodedShare { index: share.index, secret: *share.secret.scalar().to_be_bytes() }
    }
}

impl EncodedShare {
    fn decode(&self) -> Option<KeyShare> {
        let secret = SecretKey::from_scalar(Scalar::from_be_bytes(&self.secret).ok()?)?;
        Some(KeyShare { index: self.index, secret })
    }
}

impl Drop for EncodedShare {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}
