//! The life of an epoch's key (spec section 6), through `EpochRecord` and `DkgState`.

mod cases;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, LazyLock};
use std::thread;

use cases::cases;
use dkg_engine::SecretBytes;
use dkg_engine::bls::{ProvenPublicKey, PublicKey, RANDOM_BEACON_TAG, SecretKey};
use dkg_engine::committee::{Committee, Index, Member, NodeId};
use dkg_engine::epoch::{EpochCommit, EpochCounter, EpochSetup, View};
use dkg_engine::store::{
    Batch, Change, CommittedKey, Dealing, DkgState, EpochRecord, KeyShare, KeyStatus, MAX_RECORD_BYTES, MemoryStore,
    Prune, ReceivedShare, RecordId, SafeKey, Store, StoreError, TransitionError,
};
use parking_lot::Mutex;
use proptest::prelude::*;

use KeyStatus::{Completed, Erased, Failed, KeyCommitted, Started, Uninitialized};

const ME: NodeId = NodeId::new([7; 32]);
const EPOCH: EpochCounter = EpochCounter(5);
const EARLIER: EpochCounter = EpochCounter(4);
const STATES: [KeyStatus; 5] = [Uninitialized, Started, Completed, KeyCommitted, Failed];

/// The arrows of the specification's picture, and its list under it.
const ALLOWED: [(KeyStatus, KeyStatus); 10] = [
    (Uninitialized, Started),
    (Uninitialized, Failed),
    (Uninitialized, KeyCommitted),
    (Started, Completed),
    (Started, Failed),
    (Started, KeyCommitted),
    (Completed, KeyCommitted),
    (Completed, Failed),
    (Failed, Failed),
    (Failed, KeyCommitted),
];

static KEYS: LazyLock<Vec<(SecretKey, PublicKey)>> = LazyLock::new(|| {
    let key = |number| SecretKey::from_seed(&[number; 32]).unwrap();
    (0..4).map(|number| (key(number), key(number).public_key())).collect()
});

fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

/// The share of the member with index 2.
fn share(key: usize) -> KeyShare {
    KeyShare::new(at(2), KEYS[key].0.clone())
}

/// A commit that names this key for us, at this index.
fn evidence_at(epoch: EpochCounter, key: usize, index: usize) -> EpochCommit {
    let mut key_shares = vec![KEYS[3].1; 4];
    key_shares[index] = KEYS[key].1;
    EpochCommit { epoch, group_key: KEYS[3].1, key_shares, index_map: BTreeMap::from([(ME, at(index))]) }
}

fn evidence(key: usize) -> EpochCommit {
    evidence_at(EPOCH, key, 2)
}

/// The safe key of the epoch before.
fn earlier(key: usize) -> CommittedKey {
    let record = EpochRecord::new(EARLIER).start().unwrap().complete(share(key)).unwrap();
    safe(&record.commit(&evidence_at(EARLIER, key, 2), &ME).unwrap()).unwrap()
}

fn safe(record: &EpochRecord) -> Option<CommittedKey> {
    match record.safe_key() {
        SafeKey::Key(key) => Some(key),
        SafeKey::NotYet | SafeKey::Never => None,
    }
}

/// The shortest life that ends in this state; where a key belongs to it, key 0.
fn life(status: KeyStatus) -> Vec<EpochRecord> {
    let new = EpochRecord::new(EPOCH);
    let started = new.start().unwrap();
    let completed = started.complete(share(0)).unwrap();
    match status {
        Uninitialized => vec![new],
        Started => vec![started],
        Completed => vec![started, completed],
        KeyCommitted => vec![started, completed.clone(), completed.commit(&evidence(0), &ME).unwrap()],
        Failed => vec![new.fail("nobody came").unwrap()],
        Erased => unreachable!("no transition leads there"),
    }
}

/// A record in this state.
fn in_state(status: KeyStatus) -> EpochRecord {
    life(status).pop().unwrap()
}

/// A record that failed after its run had ended with key 0.
fn failed_with_key() -> EpochRecord {
    in_state(Completed).fail("the chain has other keys").unwrap()
}

