//! Records that a store hands back otherwise than they were written: an error that names the epoch, never another key.

mod cases;

use std::collections::BTreeMap;
use std::sync::Arc;

use cases::cases;
use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, SecretKey};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::{EpochCommit, EpochCounter};
use dkg_engine::store::{
    Change, DkgState, EpochRecord, KeyShare, KeyStatus, MAX_RECORD_BYTES, MemoryStore, RecordId, SafeKey, Store,
    StoreError,
};
use proptest::prelude::*;
use sha3::{Digest, Sha3_256};

const ME: NodeId = NodeId::new([7; 32]);
const EPOCH: EpochCounter = EpochCounter(5);
const OTHER: EpochCounter = EpochCounter(4);

/// A life with all there is in a record: no key, a key, a failure, and another epoch's key in the end.
fn lived() -> Vec<EpochRecord> {
    let me = Index::from_position(0).unwrap();
    let keys = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]).unwrap());
    let evidence = |epoch| {
        let key = keys[1].public_key();
        EpochCommit { epoch, group_key: key, key_shares: vec![key], index_map: BTreeMap::from([(ME, me)]) }
    };
    let completed = |epoch, key: usize| {
        let started = EpochRecord::new(epoch).start().unwrap();
        started.complete(KeyShare::new(me, keys[key].clone())).unwrap()
    };
    let SafeKey::Key(earlier) = completed(OTHER, 1).commit(&evidence(OTHER), &ME).unwrap().safe_key() else {
        panic!("no safe key")
    };
    let new = EpochRecord::new(EPOCH);
    let failed = completed(EPOCH, 0).fail("the chain has other keys").unwrap();
    let recovered = failed.recover(&earlier, &evidence(EPOCH), &ME).unwrap();
    vec![new.clone(), new.start().unwrap(), completed(EPOCH, 0), failed, recovered]
}

/// The bytes that a store gets to see in that life.
fn stored_bytes() -> Vec<Vec<u8>> {
    let store = Arc::new(MemoryStore::new());
    let state = DkgState::new(store.clone());
    let stored = |record: &EpochRecord| {
        state.commit(std::slice::from_ref(record)).unwrap();
        store.read(RecordId::key(EPOCH)).unwrap().unwrap().expose().to_vec()
    };
    lived().iter().map(stored).collect()
}

/// What is read of `epoch` when the store holds these bytes for it.
fn read(epoch: EpochCounter, bytes: &[u8]) -> Result<KeyStatus, StoreError> {
    let store = MemoryStore::new();
    store.commit(vec![Change::Put(RecordId::key(epoch), SecretBytes::new(bytes.to_vec()))]).unwrap();
    DkgState::new(Arc::new(store)).record(epoch).map(|record| record.status())
}

fn is_damaged(bytes: &[u8]) -> bool {
    matches!(read(EPOCH, bytes), Err(StoreError::Damaged { record, .. }) if record == RecordId::key(EPOCH))
}

/// What a record looks like whose bytes are these.
fn with_checksum(body: &[u8]) -> Vec<u8> {
    [body, &Sha3_256::digest(body)].concat()
}

#[test]
fn what_was_written_is_read() {
    for (record, bytes) in lived().iter().zip(stored_bytes()) {
        assert_eq!(read(EPOCH, &bytes), Ok(record.status()));
    }
}

#[test]
fn a_record_that_is_cut_short_or_too_long_is_an_error_that_names_its_epoch() {
    for bytes in stored_bytes() {
        for end in 0..bytes.len() {
            assert!(is_damaged(&bytes[..end]), "cut off at {end}");
        }
        assert!(is_damaged(&[&bytes[..], &[0]].concat()));
    }
    assert!(is_damaged(&vec![1; MAX_RECORD_BYTES + 1]));
}

#[test]
fn a_record_with_any_bit_flipped_is_an_error_and_never_another_key_or_state() {
    for bytes in stored_bytes() {
        for place in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            assert!(is_damaged(&damaged), "bit {place}");
        }
    }
}

#[test]
fn a_record_under_another_epochs_name_is_an_error() {
    for bytes in stored_bytes() {
        let Err(StoreError::Damaged { record, .. }) = read(OTHER, &bytes) else { panic!("no error") };
        assert_eq!(record, RecordId::key(OTHER));
    }
}

#[test]
fn a_state_that_asks_for_a_key_is_not_read_without_one() {
    // Version (2 bytes), epoch (8), state (4): its lowest byte first.
    const STATE: usize = 10;
    let bytes = &stored_bytes()[0];
    let (body, _) = bytes.split_last_chunk::<32>().unwrap();
    let in_state = |state| {
        let mut body = body.to_vec();
        body[STATE] = state;
        read(EPOCH, &with_checksum(&body)).ok()
    };
    let read = [0, 1, 2, 3, 4, 5, 6].map(in_state);
    let (none, started, failed) = (KeyStatus::Uninitialized, KeyStatus::Started, KeyStatus::Failed);
    assert_eq!(read, [Some(none), Some(started), None, None, Some(failed), Some(KeyStatus::Erased), None]);
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn arbitrary_bytes_are_an_error_that_names_the_epoch(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        sealed: bool,
    ) {
        let bytes = if sealed { with_checksum(&bytes) } else { bytes };
        prop_assert!(is_damaged(&bytes));
    }
}
