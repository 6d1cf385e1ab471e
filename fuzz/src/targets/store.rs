//! Stored records, and the life of a key.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, PublicKey, SecretKey};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::{EpochCommit, EpochCounter};
use dkg_engine::store::{
    Batch, Change, CommittedKey, DkgState, EpochRecord, KeyShare, KeyStatus, MAX_RECORD_BYTES, MemoryStore,
    ReceivedShare, RecordId, RecordKind, SafeKey, Store, StoreError,
};
use sha3::{Digest, Sha3_256};

use super::bytes::{Choices, assert_silent};

/// The epoch of the records in the corpus.
pub const EPOCH: EpochCounter = EpochCounter(5);

const ME: NodeId = NodeId::new([7; 32]);
const KEYS: usize = 3;
const EPOCHS: usize = 3;

fn keys() -> &'static [(SecretKey, PublicKey)] {
    static SECRETS: LazyLock<Vec<(SecretKey, PublicKey)>> = LazyLock::new(|| {
        let key = |seed| SecretKey::from_seed(&[seed; 32]).unwrap();
        (1..=3).map(|seed| (key(seed), key(seed).public_key())).collect()
    });
    &SECRETS
}

fn evidence(epoch: EpochCounter, key: usize, index: u8) -> EpochCommit {
    let key = keys()[key].1;
    let index_map = BTreeMap::from([(ME, Index::from_byte(index).unwrap())]);
    EpochCommit { epoch, group_key: key, key_shares: vec![key; 2], index_map }
}

/// Records with all there can be in them, for the corpus.
pub fn lived() -> Vec<(&'static str, Vec<u8>)> {
    let share = |key: usize| KeyShare::new(Index::from_byte(0).unwrap(), keys()[key].0.clone());
    let store = Arc::new(MemoryStore::new());
    let state = DkgState::new(store.clone());
    let new = EpochRecord::new(EPOCH);
    let started = new.start().unwrap();
    let completed = started.complete(share(0)).unwrap();
    let failed = completed.fail("the chain has other keys").unwrap();
    let earlier = EpochRecord::new(EpochCounter(4)).start().unwrap().complete(share(1)).unwrap();
    let SafeKey::Key(safe) = earlier.commit(&evidence(EpochCounter(4), 1, 0), &ME).unwrap().safe_key() else {
        unreachable!("it has just been committed")
    };
    let recovered = failed.recover(&safe, &evidence(EPOCH, 1, 1), &ME).unwrap();
    let records = [
        ("uninitialized", new),
        ("started", started),
        ("completed", completed),
        ("failed_with_a_share", failed),
        ("recovered", recovered),
    ];
    let stored = |(name, record): (&'static str, EpochRecord)| {
        state.commit(&[record]).unwrap();
        (name, store.read(RecordId::key(EPOCH)).unwrap().unwrap().expose().to_vec())
    };
    records.into_iter().map(stored).collect()
}

/// Stored records: what a store hands back. The first byte says whether the checksum is put right, so that what lies behind
/// it can be reached. What is read is written as the same bytes.
pub fn stored_record(data: &[u8]) {
    let mut choices = Choices(data);
    let sealed = choices.flag();
    let mut bytes = choices.0.to_vec();
    if sealed {
        bytes.extend(Sha3_256::digest(choices.0));
    }
    let store = Arc::new(MemoryStore::new());
    store.commit(vec![Change::Put(RecordId::key(EPOCH), SecretBytes::new(bytes.clone()))]).unwrap();
    let state = DkgState::new(store.clone());
    match state.record(EPOCH) {
        Ok(record) => {
            assert!(bytes.len() <= MAX_RECORD_BYTES && record.epoch() == EPOCH);
            let signs = matches!(record.safe_key(), SafeKey::Key(_));
            assert_eq!(signs, record.status() == KeyStatus::KeyCommitted);
            state.commit(&[record]).unwrap();
            assert_eq!(
                store.read(RecordId::key(EPOCH)).unwrap().unwrap().expose(),
                bytes,
                "a second encoding of one record"
            );
        }
        Err(error) => {
            assert!(matches!(&error, StoreError::Damaged { record, .. } if *record == RecordId::key(EPOCH)));
            assert_silent(&error, &bytes);
            assert_silent(&error.to_string(), &bytes);
            assert_eq!(state.safe_key(EPOCH).err(), Some(error.clone()));
            // What cannot be read is not overwritten either.
            assert_eq!(state.commit(&[EpochRecord::new(EPOCH)]).err(), Some(error));
        }
    }
}

/// The dealer whose share is in the journal.
pub const DEALER: Index = Index::from_byte(3).expect("an index");