/// What can be asked of a record to get it to `to`.
fn ask(record: &EpochRecord, to: KeyStatus) -> Result<EpochRecord, TransitionError> {
    match to {
        Uninitialized | Erased => unreachable!("nothing leads there"),
        Started => record.start(),
        Completed => record.complete(share(0)),
        Failed => record.fail("asked to"),
        KeyCommitted => record.recover(&earlier(0), &evidence(0), &ME),
    }
}

fn state() -> DkgState {
    DkgState::new(Arc::new(MemoryStore::new()))
}

/// A store in which an epoch has come to this state.
fn state_in(status: KeyStatus) -> DkgState {
    let state = state();
    life(status).iter().for_each(|record| state.commit(std::slice::from_ref(record)).unwrap());
    state
}

#[test]
fn every_transition_is_allowed_or_refused_as_the_specification_lists_it() {
    for from in STATES {
        for to in STATES.into_iter().filter(|to| *to != Uninitialized) {
            let asked = ask(&in_state(from), to).map(|record| record.status());
            let expected = match (from, to) {
                // The same evidence again.
                (KeyCommitted, KeyCommitted) => Ok(KeyCommitted),
                pair if ALLOWED.contains(&pair) => Ok(to),
                _ => Err(TransitionError::Forbidden { from, to }),
            };
            assert_eq!(asked, expected, "{from} to {to}");
        }
    }
}

#[test]
fn a_stored_record_gives_way_only_to_a_legal_successor_whoever_brings_it() {
    for from in STATES {
        for to in STATES {
            let state = state_in(from);
            // Made from scratch, without a look at what is stored.
            let written = state.commit(&[in_state(to)]);
            let keeps_the_key = !matches!(from, Completed | KeyCommitted) || matches!(to, Completed | KeyCommitted);
            let legal = from == to || ALLOWED.contains(&(from, to)) && keeps_the_key;
            assert_eq!(written.is_ok(), legal, "{from} to {to}: {written:?}");
            let now = state.record(EPOCH).unwrap().status();
            assert_eq!(now, if legal { to } else { from });
        }
    }
}

#[test]
fn a_stored_key_is_overwritten_by_no_record_made_from_scratch() {
    let other = in_state(Started).complete(share(1)).unwrap();
    let recovered = EpochRecord::new(EPOCH).recover(&earlier(1), &evidence(1), &ME).unwrap();
    let attempts = [other.clone(), other.fail("late").unwrap(), other.commit(&evidence(1), &ME).unwrap(), recovered];
    for stored in [in_state(Completed), in_state(KeyCommitted), failed_with_key()] {
        let state = state_in(Completed);
        state.commit(std::slice::from_ref(&stored)).unwrap();
        for attempt in &attempts {
            let Err(StoreError::Transition { epoch: EPOCH, .. }) = state.commit(std::slice::from_ref(attempt)) else {
                panic!("{} over {}", attempt.status(), stored.status())
            };
        }
        // Key 0 is still there: evidence for it, and for no other, commits it.
        let record = state.record(EPOCH).unwrap();
        assert_eq!(record.status(), stored.status());
        assert!(record.commit(&evidence(1), &ME).is_err());
        assert_eq!(safe(&record.commit(&evidence(0), &ME).unwrap()).unwrap().public_key(), KEYS[0].1);
    }
}

/// A store whose disk is full after so many writes.
struct Filling(MemoryStore, Mutex<usize>);

impl Store for Filling {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.0.read(id)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.0.list()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut left = self.1.lock();
        *left = left.checked_sub(1).ok_or_else(|| StoreError::Failed("no space left".into()))?;
        self.0.commit(changes)
    }
}

/// A store in which two commit at once: each has judged its changes before either is made.
struct Meeting(Arc<MemoryStore>, Barrier);

impl Store for Meeting {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.0.read(id)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.0.list()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.1.wait();
        self.0.commit(changes)
    }
}

