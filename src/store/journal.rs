//! The journal of a run: what a node has to remember to go on with a run it was stopped in (spec section 8).
//!
//! That is little: the seed of what it dealt, and each dealer's share as it came. Everything else follows from these and the
//! board, as of the blocks that ended the phases.

use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};
use zeroize::Zeroize;

use super::{MAX_RECORD_BYTES, RecordId, StoreError};
use crate::bls::Index;
use crate::epoch::{EpochCounter, EpochSetup};
use crate::secret::SecretBytes;
use crate::wire;

/// Written first in every record; a record of another version is refused.
const JOURNAL_VERSION: u16 = 1;
/// The hash that ends every record.
const CHECKSUM_BYTES: usize = 32;

/// What a node deals from in one run. Written before anything that is dealt leaves the node.
#[derive(Clone)]
pub struct Dealing {
    epoch: EpochCounter,
    run: [u8; 32],
    seed: Option<SecretBytes>,
}

impl Dealing {
    /// The dealing from `seed`.
    pub fn new(setup: &EpochSetup, seed: SecretBytes) -> Self {
        Dealing { epoch: setup.epoch, run: setup.fingerprint(), seed: Some(seed) }
    }

    /// No dealing: the node takes part as a receiver, since another dealing in its name is on the board.
    pub fn none(setup: &EpochSetup) -> Self {
        Dealing { epoch: setup.epoch, run: setup.fingerprint(), seed: None }
    }

    /// The epoch the run makes keys for.
    pub fn epoch(&self) -> EpochCounter {
        self.epoch
    }

    /// Whether it was made for this run, with this committee. A polynomial dealt to two committees is known to too many.
    pub fn is_for(&self, setup: &EpochSetup) -> bool {
        self.epoch == setup.epoch && self.run == setup.fingerprint()
    }

    /// What the polynomial is drawn from; `None` if the node deals nothing in this run.
    pub fn seed(&self) -> Option<&SecretBytes> {
        self.seed.as_ref()
    }

    /// Whether `next` may take this one's place: the same again, or none.
    pub(super) fn gives_way_to(&self, next: &Dealing) -> bool {
        let same_seed = match (&self.seed, &next.seed) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(before), Some(after)) => before.ct_eq(after),
        };
        self.run == next.run && same_seed
    }

    pub(super) fn id(&self) -> RecordId {
        RecordId::dealing(self.epoch)
    }

    pub(super) fn encode(&self) -> Result<SecretBytes, StoreError> {
        let seed = self.seed.as_ref().map(|seed| seed.expose().to_vec());
        seal(self.id(), &EncodedDealing { run: self.run, seed })
    }

    pub(super) fn decode(epoch: EpochCounter, bytes: &SecretBytes) -> Result<Self, StoreError> {
        let mut encoded: EncodedDealing = open(RecordId::dealing(epoch), bytes)?;
        Ok(Dealing { epoch, run: encoded.run, seed: encoded.seed.take().map(SecretBytes::new) })
    }
}

/// A private message with a dealer's share, as it came. Written before it is acknowledged.
#[derive(Clone)]
pub struct ReceivedShare {
    /// The epoch the run makes keys for.
    pub epoch: EpochCounter,
    /// Who dealt it.
    pub dealer: Index,
    /// The protocol message; a share, if the dealer is honest.
    pub message: SecretBytes,
}

impl ReceivedShare {
    pub(super) fn id(&self) -> RecordId {
        RecordId::share(self.epoch, self.dealer)
    }

    pub(super) fn encode(&self) -> Result<SecretBytes, StoreError> {
        seal(self.id(), &EncodedShare { message: self.message.expose().to_vec() })
    }

    pub(super) fn decode(epoch: EpochCounter, dealer: Index, bytes: &SecretBytes) -> Result<Self, StoreError> {
        let mut encoded: EncodedShare = open(RecordId::share(epoch, dealer), bytes)?;
        Ok(ReceivedShare { epoch, dealer, message: SecretBytes::new(std::mem::take(&mut encoded.message)) })
    }
}

/// All that is remembered of one run.
#[derive(Clone)]
pub struct Journal {
    /// What this node deals from.
    pub dealing: Dealing,
    /// The shares it has received, in order of dealer.
    pub shares: Vec<ReceivedShare>,
}

/// Version, id, value and checksum.
fn seal<T: Serialize>(id: RecordId, value: &T) -> Result<SecretBytes, StoreError> {
    let damaged = |error: wire::WireError| StoreError::Damaged { record: id, reason: error.to_string() };
    let value = wire::encode(value, MAX_RECORD_BYTES).map(SecretBytes::new).map_err(damaged)?;
    let mut bytes = Vec::with_capacity(2 + RecordId::BYTES + value.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(&JOURNAL_VERSION.to_le_bytes());
    bytes.extend_from_slice(&id.to_bytes());
    bytes.extend_from_slice(value.expose());
    let checksum = Sha3_256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    Ok(SecretBytes::new(bytes))
}

fn open<T: Serialize + serde::de::DeserializeOwned>(id: RecordId, bytes: &SecretBytes) -> Result<T, StoreError> {
    let damaged = |reason: String| StoreError::Damaged { record: id, reason };
    let too_short = || damaged(format!("it has {} bytes, which no such record has", bytes.len()));
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(too_short());
    }
    let (body, checksum) = bytes.expose().split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(too_short)?;
    if Sha3_256::digest(body)[..] != checksum[..] {
        return Err(damaged("its checksum is not that of its bytes".into()));
    }
    let (version, rest) = body.split_first_chunk::<2>().ok_or_else(too_short)?;
    let version = u16::from_le_bytes(*version);
    if version != JOURNAL_VERSION {
        return Err(damaged(format!("it has version {version}, and this program knows {JOURNAL_VERSION}")));
    }
    let (name, value) = rest.split_first_chunk::<{ RecordId::BYTES }>().ok_or_else(too_short)?;
    if *name != id.to_bytes() {
        return Err(damaged("it is another record".into()));
    }
    // The decoder's own words could quote a byte of what is secret.
    wire::decode(value, MAX_RECORD_BYTES).map_err(|_| damaged("its bytes do not decode".into()))
}

#[derive(Serialize, Deserialize)]
struct EncodedDealing {
    run: [u8; 32],
    seed: Option<Vec<u8>>,
}

impl Drop for EncodedDealing {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
struct EncodedShare {
    message: Vec<u8>,
}

impl Drop for EncodedShare {
    fn drop(&mut self) {
        self.message.zeroize();
    }
}