/// A record of a run's journal, with what every such record has around its value: version and name before it, and its
/// checksum behind.
pub fn journal_record(id: RecordId, value: &[u8]) -> Vec<u8> {
    let body = [&1_u16.to_le_bytes()[..], &id.to_bytes(), value].concat();
    [&body[..], &Sha3_256::digest(&body)].concat()
}

/// The value of a dealing's record.
pub fn dealing_value(seed: Option<&[u8]>) -> Vec<u8> {
    let seed = seed.map(|seed| [&[1][..], &(seed.len() as u64).to_le_bytes(), seed].concat());
    [&[9; 32][..], &seed.unwrap_or(vec![0])].concat()
}

/// The journal of a run: what a store hands back. The first byte says whether it is the dealing or a share (1), whether the
/// checksum is put right (2), and whether version and name are, too (4). What is read is written as the same bytes; an error
/// names the record, which is left as it is.
pub fn journal(data: &[u8]) {
    let mut choices = Choices(data);
    let how = choices.byte();
    let id = if how & 1 == 0 { RecordId::dealing(EPOCH) } else { RecordId::share(EPOCH, DEALER) };
    let bytes = match how & 6 {
        0 => choices.0.to_vec(),
        2 => [choices.0, &Sha3_256::digest(choices.0)].concat(),
        _ => journal_record(id, choices.0),
    };
    let good = journal_record(RecordId::dealing(EPOCH), &dealing_value(Some(&[8; 48])));
    let put = |id, bytes: &[u8]| Change::Put(id, SecretBytes::new(bytes.to_vec()));
    let store = Arc::new(MemoryStore::new());
    store.commit(vec![put(RecordId::dealing(EPOCH), &good), put(id, &bytes)]).unwrap();
    let state = DkgState::new(store.clone());
    assert!(state.journal(EpochCounter(EPOCH.0 + 1)).unwrap().is_none(), "another run's journal is another");
    let stored = |store: &MemoryStore| store.read(id).unwrap().unwrap().expose().to_vec();
    match state.journal(EPOCH) {
        Ok(journal) => {
            let journal = journal.expect("a run that was begun");
            assert!(bytes.len() <= MAX_RECORD_BYTES);
            assert_eq!(bytes, journal_record(id, &bytes[12..bytes.len() - 32]), "a record of another name or version");
            assert_eq!(journal.dealing.epoch(), EPOCH);
            let shares: Vec<_> =
                journal.shares.iter().map(|share| RecordId::share(share.epoch, share.dealer)).collect();
            let expected = if id.kind == RecordKind::Dealing { vec![] } else { vec![id] };
            assert_eq!(shares, expected);
            let again = Arc::new(MemoryStore::new());
            let batch = Batch { dealing: Some(journal.dealing), shares: journal.shares, ..Batch::default() };
            DkgState::new(again.clone()).write(&batch).unwrap();
            assert_eq!(stored(&again), bytes, "a second encoding of one record");
        }
        Err(error) => {
            assert!(matches!(&error, StoreError::Damaged { record, .. } if *record == id));
            assert_silent(&error, &bytes);
            assert_silent(&error.to_string(), &bytes);
            // What cannot be read is not overwritten either.
            let fresh = Arc::new(MemoryStore::new());
            fresh.commit(vec![put(RecordId::dealing(EPOCH), &good)]).unwrap();
            let dealing = DkgState::new(fresh).journal(EPOCH).unwrap().unwrap().dealing;
            let share = ReceivedShare { epoch: EPOCH, dealer: DEALER, message: SecretBytes::new(vec![1]) };
            let batch = Batch { dealing: Some(dealing), shares: vec![share], ..Batch::default() };
            let refused = if id.kind == RecordKind::Dealing { error } else { StoreError::Overwrite(id) };
            assert_eq!(state.write(&batch).err(), Some(refused));
            assert_eq!(stored(&store), bytes);
        }
    }
    // The run is over: whatever is there goes.
    state.write(&Batch { closed: vec![EPOCH], ..Batch::default() }).unwrap();
    assert!(store.list().unwrap().is_empty());
}

/// What a record holds, as far as it can be asked: the run's own key, and the committed key with its index.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    status: KeyStatus,
    own: Option<usize>,
    committed: Option<(PublicKey, Index)>,
}

fn seen(record: &EpochRecord) -> Seen {
    let committed = match record.safe_key() {
        SafeKey::Key(key) => {
            assert_eq!(key.epoch(), record.epoch());
            Some((key.public_key(), key.index()))
        }
        _ => None,
    };
    // Evidence fits the key that is stored, and no other.
    let fits = |key: &usize| record.commit(&evidence(record.epoch(), *key, 0), &ME).is_ok();
    let own = if committed.is_some() { None } else { (0..KEYS).find(fits) };
    Seen { status: record.status(), own, committed }
}