#[test]
fn of_two_that_write_at_once_one_is_refused_and_nothing_is_overwritten() {
    let member = |number: u8| {
        let staking_key = ProvenPublicKey::vouched_for(KEYS[usize::from(number)].1);
        Member { node_id: NodeId::new([number; 32]), staking_key }
    };
    let committee = Arc::new(Committee::new((0..3).map(member).collect()).unwrap());
    let setup = EpochSetup::new("race", EPOCH, committee, View(1), [View(10), View(20), View(30)]);
    let dealing = |number: u8| {
        let dealing = Dealing::new(&setup, SecretBytes::new(vec![number; 32]));
        Batch { dealing: Some(dealing), ..Batch::default() }
    };
    let received = |number: u8| {
        let message = SecretBytes::new(vec![number; 33]);
        Batch { shares: vec![ReceivedShare { epoch: EPOCH, dealer: at(1), message }], ..Batch::default() }
    };
    let key = |number: u8| {
        let completed = in_state(Started).complete(share(usize::from(number))).unwrap();
        Batch { keys: vec![completed], ..Batch::default() }
    };
    let store = Arc::new(MemoryStore::new());
    DkgState::new(store.clone()).commit(&[in_state(Started)]).unwrap();
    for of in [&dealing as &dyn Fn(u8) -> Batch, &received, &key] {
        let meeting = Arc::new(Meeting(store.clone(), Barrier::new(2)));
        // Two that know nothing of each other, which is less than clones of one.
        let write = |number| {
            let (state, batch) = (DkgState::new(meeting.clone()), of(number));
            thread::spawn(move || state.write(&batch))
        };
        let outcomes = [write(1), write(2)].map(|writer| writer.join().unwrap());
        let refused = |outcome: &&Result<(), StoreError>| {
            matches!(outcome, Err(StoreError::Overwrite(_) | StoreError::Transition { .. }))
        };
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(refused).count(), 1, "{outcomes:?}");
    }
}

#[test]
fn keys_are_kept_for_as_long_as_is_set_and_why_there_is_none_can_be_told() {
    let store = Arc::new(MemoryStore::new());
    let state = DkgState::new(store.clone()).keeping(3);
    let committed = |epoch: u64| {
        let started = EpochRecord::new(EpochCounter(epoch)).start().unwrap();
        let completed = started.complete(share(0)).unwrap();
        let committed = completed.commit(&evidence_at(EpochCounter(epoch), 0, 2), &ME).unwrap();
        state.commit(&[started, completed, committed]).unwrap();
    };
    let prune = |current: u64| {
        let prune = Prune { current: EpochCounter(current), in_force: None };
        state.write(&Batch { prune_for: Some(prune), ..Batch::default() }).unwrap();
    };
    [1, 2, 4].into_iter().for_each(committed);
    state.commit(&[EpochRecord::new(EpochCounter(3)).fail("nobody came").unwrap()]).unwrap();
    state.commit(&[EpochRecord::new(EpochCounter(7)).start().unwrap()]).unwrap();
    prune(6);
    let told = |epoch: u64| match state.key_of(EpochCounter(epoch), Some(EpochCounter(6))).unwrap() {
        Ok(key) => format!("key of {}", key.epoch()),
        Err(why) => why.to_string(),
    };
    let secret = KEYS[0].0.scalar().to_be_bytes();
    for epoch in [1, 2] {
        assert!(
            told(epoch).contains("has erased its key") && told(epoch).contains("kept for 3 epochs"),
            "{}",
            told(epoch)
        );
        let record = store.read(RecordId::key(EpochCounter(epoch))).unwrap().unwrap();
        assert!(!record.expose().windows(32).any(|window| window == &secret[..]), "the share is still there");
        assert_eq!(state.record(EpochCounter(epoch)).unwrap().status(), Erased);
    }
    assert_eq!(told(4), "key of 4");
    for (epoch, says) in [
        (0, "this is the first"),
        (3, "nobody came"),
        (5, "took no part"),
        (7, "is not over on this node"),
        (9, "it is made in epoch 8, and the chain is in epoch 6"),
    ] {
        assert!(told(epoch).contains(says), "{}", told(epoch));
    }
    // The newest committed one may come into force again, however old it is; and what was erased stays so.
    prune(60);
    assert_eq!(told(4), "key of 4");
    assert!(state.commit(&[in_state(KeyCommitted)]).is_ok(), "of another epoch");
    let again = EpochRecord::new(EpochCounter(1)).start().unwrap();
    assert!(state.commit(&[again]).is_err());
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let next = EpochRecord::new(EpochCounter(6)).start().unwrap();
    let state = state_in(KeyCommitted);
    assert!(state.commit(&[next.clone(), in_state(Started)]).is_err());
    assert_eq!(state.record(EpochCounter(6)).unwrap().status(), Uninitialized);
    // One write, however many records there are.
    let state = DkgState::new(Arc::new(Filling(MemoryStore::new(), Mutex::new(1))));
    state.commit(&[next, in_state(Started)]).unwrap();
    assert_eq!(state.record(EpochCounter(6)).unwrap().status(), Started);
    assert_eq!(state.commit(&[in_state(Completed)]), Err(StoreError::Failed("no space left".into())));
    assert_eq!(state.record(EPOCH).unwrap().status(), Started);
}

#[test]
fn a_commit_needs_the_epoch_our_index_and_our_key() {
    let record = in_state(Completed);
    let refused = |change: &dyn Fn(&mut EpochCommit)| {
        let mut evidence = evidence(0);
        change(&mut evidence);
        record.commit(&evidence, &ME).map(|record| record.status())
    };
    assert_eq!(refused(&|_| ()), Ok(KeyCommitted));
    assert_eq!(refused(&|evidence| evidence.epoch = EARLIER), Err(TransitionError::OtherEpoch(EARLIER)));
    assert_eq!(refused(&|evidence| evidence.index_map.clear()), Err(TransitionError::NoEvidence));
    assert_eq!(refused(&|evidence| evidence.key_shares.truncate(2)), Err(TransitionError::NoEvidence));
    assert_eq!(refused(&|evidence| evidence.key_shares.swap(2, 1)), Err(TransitionError::EvidenceMismatch));
    let key_of_another = |evidence: &mut EpochCommit| evidence.index_map = BTreeMap::from([(ME, at(1))]);
    assert_eq!(refused(&key_of_another), Err(TransitionError::EvidenceMismatch));
}

#[test]
fn a_run_without_a_stored_key_cannot_be_committed() {
    for from in [Uninitialized, Started, Failed] {
        let committed = in_state(from).commit(&evidence(0), &ME).map(|record| record.status());
        assert_eq!(committed, Err(TransitionError::Forbidden { from, to: KeyCommitted }));
    }
}

#[test]
fn a_commit_repeated_is_harmless_and_one_with_other_evidence_an_error() {
    let record = in_state(KeyCommitted);
    let state = state_in(KeyCommitted);
    let again = record.commit(&evidence(0), &ME).unwrap();
    state.commit(std::slice::from_ref(&again)).unwrap();
    assert_eq!(safe(&again).unwrap().public_key(), KEYS[0].1);
    for (other, expected) in [
        (evidence(1), TransitionError::EvidenceMismatch),
        (evidence_at(EPOCH, 0, 1), TransitionError::EvidenceMismatch),
        (evidence_at(EARLIER, 0, 2), TransitionError::OtherEpoch(EARLIER)),
    ] {
        assert_eq!(record.commit(&other, &ME).err(), Some(expected));
        assert_eq!(record.recover(&earlier(0), &other, &ME).err(), Some(expected));
    }
    assert_eq!(record.recover(&earlier(1), &evidence(1), &ME).err(), Some(TransitionError::EvidenceMismatch));
}

#[test]
fn only_a_committed_key_is_safe() {
    for status in STATES {
        let state = state_in(status);
        match (status, state.safe_key(EPOCH).unwrap()) {
            (KeyCommitted, SafeKey::Key(key)) => {
                assert_eq!((key.epoch(), key.index(), key.public_key()), (EPOCH, at(2), KEYS[0].1));
                let signature = key.secret_key().sign(b"m", &RANDOM_BEACON_TAG);
                assert!(KEYS[0].1.verify(b"m", &RANDOM_BEACON_TAG, &signature));
            }
            (Uninitialized | Started | Completed, SafeKey::NotYet) | (Failed, SafeKey::Never) => {}
            _ => panic!("the wrong answer for {status}"),
        }
    }
    assert!(matches!(failed_with_key().safe_key(), SafeKey::Never));
}