/// The transitions of the specification, section 6.
fn allowed(from: KeyStatus, to: KeyStatus) -> bool {
    use KeyStatus::{Completed, Erased, Failed, KeyCommitted, Started, Uninitialized};
    match from {
        Uninitialized => matches!(to, Started | Failed | KeyCommitted),
        Started => matches!(to, Completed | Failed | KeyCommitted),
        Completed => matches!(to, KeyCommitted | Failed),
        Failed => matches!(to, Failed | KeyCommitted),
        KeyCommitted | Erased => false,
    }
}

/// The key state machine: arbitrary transitions of arbitrary records, written in arbitrary batches to one store.
pub fn key_states(data: &[u8]) {
    const STEPS: usize = 48;
    let mut choices = Choices(data);
    let state = DkgState::new(Arc::new(MemoryStore::new()));
    let epoch = |number: usize| EpochCounter(u64::try_from(number).unwrap());
    // All records ever made: of this life, of lives that might have been, and of long ago.
    let mut pool: Vec<EpochRecord> = (0..EPOCHS).map(|number| EpochRecord::new(epoch(number))).collect();
    let mut stored: Vec<Seen> = pool.iter().map(seen).collect();
    for _ in 0..STEPS {
        if choices.is_empty() {
            break;
        }
        let operation = choices.byte() % 8;
        let from = pool[choices.below(pool.len())].clone();
        let (key, index) = (choices.below(KEYS), choices.byte() % 3);
        let next = match operation {
            0 => from.start(),
            1 => from.complete(KeyShare::new(Index::from_byte(index).unwrap(), keys()[key].0.clone())),
            2 => from.fail(&"a long reason. ".repeat(usize::from(index) * 50)),
            3 => from.commit(&evidence(from.epoch(), key, index), &ME),
            4 => from.commit(&evidence(epoch(usize::from(index)), key, 0), &ME),
            5 => match safe_key(&state, epoch(usize::from(index))) {
                Some(safe) => from.recover(&safe, &evidence(from.epoch(), key, index), &ME),
                None => continue,
            },
            _ => {
                let count = 1 + usize::from(index);
                let batch: Vec<EpochRecord> =
                    std::iter::once(from).chain((1..count).map(|_| pool[choices.below(pool.len())].clone())).collect();
                write(&state, &batch, &mut stored);
                continue;
            }
        };
        match next {
            Ok(next) => {
                let (before, after) = (seen(&from), seen(&next));
                let repeated = operation >= 3 && before == after;
                assert!(repeated || allowed(before.status, after.status), "{before:?} became {after:?}");
                assert!(before.committed.is_none() || before.committed == after.committed);
                assert!(before.own.is_none() || after.committed.is_some() || before.own == after.own);
                if before.committed.is_none()
                    && let Some((public_key, at)) = after.committed
                {
                    // The evidence that was shown names this key; and recovery alone brings another than the run's own.
                    assert!(public_key == keys()[key].1 && (operation == 4 || at.byte() == index));
                    assert!(operation == 5 || before.own == Some(key));
                }
                assert!(next.failure().is_none_or(|reason| reason.len() <= 1024));
                pool.push(next);
            }
            Err(error) => assert!(error.to_string().len() < 300),
        }
    }
}

fn safe_key(state: &DkgState, epoch: EpochCounter) -> Option<CommittedKey> {
    match state.safe_key(epoch).unwrap() {
        SafeKey::Key(key) => Some(key),
        _ => None,
    }
}

/// Writes a batch, and holds what is stored afterwards against what was before.
fn write(state: &DkgState, batch: &[EpochRecord], stored: &mut [Seen]) {
    let written = state.commit(batch);
    for (number, before) in stored.iter_mut().enumerate() {
        let record = state.record(EpochCounter(u64::try_from(number).unwrap())).unwrap();
        let now = seen(&record);
        let of_epoch = || batch.iter().filter(|written| written.epoch() == record.epoch());
        match of_epoch().next_back() {
            Some(last) if written.is_ok() => assert_eq!(now, seen(last)),
            _ => assert_eq!(now, *before, "none of a refused batch is written"),
        }
        if written.is_ok() {
            let steps = std::iter::once(before.status).chain(of_epoch().map(EpochRecord::status)).collect::<Vec<_>>();
            assert!(steps.windows(2).all(|step| step[0] == step[1] || allowed(step[0], step[1])), "{steps:?}");
        }
        assert!(before.committed.is_none() || now == *before, "a committed key is final");
        assert!(
            before.own.is_none() || now.committed.is_some() || now.own == before.own,
            "a stored key is not overwritten"
        );
        assert_eq!(now.committed.is_some(), now.status == KeyStatus::KeyCommitted, "only a committed key is safe");
        assert!(now.status != KeyStatus::Completed || now.own.is_some());
        *before = now;
    }
}