#[test]
fn an_earlier_key_becomes_the_committed_one_from_whatever_state_the_epoch_was_in() {
    let own_key = in_state(Started).complete(share(1)).unwrap();
    let failed = own_key.fail("late").unwrap();
    for record in [in_state(Uninitialized), in_state(Started), in_state(Failed), own_key, failed] {
        let recovered = record.recover(&earlier(0), &evidence_at(EPOCH, 0, 3), &ME).unwrap();
        assert_eq!(recovered.status(), KeyCommitted);
        let key = safe(&recovered).unwrap();
        assert_eq!((key.epoch(), key.index(), key.public_key()), (EPOCH, at(3), KEYS[0].1));
        // A missed event, made up for at the next start.
        assert!(recovered.recover(&earlier(0), &evidence_at(EPOCH, 0, 3), &ME).is_ok());
    }
}

#[test]
fn an_earlier_key_that_the_evidence_does_not_name_recovers_nothing() {
    for record in [in_state(Uninitialized), in_state(Started), in_state(Completed), in_state(Failed)] {
        let recovered = record.recover(&earlier(1), &evidence(0), &ME).map(|record| record.status());
        assert_eq!(recovered, Err(TransitionError::EvidenceMismatch));
    }
}

#[test]
fn the_reason_of_a_failure_is_kept_and_cut_where_a_character_ends() {
    let state = state();
    let long = "é".repeat(MAX_RECORD_BYTES);
    state.commit(&[EpochRecord::new(EPOCH).fail(&format!("x{long}")).unwrap()]).unwrap();
    let record = state.record(EPOCH).unwrap();
    let kept = record.failure().unwrap();
    assert!(kept.len() > 1000 && kept.len() <= 1024 && long.starts_with(&kept[1..]), "{} bytes", kept.len());
    state.commit(&[record.fail("again").unwrap()]).unwrap();
    assert_eq!(state.record(EPOCH).unwrap().failure(), Some("again"));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    Complete(usize),
    Fail,
    Commit(usize),
    Recover { key: usize, named: usize },
    Import { key: usize, named: Option<usize> },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Start),
        (0usize..3).prop_map(Step::Complete),
        Just(Step::Fail),
        (0usize..3).prop_map(Step::Commit),
        (0usize..3, 0usize..3).prop_map(|(key, named)| Step::Recover { key, named }),
        (0usize..3, prop::option::of(0usize..3)).prop_map(|(key, named)| Step::Import { key, named }),
    ]
}

/// The records that the step leads to, in the order in which they are written.
fn take(record: &EpochRecord, step: Step) -> Result<Vec<EpochRecord>, TransitionError> {
    let next = match step {
        Step::Start => record.start(),
        Step::Complete(key) => record.complete(share(key)),
        Step::Fail => record.fail("failed"),
        Step::Commit(key) => record.commit(&evidence(key), &ME),
        Step::Recover { key, named } => record.recover(&earlier(key), &evidence(named), &ME),
        Step::Import { key, named } => {
            let evidence = named.map(evidence);
            return record.import(share(key), evidence.as_ref().map(|evidence| (evidence, &ME)));
        }
    };
    next.map(|next| vec![next])
}

/// The specification's own words about a record: its state, the key of its run, the committed key.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Model {
    status: KeyStatus,
    own: Option<usize>,
    committed: Option<usize>,
}

impl Model {
    fn take(self, step: Step) -> Option<Model> {
        let to = |status| ALLOWED.contains(&(self.status, status)).then_some(Model { status, ..self });
        let commit = |key| match self.committed {
            Some(committed) => (committed == key).then_some(self),
            None => to(KeyCommitted).map(|next| Model { committed: Some(key), ..next }),
        };
        match step {
            Step::Start => to(Started),
            Step::Complete(key) => to(Completed).map(|next| Model { own: Some(key), ..next }),
            Step::Fail => to(Failed),
            Step::Commit(key) if self.committed.or(self.own) == Some(key) => commit(key),
            Step::Recover { key, named } if key == named => commit(key),
            Step::Import { key, named } if self.own.is_none() && self.committed.is_none() => {
                let status = if self.status == Failed { Failed } else { Completed };
                let imported = Model { status, own: Some(key), ..self };
                match named {
                    None => Some(imported),
                    Some(named) => imported.take(Step::Commit(named)),
                }
            }
            Step::Commit(_) | Step::Recover { .. } | Step::Import { .. } => None,
        }
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn whatever_is_asked_of_a_key_state_it_goes_where_the_specification_says(
        steps in prop::collection::vec(step(), 0..12)
    ) {
        let state = state();
        let mut model = Model { status: Uninitialized, own: None, committed: None };
        for step in steps {
            let asked = take(&state.record(EPOCH).unwrap(), step);
            let expected = model.take(step);
            prop_assert_eq!(asked.is_ok(), expected.is_some(), "{:?} of {:?}", step, model);
            if let (Ok(next), Some(expected)) = (asked, expected) {
                state.commit(&next).unwrap();
                model = expected;
            }
            let record = state.record(EPOCH).unwrap();
            prop_assert_eq!(record.status(), model.status);
            let key = safe(&record).map(|key| key.public_key());
            prop_assert_eq!(key, model.committed.map(|key| KEYS[key].1));
        }
    }

    /// Two handles on one store, one of which works on records it read long ago.
    #[test]
    fn no_stale_or_made_up_record_takes_a_stored_key_away(
        steps in prop::collection::vec((step(), any::<prop::sample::Index>()), 0..16)
    ) {
        let state = state();
        let mut seen = vec![EpochRecord::new(EPOCH)];
        let mut stored_key = None;
        for (step, basis) in steps {
            let before = state.record(EPOCH).unwrap();
            let Ok(steps) = take(basis.get(&seen), step) else { continue };
            let written = state.commit(&steps);
            let after = state.record(EPOCH).unwrap();
            let moved = (before.status(), after.status());
            // An import goes through the run's states in one batch.
            let imported = steps.len() > 1;
            prop_assert!(imported || moved.0 == moved.1 || ALLOWED.contains(&moved), "{:?}", moved);
            let holds = |key: &usize| after.commit(&evidence(*key), &ME).is_ok();
            if written.is_ok() && after.held().is_some() {
                stored_key = stored_key.or_else(|| (0..3).find(holds));
            }
            if let Some(key) = safe(&before) {
                prop_assert_eq!(safe(&after).map(|key| key.public_key()), Some(key.public_key()));
            } else if let (Some(key), None) = (stored_key, safe(&after)) {
                prop_assert!(after.commit(&evidence(key), &ME).is_ok(), "key {} is gone", key);
            }
            seen.extend(steps);
        }
    }
}

#[test]
fn records_survive_the_way_through_a_store() {
    for status in STATES {
        let (record, read) = (in_state(status), state_in(status).record(EPOCH).unwrap());
        assert_eq!((read.epoch(), read.status(), read.failure()), (EPOCH, record.status(), record.failure()));
        assert_eq!(safe(&read).map(|key| key.public_key()), safe(&record).map(|key| key.public_key()));
        assert_eq!(read.commit(&evidence(0), &ME).is_ok(), record.commit(&evidence(0), &ME).is_ok());
    }
}

#[test]
fn a_batch_that_names_an_epoch_twice_is_judged_in_its_order() {
    let other = in_state(Started).complete(share(1)).unwrap();
    let state = state_in(Started);
    assert!(state.commit(&[in_state(Completed), other]).is_err());
    assert_eq!(state.record(EPOCH).unwrap().status(), Started);
    state.commit(&life(KeyCommitted)).unwrap();
    assert_eq!(state.record(EPOCH).unwrap().status(), KeyCommitted);
}
